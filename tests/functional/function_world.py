"""The world of the functions: a stack on moto whose handlers are called as Lambda calls them."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from memory_store import collected_of
from memory_store import result_of as joined_of
from parcelq.lineage.lineage import Lineage
from parcelq.names import DEAD_LETTER_SUFFIX
from parcelq.topics.attributes import LINEAGE, SIZE_ELSEWHERE
from parcelq.topics.cost import METER
from parcelq.topics.message import Message, Pulled
from role_checks import checking, roles

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "events"
BUCKET = "parcelq-123456789012-us-east-1"
MOLECULES = b"CCO ethanol\nc1ccccc1 benzene\nCC(=O)Oc1ccccc1C(=O)O aspirin\nNCC(=O)O glycine\n"
UPPER = '#!/bin/sh\nif grep -q bad "$2"; then echo "a bad one" >&2; exit 3; fi\ntr a-z A-Z < "$2" > "$4"\n'
ALIKE = [
    "Parcelq-step",
    "parcelq_step",
    " parcelq-step",
    "parcelq-step\n",
    "parcelq-step ",
    "parcelq-*",
    "parcelq-step.fifo",
    "parcelq-../other",
    "parcelq\u2010step",  # a hyphen, but not the one of ASCII
    "\u0440arcelq-step",  # the Cyrillic letter that looks like p
    "parcelq-st\u0435p",
    "\uff50arcelq-step",
    "other/parcelq-step",
    "arn:aws:sqs:eu-central-1:123456789012:parcelq-step",
    "https://sqs.eu-central-1.amazonaws.com/1/other?parcelq-step",
    "https://sqs.eu-central-1.amazonaws.com/1/parcelq-step?x=/parcelq-st\u0435p",
    "https://sqs.eu-central-1.amazonaws.com/1/parcelq-step/..",
]
"""What looks like a topic of the stack, and is none."""
NAMES = [f"parcelq-{name}" for name in ("step", "output", "ranges", "looks")]


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


class Context:
    """What Lambda tells a handler of its invocation."""

    function_name = "parcelq"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:parcelq"
    aws_request_id = "00000000-0000-0000-0000-000000000000"

    def __init__(self, *milliseconds: int) -> None:
        """The time left when it is first asked for, the second time and so on; it stays at the last."""
        self.milliseconds = list(milliseconds)

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds.pop(0) if len(self.milliseconds) > 1 else self.milliseconds[0]


def record_of(pulled: Pulled, topic: str) -> dict[str, Any]:
    """A pulled message as the event source mapping gives it to a function."""
    attributes = {name: {"stringValue": value, "dataType": "String"} for name, value in pulled.attributes.items()}
    return {
        "messageId": pulled.message_id,
        "receiptHandle": pulled.receipt_handle,
        "body": pulled.wire.text,
        "attributes": {"ApproximateReceiveCount": str(pulled.receive_count)},
        "messageAttributes": attributes,
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:{topic}",
    }


def spans(messages: Iterable[Pulled]) -> list[tuple[int, int]]:
    found = (Lineage.parse(one.attributes[LINEAGE]).span for one in messages)
    return sorted((span.start, span.end) for span in found)


def result_of(messages: Iterable[Pulled]) -> bytes:
    """What the messages of one source make; they must make it whole."""
    collected = collected_of(one.message() for one in messages)
    assert collected.resolve().whole, collected.resolve()
    return joined_of(collected)


class Stack:
    """A deployed stack, as its functions see it."""

    def __init__(
        self,
        sqs: Any,
        s3: Any,
        load: Callable[[str], ModuleType],
        take: Callable[[str], list[Pulled]],
        monkeypatch: pytest.MonkeyPatch,
    ):
        self.sqs, self.s3, self.load, self._take, self.monkeypatch = sqs, s3, load, take, monkeypatch
        self.roles = roles()
        self.urls: dict[str, str] = {}
        for name in NAMES:
            self.make_topic(name)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    @cached_property
    def functions(self) -> SimpleNamespace:
        """The functions' modules, each imported when it is first asked for, as by a cold start."""
        load = self.load

        class Lazy(SimpleNamespace):
            def __getattr__(self, name: str) -> ModuleType:
                setattr(self, name, load(name))
                return vars(self)[name]

        return Lazy()

    bucket = BUCKET

    def call(self, function: str, given: Any, milliseconds: Iterable[int] = (300_000,)) -> Any:
        """Let a function take an event; its role must allow all that it asks AWS for."""
        handler = getattr(self.functions, function).handler
        stage = os.environ.get("PARCELQ_STAGE", "")
        is_another = stage not in {"", "step"} and stage in os.environ.get("PARCELQ_STAGES", "").split(",")
        role = roles(stage)[function] if is_another else self.roles[function]
        with checking(function, role, self.monkeypatch):
            return handler(given, Context(*milliseconds))

    def make_topic(self, name: str) -> None:
        for one in (name, name + DEAD_LETTER_SUFFIX):
            self.urls[one] = self.sqs.create_queue(QueueName=one)["QueueUrl"]

    def take(self, topic: str) -> list[Pulled]:
        return self._take(self.urls[topic])

    def publish(self, topic: str, *messages: Message) -> None:
        for message in messages:
            self.sqs.send_message(QueueUrl=self.urls[topic], **message.wire().request())

    def pointer(self, bucket: str, key: str) -> Message:
        """A message whose body is in S3."""
        if bucket != BUCKET:
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.s3.put_object(Bucket=bucket, Key=key, Body=b"secret\n")
        target = {"s3BucketName": bucket, "s3Key": key}
        text = json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", target])
        return Message(text.encode(), {SIZE_ELSEWHERE: "7"})

    def deliver(self, topic: str) -> dict[str, Any]:
        """Pull what a topic has, as the event that its function would get."""
        reply = self.sqs.receive_message(
            QueueUrl=self.urls[topic],
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        return {"Records": [record_of(Pulled.from_sqs(raw), topic) for raw in reply.get("Messages", [])]}

    def acknowledge(self, topic: str, delivered: dict[str, Any], answer: dict[str, Any]) -> None:
        """Do what the event source mapping does with a function's answer."""
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        for record in delivered["Records"]:
            if record["messageId"] not in failed:
                self.sqs.delete_message(QueueUrl=self.urls[topic], ReceiptHandle=record["receiptHandle"])

    def run(self, function: str, topic: str) -> None:
        """Let a function do all that a topic has."""
        while (delivered := self.deliver(topic))["Records"]:
            self.acknowledge(topic, delivered, self.call(function, delivered))

    def put(
        self, data: bytes, name: str = "s3_put", key: str | None = None, sequencer: str = "", **options: str
    ) -> dict[str, Any]:
        """Put an object and return the event that S3 sends of it, made of the one in `events/`."""
        given = event(name)
        entity = given["Records"][0]["s3"]["object"]
        if key is not None:
            entity["key"] = key
        if sequencer:
            entity["sequencer"] = sequencer
        module = self.functions.uploader
        put = module.put_of(given["Records"][0])
        answer = self.s3.put_object(Bucket=BUCKET, Key=put.source.key, Body=data, **options)
        entity.update(eTag=answer["ETag"].strip('"'), size=len(data))
        return given

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        return [one["Key"] for one in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    def messages(self, *, delayed: bool = False) -> int:
        """How many messages there are on all topics, with or without those that still have a delay.

        Each state is asked for before the one that follows it, so that no message changes its state unseen.
        """
        states = ["Delayed"] * delayed + ["NotVisible", ""]
        return sum(
            self._count(url, f"ApproximateNumberOfMessages{state}") for state in states for url in self.urls.values()
        )

    def _count(self, url: str, attribute: str) -> int:
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[attribute])["Attributes"][attribute])


