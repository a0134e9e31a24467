"""The template without AWS: its parameters are checked, its loops unrolled, its functions translated."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import decode
from cfnlint.template import Template
from parcelq.errors import SettingsError
from parcelq_emulator.template import load
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


def test_nothing_is_left_that_only_a_transform_knows() -> None:
    template = load(TEMPLATE, {"Stages": "clean,score"})
    assert "Transform" not in template
    assert "Globals" not in template
    assert not any(one["Type"].startswith("AWS::Serverless::") for one in template["Resources"].values())
    assert "Fn::ForEach" not in json.dumps(template)


def test_every_stage_of_the_template_has_the_same_resources() -> None:
    resources = load(TEMPLATE, {"Stages": "a,b2,C"})["Resources"]
    names = {key.removesuffix("b2") for key in resources if key.startswith("Stage") and key.endswith("b2")}
    assert names
    for stage in ("a", "C"):
        assert {
            key.removesuffix(stage) for key in resources if key.startswith("Stage") and key.endswith(stage)
        } == names


def test_loops_are_unrolled_as_cfn_lint_does_it() -> None:
    other = Template(str(TEMPLATE), decode(str(TEMPLATE))[0], ["us-east-1"])
    assert other.transform() == []
    ours = load(TEMPLATE, {})
    assert other.template["Outputs"] == ours["Outputs"]
    compared = 0
    for key, resource in other.template["Resources"].items():
        if resource["Type"].startswith("AWS::Serverless::") or key == "Bucket":
            continue  # translated by SAM, or added to by it
        # Where a parameter chooses the value of a mapping, it takes that of any key.
        for properties in (resource["Properties"], ours["Resources"][key]["Properties"]):
            properties.pop("VisibilityTimeout", None)
        assert ours["Resources"][key] == looked_up(resource, ours["Mappings"]), key
        compared += 1
    assert compared > 30


def looked_up(node: Any, mappings: dict[str, Any]) -> Any:
    """A part of a template with the values of mappings that it names; cfn-lint leaves them to CloudFormation."""
    match node:
        case {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {"Location": location}}}:
            return yaml_parse((TEMPLATE.parent / location).read_text())
        case {"Fn::FindInMap": [mapping, top, key, *default]}:
            return mappings[mapping].get(top, {}).get(key, *(one["DefaultValue"] for one in default))
        case dict():
            return {key: looked_up(one, mappings) for key, one in node.items()}
        case list():
            return [looked_up(one, mappings) for one in node]
    return node


def test_no_stages_name_makes_two_resources_share_a_logical_id() -> None:
    names = ["Admin", "AdminRole", "Policyx", "x", "Topic", "AlarmTopic", "uploader", "downloader", "topicadmin"]
    one = len(load(TEMPLATE, {"Stages": "a"})["Resources"])
    two = len(load(TEMPLATE, {"Stages": "a,b"})["Resources"])
    assert len(load(TEMPLATE, {"Stages": ",".join(names)})["Resources"]) == one + (len(names) - 1) * (two - one)


def test_code_is_where_it_lies_in_the_tree() -> None:
    resources = load(TEMPLATE, {"Stages": "clean,score"})["Resources"].values()
    folders = {one["Properties"]["Code"]["S3Key"] for one in resources if one["Type"] == "AWS::Lambda::Function"}
    assert folders == {f"functions/{name}" for name in ("processor", "uploader", "downloader", "topic_admin")}
    (layer,) = (one["Properties"] for one in resources if one["Type"] == "AWS::Lambda::LayerVersion")
    assert layer["Content"]["S3Key"] == "layers/parcelq/python"
    assert all((TEMPLATE.parent / folder).is_dir() for folder in (*folders, layer["Content"]["S3Key"]))


def test_the_path_of_a_loops_code_depends_on_the_loop_so_that_sam_deploys_it(source: dict[str, Any]) -> None:
    _, _, stage = source["Resources"]["Fn::ForEach::EachStage"]
    assert "${Stage}" in stage["StageFunction${Stage}"]["Properties"]["CodeUri"]["Fn::Sub"]


def test_reading_the_template_needs_neither_network_nor_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("AWS_PROFILE", "there-is-none")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert load(TEMPLATE, {})["Resources"]


@pytest.mark.parametrize(
    "parameters",
    [
        {
            "Prefix": "Parcelq",
            "Stages": "",
            "ParcelSize": "0",
            "BatchSize": "-1",
            "StepPath": "/bin/sh",
            "ProcessorTimeout": "45",
            "ProcessorMemory": "64",
            "Concurrency": "1",
            "Halving": "yes",
            "CollectSchedule": "hourly",
            "LogRetentionDays": "2",
            "AlarmEmail": "nobody",
            "KmsKeyArn": "alias/aws/sqs",
            "Architecture": "arm",
            "Runtime": "python3.10",
            "StepRole": "steps",
            "Secrets": "parcelq/score/API_KEY",
        },
        {
            "Prefix": "p",
            "Stages": "clean,",
            "ParcelSize": "many",
            "StepPath": "steps/a step.py",
            "MessagesPerInvocation": "10001",
            "BatchingWindow": "301",
            "Concurrency": "1001",
        },
        {"Prefix": "p" * 21, "Stages": "clean, score", "ParcelSize": "1.5", "ProcessorMemory": "10241"},
        {"Prefix": "parcelq-", "Stages": "clean-up"},
        {"Prefix": "parcelq-dev"},  # whose topics would be those of a stack "parcelq" too
        {"Stages": "output"},
        {"Stages": "clean,Ranges"},
        {"Stages": "s" * 33},
    ],
)
def test_parameters_that_the_template_does_not_allow_are_refused_with_what_they_must_be(
    parameters: dict[str, str],
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(TEMPLATE, parameters)
    for problem, (name, value) in zip(caught.value.problems, parameters.items(), strict=True):
        assert problem.startswith(f"{name} is {value!r}, but must ")


@pytest.mark.parametrize(
    "parameters",
    [
        {
            "Prefix": "p" * 20,
            "Stages": "outputs,range1,Z",
            "StepPath": "step/step.py",
            "CollectSchedule": "rate(1 hour)",
            "BatchingWindow": "300",
            "KmsKeyArn": "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/0a1b-2c",
        },
        {
            "Runtime": "python3.14",
            "Architecture": "arm64",
            "StepRole": "arn:aws:iam::123456789012:role/path/steps",
            "Secrets": "arn:aws:ssm:us-east-1:123456789012:parameter/score/KEY,"
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:a/b/score/KEY-AbCdEf",
        },
        {"Prefix": "p01", "CollectSchedule": "cron(0 3 * * ? *)", "AlarmEmail": "", "BatchingWindow": "0"},
    ],
)
def test_parameters_take_values_that_the_template_allows(parameters: dict[str, str]) -> None:
    assert load(TEMPLATE, parameters)["Resources"]


def test_a_stage_that_is_named_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="must not name anything twice"):
        load(TEMPLATE, {"Stages": "clean,score,clean"})


def test_all_that_is_wrong_with_parameters_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(TEMPLATE, {"Stage": "clean", "Concurrency": "1", "Halving": "no"})
    unknown, *_ = caught.value.problems
    assert len(caught.value.problems) == 3
    assert unknown.startswith("there is no Stage; there are Prefix, Stages, ")
