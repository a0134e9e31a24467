"""The embedded stack's SQS: what it has in common with moto's own, tested on both, and where it is as strict as AWS."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
import moto.sqs.models
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs.models import sqs_backends
from parcelq.limits import KIB, MAX_DEADLINE_SECONDS, MIB
from parcelq_emulator.application import listen
from parcelq_emulator.keyed_heap import KeyedHeap
from parcelq_emulator.sqs import SqsFrontend
from parcelq_emulator.sqs_backend import StandardQueueBackend
from parcelq_emulator.sqs_message import Message
from parcelq_emulator.sqs_queue import StandardQueue

REGION = "eu-west-1"
ACCOUNT = "123456789012"
SESSION = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name=REGION)
CONFIG = Config(max_pool_connections=50, retries={"total_max_attempts": 1})


class Clock:
    """Real time, but for the jumps that it was told to make."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Any]:
    """A client of our SQS, through HTTP."""
    sqs_backends.clear()
    monkeypatch.setattr(sqs_backends, "backend", partial(StandardQueueBackend, clock=clock))
    server = listen(SqsFrontend(DomainDispatcherApplication(create_backend_app)), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    client = SESSION.client("sqs", endpoint_url=f"http://{server.host}:{server.port}", config=CONFIG)
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    sqs_backends.clear()


@pytest.fixture(params=["moto", "ours"])
def sqs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Any]:
    """A client of moto's SQS, and one of ours."""
    if request.param == "ours":
        yield request.getfixturevalue("ours")
        return
    monkeypatch.setattr(moto.sqs.models, "unix_time", clock)
    monkeypatch.setattr(moto.sqs.models, "unix_time_millis", lambda: clock() * 1000)
    with mock_aws():
        yield SESSION.client("sqs", config=CONFIG)


class Topic:
    """A queue, and the requests that the tests make most."""

    def __init__(self, sqs: Any, name: str = "topic", **attributes: object) -> None:
        self.sqs = sqs
        texts = {key: str(value) for key, value in attributes.items()}
        self.url = sqs.create_queue(QueueName=name, Attributes=texts)["QueueUrl"]
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def send(self, *bodies: str, **options: Any) -> list[str]:
        return [self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **options)["MessageId"] for body in bodies]

    def send_batch(self, *entries: dict[str, Any]) -> dict[str, Any]:
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        return self.sqs.send_message_batch(QueueUrl=self.url, Entries=numbered)

    def receive(self, count: int = 10, **options: Any) -> list[dict[str, Any]]:
        return self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=count, **options).get("Messages", [])

    def bodies(self, count: int = 10, **options: Any) -> list[str]:
        return [message["Body"] for message in self.receive(count, **options)]

    def delete(self, message: dict[str, Any]) -> None:
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def hide(self, message: dict[str, Any], seconds: int) -> None:
        self.sqs.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def counts(self) -> tuple[int, int, int]:
        """Messages that are visible, in flight and delayed."""
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])["Attributes"]
        name = "ApproximateNumberOfMessages"
        return int(attributes[name]), int(attributes[f"{name}NotVisible"]), int(attributes[f"{name}Delayed"])


def dead_letter_pair(sqs: Any, max_receive_count: int) -> tuple[Topic, Topic]:
    dead_letters = Topic(sqs, "topic-dead-letter")
    return Topic(sqs, "topic", RedrivePolicy=redrive_to(dead_letters, max_receive_count)), dead_letters


