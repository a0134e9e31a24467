"""What checkov sees of the template, and what it may pass over."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d"
SCAN = runpy.run_path(str(Path(__file__).parents[2] / "scan" / "transformed.py"))
REASONS, transformed = SCAN["REASONS"], SCAN["transformed"]


def nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a part of a template."""
    if isinstance(node, dict):
        yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(one)


@pytest.mark.parametrize("key", ["", KEY])
def test_checkov_finds_nothing_that_the_template_leaves_open(key: str) -> None:
    for node in nodes(transformed({"Stages": "clean,score", "KmsKeyArn": key})["Resources"]):
        assert not any(name == "Fn::If" or "ForEach" in name for name in node)
        assert node.get("Ref") != "AWS::NoValue"
        assert not str(node.get("Type", "")).startswith("AWS::Serverless::")


def test_conditions_are_decided_as_the_parameters_say() -> None:
    def encryption(**parameters: str) -> Any:
        return transformed(parameters)["Resources"]["TopicOfoutput"]["Properties"]

    assert encryption()["SqsManagedSseEnabled"] is True
    assert "KmsMasterKeyId" not in encryption()
    assert encryption(KmsKeyArn=KEY)["KmsMasterKeyId"] == {"Ref": "KmsKeyArn"}
    assert "SqsManagedSseEnabled" not in encryption(KmsKeyArn=KEY)


def test_further_rights_of_steps_are_there_only_where_parameters_say_so() -> None:
    def statements(**parameters: str) -> set[str]:
        role = transformed(parameters)["Resources"]["StageRolestep"]["Properties"]
        return {one["Sid"] for one in role["Policies"][0]["PolicyDocument"]["Statement"]}

    secrets = "arn:aws:ssm:us-east-1:123456789012:parameter/score/KEY"
    assert statements(Secrets=secrets) - statements() == {"ReadSecrets"}
    assert statements(StepRole="arn:aws:iam::123456789012:role/steps") - statements() == {"AssumeStepRole"}


def test_every_rule_that_checkov_passes_over_has_a_reason() -> None:
    assert REASONS
    for rules in REASONS.values():
        assert all(rule.startswith("CKV_AWS_") and len(reason) > 20 for rule, reason in rules.items())


def test_reasons_are_added_to_the_resources_that_they_name_and_to_no_others() -> None:
    resources = transformed({"Stages": "clean,score"})["Resources"]
    skipped = {name for name, one in resources.items() if "checkov" in one.get("Metadata", {})}
    skipped -= {name for name in skipped if resources[name]["Type"] == "AWS::Lambda::EventSourceMapping"}
    functions = {"StageFunctionclean", "StageFunctionscore", "Uploader", "Downloader", "TopicAdmin"}
    assert skipped == {"Bucket", "AlarmTopic", "JobTopic", *functions}
    (rule,) = resources["AlarmTopic"]["Metadata"]["checkov"]["skip"]
    assert rule == {"id": "CKV_AWS_26", "comment": REASONS["AlarmTopic"]["CKV_AWS_26"]}
