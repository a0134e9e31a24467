"""The handlers: what each does with the events that AWS and people give it, and what it refuses."""

from __future__ import annotations

import base64
import bz2
import gzip
import importlib.util
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from memory_store import collected_of
from memory_store import result_of as joined_of
from parcelq.collect.segments import Job, write_segment
from parcelq.errors import InvalidValueError, ParcelqError, SettingsError, TopicNotFoundError
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source
from parcelq.names import DEAD_LETTER_SUFFIX
from parcelq.records import by_name
from parcelq.store.bucket import BucketStore
from parcelq.topics.message import DEAD, ENTRIES, FAILURES, LINEAGE, SIZE_ELSEWHERE, SOURCE, WORKFLOW, Message, Pulled
from parcelq.topics.pieces import Piece
from parcelq.topics.sqs import SqsTopic
from parcelq.topics.topic import FailedMessage, Published
from parcelq.upload.notes import noted_problems, noted_sources
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
ELSEWHERE = [
    ("other-bucket", "overflow/0a1b"),
    (BUCKET, "inbox/secret"),
    (BUCKET, "results/secret"),
    (BUCKET, "overflow"),
    (BUCKET, "overflows/0a1b"),
    (BUCKET, "Overflow/0a1b"),
    (BUCKET, "/overflow/0a1b"),
]
"""Buckets and keys that no pointer may lead to."""
NAMES = [f"parcelq-{name}" for name in ("step", "output", "ranges", "looks")]
WARM = """
import os
from parcelq.steps.function import step

@step
def run(entries):
    for entry in entries:
        if "bad" in entry:
            raise ValueError(entry)
        yield f"{entry} {os.getpid()}"

if __name__ == "__main__":
    run.main()
"""
RECORDS = {
    "orders.csv": (
        b'id,note\r\n1,"two\nlines"\r\n2,"a ""quoted"" word"\r\n3,\r\n4,"\n\n\n"\r\n5,plain\r\n',
        b"id,note\r\n",
        5,
    ),
    "sheet.tsv": (b"\xef\xbb\xbfid\tnote\n1\ta\n2\tb\n", b"\xef\xbb\xbfid\tnote\n", 2),
    "proteins.fasta": (b"".join(b">p%d\n%s\n" % (n, b"MKV\n" * n) for n in range(6)), b"", 6),
    "molecules.sdf": (b"".join(b"m%d\n\n%s$$$$\n" % (n, b"atom\n" * n) for n in range(6)), b"", 6),
    "reads.fastq": (b"".join(b"@r%d\nACGT\n+\n@+II\n" % n for n in range(9)), b"", 9),
    "lines.jsonl": (b'{"a": 1}\n' * 9, b"", 9),
}
"""By name: a file, its header, and how many records it has."""
FUNCTIONS = {"s3": "uploader", "sqs_ranges": "uploader", "sqs_messages": "processor", "topic_admin": "topic_admin"}
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def function_of(name: str) -> str:
    """The function that an event's file is for."""
    return next((function for start, function in FUNCTIONS.items() if name.startswith(start)), "downloader")


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
        """A message whose body lies in S3."""
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

    def messages(self) -> int:
        """How many messages there are on all topics."""
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(
            int(number)
            for url in self.urls.values()
            for number in self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=asked)["Attributes"].values()
        )


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
    for name in ("jobs.FIRST_SECONDS", "look.SHORTEST_SECONDS", "look.STILL_SECONDS", "look.LONGEST_SECONDS"):
        monkeypatch.setattr(f"parcelq.jobs.{name}", 0.0)


@pytest.fixture
def upper(tmp_path: Path, settings: Callable[..., None]) -> None:
    """Makes the stage's step one that makes capitals, and fails if an entry is bad."""
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "step").write_text(UPPER)
    (tmp_path / "step" / "step").chmod(0o755)
    settings(STEP_FOLDERS=tmp_path)


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.json")))
def test_every_event_is_taken_by_its_function(stack: Stack, name: str) -> None:
    stack.make_topic("parcelq-extra")
    stack.s3.put_object(Bucket=BUCKET, Key="inbox/molecules.smi", Body=MOLECULES)
    given = event(name)
    if name == "topic_admin_create":
        stack.sqs.delete_queue(QueueUrl=stack.urls["parcelq-extra"])
        stack.sqs.delete_queue(QueueUrl=stack.urls["parcelq-extra" + DEAD_LETTER_SUFFIX])
        given["topic"] = "parcelq-fresh"
    if name == "schedule":
        given["receive_message_timeout"] = 0
    answer = stack.call(function_of(name), given)
    assert "error" not in (answer or {})
    assert not (answer or {}).get("batchItemFailures")


