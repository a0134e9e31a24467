"""The embedded SQS is as strict with messages and polls as AWS."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from moto.sqs.models import sqs_backends
from parcelq.limits import KIB, MAX_DEADLINE_SECONDS, MIB
from parcelq_emulator.sqs_queue import StandardQueue
from sqs_topic import ACCOUNT, REGION, Clock, Topic, dead_letter_pair, refused, text

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
def test_a_bad_message_is_refused_and_in_a_batch_no_other_is(ours: Any, message: dict[str, Any], code: str) -> None:
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
    (again,) = sqs_backends[ACCOUNT][REGION].queues["topic"].receive(1, 1000, 30)
    assert again.receive_count == 2
    assert time.monotonic() - start > 0.1


def test_a_waiting_poll_returns_when_its_time_is_over() -> None:
    queue = StandardQueue("topic", REGION, ACCOUNT)
    start = time.monotonic()
    assert queue.receive(1, 0.1, 30) == []
    assert time.monotonic() - start > 0.09


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


def test_polls_that_wait_end_when_their_queue_is_deleted(ours: Any) -> None:
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
