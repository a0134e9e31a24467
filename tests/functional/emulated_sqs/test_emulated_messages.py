"""The embedded SQS and messages: what it has in common with moto's own, tested on both."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqs_topic import Clock, Topic, dead_letter_pair, refused, text


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


def test_a_received_message_is_hidden_until_its_timeout_and_then_delivered_again(sqs: Any, clock: Clock) -> None:
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


def test_of_many_messages_only_those_that_a_batch_names_are_deleted(sqs: Any, clock: Clock) -> None:
    topic = Topic(sqs, VisibilityTimeout=30)
    for ten in range(3):
        topic.send_batch(*({"MessageBody": f"{ten}{number}"} for number in range(10)))
    for message in [message for _ in range(3) for message in topic.receive()][::2]:
        topic.delete(message)
    clock.advance(31)
    assert [body for _ in range(2) for body in topic.bodies()] == [f"{number:02}" for number in range(1, 30, 2)]


def test_a_text_that_is_no_receipt_handle_is_refused(sqs: Any) -> None:
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
def test_an_invalid_batch_is_refused_as_a_whole(sqs: Any, ids: list[str], exception: str) -> None:
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
def test_a_message_comes_with_only_the_attributes_that_were_asked_for(
    sqs: Any, asked: list[str], given: set[str]
) -> None:
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
def test_a_message_comes_with_only_the_system_attributes_that_were_asked_for(sqs: Any, parameter: str) -> None:
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


def test_a_queue_that_does_not_exist_is_an_error(sqs: Any) -> None:
    topic = Topic(sqs)
    sqs.delete_queue(QueueUrl=topic.url)
    for request in (topic.receive, partial(topic.send, "a"), topic.counts):
        with refused("AWS.SimpleQueueService.NonExistentQueue"):
            request()


@pytest.mark.parametrize(
    ("parameter", "value"), [("MaxNumberOfMessages", 11), ("WaitTimeSeconds", 21), ("VisibilityTimeout", 43201)]
)
def test_a_parameter_whose_number_is_out_of_range_is_refused(sqs: Any, parameter: str, value: int) -> None:
    topic = Topic(sqs)
    with refused("InvalidParameterValue"):
        sqs.receive_message(QueueUrl=topic.url, **{parameter: value})
