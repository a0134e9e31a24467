"""Texts of others that cannot be part of a key, a header or a request are named; nothing else fails because of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from parcelq.collect.plans import PartTask
from parcelq.errors import InvalidValueError, MessageError
from parcelq.jobs.look import Look
from parcelq.lineage.source import Source
from parcelq.topics.cost import NOTHING, Cost
from parcelq.topics.header import Headers
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.overflow import Overflow
from parcelq.topics.publish import SqsPublisher
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.ranges import task_of

SOURCE = "s3://bucket/inbox/a?etag=e&put=1"
RANGE = {"source": SOURCE, "topic": "parcelq-step", "start": 0, "end": 5, "total": 10}
REST = {"source": SOURCE, "topic": "parcelq-step", "format": "lines", "rest": {"start": 1, "record": 1, "line": 1}}


@pytest.mark.parametrize(
    ("parse", "document"),
    [
        (Look.parse, {"job": "\ud800"}),
        (Look.parse, {"job": "a", "workflow": "\ud800"}),
        (lambda text: PartTask.parse(text) or Look.parse(text), {"plan": "\ud800", "first": 1, "last": 1}),
        *((task_of, {**RANGE, name: "\ud800@x"}) for name in ("source", "topic", "format", "header", "workflow")),
        (task_of, {**RANGE, "source": SOURCE.replace("a?", "\ud800?")}),
        (task_of, {**RANGE, "source": SOURCE.replace("=e", "=%22%0A")}),
        (task_of, {**REST, "workflow": "\ud800@x"}),
        (task_of, {**REST, "rest": {**REST["rest"], "header": "\ud800"}}),  # type: ignore[dict-item]
    ],
)
def test_a_look_or_task_with_a_text_that_cannot_be_sent_is_named(parse: Callable[[str], Any], document: Any) -> None:
    with pytest.raises(MessageError, match=r"is not (a|the rest)"):
        parse(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/inbox/\ud800?put=1",
        "s3://bucket/inbox/a?put=%0A",
        "s3://bucket/inbox/a?put=1&etag=e%0D%0A",
        "s3://bucket/inbox/a?put=1&version=%C3%A9",
        f"s3://bucket/inbox/{'a' * 20_000}?put=1",
    ],
)
def test_a_source_that_no_event_can_name_is_no_source(text: str) -> None:
    assert not Source.is_one(text)


def test_a_pointer_whose_key_cannot_be_sent_is_named() -> None:
    text = '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"overflow/\\ud800"}]'
    with pytest.raises(MessageError, match="should be a pointer to S3"):
        Overflow(SimpleNamespace(), "b").load(Pulled("m", "r", 1, Wire(text, {"ExtendedPayloadSize": "1"})))  # type: ignore[arg-type]


def test_an_attribute_whose_name_cannot_be_sent_fails_its_message_alone() -> None:
    sqs: Any = SimpleNamespace(send_message_batch=lambda **_: {"Successful": [{"Id": "0"}]})
    messages = [Message(b"a\n", {"\ud800": "x"}), Message(b"b\n")]
    published, failed = SqsPublisher(sqs, "https://sqs/1/topic").publish(messages)
    assert (published, [one.reason for one in failed]) == (
        1,
        ["the name of an attribute is '\\ud800', but must be a text that SQS accepts"],
    )


@pytest.mark.parametrize("kind", [SqsPublisher, SqsTopic])
def test_a_fifo_queue_is_refused_because_it_drops_messages_with_equal_bodies(kind: type[SqsPublisher]) -> None:
    with pytest.raises(InvalidValueError, match=r"topic is 'https://sqs/1/topic\.fifo', but must be a standard queue"):
        kind(SimpleNamespace(), "https://sqs/1/topic.fifo")  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [128, 5_000, 1 << 59])
def test_a_cost_with_durations_that_no_run_has_is_dropped(number: int) -> None:
    assert Cost.parse(f"[0,0,0,0,0,0,0,5,[{number},1]]") == NOTHING
    assert Cost.parse("[0,0,0,0,0,0,0,5,[127,1]]").runs == {127: 1}


def test_a_header_outside_the_folder_of_headers_is_refused_with_the_folder() -> None:
    store: Any = SimpleNamespace()
    with pytest.raises(
        MessageError, match=r"'inbox/a\.header', but must be base64, or a key under segments/\.headers/"
    ):
        Headers(store).read("inbox/a.header")
