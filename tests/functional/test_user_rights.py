"""Which rights a person needs for each command that speaks to a stack: recorded from the calls that it makes.

PARCELQ_WRITE_DOCS=1 writes them into docs/howto/rights.md.
"""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from cli_fixtures import Cli
from function_world import BUCKET, Stack, event
from role_checks import Asked, asked_for

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

PAGE: Final = Path(__file__).parents[2] / "docs" / "howto" / "rights.md"
GENERATED: Final = "<!-- generated -->\n"
SERVICES: Final[dict[str, Any]] = {
    "GetAccountSettings": {"AccountLimit": {"ConcurrentExecutions": 1000}},
    "ListEventSourceMappings": {"EventSourceMappings": [{"UUID": "1", "State": "Enabled", "ScalingConfig": {}}]},
    "UpdateEventSourceMapping": {"ScalingConfig": {"MaximumConcurrency": 20}},
    "DescribeAlarms": {"MetricAlarms": []},
}
"""What services answer that moto does not have."""
OUTPUTS: Final = {
    "BucketName": BUCKET,
    "TopicPrefix": "parcelq",
    "StageNames": "step",
    "OutputTopic": "parcelq-output",
    "PythonVersion": "3.13",
    "Platform": "x86_64-manylinux_2_34",
    "ProcessorDisk": "2048",
}
ACTIONS: Final = {
    "DescribeStacks": ("cloudformation:DescribeStacks", "arn:aws:cloudformation:REGION:ACCOUNT:stack/STACK/*"),
    "GetAccountSettings": ("lambda:GetAccountSettings", "*"),
    "ListEventSourceMappings": ("lambda:ListEventSourceMappings", "*"),
    "UpdateEventSourceMapping": (
        "lambda:UpdateEventSourceMapping",
        "arn:aws:lambda:REGION:ACCOUNT:event-source-mapping:*",
    ),
    "DescribeAlarms": ("cloudwatch:DescribeAlarms", "arn:aws:cloudwatch:REGION:ACCOUNT:alarm:*"),
}
"""https://docs.aws.amazon.com/service-authorization/latest/reference/"""


class Recorder:
    """Notes what commands ask AWS for, each under the command's name."""

    def __init__(self) -> None:
        self.asked: defaultdict[str, set[Asked]] = defaultdict(set)
        self.command = ""

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Do what others than the user do."""
        command, self.command = self.command, ""
        yield
        self.command = command

    def note(self, operation: str, params: dict[str, Any]) -> None:
        if operation in ACTIONS:
            found = [Asked(*ACTIONS[operation])]
        elif operation == "CopyObject":
            found = [*asked_for("PutObject", params), *asked_for("GetObject", params["CopySource"])]
        else:
            found = asked_for(operation, params)
        self.asked[self.command].update(map(general, found))


def general(asked: Asked) -> Asked:
    """A right for all stacks, all topics of one, and all objects of a folder of its bucket."""
    service, _, name = asked.resource.partition(":::")
    if service == "arn:aws:s3":
        bucket, _, key = name.partition("/")
        bucket = "BUCKET" if bucket == BUCKET else "OTHER-BUCKET"
        folder = f"/{key.partition('/')[0]}/*" if bucket == "BUCKET" else "/*"
        prefix = None if asked.prefix is None else f"{asked.prefix.partition('/')[0]}/*"
        return Asked(asked.action, f"arn:aws:s3:::{bucket}{folder if key else ''}", prefix)
    if asked.action.startswith("sqs:") and asked.resource != "*":
        return Asked(asked.action, "arn:aws:sqs:REGION:ACCOUNT:PREFIX-*")
    return asked


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    real: Callable[..., Any] = BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(client: Any, operation: str, params: dict[str, Any]) -> Any:
        if not recorder.command:
            return real(client, operation, params)
        recorder.note(operation, params)
        if operation in SERVICES:
            return SERVICES[operation]
        try:
            return real(client, operation, params)
        except ClientError as error:
            # Without the right to list, S3 answers that the object is forbidden.
            if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                recorder.note("ListObjectsV2", {"Bucket": params["Bucket"], "Prefix": params["Key"]})
            raise

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    return recorder


@pytest.fixture
def command(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., None]:
    """Runs a command, whose calls are noted under what it is called in the documentation."""
    cli = Cli(monkeypatch, capsysbinary)

    def run(called: str, *words: str | Path, code: int = 0) -> None:
        recorder.command = called
        done = cli(*words)
        recorder.command = ""
        assert done.code == code, done.err

    return run


@pytest.fixture
def functions_go_on(stack: Stack, recorder: Recorder, at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the functions do their work whenever a command waits."""
    put: set[str] = set()

    def work(_stop: threading.Event) -> None:
        with recorder.silent():
            for key in set(stack.keys("inbox/")) - put:
                put.add(key)
                found = stack.s3.head_object(Bucket=BUCKET, Key=key)
                given = event("s3_put")
                entity = given["Records"][0]["s3"]["object"]
                entity.update(key=quote_plus(key, "/"), eTag=found["ETag"].strip('"'), size=found["ContentLength"])
                stack.call("uploader", given)
            for function, topic in (("processor", "step"), ("downloader", "looks")):
                delivered = stack.deliver(f"parcelq-{topic}")
                if delivered["Records"]:
                    stack.acknowledge(f"parcelq-{topic}", delivered, stack.call(function, delivered))

    monkeypatch.setattr("parcelq.stack.follow._pause", work)


