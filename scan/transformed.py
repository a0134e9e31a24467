"""Prints the template as CloudFormation deploys it: loops unrolled, SAM translated, conditions decided.

Scanners understand neither `Fn::ForEach` nor `Fn::If`: a scanner would ignore a conditional statement of a policy.
The rules that checkov may skip, with their reasons from reasons.yaml, are added to the `Metadata` of resources.

    python scan/transformed.py [PARAMETER=VALUE...]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from parcelq_emulator.template import load

TEMPLATE = Path(__file__).parents[1] / "template.yaml"
REASONS: Mapping[str, Mapping[str, str]] = yaml.safe_load(Path(__file__).with_name("reasons.yaml").read_text())
NO_VALUE = {"Ref": "AWS::NoValue"}


def transformed(parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the template with these values of parameters, and with the defaults of all other parameters."""
    template = load(TEMPLATE, parameters)
    for name, value in parameters.items():
        template["Parameters"][name]["Default"] = value
    values = {name: str(declared["Default"]) for name, declared in template["Parameters"].items()}
    decide = Decide(values, template["Conditions"])
    resources = decide.within(template["Resources"])
    for name, resource in resources.items():
        if skipped := skips(name):
            resource["Metadata"] = {**resource.get("Metadata", {}), "checkov": {"skip": skipped}}
    return {**template, "Resources": resources}


def skips(name: str) -> list[dict[str, str]]:
    """Return the rules that checkov may skip for the resource with a logical id, each rule with its reason."""
    found = {
        rule: why for pattern, rules in REASONS.items() if fnmatchcase(name, pattern) for rule, why in rules.items()
    }
    return [{"id": rule, "comment": why} for rule, why in found.items()]


@dataclass(frozen=True)
class Decide:
    """Selects the branches of `Fn::If`, from the values of the parameters and the conditions of the template."""

    values: Mapping[str, str]
    conditions: Mapping[str, Any]

    def within(self, node: Any) -> Any:
        """Return a part of the template without `Fn::If` and without members that are `AWS::NoValue`."""
        match node:
            case {"Fn::If": [name, then, otherwise]}:
                return self.within(then if self.holds(self.conditions[name]) else otherwise)
            case dict():
                decided = {key: self.within(one) for key, one in node.items()}
                return {key: one for key, one in decided.items() if one != NO_VALUE}
            case list():
                return [one for one in map(self.within, node) if one != NO_VALUE]
        return node

    def holds(self, condition: Any) -> bool:
        """Return whether a condition is true; supports only the kinds of conditions in the template."""
        match condition:
            case {"Fn::Not": [negated]}:
                return not self.holds(negated)
            case {"Fn::Equals": [{"Ref": parameter} | {"Fn::Join": ["", {"Ref": parameter}]}, value]}:
                return self.values[parameter] == str(value)
        raise ValueError(f"{condition} is a condition of an unsupported kind")


if __name__ == "__main__":
    json.dump(transformed(dict(one.split("=", 1) for one in sys.argv[1:])), sys.stdout, indent=2)
