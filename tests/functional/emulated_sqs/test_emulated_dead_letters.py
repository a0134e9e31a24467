"""The embedded SQS and dead letters: where they go, and moving them back."""

from __future__ import annotations

from typing import Any

import pytest
from moto.sqs.models import sqs_backends
from sqs_topic import ACCOUNT, REGION, Clock, Topic, dead_letter_pair, redrive_to, refused


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


def test_a_move_of_dead_letters_that_sqs_would_refuse_is_refused(ours: Any) -> None:
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


def test_fifo_queues_are_left_to_moto(ours: Any) -> None:
    topic = Topic(ours, "topic.fifo", FifoQueue="true")
    for number in range(2):
        topic.send(f"body {number}", MessageGroupId="group", MessageDeduplicationId="same")
    assert topic.bodies() == ["body 0"]


def test_a_message_that_another_service_sends_arrives_too(ours: Any) -> None:
    topic = Topic(ours)
    sqs_backends[ACCOUNT][REGION].send_message("topic", '{"Records": []}')
    assert topic.bodies() == ['{"Records": []}']