class TestUploader:
    def test_publishes_messages_that_tile_the_object(self, stack: Stack) -> None:
        given = stack.put(MOLECULES)
        assert stack.call("uploader", given) is None
        messages = stack.take("parcelq-step")
        middle = MOLECULES.index(b"CC(=O)")
        assert spans(messages) == [(0, middle), (middle, len(MOLECULES))]
        assert result_of(messages) == MOLECULES
        assert {one.attributes[ENTRIES] for one in messages} == {"2"}
        entity = given["Records"][0]["s3"]["object"]
        source = Source.of_object(BUCKET, entity["key"], etag=entity["eTag"], put=entity["sequencer"])
        assert {one.attributes[SOURCE] for one in messages} == {str(source)}

    def test_takes_every_record_of_an_event(self, stack: Stack) -> None:
        one, other = stack.put(MOLECULES), stack.put(b"C methane\n", key="inbox/other.smi")
        stack.call("uploader", {"Records": one["Records"] + other["Records"]})
        assert len({pulled.attributes[SOURCE] for pulled in stack.take("parcelq-step")}) == 2

    def test_a_second_delivery_of_an_event_makes_the_same_lineages_and_a_second_put_another_source(
        self, stack: Stack
    ) -> None:
        given = stack.put(MOLECULES)
        again = deepcopy(given)
        again["Records"][0]["s3"]["object"]["sequencer"] = "0055AED6DCD90281FF"
        told = []
        for one in (given, given, again):
            stack.call("uploader", one)
            messages = stack.take("parcelq-step")
            told.append({(pulled.attributes[SOURCE], pulled.attributes[LINEAGE]) for pulled in messages})
        assert told[0] == told[1]
        assert not told[0] & told[2]

    @pytest.mark.parametrize("name", ["s3_test", "s3_delete", "s3_put_folder"])
    def test_what_is_no_put_of_a_file_publishes_nothing(self, stack: Stack, name: str) -> None:
        assert stack.call("uploader", event(name)) is None
        assert stack.messages() == 0
        assert stack.keys() == []

    @pytest.mark.parametrize("given", [{}, {"Records": []}, {"Records": None}, {"Records": [{"eventSource": "aws:x"}]}])
    def test_an_event_without_records_publishes_nothing(self, stack: Stack, given: dict[str, Any]) -> None:
        assert stack.call("uploader", given) is None
        assert stack.messages() == 0

    @pytest.mark.parametrize("records", [[5], ["x"], [None], {"eventSource": "aws:s3"}, 7, "x"])
    def test_invalid_records_are_named(self, stack: Stack, records: Any) -> None:
        with pytest.raises(InvalidValueError, match=r"^Records is .*, but must be a list of JSON objects"):
            stack.call("uploader", {"Records": records})

    @pytest.mark.parametrize(
        ("without", "missing"),
        [
            ("sequencer", "s3.object.sequencer or versionId"),
            ("eTag", "s3.object.eTag or versionId"),
            ("key", "s3.object.key"),
            ("size", ""),
        ],
    )
    def test_a_record_that_does_not_name_a_put_is_named_with_what_it_lacks(
        self, stack: Stack, without: str, missing: str
    ) -> None:
        given = stack.put(MOLECULES)
        entity = given["Records"][0]["s3"]["object"]
        del entity[without]
        if not missing:
            assert stack.call("uploader", given) is None
            return
        with pytest.raises(InvalidValueError, match=f"record is .*{BUCKET}.*, but must be .* as {missing}"):
            stack.call("uploader", given)
        entity[without] = 7
        with pytest.raises(InvalidValueError, match=missing):
            stack.call("uploader", given)
        assert stack.messages() == 0

    @pytest.mark.parametrize("told", [None, 5, [], {}, {"bucket": 5, "object": []}, {"bucket": {"name": BUCKET}}])
    def test_a_record_without_an_object_is_named_with_what_it_lacks(self, stack: Stack, told: Any) -> None:
        given = stack.put(MOLECULES)
        given["Records"][0]["s3"] = told
        with pytest.raises(InvalidValueError, match=r"as s3\.object\.key, as s3\.object\.sequencer or versionId"):
            stack.call("uploader", given)

    def test_an_invalid_size_is_named(self, stack: Stack) -> None:
        given = stack.put(MOLECULES)
        given["Records"][0]["s3"]["object"]["size"] = "large"
        with pytest.raises(InvalidValueError, match=r"a number as s3\.object\.size"):
            stack.call("uploader", given)

    def test_a_version_names_a_put_where_there_is_no_sequencer(self, stack: Stack) -> None:
        stack.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        given = stack.put(MOLECULES)
        version = stack.s3.head_object(Bucket=BUCKET, Key="inbox/molecules.smi")["VersionId"]
        entity = given["Records"][0]["s3"]["object"]
        del entity["sequencer"], entity["eTag"]
        entity["versionId"] = version
        stack.call("uploader", given)
        messages = stack.take("parcelq-step")
        assert result_of(messages) == MOLECULES
        assert {Source.parse(one.attributes[SOURCE]).put for one in messages} == {version}

    def test_a_deleted_object_publishes_nothing_and_its_job_is_stopped(
        self, stack: Stack, told: list[dict[str, Any]], at_once: None
    ) -> None:
        given = stack.put(MOLECULES)
        stack.s3.delete_object(Bucket=BUCKET, Key="inbox/molecules.smi")
        assert stack.call("uploader", given) is None
        assert stack.take("parcelq-step") == []
        stack.run("downloader", "parcelq-looks")
        (job,) = (one["job"] for one in told)
        assert (job["state"], job["problem"]) == ("stopped", "it was deleted or replaced since it was put")

    def test_a_replaced_object_is_left_to_the_event_of_its_later_put(self, stack: Stack) -> None:
        given = stack.put(MOLECULES)
        stack.put(b"C methane\n")
        assert stack.call("uploader", given) is None
        assert stack.messages() == 0

    def test_in_a_bucket_with_versions_the_version_that_was_put_is_read(self, stack: Stack) -> None:
        stack.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        given = stack.put(MOLECULES)
        version = stack.s3.head_object(Bucket=BUCKET, Key="inbox/molecules.smi")["VersionId"]
        given["Records"][0]["s3"]["object"]["versionId"] = version
        stack.put(b"C methane\n")
        stack.call("uploader", given)
        assert result_of(stack.take("parcelq-step")) == MOLECULES

    def test_an_empty_object_is_one_message_without_bytes(self, stack: Stack) -> None:
        stack.call("uploader", stack.put(b"", "s3_put_empty"))
        (message,) = stack.take("parcelq-step")
        assert message.attributes[LINEAGE] == "0-0/0"
        assert message.attributes[ENTRIES] == "0"
        assert message.message().body == b""

    def test_a_key_is_decoded_and_names_the_source(self, stack: Stack) -> None:
        stack.call("uploader", stack.put(MOLECULES, "s3_put_odd_key"))
        messages = stack.take("parcelq-step")
        assert result_of(messages) == MOLECULES
        assert {Source.parse(one.attributes[SOURCE]).key for one in messages} == {"inbox/a b+c 100% äöü.txt"}

    def test_a_folder_below_the_inbox_names_the_topic(self, stack: Stack) -> None:
        stack.make_topic("parcelq-extra")
        stack.call("uploader", stack.put(MOLECULES, "s3_put_to_topic"))
        assert result_of(stack.take("parcelq-extra")) == MOLECULES
        assert stack.messages() == 0

    @pytest.mark.parametrize(
        "folder", ["other-topic", "parcelq", "parcelq-ranges", "parcelq-ranges-dead-letter", *ALIKE]
    )
    def test_a_folder_that_names_no_topic_of_the_stack_is_refused(self, stack: Stack, folder: str) -> None:
        given = stack.put(MOLECULES, key=f"inbox/{folder}/molecules.smi")
        if folder.startswith("parcelq-"):
            with pytest.raises(InvalidValueError, match="inbox/<name>"):
                stack.call("uploader", given)
        else:  # it may be meant for a workflow
            stack.call("uploader", given)
            assert "workflow" in next(iter(noted_problems(BucketStore(stack.s3, BUCKET)).values()))
        assert stack.messages() == 0

    @pytest.mark.parametrize(
        ("bucket", "key"),
        [
            ("other-bucket", "inbox/molecules.smi"),
            (BUCKET, "results/molecules.smi"),
            (BUCKET, "segments/molecules.smi"),
            (BUCKET, "inbox-of-others/molecules.smi"),
            (BUCKET, "Inbox/molecules.smi"),
            (BUCKET, "/inbox/molecules.smi"),
            (BUCKET, "molecules.smi"),
        ],
    )
    def test_only_objects_of_the_stacks_inbox_are_published_for_any_event(
        self, stack: Stack, bucket: str, key: str
    ) -> None:
        if bucket != BUCKET:
            stack.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        given = stack.put(MOLECULES)
        stack.s3.put_object(Bucket=bucket, Key=key, Body=MOLECULES)
        given["Records"][0]["s3"]["bucket"]["name"] = bucket
        given["Records"][0]["s3"]["object"]["key"] = key
        with pytest.raises(InvalidValueError, match=f"an object under s3://{BUCKET}/inbox/"):
            stack.call("uploader", given)
        assert stack.messages() == 0

    @pytest.mark.parametrize(
        "changed",
        [
            {"topic": "other"},
            {"topic": "https://sqs.eu-central-1.amazonaws.com/123456789012/other"},
            {"source": "s3://other-bucket/inbox/molecules.smi?put=01"},
            {"source": f"s3://{BUCKET}/results/molecules.smi?put=01"},
            {"source": f"s3://{BUCKET}/inbox%2f..%2fresults/molecules.smi?put=01", "topic": "other"},
            {"source": "file:///etc/passwd?put=01"},
        ],
    )
    def test_a_range_that_somebody_else_made_up_leads_nowhere(self, stack: Stack, changed: dict[str, Any]) -> None:
        stack.make_topic("other")
        stack.call("uploader", stack.put(MOLECULES * 30))
        given = stack.deliver("parcelq-ranges")
        assert given["Records"]
        for record in given["Records"]:
            record["body"] = json.dumps(json.loads(record["body"]) | changed)
        failed = stack.call("uploader", given)["batchItemFailures"]
        assert len(failed) == len(given["Records"])
        assert stack.take("parcelq-step") == stack.take("other") == []

    def test_a_topic_that_is_not_there_is_an_error_so_that_lambda_tries_again(self, stack: Stack) -> None:
        with pytest.raises(TopicNotFoundError):
            stack.call("uploader", stack.put(MOLECULES, "s3_put_to_topic"))

    def test_bytes_that_are_no_text_arrive_as_they_are(self, stack: Stack) -> None:
        data = b"\x00\xff\r\n\n\xc3\x28\n" + bytes(range(256))
        stack.call("uploader", stack.put(data))
        assert result_of(stack.take("parcelq-step")) == data

    @pytest.mark.parametrize(("key", "options"), [("inbox/m.smi.gz", {}), ("inbox/m.smi", {"ContentEncoding": "gzip"})])
    def test_a_compressed_object_is_published_decompressed(
        self, stack: Stack, key: str, options: dict[str, str]
    ) -> None:
        stack.call("uploader", stack.put(gzip.compress(MOLECULES), key=key, **options))
        messages = stack.take("parcelq-step")
        assert len(messages) == 2
        assert result_of(messages) == MOLECULES

    @pytest.mark.parametrize(
        ("key", "data", "reason"),
        [
            ("inbox/m.smi.gz", b"no gzip at all", "is not gzip"),
            ("inbox/m.smi.gz", gzip.compress(MOLECULES, mtime=0)[:-12], "ends too early"),
            ("inbox/m.smi.bz2", bz2.compress(MOLECULES)[:-12], "ends too early"),
            (
                "inbox/m.csv",
                b'id,name\n1,"never closed\n2,b\n',
                "record 1 (line 2; byte 8) has a quote that is not closed",
            ),
            ("inbox/m.sdf", b"no end line\n", "has no end line"),
        ],
    )
    def test_a_source_that_can_never_be_uploaded_ends_with_its_reason(
        self, stack: Stack, key: str, data: bytes, reason: str
    ) -> None:
        other = stack.put(MOLECULES)
        given = stack.put(data, key=key)
        assert stack.call("uploader", {"Records": [*given["Records"], *other["Records"]]}) is None
        noted = noted_sources(BucketStore(stack.s3, BUCKET))
        (problem,) = [note.problem for notes in noted.values() for note in notes if note.problem]
        assert reason in problem
        finished = [one for one in stack.take("parcelq-step") if "molecules" in one.attributes[SOURCE]]
        assert result_of(finished) == MOLECULES

    def test_a_wrong_setting_is_an_error(self, stack: Stack, settings: Callable[..., None]) -> None:
        given = stack.put(MOLECULES)
        settings(RANGE_BYTES="many", PARCEL_SIZE=0)
        with pytest.raises(SettingsError, match=r"(?s)(?=.*PARCELQ_RANGE_BYTES)(?=.*PARCELQ_PARCEL_SIZE)"):
            stack.call("uploader", given)