def test_the_documentation_has_the_rights_for_all_commands_that_speak_to_a_stack(
    stack: Stack,
    recorder: Recorder,
    command: Callable[..., None],
    functions_go_on: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    template = {
        "Resources": {"Other": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in OUTPUTS.items()},
    }
    boto3.client("cloudformation").create_stack(StackName="parcelq", TemplateBody=json.dumps(template))
    stack.s3.create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    stack.s3.put_object(Bucket="other", Key="far.txt", Body=b"far\n")
    Path("lines.txt").write_text("one\ntwo\n")
    Path("bad.txt").write_text("good\nbad\n")
    Path("flow").mkdir()
    Path("flow/workflow.yaml").write_text("steps: [{run: cat}]\n")
    Path("fails").mkdir()
    Path("fails/step.sh").write_text('#!/bin/sh\n! grep -q bad "$2" && cp "$2" "$4"\n')
    Path("fails/step.sh").chmod(0o755)
    on = ("--stack", "parcelq")

    command("parcelq run FILE", "run", "lines.txt", "--step", "cat", *on)
    command("parcelq run FILE", "run", "bad.txt", "--step", "fails", *on, code=1)
    command("parcelq run s3://OTHER-BUCKET/KEY", "run", "s3://other/far.txt", "--step", "cat", *on)
    names = [key.removeprefix("inbox/") for key in stack.keys("inbox/")]
    command("parcelq wait", "wait", next(name for name in names if "lines" in name), *on)
    jobs = [json.loads(stack.get(key)) for key in stack.keys("jobs/")]
    job = next(one["id"] for one in jobs if "bad.txt" in one["source"])
    command("parcelq jobs", "jobs", *on)
    command("parcelq wait JOB", "wait", job, *on, code=1)
    command("parcelq dead JOB", "dead", job, *on)
    command("parcelq redrive JOB", "redrive", job, *on)
    command("parcelq redrive JOB --step", "redrive", job, "--step", "cat", *on)
    command("parcelq cancel", "cancel", job, *on)
    command("parcelq resume", "resume", job, *on)
    command("parcelq workflows put", "workflows", "put", "flow", *on)
    command("parcelq workflows list", "workflows", "list", *on)
    command("parcelq workflows show", "workflows", "show", "flow", *on)
    command("parcelq doctor", "doctor", *on, code=1)  # there is a dead letter
    command("parcelq scale", "scale", "step", "20", *on)
    command("parcelq status", "status", "--bucket", BUCKET, "--topic", "parcelq-output")
    command("parcelq dead TOPIC", "dead", "parcelq-step")
    command("parcelq topics redrive", "topics", "redrive", "parcelq-step")
    command("parcelq topics count", "topics", "count", "parcelq-step")
    command("parcelq workflows delete", "workflows", "delete", "flow", "--yes", *on)

    text, mark, _ = PAGE.read_text().partition(GENERATED)
    wanted = text + mark + page(recorder.asked)
    if os.environ.get("PARCELQ_WRITE_DOCS"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "PARCELQ_WRITE_DOCS=1 pytest tests/functional/test_user_rights.py writes it"


def page(asked: dict[str, set[Asked]]) -> str:
    """The table of commands, and a policy for all of them."""
    rows = [f"| `{command}` | {'; '.join(rights(found))} |\n" for command, found in asked.items() if command]
    policy = {"Version": "2012-10-17", "Statement": statements(set[Asked]().union(*asked.values()))}
    return (
        "\n| command | permissions |\n| --- | --- |\n" + "".join(rows) + "\nAll of them together:\n\n```json\n"
        f"{json.dumps(policy, indent=2)}\n```\n"
    )


def rights(asked: set[Asked]) -> Iterator[str]:
    for one in statements(asked):
        actions = ", ".join(f"`{action}`" for action in listed(one["Action"]))
        resources = ", ".join(f"`{resource.split(':', 5)[-1]}`" for resource in listed(one["Resource"]))
        yield f"{actions} on {resources}" if one["Resource"] != "*" else actions


def only(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def listed(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else values


def statements(asked: set[Asked]) -> list[dict[str, Any]]:
    """Statements of a policy, with the actions of each resource together, and resources with the same actions."""
    actions: defaultdict[str, set[str]] = defaultdict(set)
    for one in asked:
        actions[one.resource].add(one.action)
    resources: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for resource, allowed in actions.items():
        resources[tuple(sorted(allowed))].append(resource)
    found: list[dict[str, Any]] = []
    for allowed_, named in sorted(resources.items()):
        statement = {"Effect": "Allow", "Action": only(list(allowed_)), "Resource": only(sorted(named))}
        prefixes = sorted({one.prefix for one in asked if one.prefix and one.resource in named})
        if prefixes:
            statement["Condition"] = {"StringLikeIfExists": {"s3:prefix": prefixes}}
        found.append(statement)
    return found