def redrive_to(dead_letters: Topic, max_receive_count: int) -> str:
    return json.dumps({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": max_receive_count})


def text(value: str, kind: str = "String") -> dict[str, str]:
    return {"DataType": kind, "StringValue": value}


@contextmanager
def refused(code: str, saying: str | None = None) -> Iterator[None]:
    with pytest.raises(ClientError, match=saying) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code


# What moto and ours have in common.


def test_a_message_arrives_as_it_was_sent(sqs: Any) -> None:
    topic = Topic(sqs)
    sent = sqs.send_message(QueueUrl=topic.url, MessageBody="CCO ethanol\nC methane é🦉\n")
    [message] = topic.receive()
    assert message["Body"] == "CCO ethanol\nC methane é🦉\n"
    assert message["MessageId"] == sent["MessageId"]
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"] == hashlib.md5(message["Body"].encode()).hexdigest()
    assert "Attributes" not in message
    assert "MessageAttributes" not in message


def test_messages_come_in_the_order_of_sending_and_never_more_than_asked_for(sqs: Any) -> None:
    topic = Topic(sqs)
    topic.send("a", "b", "c", "d")
    assert topic.bodies(3) == ["a", "b", "c"]
    assert topic.bodies(3) == ["d"]
    assert topic.bodies(3) == []


def test_one_message_is_given_when_no_number_is_asked_for(sqs: Any) -> None:
    topic = Topic(sqs)
    topic.send("a", "b")
    assert len(sqs.receive_message(QueueUrl=topic.url)["Messages"]) == 1


def test_a_received_message_is_hidden_until_its_timeout_and_then_comes_again(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a", "b")
    [first] = topic.receive(1, MessageSystemAttributeNames=["All"])
    assert topic.bodies() == ["b"]
    clock.advance(31)
    again = topic.receive(MessageSystemAttributeNames=["All"])
    assert [message["Body"] for message in again] == ["a", "b"]
    assert again[0]["ReceiptHandle"] != first["ReceiptHandle"]
    before, after = first["Attributes"], again[0]["Attributes"]
    assert (before["ApproximateReceiveCount"], after["ApproximateReceiveCount"]) == ("1", "2")
    assert before["SentTimestamp"] == after["SentTimestamp"]
    assert before["ApproximateFirstReceiveTimestamp"] == after["ApproximateFirstReceiveTimestamp"]


def test_the_timeout_of_a_receive_goes_before_that_of_the_queue(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a")
    assert topic.bodies(VisibilityTimeout=100) == ["a"]
    clock.advance(31)
    assert topic.bodies() == []
    clock.advance(70)
    assert topic.bodies(VisibilityTimeout=0) == ["a"]
    assert topic.bodies() == ["a"]


def test_visibility_is_changed_from_now_on_and_for_this_delivery_only(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a")
    [message] = topic.receive()
    clock.advance(20)
    topic.hide(message, 60)
    clock.advance(59)
    assert topic.bodies() == []
    clock.advance(2)
    [message] = topic.receive()
    clock.advance(31)
    [message] = topic.receive()
    topic.hide(message, 0)
    assert topic.bodies() == ["a"]


def test_a_message_that_nobody_received_since_can_be_hidden_again(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a")
    [message] = topic.receive()
    clock.advance(31)
    topic.hide(message, 30)
    assert topic.bodies() == []
    assert topic.counts() == (0, 1, 0)


def test_a_message_comes_when_its_delay_is_over(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, DelaySeconds=60)
    topic.send("queue's delay")
    topic.send("own delay", DelaySeconds=10)
    topic.send("none", DelaySeconds=0)
    assert topic.bodies() == ["none"]
    clock.advance(11)
    assert topic.bodies() == ["own delay"]
    clock.advance(50)
    assert "queue's delay" in topic.bodies()


def test_messages_are_counted_by_their_state(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a", "b", "c")
    topic.send("d", DelaySeconds=10)
    [first, _] = topic.receive(2)
    assert topic.counts() == (1, 2, 1)
    topic.delete(first)
    assert topic.counts() == (1, 1, 1)
    clock.advance(11)
    assert topic.counts() == (2, 1, 0)
    clock.advance(20)
    assert topic.counts() == (3, 0, 0)


@pytest.mark.parametrize("when", ["in flight", "visible again", "received again"])
def test_a_message_is_deleted_by_the_handle_of_any_delivery(sqs: Any, clock: Clock, when: str) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a")
    [message] = topic.receive()
    if when != "in flight":
        clock.advance(31)
    if when == "received again":
        assert topic.bodies() == ["a"]
    topic.delete(message)
    assert topic.counts() == (0, 0, 0)
    topic.delete(message)
    clock.advance(31)
    assert topic.bodies() == []


def test_of_many_messages_just_those_that_were_named_are_deleted(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    for ten in range(3):
        topic.send_batch(*({"MessageBody": f"{ten}{number}"} for number in range(10)))
    for message in [message for _ in range(3) for message in topic.receive()][::2]:
        topic.delete(message)
    clock.advance(31)
    assert [body for _ in range(2) for body in topic.bodies()] == [f"{number:02}" for number in range(1, 30, 2)]


def test_what_is_no_receipt_handle_is_refused(sqs: Any) -> None:
    topic = Topic(sqs)
    with refused("ReceiptHandleIsInvalid"):
        topic.delete({"ReceiptHandle": "garbage"})
    with refused("ReceiptHandleIsInvalid"):
        topic.hide({"ReceiptHandle": "garbage"}, 1)
    entries = [{"Id": "a", "ReceiptHandle": "garbage"}]
    [failed] = sqs.delete_message_batch(QueueUrl=topic.url, Entries=entries)["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("a", True, "ReceiptHandleIsInvalid")
    entries = [{"Id": "a", "ReceiptHandle": "garbage", "VisibilityTimeout": 1}]
    [failed] = sqs.change_message_visibility_batch(QueueUrl=topic.url, Entries=entries)["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("a", True, "ReceiptHandleIsInvalid")


def test_batches_say_what_they_did_for_each_entry(sqs: Any) -> None:
    topic = Topic(sqs)
    sent = topic.send_batch({"MessageBody": "a"}, {"MessageBody": "b", "DelaySeconds": 901}, {"MessageBody": "c"})
    assert [entry["Id"] for entry in sent["Successful"]] == ["0", "2"]
    [failed] = sent["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("1", True, "InvalidParameterValue")
    messages = topic.receive()
    assert [message["MessageId"] for message in messages] == [entry["MessageId"] for entry in sent["Successful"]]
    entries = [
        {"Id": message["Body"], "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": timeout}
        for message, timeout in zip(messages, (0, 90), strict=True)
    ]
    hidden = sqs.change_message_visibility_batch(QueueUrl=topic.url, Entries=entries)
    assert [entry["Id"] for entry in hidden["Successful"]] == ["a", "c"]
    assert topic.counts() == (1, 1, 0)
    entries = [{"Id": message["Body"], "ReceiptHandle": message["ReceiptHandle"]} for message in messages]
    deleted = sqs.delete_message_batch(QueueUrl=topic.url, Entries=entries)
    assert [entry["Id"] for entry in deleted["Successful"]] == ["a", "c"]
    assert topic.counts() == (0, 0, 0)


@pytest.mark.parametrize(
    ("ids", "exception"),
    [
        ([], "EmptyBatchRequest"),
        (["a", "a"], "BatchEntryIdsNotDistinct"),
        ([str(number) for number in range(11)], "TooManyEntriesInBatchRequest"),
        (["not:allowed"], "InvalidBatchEntryId"),
    ],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(sqs: Any, ids: list[str], exception: str) -> None:
    topic = Topic(sqs)
    entries = [{"Id": entry_id, "MessageBody": "a"} for entry_id in ids]
    with pytest.raises(getattr(sqs.exceptions, exception)):
        sqs.send_message_batch(QueueUrl=topic.url, Entries=entries)
    assert topic.counts() == (0, 0, 0)


def test_a_message_received_too_often_goes_to_the_dead_letters(sqs: Any, clock: Clock) -> None:
    topic, dead_letters = dead_letter_pair(sqs, max_receive_count=2)
    [message_id] = topic.send("bad", MessageAttributes={"Source": text("s3://bucket/key")})
    for _ in range(2):
        assert topic.bodies(VisibilityTimeout=30) == ["bad"]
        clock.advance(31)
    topic.send("good")
    assert topic.bodies(VisibilityTimeout=0) == ["good"]
    topic.delete(topic.receive()[0])
    assert topic.counts() == (0, 0, 0)
    [dead] = dead_letters.receive(MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"])
    assert (dead["Body"], dead["MessageId"]) == ("bad", message_id)
    assert dead["MessageAttributes"] == {"Source": text("s3://bucket/key")}
    assert dead["Attributes"]["ApproximateReceiveCount"] == "3"


def test_purging_deletes_everything_and_is_allowed_once_a_minute(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    topic.send("a", "b")
    topic.send("c", DelaySeconds=10)
    topic.receive(1)
    sqs.purge_queue(QueueUrl=topic.url)
    assert topic.counts() == (0, 0, 0)
    with refused("AWS.SimpleQueueService.PurgeQueueInProgress"):
        sqs.purge_queue(QueueUrl=topic.url)
    topic.send("d")
    clock.advance(61)
    assert topic.bodies() == ["d"]
    sqs.purge_queue(QueueUrl=topic.url)


def test_messages_are_not_given_out_after_their_retention(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, MessageRetentionPeriod=60)
    topic.send("old")
    clock.advance(50)
    topic.send("new")
    assert topic.bodies(VisibilityTimeout=0) == ["old", "new"]
    clock.advance(11)
    assert "old" not in topic.bodies(VisibilityTimeout=0)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ([], set()),
        (["All"], {"Lineage", "Meta.a", "Meta.b"}),
        ([".*"], {"Lineage", "Meta.a", "Meta.b"}),
        (["Meta.*"], {"Meta.a", "Meta.b"}),
        (["Meta.a", "Lineage"], {"Meta.a", "Lineage"}),
        (["Unknown"], set()),
    ],
)
def test_only_the_attributes_asked_for_come(sqs: Any, asked: list[str], given: set[str]) -> None:
    topic = Topic(sqs)
    attributes = {"Lineage": text("0-9/9"), "Meta.a": text("1", "Number"), "Meta.b": text("x")}
    sent = sqs.send_message(QueueUrl=topic.url, MessageBody="a", MessageAttributes=attributes)
    [message] = topic.receive(MessageAttributeNames=asked)
    assert message.get("MessageAttributes", {}) == {name: attributes[name] for name in given}
    assert ("MD5OfMessageAttributes" in message) == bool(given)
    assert (message.get("MD5OfMessageAttributes") == sent["MD5OfMessageAttributes"]) == (len(given) == 3)


def test_attributes_have_the_digest_that_aws_gives_them(sqs: Any) -> None:
    topic = Topic(sqs)
    value = b"traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01"
    topic.send("test", MessageAttributes={"attr1": {"DataType": "Binary", "BinaryValue": value}})
    [message] = topic.receive(MessageAttributeNames=["All"])
    assert message["MessageAttributes"]["attr1"]["BinaryValue"] == value
    assert message["MD5OfMessageAttributes"] == "8cbe4db156db8a94db8b801b7addb984"


@pytest.mark.parametrize("parameter", ["AttributeNames", "MessageSystemAttributeNames"])
def test_only_the_system_attributes_asked_for_come(sqs: Any, parameter: str) -> None:
    topic = Topic(sqs)
    topic.send("a", MessageSystemAttributes={"AWSTraceHeader": text("Root=1-5759e988")})
    [message] = topic.receive(VisibilityTimeout=0, **{parameter: ["ApproximateReceiveCount", "AWSTraceHeader"]})
    assert message["Attributes"] == {"ApproximateReceiveCount": "1", "AWSTraceHeader": "Root=1-5759e988"}
    [message] = topic.receive(**{parameter: ["All"]})
    assert {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"} <= message["Attributes"].keys()


def test_a_poll_that_waits_returns_with_the_message_that_comes(sqs: Any) -> None:
    topic = Topic(sqs)
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(topic.bodies, WaitTimeSeconds=20)
        topic.send("a")
        assert poll.result(timeout=5) == ["a"]


def test_a_queue_that_is_not_there_is_told(sqs: Any) -> None:
    topic = Topic(sqs)
    sqs.delete_queue(QueueUrl=topic.url)
    for request in (topic.receive, partial(topic.send, "a"), topic.counts):
        with refused("AWS.SimpleQueueService.NonExistentQueue"):
            request()


@pytest.mark.parametrize(
    ("parameter", "value"), [("MaxNumberOfMessages", 11), ("WaitTimeSeconds", 21), ("VisibilityTimeout", 43201)]
)
def test_numbers_out_of_range_are_refused(sqs: Any, parameter: str, value: int) -> None:
    topic = Topic(sqs)
    with refused("InvalidParameterValue"):
        sqs.receive_message(QueueUrl=topic.url, **{parameter: value})


# Where moto is laxer than SQS.

BAD_MESSAGES = {
    "an empty body": ({"MessageBody": ""}, "MissingParameter"),
    "a control character": ({"MessageBody": "a\x00b"}, "InvalidMessageContents"),
    "a noncharacter": ({"MessageBody": "a\uffffb"}, "InvalidMessageContents"),
    "a lone surrogate": ({"MessageBody": "a\ud800b"}, "InvalidMessageContents"),
    "a body too large": ({"MessageBody": "é" * (MIB // 2) + "a"}, "InvalidParameterValue"),
    "attributes that make it too large": (
        {"MessageBody": "a" * (MIB - 10), "MessageAttributes": {"Name": text("v")}},
        "InvalidParameterValue",
    ),
    "eleven attributes": (
        {"MessageBody": "a", "MessageAttributes": {f"Name{number}": text("v") for number in range(11)}},
        "InvalidParameterValue",
    ),
    **{
        f"an attribute called {name[:20]!r}": (
            {"MessageBody": "a", "MessageAttributes": {name: text("v")}},
            "InvalidParameterValue",
        )
        for name in ("AWS.x", "amazon.x", ".x", "x.", "x..y", "x!", "x" * 257)
    },
    **{
        f"an attribute that is {attribute}": (
            {"MessageBody": "a", "MessageAttributes": {"Name": attribute}},
            "InvalidParameterValue",
        )
        for attribute in (
            text(""),
            text("\x08"),
            text("x", "Number"),
            text("x", "Text"),
            text("x", "String." + "x" * 250),
        )
    },
    "a delay too long": ({"MessageBody": "a", "DelaySeconds": 901}, "InvalidParameterValue"),
}


@pytest.mark.parametrize(("message", "code"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_bad_message_is_refused_and_in_a_batch_it_alone(ours: Any, message: dict[str, Any], code: str) -> None:
    topic = Topic(ours)
    with refused(code):
        ours.send_message(QueueUrl=topic.url, **message)
    if code == "MissingParameter" or len(message["MessageBody"]) > 1000:
        return  # that concerns the batch as a whole
    reply = topic.send_batch({"MessageBody": "good"}, message)
    assert [entry["Id"] for entry in reply["Successful"]] == ["0"]
    [failed] = reply["Failed"]
    assert (failed["Id"], failed["SenderFault"], failed["Code"]) == ("1", True, code)
    assert topic.bodies() == ["good"]


@pytest.mark.parametrize("body", ["\t\n\r\x20\ud7ff\ue000\ufffd\U00010000\U0010ffff\x7f", "x" * MIB])
def test_everything_that_is_allowed_in_a_body_arrives(ours: Any, body: str) -> None:
    topic = Topic(ours)
    topic.send(body)
    assert topic.bodies() == [body]


def test_a_message_may_be_as_large_as_the_limit_with_its_attributes(ours: Any) -> None:
    topic = Topic(ours)
    attributes = {"Näme": text("välue"), "B": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    size = len("Näme".encode()) + len("String") + len("välue".encode()) + len("B") + len("Binary") + 2
    topic.send("x" * (MIB - size), MessageAttributes=attributes)
    with refused("InvalidParameterValue", saying="shorter than 1048576 bytes"):
        topic.send("x" * (MIB - size + 1), MessageAttributes=attributes)


def test_a_message_larger_than_the_queue_allows_is_refused(ours: Any) -> None:
    topic = Topic(ours, MaximumMessageSize=KIB)
    reply = topic.send_batch({"MessageBody": "x" * KIB}, {"MessageBody": "x" * (KIB + 1)})
    assert [entry["Id"] for entry in reply["Successful"]] == ["0"]
    assert [(entry["Id"], entry["Code"]) for entry in reply["Failed"]] == [("1", "InvalidParameterValue")]


def test_a_batch_is_refused_as_a_whole_when_its_messages_and_attributes_are_too_large(ours: Any) -> None:
    topic = Topic(ours)
    half = {"MessageBody": "x" * (MIB // 2 - len("NameStringv")), "MessageAttributes": {"Name": text("v")}}
    assert len(topic.send_batch(half, half)["Successful"]) == 2
    with pytest.raises(ours.exceptions.BatchRequestTooLong, match="You have sent 1048577 bytes"):
        topic.send_batch(half, {**half, "MessageBody": half["MessageBody"] + "x"})
    with refused("MissingParameter"):
        topic.send_batch(half, {"MessageBody": ""})
    assert topic.counts() == (2, 0, 0)


def test_a_list_of_a_batch_reply_is_left_out_when_it_is_empty(ours: Any) -> None:
    topic = Topic(ours)
    assert "Failed" not in topic.send_batch({"MessageBody": "a"})
    assert "Successful" not in topic.send_batch({"MessageBody": "\x00"})


def test_a_short_poll_is_refused_when_too_many_messages_are_in_flight(
    ours: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandardQueue, "max_in_flight", 3)
    topic = Topic(ours)
    topic.send("a", "b", "c", "d")
    [first, *_] = received = topic.receive()
    assert len(received) == 3
    with refused("OverLimit"):
        topic.receive()
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(topic.bodies, WaitTimeSeconds=20)
        topic.hide(first, 0)
        assert poll.result(timeout=5) == ["a"]


def test_a_message_is_hidden_for_12_hours_from_its_receiving_at_most(ours: Any, clock: Clock) -> None:
    topic = Topic(ours)
    topic.send("a")
    clock.advance(2 * MAX_DEADLINE_SECONDS)
    [message] = topic.receive(VisibilityTimeout=3600)
    clock.advance(1800)
    topic.hide(message, MAX_DEADLINE_SECONDS - 1900)
    with refused("InvalidParameterValue", saying="beyond the limit"):
        topic.hide(message, MAX_DEADLINE_SECONDS - 1700)


def test_the_visibility_of_a_message_that_is_gone_cannot_be_changed(ours: Any) -> None:
    topic = Topic(ours)
    topic.send("a")
    [message] = topic.receive()
    topic.delete(message)
    with refused("InvalidParameterValue", saying="Message does not exist"):
        topic.hide(message, 1)


def test_a_receipt_handle_of_another_queue_is_refused(ours: Any) -> None:
    topic, other = Topic(ours), Topic(ours, "other")
    topic.send("a")
    other.send("b")
    [message] = topic.receive()
    with refused("ReceiptHandleIsInvalid"):
        other.delete(message)


def test_expired_messages_are_no_longer_counted_nor_in_the_dead_letters(ours: Any, clock: Clock) -> None:
    topic, dead_letters = dead_letter_pair(ours, max_receive_count=1)
    ours.set_queue_attributes(QueueUrl=dead_letters.url, Attributes={"MessageRetentionPeriod": "100"})
    topic.send("a")
    topic.receive(VisibilityTimeout=60)
    clock.advance(61)
    assert topic.bodies() == []
    assert dead_letters.counts() == (1, 0, 0)
    clock.advance(40)
    assert dead_letters.counts() == (0, 0, 0)


def test_a_waiting_poll_returns_when_a_message_becomes_visible_again(ours: Any, clock: Clock) -> None:
    topic = Topic(ours)
    topic.send("a")
    topic.receive(VisibilityTimeout=30)
    clock.advance(29.8)
    start = time.monotonic()
    assert topic.bodies(WaitTimeSeconds=20) == ["a"]
    assert 0.1 < time.monotonic() - start < 5


def test_a_waiting_poll_returns_when_its_time_is_over() -> None:
    queue = StandardQueue("topic", REGION, ACCOUNT)
    start = time.monotonic()
    assert queue.receive(1, 0.1, 30) == []
    assert 0.09 < time.monotonic() - start < 5


def test_a_batch_goes_to_a_waiting_poll_together(ours: Any) -> None:
    topic = Topic(ours)
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(topic.bodies, WaitTimeSeconds=20)
        wait_for(lambda: waiting_polls() == 1)
        topic.send_batch({"MessageBody": "a"}, {"MessageBody": "b"})
        assert poll.result(timeout=5) == ["a", "b"]


def test_many_waiting_polls_hold_up_nobody_and_each_gets_its_message(ours: Any) -> None:
    topic, other = Topic(ours), Topic(ours, "other")
    with ThreadPoolExecutor(40) as pool:
        polls = [pool.submit(topic.bodies, 1, WaitTimeSeconds=20) for _ in range(40)]
        wait_for(lambda: waiting_polls() == 40)
        other.send("b")
        assert other.bodies() == ["b"]
        for number in range(40):
            topic.send(str(number))
        assert {body for poll in polls for body in poll.result(timeout=5)} == {str(number) for number in range(40)}


def test_waiting_polls_end_with_the_queue(ours: Any) -> None:
    topic = Topic(ours)
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(topic.receive, WaitTimeSeconds=20)
        wait_for(lambda: waiting_polls() == 1)
        ours.delete_queue(QueueUrl=topic.url)
        with refused("AWS.SimpleQueueService.NonExistentQueue"):
            poll.result(timeout=5)


def waiting_polls() -> int:
    queue = sqs_backends[ACCOUNT][REGION].queues["topic"]
    return len(queue._changed._waiters)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


# Moving dead letters.


def kill(topic: Topic, *bodies: str) -> list[str]:
    """Bring messages into the dead letters of a topic with a `max_receive_count` of 1, and return their ids."""
    ids = topic.send(*bodies)
    topic.receive(VisibilityTimeout=0)
    assert topic.bodies() == []
    return ids


def test_dead_letters_know_where_they_come_from(ours: Any) -> None:
    topic, dead_letters = dead_letter_pair(ours, max_receive_count=1)
    kill(topic, "a")
    [dead] = dead_letters.receive(MessageSystemAttributeNames=["DeadLetterQueueSourceArn"])
    assert dead["Attributes"] == {"DeadLetterQueueSourceArn": topic.arn}


def test_dead_letters_are_moved_back_to_their_queues_as_new_messages(ours: Any, clock: Clock) -> None:
    topic, dead_letters = dead_letter_pair(ours, max_receive_count=1)
    other = Topic(ours, "other", RedrivePolicy=redrive_to(dead_letters, 1))
    [message_id, _] = kill(topic, "a", "b")
    kill(other, "c")
    ours.start_message_move_task(SourceArn=dead_letters.arn)
    [task] = ours.list_message_move_tasks(SourceArn=dead_letters.arn)["Results"]
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 3)
    assert "DestinationArn" not in task
    assert dead_letters.counts() == (0, 0, 0)
    first, second = topic.receive(MessageSystemAttributeNames=["All"])
    assert [first["Body"], second["Body"]] == ["a", "b"]
    assert first["MessageId"] != message_id
    assert first["Attributes"]["ApproximateReceiveCount"] == "1"
    assert "DeadLetterQueueSourceArn" not in first["Attributes"]
    assert other.bodies() == ["c"]


def test_dead_letters_are_moved_to_the_queue_that_is_named(ours: Any) -> None:
    topic, dead_letters = dead_letter_pair(ours, max_receive_count=1)
    kill(topic, "a")
    dead_letters.send("b")
    ours.start_message_move_task(SourceArn=dead_letters.arn, DestinationArn=topic.arn)
    assert topic.bodies() == ["a", "b"]
    [task] = ours.list_message_move_tasks(SourceArn=dead_letters.arn)["Results"]
    assert task["DestinationArn"] == topic.arn


@pytest.mark.parametrize("origin", ["unknown", "deleted"])
def test_a_dead_letter_that_has_nowhere_to_go_stays(ours: Any, origin: str) -> None:
    _, dead_letters = dead_letter_pair(ours, max_receive_count=1)
    other = Topic(ours, "other", RedrivePolicy=redrive_to(dead_letters, 1))
    if origin == "unknown":
        dead_letters.send("b")
    else:
        kill(other, "b")
        ours.delete_queue(QueueUrl=other.url)
    ours.start_message_move_task(SourceArn=dead_letters.arn)
    [task] = ours.list_message_move_tasks(SourceArn=dead_letters.arn, MaxResults=10)["Results"]
    reasons = {"unknown": "CouldNotDetermineMessageSource", "deleted": "AWS.SimpleQueueService.NonExistentQueue"}
    assert (task["Status"], task["FailureReason"]) == ("FAILED", reasons[origin])
    assert dead_letters.bodies() == ["b"]


def test_moves_that_cannot_be_are_refused(ours: Any) -> None:
    topic, dead_letters = dead_letter_pair(ours, max_receive_count=1)
    with refused("InvalidParameterValue", saying="must be configured as a Dead Letter Queue"):
        ours.start_message_move_task(SourceArn=topic.arn)
    with refused("ResourceNotFoundException", saying="DestinationArn"):
        ours.start_message_move_task(SourceArn=dead_letters.arn, DestinationArn=topic.arn + "x")
    for wrong in (topic.arn + "x", "garbage"):
        with refused("ResourceNotFoundException", saying="SourceArn"):
            ours.list_message_move_tasks(SourceArn=wrong)


def test_a_queue_that_is_its_own_dead_letter_queue_does_not_run_in_circles(ours: Any) -> None:
    topic = Topic(ours)
    ours.set_queue_attributes(QueueUrl=topic.url, Attributes={"RedrivePolicy": redrive_to(topic, 1)})
    topic.send("a")
    assert topic.bodies(VisibilityTimeout=0) == ["a"]
    assert topic.bodies(VisibilityTimeout=0) == ["a"]
    ours.start_message_move_task(SourceArn=topic.arn, DestinationArn=topic.arn)
    assert topic.counts() == (1, 0, 0)


# Next to moto.


def test_fifo_queues_stay_motos(ours: Any) -> None:
    topic = Topic(ours, "topic.fifo", FifoQueue="true")
    for number in range(2):
        topic.send(f"body {number}", MessageGroupId="group", MessageDeduplicationId="same")
    assert topic.bodies() == ["body 0"]


def test_what_other_services_send_arrives_too(ours: Any) -> None:
    topic = Topic(ours)
    sqs_backends[ACCOUNT][REGION].send_message("topic", '{"Records": []}')
    assert topic.bodies() == ['{"Records": []}']


def test_a_client_of_the_old_protocol_is_told(ours: Any) -> None:
    request = urllib.request.Request(
        ours.meta.endpoint_url,
        data=b"Action=ReceiveMessage",
        headers={"Authorization": f"AWS4-HMAC-SHA256 Credential=x/20261231/{REGION}/sqs/aws4_request, Signature=x"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert b"JSON protocol" in caught.value.read()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("VisibilityTimeout ", "30", "InvalidAttributeName"),
        ("visibilitytimeout", "30", "InvalidAttributeName"),
        ("Bogus", "1", "InvalidAttributeName"),
        ("QueueArn", "arn:aws:sqs:eu-west-1:123456789012:x", "InvalidAttributeName"),
        ("ApproximateNumberOfMessages", "1", "InvalidAttributeName"),
        ("ContentBasedDeduplication", "true", "InvalidAttributeName"),
        ("FifoQueue", "false", "InvalidAttributeName"),
        ("VisibilityTimeout", "", "InvalidAttributeValue"),
        ("VisibilityTimeout", "soon", "InvalidAttributeValue"),
        ("VisibilityTimeout", "43201", "InvalidAttributeValue"),
        ("VisibilityTimeout", "-1", "InvalidAttributeValue"),
        ("VisibilityTimeout", "1.5", "InvalidAttributeValue"),
        ("VisibilityTimeout", "٣", "InvalidAttributeValue"),
        ("DelaySeconds", "901", "InvalidAttributeValue"),
        ("ReceiveMessageWaitTimeSeconds", "21", "InvalidAttributeValue"),
        ("MessageRetentionPeriod", "59", "InvalidAttributeValue"),
        ("MaximumMessageSize", "1023", "InvalidAttributeValue"),
        ("MaximumMessageSize", str(MIB + 1), "InvalidAttributeValue"),
        ("SqsManagedSseEnabled", "yes", "InvalidAttributeValue"),
        ("Policy", "{", "InvalidAttributeValue"),
        ("Policy", "[]", "InvalidAttributeValue"),
        ("RedrivePolicy", "no JSON", "InvalidAttributeValue"),
        ("RedrivePolicy", '{"maxReceiveCount": 3}', "InvalidAttributeValue"),
        ("RedrivePolicy", '{"deadLetterTargetArn": "topic", "maxReceiveCount": 3}', "InvalidAttributeValue"),
        (
            "RedrivePolicy",
            '{"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:123456789012:d", "maxReceiveCount": 1001}',
            "InvalidAttributeValue",
        ),
        ("RedriveAllowPolicy", '{"redrivePermission": "some"}', "InvalidAttributeValue"),
        ("KmsDataKeyReusePeriodSeconds", "59", "InvalidAttributeValue"),
    ],
)
def test_an_attribute_that_sqs_does_not_know_or_take_is_refused(ours: Any, name: str, value: str, code: str) -> None:
    with refused(code):
        Topic(ours, "new", **{name: value})
    assert not ours.list_queues().get("QueueUrls")
    topic = Topic(ours)
    topic.send("kept")
    with refused(code):
        ours.set_queue_attributes(QueueUrl=topic.url, Attributes={name: value})
    assert topic.bodies() == ["kept"]


def test_every_attribute_with_a_value_in_range_is_taken(ours: Any) -> None:
    other = Topic(ours, "other")
    taken = {
        "DelaySeconds": "900",
        "MaximumMessageSize": "1024",
        "MessageRetentionPeriod": "1209600",
        "Policy": "{}",
        "ReceiveMessageWaitTimeSeconds": "20",
        "VisibilityTimeout": "43200",
        "RedrivePolicy": redrive_to(other, 1000),
        "RedriveAllowPolicy": '{"redrivePermission": "denyAll"}',
        "SqsManagedSseEnabled": "false",
    }
    topic = Topic(ours, **taken)
    ours.set_queue_attributes(QueueUrl=topic.url, Attributes=taken)
    ours.set_queue_attributes(QueueUrl=topic.url, Attributes={"RedrivePolicy": ""})


def test_an_attribute_that_does_not_exist_cannot_be_asked_for(ours: Any) -> None:
    topic = Topic(ours)
    with refused("InvalidAttributeName"):
        ours.get_queue_attributes(QueueUrl=topic.url, AttributeNames=["VisibilityTimeout "])


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("x.fifo", {}),
        ("x.fifo", {"FifoQueue": "false"}),
        ("x", {"FifoQueue": "true"}),
        ("x.y", {}),
        ("x" * 81, {}),
        ("x" * 76 + ".fifo", {"FifoQueue": "true"}),
        ("ümlaut", {}),
    ],
)
def test_a_name_that_does_not_fit_the_kind_of_queue_is_refused(
    ours: Any, name: str, attributes: dict[str, str]
) -> None:
    with refused("InvalidParameterValue"):
        Topic(ours, name, **attributes)


@pytest.mark.parametrize(
    "options",
    [
        {"MessageDeduplicationId": "1"},
        {"MessageGroupId": "with space"},
        {"MessageGroupId": "x" * 129},
        {"MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "Number", "StringValue": "1"}}},
    ],
)
def test_a_standard_queue_refuses_parameters_of_other_queues(ours: Any, options: dict[str, Any]) -> None:
    topic = Topic(ours)
    with refused("InvalidParameterValue"):
        topic.send("x", **options)
    (failed,) = topic.send_batch({"MessageBody": "x", **options}, {"MessageBody": "good"})["Failed"]
    assert failed["Code"] == "InvalidParameterValue"
    assert topic.bodies() == ["good"]


def test_the_group_of_a_fair_queue_comes_with_the_message(ours: Any) -> None:
    topic = Topic(ours)
    topic.send("x", MessageGroupId="tenant")
    (message,) = topic.receive(MessageSystemAttributeNames=["All"])
    assert message["Attributes"]["MessageGroupId"] == "tenant"


def test_a_name_is_free_60_seconds_after_its_queue_was_deleted(ours: Any, clock: Clock) -> None:
    topic = Topic(ours)
    ours.delete_queue(QueueUrl=topic.url)
    with refused("AWS.SimpleQueueService.QueueDeletedRecently", "60 seconds"):
        Topic(ours)
    Topic(ours, "another")
    clock.advance(61)
    Topic(ours)


def test_a_queue_is_created_once_and_again_only_with_the_same_attributes(ours: Any) -> None:
    first, second = (Topic(ours, VisibilityTimeout=7) for _ in range(2))
    assert first.url == second.url
    with pytest.raises(ClientError):
        Topic(ours, VisibilityTimeout=8)


# The index.


def test_what_was_discarded_does_not_pile_up() -> None:
    heap = KeyedHeap()
    for number in range(10_000):
        heap.put(number, float(number))
        heap.discard(number - 3)
    assert len(heap) == 3
    assert len(heap._items) < 100
    assert list(heap.take_up_to(9_998)) == [9_997, 9_998]
    assert heap.first_key() == 9_999


class Model:
    """A queue as simple as it can be: every message with the time from which it is visible."""

    def __init__(self) -> None:
        self.visible_at: dict[str, float] = {}

    def receive(self, count: int, now: float, timeout: int) -> list[str]:
        received = [name for name, at in self.visible_at.items() if at <= now][:count]
        self.visible_at.update((name, now + timeout) for name in received)
        return received


STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3)),
    st.tuples(st.just("receive"), st.integers(1, 4), st.integers(0, 5)),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("hide"), st.integers(0, 9), st.integers(0, 5)),
    st.tuples(st.just("advance"), st.integers(1, 4)),
)


@settings(deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=80))
def test_a_queue_does_what_its_simplest_model_does(steps: list[tuple[Any, ...]]) -> None:
    now = 1000.0
    model = Model()
    queue = StandardQueue("topic", REGION, ACCOUNT, clock=lambda: now)
    handles: list[tuple[str, str]] = []
    for number, (step, *values) in enumerate(steps):
        if step == "send":
            queue.send([(Message(f"m{number}", b"", "", {}, {}), values[0])])
            model.visible_at[f"m{number}"] = now + values[0]
        elif step == "receive":
            deliveries = queue.receive(values[0], 0, values[1])
            assert [one.message.id for one in deliveries] == model.receive(values[0], now, values[1])
            handles += [(one.message.id, one.receipt_handle) for one in deliveries]
        elif step == "advance":
            now += values[0]
        elif handles:
            name, handle = handles[values[0] % len(handles)]
            if step == "delete":
                queue.delete(handle)
                model.visible_at.pop(name, None)
            elif name in model.visible_at:
                queue.change_visibility(handle, values[1])
                model.visible_at[name] = now + values[1]
        visible = sum(at <= now for at in model.visible_at.values())
        hidden = queue.approximate_number_of_messages_not_visible + queue.approximate_number_of_messages_delayed
        assert (queue.approximate_number_of_messages, hidden) == (visible, len(model.visible_at) - visible)
