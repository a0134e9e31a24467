"""The embedded SQS and queues: attributes, names, and a comparison with the simplest model."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from parcelq.limits import MIB
from parcelq_emulator.keyed_heap import KeyedHeap
from parcelq_emulator.sqs_message import Message
from parcelq_emulator.sqs_queue import StandardQueue
from sqs_topic import ACCOUNT, REGION, Clock, Topic, redrive_to, refused


def test_a_client_of_the_old_protocol_gets_an_error(ours: Any) -> None:
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


def test_messages_that_were_discarded_take_no_memory() -> None:
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
