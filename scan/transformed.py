"""Prints the template as CloudFormation deploys it: loops unrolled, SAM translated, conditions decided.

A scanner reads neither `Fn::ForEach` nor `Fn::If`: it would take a policy with a conditional statement for one without.
The rules that it may pass over, with the reasons in reasons.yaml, are added where checkov looks for them.

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
    """The template with these parameters, and the defaults of all others."""
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
    """The rules that checkov may pass over for the resource of that logical id, each with its reason."""
    found = {
        rule: why for pattern, rules in REASONS.items() if fnmatchcase(name, pattern) for rule, why in rules.items()
    }
    return [{"id": rule, "comment": why} for rule, why in found.items()]


@dataclass(frozen=True)
class Decide:
    """Takes the branches of `Fn::If` that parameters of these values take."""

    values: Mapping[str, str]
    conditions: Mapping[str, Any]

    def within(self, node: Any) -> Any:
        """A part of the template without `Fn::If`, and without what `AWS::NoValue` leaves out."""
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
        """Whether a condition does, of the kinds that the template has."""
        match condition:
            case {"Fn::Not": [negated]}:
                return not self.holds(negated)
            case {"Fn::Equals": [{"Ref": parameter} | {"Fn::Join": ["", {"Ref": parameter}]}, value]}:
                return self.values[parameter] == str(value)
        raise ValueError(f"{condition} is a condition of a kind that is not known here")


if __name__ == "__main__":
    json.dump(transformed(dict(one.split("=", 1) for one in sys.argv[1:])), sys.stdout, indent=2)
