"""What checkov gets to see, and what it is told to pass over."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d"
transformed = runpy.run_path(str(Path(__file__).parents[2] / "scan" / "transformed.py"))["transformed"]


def nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a part of a template."""
    if isinstance(node, dict):
        yield node
    for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(one)


@pytest.mark.parametrize("key", ["", KEY])
def test_nothing_is_left_open(key: str) -> None:
    for node in nodes(transformed({"Stages": "clean,score", "KmsKeyArn": key})["Resources"]):
        assert not any(name == "Fn::If" or "ForEach" in name for name in node)
        assert node.get("Ref") != "AWS::NoValue"
        assert not str(node.get("Type", "")).startswith("AWS::Serverless::")


def test_conditions_are_decided_as_the_parameters_say() -> None:
    def encryption(**parameters: str) -> Any:
        return transformed(parameters)["Resources"]["OutputTopic"]["Properties"]

    assert encryption()["SqsManagedSseEnabled"] is True
    assert "KmsMasterKeyId" not in encryption()
    assert encryption(KmsKeyArn=KEY)["KmsMasterKeyId"] == {"Ref": "KmsKeyArn"}
    assert "SqsManagedSseEnabled" not in encryption(KmsKeyArn=KEY)


def test_whatever_is_passed_over_has_its_reason_beside_it() -> None:
    resources = transformed({})["Resources"]
    skipped = {
        name: resource["Metadata"]["checkov"]["skip"]
        for name, resource in resources.items()
        if "checkov" in resource.get("Metadata", {})
    }
    assert skipped.keys() >= {"Bucket", "AlarmTopic", "StageFunctionstep", "Uploader", "Downloader", "TopicAdmin"}
    for rules in skipped.values():
        assert all(set(rule) == {"id", "comment"} and len(rule["comment"]) > 20 for rule in rules)
