"""Each function's role allows all calls that it makes, and nothing that it does not need."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from parcelq.topics.message import Message
from role_checks import BY_LAMBDA, SECRETS, SQS, STEP_ROLE, Asked, Role, asked_for, roles

if TYPE_CHECKING:
    from function_world import Stack

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

CSV = b'id,note\n1,"two\nlines"\n2,plain\n3,"a"\n' + b"".join(b"%d,more\n" % number for number in range(4, 60))
LONG_HEADER = b"id," + b"n" * 2000 + b"\n1,a\n2,b\n"


def test_a_range_task_for_a_part_reads_what_was_noted(stack: Stack) -> None:
    """Which heals a job: `uploader` reads notes of the upload, and publishes the part again."""
    given = stack.put(b"one\ntwo\n")
    stack.call("uploader", given)
    stack.take("parcelq-step")
    source = json.loads(stack.get(stack.keys("jobs/")[0]))["source"]
    task = {"source": source, "topic": "parcelq-step", "start": 4, "end": 8, "total": 8, "part": True}
    stack.publish("parcelq-ranges", Message(json.dumps(task).encode()))
    stack.run("uploader", "parcelq-ranges")
    (message,) = stack.take("parcelq-step")
    assert message.message().body == b"two\n"


@pytest.mark.parametrize(
    ("operation", "params", "expected"),
    [
        (
            "SendMessageBatch",
            {"QueueUrl": "https://q/parcelq-step"},
            [Asked("sqs:SendMessage", f"{SQS}parcelq-step")],
        ),
        ("GetQueueUrl", {"QueueName": "parcelq-step"}, [Asked("sqs:GetQueueUrl", f"{SQS}parcelq-step")]),
        ("HeadObject", {"Bucket": "b", "Key": "a/b"}, [Asked("s3:GetObject", "arn:aws:s3:::b/a/b")]),
        (
            "GetObject",
            {"Bucket": "b", "Key": "a", "VersionId": "1"},
            [Asked("s3:GetObjectVersion", "arn:aws:s3:::b/a")],
        ),
        (
            "CopyObject",
            {"Bucket": "b", "Key": "x", "CopySource": {"Bucket": "c", "Key": "y"}},
            [Asked("s3:GetObject", "arn:aws:s3:::c/y"), Asked("s3:PutObject", "arn:aws:s3:::b/x")],
        ),
        (
            "DeleteObjects",
            {"Bucket": "b", "Delete": {"Objects": [{"Key": "x"}, {"Key": "y"}]}},
            [Asked("s3:DeleteObject", "arn:aws:s3:::b/x"), Asked("s3:DeleteObject", "arn:aws:s3:::b/y")],
        ),
    ],
)
def test_a_call_asks_for_an_action_on_a_resource(operation: str, params: dict[str, Any], expected: list[Asked]) -> None:
    assert asked_for(operation, params) == expected


KNOWN = {("downloader", "Results", "s3:AbortMultipartUpload")}
"""What nothing here asks for: uploads are aborted only where writing fails."""
BUCKET = "arn:aws:s3:::parcelq-123456789012-us-east-1"


@pytest.mark.parametrize(
    ("function", "asked"),
    [
        ("downloader", Asked("s3:GetObject", f"{BUCKET}/inbox/molecules.smi")),
        ("downloader", Asked("s3:ListBucket", BUCKET, "inbox/")),
        ("downloader", Asked("sqs:SendMessage", f"{SQS}parcelq-step")),
        ("uploader", Asked("s3:PutObject", f"{BUCKET}/results/a")),
        ("uploader", Asked("s3:GetObject", "arn:aws:s3:::other/inbox/a")),
        ("processor", Asked("s3:GetObject", f"{BUCKET}/inbox/a")),
        ("processor", Asked("sqs:ReceiveMessage", f"{SQS}parcelq-output")),
        ("processor", Asked("sts:AssumeRole", STEP_ROLE + "-of-others")),
        ("processor", Asked("ssm:GetParameter", SECRETS[0] + "S")),
        ("uploader", Asked("ssm:GetParameter", SECRETS[0])),
        ("topic_admin", Asked("s3:PutObject", f"{BUCKET}/jobs/a.json")),
    ],
)
def test_a_role_does_not_allow_what_its_function_has_no_need_for(function: str, asked: Asked) -> None:
    assert not roles()[function].allows(asked)


def test_a_statement_that_is_taken_away_or_added_in_vain_is_noticed() -> None:
    role = roles()["downloader"]
    put = Asked("s3:PutObject", f"{BUCKET}/jobs/a.json")
    assert role.allows(put)
    assert ("Jobs", "s3:PutObject") not in role.in_vain()
    assert ("Jobs", "s3:GetObject") in role.in_vain()
    assert not Role({sid: one for sid, one in role.statements.items() if sid != "Jobs"}).allows(put)


def test_roles_allow_nothing_that_no_function_needs(
    stack: Stack,
    tmp_path: Path,
    upper: None,
    at_once: None,
    settings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything that the functions do for their living, each once; so this is the list of what roles are for."""

    def deliver(function: str, topic: str) -> None:
        delivered = stack.deliver(topic)
        if delivered["Records"]:
            stack.acknowledge(topic, delivered, stack.call(function, delivered))

    def forget(function: str) -> None:
        for one in vars(getattr(stack.functions, function)).values():
            getattr(one, "cache_clear", lambda: None)()

    def run(data: bytes, key: str = "inbox/molecules.smi", **options: Any) -> None:
        stack.call("uploader", stack.put(data, key=key, **options))
        for _ in range(3):
            for function, topic in (("uploader", "ranges"), ("processor", "step"), ("downloader", "looks")):
                deliver(function, f"parcelq-{topic}")

    settings(MAX_FAILURES=1, BACK_OFF_SECONDS=1, RANGE_BYTES=10**8)
    monkeypatch.setattr("parcelq.jobs.jobs.WAKING_SECONDS", 0)
    monkeypatch.setattr("parcelq.store.store._PART_BYTES", 5 * 2**20)
    monkeypatch.setattr("parcelq.collect.large.LARGE", 5 * 2**20)
    # A bad line: marks, dead letters, a report with a list; then it is redriven, and the list goes.
    stack.call("uploader", stack.put(b"received\n", key="inbox/before.txt"))
    for record in stack.deliver("parcelq-step")["Records"]:  # a message that was received before runs under a mark
        handle = record["receiptHandle"]
        stack.sqs.change_message_visibility(
            QueueUrl=stack.urls["parcelq-step"], ReceiptHandle=handle, VisibilityTimeout=0
        )
    run(b"good\nbad\nfine\n")
    # A step that fails whatever it is given, which stops the job.
    run(b"".join(b"bad %d\n" % number for number in range(20)), "inbox/broken.txt")
    (tmp_path / "step" / "step").write_text('#!/bin/sh\ntr a-z A-Z < "$2" > "$4"\n')
    stack.call("topic_admin", {"action": "peek", "topic": "parcelq-step-dead-letter"})
    stack.call("topic_admin", {"action": "redrive", "topic": "parcelq-step"})
    run(b"other\n", "inbox/other.txt")
    # A line that is too large for a message, in a result of several parts;
    run(b"".join(bytes([letter]) * (3 * 2**20) + b"\n" for letter in b"xyz"), "inbox/large.txt")
    # Ranges that must be scanned, and a header that is too long for an attribute, whose output has one as well.
    settings(RANGE_BYTES=200)
    forget("uploader")
    run(CSV, "inbox/orders.csv")
    run(LONG_HEADER, "inbox/long.csv")
    # A version, a second event of one put, a part that is missing.
    stack.s3.put_bucket_versioning(Bucket=stack.bucket, VersioningConfiguration={"Status": "Enabled"})
    given = stack.put(b"one\ntwo\n", key="inbox/versions.txt")
    version = stack.s3.head_object(Bucket=stack.bucket, Key="inbox/versions.txt")["VersionId"]
    given["Records"][0]["s3"]["object"]["versionId"] = version
    for _ in range(2):
        stack.call("uploader", given)
    stack.take("parcelq-step")
    monkeypatch.setattr("parcelq.jobs.changes.QUIET_SECONDS", 0.0)
    settings(QUIET_SECONDS=1)
    forget("downloader")
    for _ in range(8):
        deliver("downloader", "parcelq-looks")
        time.sleep(0.3)
    deliver("uploader", "parcelq-ranges")
    stack.call("downloader", {})
    # Workflows, which are looked for.
    stack.call("uploader", stack.put(b"x\n", key="inbox/nosuch/a.txt"))
    stack.publish("parcelq-step", Message(b"x\n", {"Workflow": "nosuch@0123456789abcdef"}))
    deliver("processor", "parcelq-step")
    # What people ask for.
    stack.make_topic("parcelq-mine")
    for asked in (
        {"action": "list"},
        {"action": "status"},
        {"action": "count", "topic": "parcelq-step"},
        {"action": "attributes", "topic": "parcelq-step"},
        {"action": "publish", "topic": "parcelq-step", "messages": [{"body": "z" * 2_000_000}]},
        {"action": "peek", "topic": "parcelq-step"},
        {"action": "purge", "topic": "parcelq-mine"},
        {"action": "delete", "topic": "parcelq-mine"},
        {"action": "create", "topic": "parcelq-new"},
    ):
        assert "error" not in stack.call("topic_admin", asked), asked
    # A built-in step that uses AWS, and has secrets.
    boto3.client("ssm").put_parameter(Name="/parcelq/step/API_KEY", Value="key", Type="SecureString")
    made = boto3.client("secretsmanager").create_secret(Name="parcelq/step/TOKEN", SecretString="token")
    (tmp_path / "step" / "settings.yaml").write_text("aws_credentials: true\n")
    settings(STEP_ROLE=STEP_ROLE, SECRETS=f"{SECRETS[0]},{made['ARN']}")
    for cached in ("own", "grants", "processor"):
        getattr(stack.functions.processor, cached).cache_clear()
    stack.publish("parcelq-step", Message(b"secret\n"))
    deliver("processor", "parcelq-step")
    assert "SECRET\n" in [one.wire.text for one in stack.take("parcelq-output")]
    in_vain = {
        (function, sid, action)
        for function, role in stack.roles.items()
        for sid, action in role.in_vain()
        if not (sid in {"TakeMessages", "TakeRanges"} and action in BY_LAMBDA)
    }
    assert in_vain == KNOWN