@pytest.fixture
def library_logger() -> Iterator[None]:
    """Gives the library's logger back as it was: the functions take it over when they are imported."""
    logger = logging.getLogger("parcelq")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers = before


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, library_logger: None) -> Callable[[str], ModuleType]:
    """Imports a function anew, under a name of its own, so that no state of an earlier test is cached."""

    def load(name: str) -> ModuleType:
        folder = ROOT / "functions" / name
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "actions", raising=False)
        spec = importlib.util.spec_from_file_location(f"{name}_app", folder / "app.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for their annotations
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets PARCELQ_… variables."""

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PARCELQ_{name}", str(value))

    return change


@pytest.fixture
def stack(
    sqs: Any,
    s3: Any,
    load: Callable[[str], ModuleType],
    everything_on: Callable[[str], list[Pulled]],
    settings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Stack:
    METER.take()  # the costs of functions that earlier tests called in this process
    monkeypatch.setattr("parcelq.process.redrive._QUIET_SECONDS", 0)
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "functions")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Parcelq")
    settings(
        PREFIX="parcelq",
        BUCKET=BUCKET,
        STAGES="step",
        STAGE="step",
        PARCEL_SIZE=2,
        BATCH_SIZE=2,
        STEP_PATH="",
        SETTINGS_FILE="",
        WORKFLOW_ID="",
        MAX_FAILURES=2,
        RANGE_BYTES=1000,
        HALVING="true",
        STEP_FOLDERS=ROOT / "functions" / "processor" / "steps",
    )
    return Stack(sqs, s3, load, everything_on, monkeypatch)


@pytest.fixture
def told(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events that EventBridge gets, without any other effect."""
    details: list[dict[str, Any]] = []

    def put_event(_events: Any, _kind: str, detail: dict[str, Any], _resource: str) -> None:
        details.append(json.loads(json.dumps(detail)))

    monkeypatch.setattr(stack.functions.downloader, "put_event", put_event)
    return details


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets looks come without a delay."""
    for name in ("jobs.FIRST_SECONDS", "changes.SHORTEST_SECONDS", "changes.STILL_SECONDS", "changes.LONGEST_SECONDS"):
        monkeypatch.setattr(f"parcelq.jobs.{name}", 0.0)


@pytest.fixture
def upper(tmp_path: Path, settings: Callable[..., None]) -> None:
    """Makes the stage's step one that makes capitals, and fails if an entry is bad."""
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "step").write_text(UPPER)
    (tmp_path / "step" / "step").chmod(0o755)
    settings(STEP_FOLDERS=tmp_path)