class TestRanges:
    @pytest.mark.parametrize("range_bytes", [1, 7, 12, 13, 64, len(MOLECULES) - 1])
    def test_a_large_object_is_uploaded_range_by_range(
        self, stack: Stack, settings: Callable[..., None], range_bytes: int
    ) -> None:
        settings(RANGE_BYTES=range_bytes)
        stack.call("uploader", stack.put(MOLECULES))
        assert stack.take("parcelq-step") == []
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        found = spans(messages)
        assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
        assert result_of(messages) == MOLECULES

    def test_an_object_of_just_the_size_is_uploaded_at_once(self, stack: Stack, settings: Callable[..., None]) -> None:
        settings(RANGE_BYTES=len(MOLECULES))
        stack.call("uploader", stack.put(MOLECULES))
        assert stack.take("parcelq-ranges") == []
        assert result_of(stack.take("parcelq-step")) == MOLECULES

    @pytest.mark.parametrize(("key", "options"), [("inbox/m.smi.gz", {}), ("inbox/m.smi", {"ContentEncoding": "gzip"})])
    def test_a_compressed_object_is_never_cut(
        self, stack: Stack, settings: Callable[..., None], key: str, options: dict[str, str]
    ) -> None:
        settings(RANGE_BYTES=10)
        stack.call("uploader", stack.put(gzip.compress(MOLECULES), key=key, **options))
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        assert len(messages) == 2
        assert result_of(messages) == MOLECULES

    def test_the_event_of_a_range_publishes_the_lines_that_start_in_it(self, stack: Stack) -> None:
        etag = stack.put(MOLECULES)["Records"][0]["s3"]["object"]["eTag"]
        given = event("sqs_ranges")
        given["Records"][0]["body"] = given["Records"][0]["body"].replace("c2ea9eccdd093b1d8d53226e9a71e5b4", etag)
        assert stack.call("uploader", given) == {"batchItemFailures": []}
        messages = stack.take("parcelq-step")
        assert spans(messages)[-1][1] == MOLECULES.index(b"NCC")

    @pytest.mark.parametrize(
        "body",
        [
            "no json",
            "[]",
            "3",
            "{}",
            '{"source": "ftp://x", "topic": "parcelq-step", "start": 0, "end": 9, "total": 9}',
            '{"source": 5, "topic": "parcelq-step", "start": 0, "end": 9, "total": 9}',
            '{"source": "s3://b/k?put=1", "topic": "parcelq-step", "start": "0", "end": 9, "total": 9}',
            '{"source": "s3://b/k?put=1", "topic": "parcelq-none", "start": 0, "end": 9, "total": 9}',
        ],
    )
    def test_a_range_that_fails_is_delivered_again_alone(
        self, stack: Stack, settings: Callable[..., None], body: str
    ) -> None:
        settings(RANGE_BYTES=40)
        stack.call("uploader", stack.put(MOLECULES))
        stack.publish("parcelq-ranges", Message(body.encode()))
        delivered = stack.deliver("parcelq-ranges")
        bad = [record["messageId"] for record in delivered["Records"] if record["body"] == body]
        assert stack.call("uploader", delivered) == {"batchItemFailures": [{"itemIdentifier": one} for one in bad]}
        assert result_of(stack.take("parcelq-step")) == MOLECULES

    @pytest.mark.parametrize("range_bytes", [1, 7, 16, 40, 200])
    @pytest.mark.parametrize("name", RECORDS)
    def test_an_object_of_any_format_is_uploaded_range_by_range(
        self, stack: Stack, settings: Callable[..., None], name: str, range_bytes: int
    ) -> None:
        data, header, records = RECORDS[name]
        settings(RANGE_BYTES=range_bytes, PARCEL_SIZE=2)
        stack.call("uploader", stack.put(data, key=f"inbox/{name}"))
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        assert result_of(messages) == data
        assert sum(one.message().entries for one in messages) == records
        bodies = [one.message() for one in messages if one.attributes[ENTRIES] != "0"]
        fmt = by_name(name)
        assert all(fmt.count(one.body) == one.entries for one in bodies)
        assert [one.message().body for one in messages if one.attributes[ENTRIES] == "0"] == [header] * bool(header)
        assert {one.attributes.get("Header", "") for one in bodies} == {base64.b64encode(header).decode()}

    def test_ranges_of_csv_whose_scan_is_delivered_again_are_the_same(
        self, stack: Stack, settings: Callable[..., None]
    ) -> None:
        data, _, records = RECORDS["orders.csv"]
        settings(RANGE_BYTES=16, PARCEL_SIZE=2)
        stack.call("uploader", stack.put(data, key="inbox/orders.csv"))
        scans = stack.deliver("parcelq-ranges")
        while (more := stack.deliver("parcelq-ranges"))["Records"]:
            scans["Records"] += more["Records"]
        assert all(json.loads(one["body"])["scan"] for one in scans["Records"])
        for record in [*scans["Records"][::-1], *scans["Records"]]:
            assert stack.call("uploader", {"Records": [record]}) == {"batchItemFailures": []}
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        unique = list({one.attributes[LINEAGE]: one for one in messages}.values())
        assert result_of(unique) == data
        assert sum(one.message().entries for one in unique) == records

    def test_a_long_header_travels_as_an_object(self, stack: Stack) -> None:
        header = ",".join(f"column{number}" for number in range(300)).encode() + b"\n"
        stack.call("uploader", stack.put(header + b"1,2\n", key="inbox/wide.csv"))
        stack.run("uploader", "parcelq-ranges")
        (key,) = {one.attributes["Header"] for one in stack.take("parcelq-step") if "Header" in one.attributes}
        assert stack.get(key) == header

    def test_ranges_of_an_object_that_was_replaced_are_left_to_its_later_put(
        self, stack: Stack, settings: Callable[..., None]
    ) -> None:
        settings(RANGE_BYTES=40)
        stack.call("uploader", stack.put(MOLECULES))
        later = stack.put(MOLECULES.lower(), sequencer="0055AED6DCD90281FF")
        stack.run("uploader", "parcelq-ranges")
        assert stack.messages() == 0
        stack.call("uploader", later)
        stack.run("uploader", "parcelq-ranges")
        assert result_of(stack.take("parcelq-step")) == MOLECULES.lower()

    @pytest.mark.parametrize("name", ["orders.csv", "orders.csv.gz"])
    def test_a_stream_without_time_for_all_of_it_is_handed_on(
        self, stack: Stack, settings: Callable[..., None], name: str
    ) -> None:
        data, _, records = RECORDS["orders.csv"]
        settings(PARCEL_SIZE=2)
        content = gzip.compress(data) if name.endswith("gz") else data
        stack.call("uploader", stack.put(content, key=f"inbox/{name}"), [1])
        messages, tasks = stack.take("parcelq-step"), 0
        while (delivered := stack.deliver("parcelq-ranges"))["Records"]:
            # There is time to skip what was uploaded before, and then none.
            answer = stack.call("uploader", delivered, [300_000, 1] if name.endswith("gz") else [1])
            stack.acknowledge("parcelq-ranges", delivered, answer)
            messages += stack.take("parcelq-step")
            tasks += 1
        assert tasks == (records - 1) // 2
        unique = list({one.attributes[LINEAGE]: one for one in messages}.values())
        assert result_of(unique) == data
        assert sum(one.message().entries for one in unique) == records

    def test_ranges_of_an_object_that_is_gone_are_done(self, stack: Stack) -> None:
        assert stack.call("uploader", event("sqs_ranges")) == {"batchItemFailures": []}
        assert stack.messages() == 0


