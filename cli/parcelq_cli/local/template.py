"""The stack's own template as plain CloudFormation, without AWS: parameters checked, loops unrolled, SAM translated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from parcelq.errors import SettingsError

CODE_BUCKET: Final = "parcelq-code"
"""The bucket that code is said to lie in, with its folder below the template's as the key."""
REGION: Final = "us-east-1"
"""Where the embedded stack is."""

_CODE: Final = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
_LOOP: Final = "Fn::ForEach::"


def load(path: Path, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Read a template of AWS SAM and return it as CloudFormation takes it without any transform.

    Args:
        path: the template. Of the language extensions it may use `Fn::ForEach`, and what that needs in references.
        parameters: values for the template's parameters, as text; defaults apply to all others.

    Raises:
        SettingsError: names every parameter that the template does not have, or that is not as it wants it.
    """
    # Late, because the translator takes half a second to import.
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.yaml_helper import yaml_parse

    template: dict[str, Any] = yaml_parse(path.read_text())
    if problems := list(_problems(template["Parameters"], parameters)):
        raise SettingsError("the stack's parameters", problems)
    values = {name: str(declared["Default"]) for name, declared in template["Parameters"].items()} | parameters
    template["Resources"] = _unrolled(template["Resources"], values, {})
    template["Outputs"] = _unrolled(template["Outputs"], values, {})
    for resource in template["Resources"].values():
        if name := _CODE.get(resource["Type"]):
            properties = resource["Properties"]
            properties[name] = f"s3://{CODE_BUCKET}/{properties[name].rstrip('/')}"
    # There are no managed policies to translate, and no session of boto3, which would want to be configured.
    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name=REGION))
    plain: dict[str, Any] = translator.translate(template, values)
    translator.metrics.publish()  # to nowhere; it warns of metrics that were not
    return plain


def _problems(declared: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with parameters, by the rules of
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
            least, most = wanted["MinValue"], wanted.get("MaxValue")
            if not re.fullmatch("[0-9]+", value) or int(value) < least or (most is not None and int(value) > most):
                yield f"{name} is {value!r}, but must be a number of at least {least}" + (
                    f" and at most {most}" if most is not None else ""
                )


def _unrolled(node: Any, values: Mapping[str, str], bound: Mapping[str, str]) -> Any:
    """Replace loops by what they stand for, and put in the items that their identifiers are bound to.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-foreach.html
    """
    if isinstance(node, str):
        for name, item in bound.items():
            node = node.replace(f"${{{name}}}", item)
        return node
    if isinstance(node, list):
        return [_unrolled(one, values, bound) for one in node]
    if not isinstance(node, dict):
        return node
    unrolled: dict[str, Any] = {}
    for key, value in node.items():
        if key.startswith(_LOOP):
            name, collection, body = value
            items = values[collection["Ref"]].split(",") if isinstance(collection, dict) else collection
            for item in items:
                unrolled |= _unrolled(body, values, {**bound, name: item})
        else:
            unrolled[_unrolled(key, values, bound)] = _unrolled(value, values, bound)
    match unrolled:
        case {"Ref": str(name)} if name in bound:
            return bound[name]
        case {"Fn::Sub": str(text)} if "${" not in text:  # a reference takes a name, not a function that gives one
            return text
    return unrolled
