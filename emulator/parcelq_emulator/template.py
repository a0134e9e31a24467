"""Converts the stack's template to plain CloudFormation without AWS: checks the parameters, unrolls loops, and
translates SAM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from parcelq.errors import SettingsError

CODE_BUCKET: Final = "parcelq-code"
"""The made-up bucket of the functions' code; an object's key is the path of the code's folder below the template's
folder.
"""
REGION: Final = "us-east-1"
"""The region of the emulated stack."""

_CODE: Final = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
_LOOP: Final = "Fn::ForEach::"


def load(path: Path, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Read an AWS SAM template and return it as plain CloudFormation without transforms.

    Args:
        path: the path of the template. Its only language extensions may be `Fn::ForEach`, and functions in references.
        parameters: values for the template's parameters, as text; all other parameters have their defaults.

    Raises:
        SettingsError: if a parameter is unknown or invalid; the error message names every such parameter.
    """
    # Imported late, because the translator takes half a second to import.
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.yaml_helper import yaml_parse

    template: dict[str, Any] = _with_included(yaml_parse(path.read_text()), path.parent)
    if problems := list(_problems(template["Parameters"], parameters)):
        raise SettingsError("the stack's parameters", problems)
    defaults = {name: str(declared["Default"]) for name, declared in template["Parameters"].items()}
    values = {**defaults, **parameters}
    extensions = _Extensions(values, template["Mappings"])
    for section in ("Resources", "Outputs"):
        template[section] = extensions.resolved(template[section], {})
    for resource in template["Resources"].values():
        if name := _CODE.get(resource["Type"]):
            properties = resource["Properties"]
            properties[name] = f"s3://{CODE_BUCKET}/{normpath(properties[name])}"
    # The template has no managed policies, and the translator gets no boto3 session, which would need configuration.
    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name=REGION))
    plain: dict[str, Any] = translator.translate(template, values)
    translator.metrics.publish()  # suppresses the translator's warnings about metrics that were not sent
    return plain


def _with_included(node: Any, folder: Path) -> Any:
    """Replace each `AWS::Include` by the content of its local file, which `sam package` would put into a bucket."""
    from samtranslator.yaml_helper import yaml_parse

    match node:
        case {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": str(location)}}}:
            return yaml_parse((folder / location).read_text())
        case dict():
            return {key: _with_included(one, folder) for key, one in node.items()}
        case list():
            return [_with_included(one, folder) for one in node]
    return node


def _problems(declared: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence about each parameter that breaks a rule of
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
    """
    for name, value in given.items():
        if name not in declared:
            yield f"there is no {name}; there are {', '.join(declared)}"
            continue
        wanted = declared[name]
        items = value.split(",") if wanted["Type"] == "CommaDelimitedList" else [value]
        if len(set(items)) < len(items):
            yield f"{name} is {value!r}, but must not name anything twice"
        pattern, allowed = wanted.get("AllowedPattern"), wanted.get("AllowedValues")
        if pattern and not all(re.fullmatch(pattern, item) for item in items):
            yield f"{name} is {value!r}, but must match {pattern}"
        elif allowed and value not in map(str, allowed):
            yield f"{name} is {value!r}, but must be one of {', '.join(map(str, allowed))}"
        elif wanted["Type"] == "Number" and not allowed:
            least, most = wanted["MinValue"], wanted.get("MaxValue", float("inf"))
            if not re.fullmatch("[0-9]{1,18}", value) or not least <= int(value) <= most:
                limits = f"from {least} to {most}" if "MaxValue" in wanted else f"of at least {least}"
                yield f"{name} is {value!r}, but must be a whole number {limits}"


@dataclass(frozen=True, slots=True)
class _Extensions:
    """Implements the part of the transform AWS::LanguageExtensions that the template uses.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
    """

    values: Mapping[str, str]
    mappings: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def resolved(self, node: Any, bound: Mapping[str, str]) -> Any:
        """Return a part of the template without loops; `bound` maps the identifiers of outer loops to values."""
        if isinstance(node, str):
            for name, item in bound.items():
                node = node.replace(f"${{{name}}}", item).replace(f"&{{{name}}}", re.sub("[^A-Za-z0-9]", "", item))
        elif isinstance(node, list):
            return [self.resolved(one, bound) for one in node]
        elif isinstance(node, dict):
            return self._called(self._unrolled(node, bound), bound)
        return node

    def _unrolled(self, node: Mapping[str, Any], bound: Mapping[str, str]) -> dict[str, Any]:
        unrolled: dict[str, Any] = {}
        for key, value in node.items():
            if key.startswith(_LOOP):
                name, collection, body = value
                items = collection if isinstance(collection, list) else self.values[collection["Ref"]].split(",")
                for item in items:
                    unrolled |= self.resolved(body, {**bound, name: item})
            else:
                unrolled[self.resolved(key, bound)] = self.resolved(value, bound)
        return unrolled

    def _called(self, node: dict[str, Any], bound: Mapping[str, str]) -> Any:
        match node:
            case {"Ref": str(name)} if name in bound:
                return bound[name]
            case {"Fn::Sub": str(text)} if (
                "${" not in text
            ):  # a reference takes a name, not a function that returns a name
                return text
            case {"Fn::FindInMap": [str(mapping), {"Ref": str(parameter)}, str(key)]}:
                return self.mappings[mapping][self.values[parameter]][key]
            case {"Fn::FindInMap": [str(mapping), str(top), str(key), *default]}:
                found = self.mappings[mapping].get(top, {})
                return found[key] if key in found or not default else default[0]["DefaultValue"]
        return node