class TestProcessor:
    def test_runs_the_step_and_publishes_its_output(self, stack: Stack, settings: Callable[..., None]) -> None:
        settings(WORKFLOW_ID="wf-1")
        assert stack.call("processor", event("sqs_messages")) == {"batchItemFailures": []}
        told = [one for one in stack.take("parcelq-output") if LINEAGE in one.attributes]
        names = [json.loads(line)["name"] for line in result_of(told).splitlines()]
        assert names == ["ethanol", "benzene", "aspirin", "glycine"]
        assert {one.attributes[WORKFLOW] for one in told} == {"wf-1"}

    def test_the_process_of_a_warm_step_serves_one_invocation_after_another(
        self, stack: Stack, settings: Callable[..., None], tmp_path: Path
    ) -> None:
        (tmp_path / "step").mkdir()
        (tmp_path / "step" / "step.py").write_text(WARM)
        (tmp_path / "step" / "settings.yaml").write_text("warm: true\n")
        settings(STEP_FOLDERS=tmp_path)
        for body in (b"one\n", b"a bad one\n", b"two\n", b"three\n"):
            stack.publish("parcelq-step", Message(body))
            assert stack.call("processor", stack.deliver("parcelq-step")) == {"batchItemFailures": []}
        stack.functions.processor.processor().close()
        said = [one.message().body.decode().split() for one in stack.take("parcelq-output")]
        pids = dict(said)
        assert len(pids) == 3
        assert pids["two"] == pids["three"] != pids["one"]
        assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]

    def test_messages_without_lineage_are_processed_and_stay_without(self, stack: Stack) -> None:
        stack.call("processor", event("sqs_messages"))
        (message,) = (one for one in stack.take("parcelq-output") if LINEAGE not in one.attributes)
        assert json.loads(message.message().body)["name"] == "ethylamine"
        assert SOURCE not in message.attributes

    @pytest.mark.parametrize("given", [{}, {"Records": []}, {"Records": None}])
    def test_an_event_without_records_is_nothing_to_do(self, stack: Stack, given: dict[str, Any]) -> None:
        assert stack.call("processor", given) == {"batchItemFailures": []}
        assert stack.messages() == 0

    def test_only_the_bad_message_has_failed_and_is_delivered_again_with_a_delay(
        self, stack: Stack, upper: None, settings: Callable[..., None]
    ) -> None:
        settings(BACK_OFF_SECONDS=1)
        stack.publish("parcelq-step", *(Message(body) for body in (b"one\n", b"a bad one\n", b"two\n")))
        delivered = stack.deliver("parcelq-step")
        assert stack.call("processor", delivered) == {"batchItemFailures": []}
        stack.acknowledge("parcelq-step", delivered, {"batchItemFailures": []})
        done = b"".join(one.message().body for one in stack.take("parcelq-output"))
        assert sorted(done.splitlines()) == [b"ONE", b"TWO"]
        time.sleep(1.2)
        (again,) = stack.take("parcelq-step")
        assert (again.message().body, again.attributes[FAILURES]) == (b"a bad one\n", "1")

    def test_only_a_message_whose_output_is_not_published_is_delivered_again(
        self, stack: Stack, upper: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = SqsTopic.publish

        def lose(topic: SqsTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
            given = list(messages)
            lost = [
                FailedMessage(one, "InternalError", "", sender_fault=False) for one in given if one.body == b"TWO\n"
            ]
            kept = publish(topic, [one for one in given if one.body != b"TWO\n"], delay_seconds=delay_seconds)
            return Published(kept.published, kept.failed + lost)

        monkeypatch.setattr(SqsTopic, "publish", lose)
        attributes = [{SOURCE: "s", LINEAGE: f"{start}-{start + 4}/12", ENTRIES: "1"} for start in (0, 4, 8)]
        bodies = (b"one\n", b"two\n", b"six\n")
        stack.publish("parcelq-step", *map(Message, bodies, attributes))
        delivered = stack.deliver("parcelq-step")
        (failed,) = (record["messageId"] for record in delivered["Records"] if record["body"] == "two\n")
        assert stack.call("processor", delivered) == {"batchItemFailures": [{"itemIdentifier": failed}]}

    def test_a_message_that_fails_for_good_is_dead_and_told_so(self, stack: Stack, upper: None) -> None:
        given = event("sqs_messages")
        given["Records"] = given["Records"][:1]
        record = given["Records"][0]
        record["body"] = "a bad one\n"
        record["messageAttributes"]["Lineage"]["stringValue"] = "0-10/10"
        record["messageAttributes"]["Entries"]["stringValue"] = "1"
        record["messageAttributes"]["Failures"] = {"stringValue": "1", "dataType": "Number"}
        assert stack.call("processor", given) == {"batchItemFailures": []}
        (letter,) = stack.take("parcelq-step-dead-letter")
        assert letter.message().body == b"a bad one\n"
        stones = [one.attributes for one in stack.take("parcelq-output")]
        assert {one[LINEAGE] for one in stones} == {"0-10/10"}
        assert any("a bad one" in one[DEAD] for one in stones)

    @pytest.mark.parametrize(("bucket", "key"), ELSEWHERE)
    def test_a_pointer_to_anything_but_what_overflowed_here_is_dead_with_the_reason(
        self, stack: Stack, upper: None, bucket: str, key: str
    ) -> None:
        stack.publish("parcelq-step", stack.pointer(bucket, key), Message(b"one\n"))
        stack.run("processor", "parcelq-step")
        (letter,) = stack.take("parcelq-step-dead-letter")
        assert f"must be under s3://{BUCKET}/overflow/" in letter.attributes["Reason"]
        assert [one.message().body for one in stack.take("parcelq-output")] == [b"ONE\n"]

    def test_a_pointer_to_what_overflowed_here_is_followed(self, stack: Stack, upper: None) -> None:
        stack.publish("parcelq-step", stack.pointer(BUCKET, "overflow/0a1b"))
        stack.run("processor", "parcelq-step")
        assert [one.message().body for one in stack.take("parcelq-output")] == [b"SECRET\n"]

    def test_without_time_messages_are_delivered_again_and_no_step_is_run(self, stack: Stack, upper: None) -> None:
        stack.publish("parcelq-step", Message(b"one\n"))
        delivered = stack.deliver("parcelq-step")
        answer = stack.call("processor", delivered, milliseconds=(300_000, 300_000, 1))
        assert answer == {"batchItemFailures": [{"itemIdentifier": delivered["Records"][0]["messageId"]}]}
        assert stack.take("parcelq-output") == []

    def test_the_first_of_two_stages_publishes_to_the_second(
        self, stack: Stack, upper: None, settings: Callable[..., None]
    ) -> None:
        stack.make_topic("parcelq-next")
        settings(STAGES="step,next")
        stack.publish("parcelq-step", Message(b"one\n"))
        stack.run("processor", "parcelq-step")
        assert [one.message().body for one in stack.take("parcelq-next")] == [b"ONE\n"]

    @pytest.mark.parametrize(
        ("setting", "value", "told"),
        [
            ("BATCH_SIZE", "0", "PARCELQ_BATCH_SIZE"),
            ("HALVING", "yes", "PARCELQ_HALVING"),
            ("STAGE", "other", "PARCELQ_STAGE"),
            ("STEP_PATH", "../../../bin/sh", "is outside the folders"),
            ("STEP_PATH", "none.py", "no such file"),
            ("STEP_FOLDERS", "/nowhere", "step"),
        ],
    )
    def test_a_wrong_setting_fails_the_invocation_and_is_named(
        self, stack: Stack, settings: Callable[..., None], setting: str, value: str, told: str
    ) -> None:
        settings(**{setting: value})
        with pytest.raises(SettingsError, match=told):
            stack.call("processor", event("sqs_messages"))

    @pytest.fixture
    def poisoned(self, stack: Stack, upper: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Messages of all sorts that are delivered to a function whose step's settings are wrong."""
        (tmp_path / "step" / "settings.yaml").write_text("filtre: true\n")
        monkeypatch.setattr(stack.functions.processor, "sqs_client", lambda: stack.sqs)
        stack.publish(
            "parcelq-step",
            Message(b"one\n", {LINEAGE: "0-4/9", SOURCE: "s", ENTRIES: "1"}),
            Message(b"\xff\n", {LINEAGE: "4-6/9", SOURCE: "s"}),
            Message(b"", {LINEAGE: "0-0/0", SOURCE: "t", ENTRIES: "0"}),
            *(Message(b"by hand %d" % number) for number in range(12)),
        )
        return {"Records": stack.deliver("parcelq-step")["Records"] + stack.deliver("parcelq-step")["Records"]}

    def test_wrong_settings_are_logged_once_and_in_one_line(
        self, stack: Stack, poisoned: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(SettingsError, match="unknown key 'filtre'") as caught:
            stack.call("processor", poisoned)
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[-2:] == ["call", "handler"]
        assert caught.value.__cause__ is None
        (told,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert (told.levelname, told.getMessage()) == ("ERROR", str(caught.value))
        assert told.exc_info is None

    def test_with_wrong_settings_messages_are_delivered_again_as_late_as_possible(
        self, stack: Stack, poisoned: dict[str, Any], requests: Any
    ) -> None:
        with pytest.raises(SettingsError):
            stack.call("processor", poisoned)
        changed = [entry for one in requests.of("ChangeMessageVisibilityBatch") for entry in one["Entries"]]
        assert {one["VisibilityTimeout"] for one in changed} == {900}
        assert {one["ReceiptHandle"] for one in changed} == {one["receiptHandle"] for one in poisoned["Records"]}
        assert requests.of("SendMessageBatch") == requests.of("DeleteMessageBatch") == []

    def test_settings_are_named_even_if_deadlines_cannot_be_set(
        self, stack: Stack, poisoned: dict[str, Any], requests: Any
    ) -> None:
        requests.refuse("ChangeMessageVisibilityBatch", "AccessDenied", 403)
        with pytest.raises(SettingsError, match="filtre"):
            stack.call("processor", poisoned)

    def test_when_the_settings_are_mended_the_same_function_goes_on(
        self, stack: Stack, poisoned: dict[str, Any], tmp_path: Path
    ) -> None:
        with pytest.raises(SettingsError):
            stack.call("processor", poisoned)
        (tmp_path / "step" / "settings.yaml").write_text("")
        stack.publish("parcelq-step", Message(b"one\n"))
        stack.run("processor", "parcelq-step")
        assert [one.message().body for one in stack.take("parcelq-output")] == [b"ONE\n"]

    def test_a_missing_topic_is_an_error_like_a_wrong_setting(
        self, stack: Stack, upper: None, settings: Callable[..., None]
    ) -> None:
        settings(STAGES="step,next")
        stack.publish("parcelq-step", Message(b"one\n"))
        with pytest.raises(TopicNotFoundError, match="parcelq-next"):
            stack.call("processor", stack.deliver("parcelq-step"))
        assert stack.take("parcelq-step-dead-letter") == []


class TestLooks:
    """What the downloader does with messages of the topic of looks."""

    def test_looks_go_on_until_the_result_is_there_and_an_event_is_sent(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        (look,) = stack.deliver("parcelq-looks")["Records"]
        assert stack.call("downloader", {"Records": [look]}) == {"batchItemFailures": []}
        assert stack.keys("results/") == []
        assert stack.call("downloader", {"Records": [look]})["batchItemFailures"] == [
            {"itemIdentifier": look["messageId"]}
        ]  # until it is known that the next one was taken
        stack.run("processor", "parcelq-step")
        assert told == []
        stack.run("downloader", "parcelq-looks")
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        (detail,) = told
        assert (detail["complete"], detail["report"]["entries"]["written"]) == (True, 4)
        assert "dead" not in detail["report"]
        (key,) = stack.keys("jobs/")
        record = json.loads(stack.get(key))
        assert record == detail["job"]
        assert (record["state"], record["result"], record["covered"]) == ("finished", "results/molecules.smi", 76)
        assert record["cost"]["invocations"] == 2
        assert record["cost"]["requests"] > 10
        assert record["cost"]["bytes"] == 2 * len(MOLECULES)
        assert stack.keys("segments/") == []

    def test_an_event_that_is_delivered_again_after_the_job_publishes_nothing(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        given = stack.put(MOLECULES)
        stack.call("uploader", given)
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        stack.call("uploader", given)
        assert stack.messages() == 0
        assert len(told) == 1

    def test_messages_that_come_late_are_deleted_and_make_no_new_job(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        late = [one.message() for one in stack.take("parcelq-step")]
        stack.publish("parcelq-step", *late)
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        stack.publish("parcelq-step", *late)
        stack.run("processor", "parcelq-step")
        stack.publish("parcelq-looks", Message(b"{}"))
        stack.run("downloader", "parcelq-looks")
        assert (stack.messages(), stack.keys("segments/"), len(told)) == (0, [], 1)
        assert len(stack.keys("jobs/")) == 1

    def test_a_dead_letter_that_is_redriven_takes_its_place_in_the_result(
        self,
        stack: Stack,
        tmp_path: Path,
        upper: None,
        told: list[dict[str, Any]],
        at_once: None,
        settings: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        data = b"good\nbad\nfine\n"
        settings(MAX_FAILURES=1)
        monkeypatch.setattr("parcelq.jobs.jobs.WAKING_SECONDS", 0)
        stack.call("uploader", stack.put(data))
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        assert stack.get("results/molecules.smi") == b"GOOD\nFINE\n"
        (tmp_path / "step" / "step").write_text('#!/bin/sh\ntr a-z A-Z < "$2" > "$4"\n')
        assert stack.call("topic_admin", {"action": "redrive", "topic": "parcelq-step"}) == {"redriven": 1}
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        assert stack.get("results/molecules.smi") == data.upper()
        assert [one["complete"] for one in told] == [False, True]
        assert stack.messages() == 0

    def test_what_is_published_by_hand_is_collected_without_a_job(
        self, stack: Stack, upper: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("DRAIN_PAUSE", "VAIN_DRAIN_PAUSE"):
            monkeypatch.setattr(stack.functions.downloader, name, 0)
        asked = {"action": "publish", "topic": "parcelq-step", "messages": [{"body": "by hand\n"}]}
        assert stack.call("topic_admin", asked)["published"] == 1
        for _ in range(2):  # the step takes its time
            delivered = stack.deliver("parcelq-looks")
            stack.acknowledge("parcelq-looks", delivered, stack.call("downloader", delivered))
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        (key,) = stack.keys("results/")
        assert stack.get(key) == b"BY HAND\n"
        assert (stack.messages(), stack.keys("jobs/")) == (0, [])

    def test_messages_of_a_source_that_nobody_began_get_a_job(
        self, stack: Stack, told: list[dict[str, Any]], at_once: None
    ) -> None:
        source = str(Source.of_file("/home/me/a.txt", "1"))
        whole = Lineage(Span(0, 4, 4)).child(Span(0, 4, 4), digest(b"one\n"))
        stack.publish("parcelq-output", Message(b"one\n", {SOURCE: source, LINEAGE: str(whole), ENTRIES: "1"}))
        stack.publish("parcelq-looks", Message(b"{}"))
        stack.run("downloader", "parcelq-looks")
        (detail,) = told
        assert stack.get(detail["job"]["result"]) == b"one\n"

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"job": 1}', '{"number": -1}', '{"job": "x", "source": "y"}', "[" * 9999]
    )
    def test_what_is_no_look_is_left_out(self, stack: Stack, text: str) -> None:
        record = record_of(Pulled("id", "handle", 1, Message(b"x").wire()), "parcelq-looks")
        answer = stack.call("downloader", {"Records": [{**record, "body": text}]})
        assert answer == {"batchItemFailures": []}

    def test_a_look_that_fails_is_delivered_again_alone_and_later_each_time(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        stack.run("processor", "parcelq-step")
        stack.s3.put_object(Bucket=BUCKET, Key="jobs/broken.json", Body=b"no json")
        stack.publish("parcelq-looks", Message(b'{"job": "broken", "number": 1}'))
        given = stack.deliver("parcelq-looks")
        (failed,) = stack.call("downloader", given)["batchItemFailures"]
        names = {one["messageId"]: one["body"] for one in given["Records"]}
        assert "broken" in names[failed["itemIdentifier"]]
        assert stack.get("results/molecules.smi") == MOLECULES.upper()

    def test_the_schedule_publishes_a_look_again_that_was_lost(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch, at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        assert len(stack.take("parcelq-looks")) == 1
        stack.call("downloader", event("schedule"))
        assert stack.take("parcelq-looks") == []  # it is not overdue yet
        monkeypatch.setattr("parcelq.jobs.jobs.LATE_SECONDS", -1.0)
        stack.call("downloader", event("schedule"))
        assert [one.wire.text for one in stack.take("parcelq-looks")] == [
            json.dumps({"job": stack.keys("jobs/")[0][5:-5], "number": 1}, separators=(",", ":"))
        ]


class TestDownloader:
    def pipeline(self, stack: Stack, data: bytes = MOLECULES, **put: Any) -> dict[str, Any]:
        stack.call("uploader", stack.put(data, **put))
        stack.run("processor", "parcelq-step")
        return stack.call("downloader", event("download"))

    def test_writes_the_result_and_its_report(self, stack: Stack, upper: None) -> None:
        answer = self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        report = json.loads(stack.get("results/molecules.smi.report.json"))
        assert report["entries"] == {"read": 4, "done": 4, "dead": 0, "missing": 0, "written": 4}
        assert report["bytes_read"] == report["bytes_written"] == len(MOLECULES)
        assert report["complete"]
        assert answer["finished_count"] == 1
        assert answer["waiting"] == []
        assert answer["finished"][0]["result"] == "results/molecules.smi"
        assert answer["drained"]["exhausted"]
        assert stack.keys("segments/") == []
        for _ in range(20):  # the last look may still have a delay
            stack.run("downloader", "parcelq-looks")
            if not stack.messages():
                break
            time.sleep(0.25)
        assert stack.messages() == 0

    def test_results_are_byte_exact(self, stack: Stack, tmp_path: Path, upper: None) -> None:
        (tmp_path / "step" / "step").write_text('#!/bin/sh\ncat "$2" > "$4"\n')
        data = b"\x00\xff\r\n\n\n\xe4\n" + bytes(range(256)) + b"\nno line end"
        self.pipeline(stack, data, key="inbox/folder-less.bin")
        assert stack.get("results/folder-less.bin") == data

    def test_the_result_of_an_empty_object_is_empty(self, stack: Stack, upper: None) -> None:
        self.pipeline(stack, b"", name="s3_put_empty")
        assert stack.get("results/empty.txt") == b""
        assert json.loads(stack.get("results/empty.txt.report.json"))["complete"]

    def test_the_result_of_a_compressed_object_has_a_name_of_its_own(self, stack: Stack, upper: None) -> None:
        self.pipeline(stack, gzip.compress(MOLECULES), key="inbox/molecules.smi.gz")
        assert stack.get("results/molecules.smi.gz.result") == MOLECULES.upper()

    def test_the_schedule_collects_from_the_output_topic(self, stack: Stack, upper: None) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        stack.run("processor", "parcelq-step")
        stack.call("downloader", {**event("schedule"), "receive_message_timeout": 0})
        assert stack.get("results/molecules.smi") == MOLECULES.upper()

    def test_a_source_that_is_not_whole_waits(self, stack: Stack) -> None:
        source = str(Source.of_object(BUCKET, "inbox/molecules.smi", etag="e", put="1"))
        half = Lineage(Span(0, 10, 20)).child(Span(0, 4, 4), digest(b"one\n"))
        stack.publish("parcelq-output", Message(b"one\n", {SOURCE: source, LINEAGE: str(half), ENTRIES: "1"}))
        answer = stack.call("downloader", event("download"))
        assert answer["finished"] == []
        assert [(one["covered"], one["total"], one["holes"]) for one in answer["waiting"]] == [(10, 20, 1)]
        assert stack.keys("results/") == []
        other = Lineage(Span(10, 20, 20)).child(Span(0, 4, 4), digest(b"two\n"))
        stack.publish("parcelq-output", Message(b"two\n", {SOURCE: source, LINEAGE: str(other), ENTRIES: "1"}))
        stack.call("downloader", event("download"))
        assert stack.get("results/molecules.smi") == b"one\ntwo\n"

    def test_messages_without_lineage_get_files_of_their_own(self, stack: Stack, upper: None) -> None:
        stack.publish("parcelq-output", Message(b"by hand"), Message(b"by hand, too\n"))
        self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        (apart,) = stack.keys("results/without-lineage/")
        assert sorted(stack.get(apart).splitlines()) == [b"by hand", b"by hand, too"]
        assert stack.keys("segments/") == []

    def test_a_message_with_an_invalid_source_does_not_hinder_others(self, stack: Stack, upper: None) -> None:
        told = {SOURCE: "mine", LINEAGE: "0-4/4", ENTRIES: "1"}
        stack.publish("parcelq-output", Message(b"odd\n", told))
        answer = self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        assert answer["finished_count"] == 2
        (apart,) = stack.keys("results/without-lineage/")
        assert stack.get(apart) == b"odd\n"
        assert stack.keys("segments/") == []

    def test_a_source_in_trouble_fails_the_invocation_after_all_others_are_done(
        self, stack: Stack, upper: None
    ) -> None:
        stack.s3.put_object(Bucket=BUCKET, Key="segments/parcelq-output/0/broken-9.seg", Body=b"no json")
        with pytest.raises(ParcelqError, match=r"1 source\(s\) have a problem; the first, segments/.*is no segment"):
            self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        assert json.loads(stack.get("results/molecules.smi.report.json"))["complete"]
        with pytest.raises(ParcelqError, match="is no segment"):  # until somebody looks after it
            stack.call("downloader", event("download"))

    def test_results_go_to_a_folder_that_is_asked_for(self, stack: Stack, upper: None) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        stack.run("processor", "parcelq-step")
        given = {**event("download"), "destination": f"s3://{BUCKET}/results/today"}
        stack.call("downloader", given)
        assert stack.get("results/today/molecules.smi") == MOLECULES.upper()

    def test_a_pointer_to_anything_but_what_overflowed_here_stays_on_the_topic(self, stack: Stack) -> None:
        stack.publish("parcelq-output", stack.pointer("other-bucket", "overflow/0a1b"))
        assert stack.call("downloader", event("download"))["drained"]["messages"] == 0
        assert stack.keys() == []
        assert stack.messages() == 1

    def test_another_topic_of_the_stack_can_be_drained(self, stack: Stack) -> None:
        stack.make_topic("parcelq-extra")
        stack.publish("parcelq-extra", Message(b"one\n"))
        answer = stack.call("downloader", {**event("download"), "topic": stack.urls["parcelq-extra"]})
        assert answer["drained"]["messages"] == 1
        assert [key.split("/")[2] for key in stack.keys("results/")] == ["parcelq-extra"]

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"topic": "other-output"}, "parcelq-"),
            *[({"topic": name}, "topic") for name in ALIKE],
            ({"topic": "https://sqs.eu-central-1.amazonaws.com/1/other"}, "parcelq-"),
            ({"topic": 7}, "topic"),
            ({"destination": "s3://other-bucket/results/"}, "results/"),
            ({"destination": f"s3://{BUCKET}/inbox/"}, "results/"),
            ({"destination": f"s3://{BUCKET}/results/../inbox/"}, "results/"),
            ({"destination": f"s3://{BUCKET}/results-elsewhere"}, "results/"),
            ({"destination": f"s3://{BUCKET}/results"[:-1]}, "results/"),
            ({"destination": f"s3://{BUCKET}/results/a/.."}, "results/"),
            ({"destination": f"s3://{BUCKET}/results/./a"}, "results/"),
            ({"destination": f"s3://{BUCKET}/RESULTS/"}, "results/"),
            ({"destination": f"s3://{BUCKET}-2/results/"}, "results/"),
            ({"destination": f"s3://{BUCKET}@other/results/"}, "results/"),
            ({"destination": f"S3://{BUCKET}/results/"}, "results/"),
            ({"destination": "results/"}, "results/"),
            ({"receive_message_timeout": -1}, "receive_message_timeout"),
            ({"receive_message_timeout": "long"}, "receive_message_timeout"),
        ],
    )
    def test_a_bad_request_gets_an_error_and_collects_nothing(
        self, stack: Stack, changed: dict[str, Any], told: str
    ) -> None:
        stack.publish("parcelq-output", Message(b"one\n"))
        answer = stack.call("downloader", {**event("download"), **changed})
        assert set(answer) == {"error"}
        assert told in answer["error"]["message"]
        assert stack.messages() == 1
        assert stack.keys() == []

    def test_a_missing_topic_is_an_error(self, stack: Stack) -> None:
        with pytest.raises(TopicNotFoundError, match="parcelq-none"):
            stack.call("downloader", {**event("download"), "topic": "parcelq-none"})


class TestTopicAdmin:
    @pytest.fixture
    def admin(self, stack: Stack) -> Callable[..., Any]:
        """Hands an action's event, changed, to the function."""
        stack.make_topic("parcelq-extra")

        def ask(action: str, **changed: Any) -> Any:
            return stack.call("topic_admin", {**event(f"topic_admin_{action}"), **changed})

        return ask

    def names(self, stack: Stack) -> set[str]:
        return {url.rpartition("/")[2] for url in stack.sqs.list_queues().get("QueueUrls", [])}

    def test_list_names_the_topics_of_the_stack_only(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.make_topic("other")
        expected = sorted(name for name in stack.urls if name.startswith("parcelq-"))
        assert admin("list") == {"topics": expected}
        assert stack.call("topic_admin", {"action": "list"}) == {"topics": expected}
        assert admin("list", prefix="parcelq-ex") == {"topics": ["parcelq-extra", "parcelq-extra-dead-letter"]}

    def test_create_makes_a_topic_that_dead_letters(self, stack: Stack, admin: Callable[..., Any]) -> None:
        answer = admin("create", topic="parcelq-fresh", max_receive_count=3)
        attributes = stack.sqs.get_queue_attributes(QueueUrl=answer["url"], AttributeNames=["All"])["Attributes"]
        policy = json.loads(attributes["RedrivePolicy"])
        assert int(policy["maxReceiveCount"]) == 3
        assert policy["deadLetterTargetArn"].endswith(":parcelq-fresh-dead-letter")

    def test_create_makes_topics_that_are_guarded_as_the_stacks_own(
        self, stack: Stack, admin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d"
        monkeypatch.setenv("PARCELQ_KMS_KEY_ARN", key)
        url = admin("create", topic="parcelq-fresh")["url"]
        for one in (url, url + DEAD_LETTER_SUFFIX):
            attributes = stack.sqs.get_queue_attributes(QueueUrl=one, AttributeNames=["All"])["Attributes"]
            assert attributes["KmsMasterKeyId"] == key
            assert "aws:SecureTransport" in attributes["Policy"]

    def test_delete_takes_the_dead_letter_topic_along(self, stack: Stack, admin: Callable[..., Any]) -> None:
        assert admin("delete") == {"deleted": "parcelq-extra"}
        assert self.names(stack) == set(stack.urls) - {"parcelq-extra", "parcelq-extra-dead-letter"}

    def test_clear_deletes_by_prefix_and_leaves_the_stacks_own(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.make_topic("other")
        stack.make_topic("parcelq-step-two")
        extra = {"parcelq-extra", "parcelq-extra-dead-letter"}
        two = {"parcelq-step-two", "parcelq-step-two-dead-letter"}
        assert set(admin("clear")["deleted"]) == extra
        assert set(admin("clear", prefix="parcelq-")["deleted"]) == two
        assert self.names(stack) == set(stack.urls) - extra - two

    def test_url_attributes_and_count_describe_a_topic(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.publish("parcelq-step", Message(b"one\n"), Message(b"two\n"))
        url = stack.urls["parcelq-step"]
        assert admin("url") == {"url": url}
        assert admin("attributes")["attributes"]["QueueArn"].endswith(":parcelq-step")
        assert admin("count") == {"approximate_count": 2}
        assert admin("count", topic=url) == {"approximate_count": 2}

    def test_publish_puts_messages_on_a_topic(self, stack: Stack, admin: Callable[..., Any]) -> None:
        wanted = [{"body": "one\n"}, {"body": "two\x00\n", "attributes": {"Colour": "red"}}]
        assert admin("publish", messages=wanted) == {"published": 2, "failed": []}
        one, two = sorted((pulled.message() for pulled in stack.take("parcelq-step")), key=lambda sent: sent.body)
        assert (one.body, two.body) == (b"one\n", b"two\x00\n")
        assert two.attributes["Colour"] == "red"

    def test_publish_tells_which_message_was_refused_and_why(self, stack: Stack, admin: Callable[..., Any]) -> None:
        many = {f"Name{number}": "x" for number in range(11)}
        answer = admin("publish", messages=[{"body": "one\n", "attributes": many}, {"body": "two\n"}])
        assert answer["published"] == 1
        assert len(answer["failed"]) == 1
        assert answer["failed"][0]["reason"]

    def test_peek_shows_messages_and_leaves_them(self, stack: Stack, admin: Callable[..., Any]) -> None:
        dead = "parcelq-step-dead-letter"
        stack.publish(dead, Message(b"one\n", {"Reason": "why"}))
        (seen,) = admin("peek")["messages"]
        assert seen["body"] == "one\n"
        assert seen["attributes"]["Reason"] == "why"
        assert [one.message_id for one in stack.take(dead)] == [seen["message_id"]]

    def test_peek_shows_what_is_no_text_and_what_cannot_be_read(self, stack: Stack, admin: Callable[..., Any]) -> None:
        dead = "parcelq-step-dead-letter"
        stack.publish(dead, Message(b"\xff\n"))
        assert [one["body_base64"] for one in admin("peek")["messages"]] == ["/wo="]
        stack.take(dead)
        stack.publish(dead, Message(b"odd", {"Encoding": "rot13"}))
        (seen,) = admin("peek")["messages"]
        assert seen["body"] == "odd"
        assert "rot13" in seen["problem"]

    def test_peek_does_not_show_what_lies_elsewhere(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.publish("parcelq-step-dead-letter", stack.pointer("other-bucket", "overflow/0a1b"))
        (seen,) = admin("peek")["messages"]
        assert "must be under" in seen["problem"]
        assert "secret" not in seen["body"]

    def test_redrive_sends_dead_letters_back(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.publish("parcelq-step-dead-letter", Message(b"one\n", {"Reason": "why"}), Message(b"two\n"))
        chosen = next(one["message_id"] for one in admin("peek")["messages"] if one["body"] == "two\n")
        assert admin("redrive", message_ids=[chosen]) == {"redriven": 1}
        (back,) = stack.take("parcelq-step")
        assert back.message().body == b"two\n"
        assert admin("redrive") == {"redriven": 1}
        (back,) = stack.take("parcelq-step")
        assert back.message().body == b"one\n"
        assert "Reason" not in back.attributes
        assert stack.messages() == 0

    def test_purge_empties_a_topic(self, stack: Stack, admin: Callable[..., Any]) -> None:
        stack.publish("parcelq-extra", Message(b"one\n"))
        stack.publish("parcelq-step", Message(b"two\n"))
        assert admin("purge") == {"purged": "parcelq-extra"}
        assert stack.messages() == 1

    @pytest.mark.parametrize(
        "action", ["create", "delete", "url", "attributes", "count", "publish", "peek", "redrive", "purge"]
    )
    def test_nothing_outside_the_prefix_is_touched(self, stack: Stack, admin: Callable[..., Any], action: str) -> None:
        stack.make_topic("other")
        stack.publish("other", Message(b"one\n"))
        before = self.names(stack)
        for topic in ("other", "parcelq", "https://sqs.eu-central-1.amazonaws.com/1/other", *ALIKE):
            answer = admin(action, topic=topic)
            assert answer["error"]["type"] == "InvalidValueError"
            assert repr(topic) in answer["error"]["message"] or "topic name" in answer["error"]["message"]
        assert self.names(stack) == before
        assert stack.messages() == 1

    @pytest.mark.parametrize("action", ["list", "clear"])
    def test_no_prefix_outside_the_stacks_is_taken(self, stack: Stack, admin: Callable[..., Any], action: str) -> None:
        before = self.names(stack)
        for prefix in ("par", "parcelq", *ALIKE):
            assert admin(action, prefix=prefix)["error"]["type"] == "InvalidValueError"
        assert self.names(stack) == before

    def test_clear_wants_a_prefix(self, stack: Stack, admin: Callable[..., Any]) -> None:
        before = self.names(stack)
        assert "error" in admin("clear", prefix="")
        assert "error" in stack.call("topic_admin", {"action": "clear"})
        assert self.names(stack) == before

    @pytest.mark.parametrize("action", ["create", "delete"])
    def test_the_stacks_own_topics_are_neither_deleted_nor_made_anew(
        self, stack: Stack, admin: Callable[..., Any], action: str
    ) -> None:
        before = self.names(stack)
        own = [*NAMES, "parcelq-step-dead-letter"]
        for name in own + [stack.urls[topic] for topic in own]:
            answer = admin(action, topic=name)
            assert answer["error"]["type"] == "InvalidValueError"
            assert "own" in answer["error"]["message"]
        assert self.names(stack) == before

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"action": "explode"}, "explode"),
            ({"action": "delete"}, "topic"),
            ({"action": "delete", "topic": "parcelq-extra", "force": True}, "force"),
            ({"action": "create", "topic": "parcelq-x", "max_receive_count": 0}, "max_receive_count"),
            ({"action": "publish", "topic": "parcelq-step", "messages": []}, "messages"),
            ({"action": "publish", "topic": "parcelq-step", "messages": [{"body": ""}]}, "body"),
            ({"action": "peek", "topic": "parcelq-step", "most": 1000}, "most"),
            ({"action": "publish", "topic": "parcelq-step", "messages": [{"body": "a", "colour": 1}]}, "colour"),
            (
                {"action": "publish", "topic": "parcelq-step", "messages": [{"body": "a", "attributes": []}]},
                "attributes",
            ),
            ({"action": "redrive", "topic": "parcelq-step", "message_ids": []}, "message_ids"),
            ({"action": ["list"]}, "action"),
            ({}, "action"),
            ("list", "request"),
            ([], "request"),
            (None, "request"),
        ],
    )
    def test_a_bad_request_gets_an_error_that_says_what_is_wrong(self, stack: Stack, given: Any, told: str) -> None:
        answer = stack.call("topic_admin", given)
        assert set(answer) == {"error"}
        assert answer["error"]["type"] == "BadRequest"
        assert told in answer["error"]["message"]
        assert stack.messages() == 0

    def test_everything_that_is_wrong_with_a_request_is_named_at_once(self, stack: Stack) -> None:
        answer = stack.call("topic_admin", {"action": "peek", "topic": 7, "most": 0, "fast": True})
        for name in ("topic", "most", "fast"):
            assert name in answer["error"]["message"]

    def test_a_name_that_sqs_would_not_take_is_refused(self, stack: Stack) -> None:
        answer = stack.call("topic_admin", {"action": "create", "topic": "parcelq-" + "x" * 80})
        assert answer["error"]["type"] == "InvalidValueError"

    def test_a_missing_topic_is_an_error(self, stack: Stack) -> None:
        answer = stack.call("topic_admin", {"action": "count", "topic": "parcelq-none"})
        assert answer["error"]["type"] == "TopicNotFoundError"

    def test_wrong_settings_are_an_error(self, stack: Stack, settings: Callable[..., None]) -> None:
        settings(PARCEL_SIZE=0)
        answer = stack.call("topic_admin", event("topic_admin_list"))
        assert answer["error"]["type"] == "SettingsError"
        assert "PARCELQ_PARCEL_SIZE" in answer["error"]["message"]


def test_the_status_includes_sources_that_were_uploaded_and_not_collected_yet(stack: Stack) -> None:
    stack.call("uploader", stack.put(MOLECULES))
    answer = stack.call("topic_admin", {"action": "status", "source": "molecules"})
    (source,) = answer["sources"]
    assert (source["total"], source["percent"], source["entries_read"]) == (len(MOLECULES), 0, 4)
    assert source["covered"] == {"bytes": 0, "percent": 0, "entries": 0}
    assert source["missing"] == {"bytes": len(MOLECULES), "percent": 100, "entries": 4}
    assert (source["holes"], source["hole_count"], source["topic"]) == ([[0, len(MOLECULES)]], 1, "parcelq-step")
    assert source["entries_read"] == MOLECULES.count(b"\n")
    assert stack.call("topic_admin", {"action": "status", "source": "another"})["count"] == 0


def test_the_status_leaves_out_sources_that_lead_to_another_topic(stack: Stack) -> None:
    stack.make_topic("parcelq-extra")
    stack.call("uploader", stack.put(MOLECULES, key="inbox/parcelq-extra/m.smi"))
    assert stack.call("topic_admin", {"action": "status"}) == {"sources": [], "count": 0}


def test_the_status_of_very_many_holes_fits_into_an_answer(stack: Stack) -> None:
    store = BucketStore(stack.s3, BUCKET)
    name = "\u00e4" * 500
    reason = "\x01" * 5000
    for number in range(2):
        source = str(Source.of_object(BUCKET, f"inbox/{name}", etag="e", put=str(number)))
        tombs = [Piece(f"{at}-{at + 1}/100000", b"", 1, reason) for at in range(0, 2000, 2)]
        when = datetime(2026, 11, 23, tzinfo=UTC)
        write_segment(store, "parcelq-output", Job(source), tombs, [], when, when)
    answer = stack.call("topic_admin", {"action": "status", "source": name})
    assert [(one["hole_count"], one["death_count"]) for one in answer["sources"]] == [(1000, 1000)] * 2
    assert len(json.dumps(answer)) / 2 * sys.modules["actions"].MOST_SOURCES < 6_000_000
