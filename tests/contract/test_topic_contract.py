"""What every topic does, whichever adapter is behind it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import pytest
from parcelq.errors import InvalidValueError
from parcelq.names import dead_letter
from parcelq.topics.attributes import ENTRIES, TypedValue
from parcelq.topics.lease import Lease
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic
from parcelq.topics.topic import Counts, Topic


@dataclass
class Case:
    """A topic under test, and how its time passes."""

    topic: Topic
    pass_time: Callable[[float], None]

    def publish(self, *bodies: bytes, delay_seconds: int = 0, **attributes: str) -> None:
        published, failed = self.topic.publish(
            (Message(body, attributes) for body in bodies), delay_seconds=delay_seconds
        )
        assert (published, failed) == (len(bodies), [])

    def pull(self, most: int = 10, deadline: int | None = None) -> list[Pulled]:
        return self.topic.pull(1, most, 0, deadline=deadline)

    def bodies(self, pulled: list[Pulled]) -> list[bytes]:
        return sorted(self.topic.read(one).body for one in pulled)


@pytest.fixture(params=["memory", "sqs"])
def case(request: pytest.FixtureRequest, clock: Any) -> Iterator[Case]:
    if request.param == "memory":

        def move(_condition: Condition, seconds: float) -> None:
            clock.now += seconds

        dead = MemoryTopic("topic-dead-letter", clock=clock)
        yield Case(
            MemoryTopic("topic", max_receive_count=2, dead_letter_topic=dead, clock=clock, wait=move),
            clock.sleep,
        )
        return
    sqs = request.getfixturevalue("sqs")
    dead_url = sqs.create_queue(QueueName=dead_letter("topic"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 2}}'
    url = sqs.create_queue(QueueName="topic", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    overflow = Overflow(request.getfixturevalue("s3"), request.getfixturevalue("bucket"))
    yield Case(SqsTopic(sqs, url, overflow), time.sleep)


def test_a_topic_says_its_name_without_its_address(case: Case) -> None:
    assert case.topic.name == "topic"


def test_a_message_comes_back_with_its_body_and_attributes(case: Case) -> None:
    case.publish(b"one\ntwo\n", Entries="2", Source="s3://bucket/key?x")
    (pulled,) = case.pull()
    message = case.topic.read(pulled)
    assert (message.body, dict(message.attributes)) == (b"one\ntwo\n", {"Entries": "2", "Source": "s3://bucket/key?x"})
    assert pulled.receive_count == 1
    assert dict(pulled.attributes) == dict(message.attributes)


def test_attributes_of_any_type_come_back_with_it_and_are_text(case: Case) -> None:
    values = {"Binary": TypedValue("AP8=", "Binary"), "Number": TypedValue("1.5", "Number.float"), "Text": "text"}
    published, _ = case.topic.publish([Message(b"one", values)])
    assert published == 1
    (pulled,) = case.pull()
    came = case.topic.read(pulled).attributes
    assert came == values
    assert {name: getattr(value, "data_type", "String") for name, value in came.items()} == {
        "Binary": "Binary",
        "Number": "Number.float",
        "Text": "String",
    }


@pytest.mark.parametrize("body", [b"", b"\0\xff", "ä\n".encode(), b"x" * 1_100_000, b"\xfe" * 1_000_000])
def test_any_body_comes_back_as_it_was(case: Case, body: bytes) -> None:
    case.publish(body)
    assert case.bodies(case.pull()) == [body]


def test_messages_are_taken_lazily_and_any_number_of_them_is_published(case: Case) -> None:
    case.publish(*(b"%d\n" % number for number in range(35)))
    pulled = case.topic.pull(35, 35, 5)
    assert len(case.bodies(pulled)) == 35
    assert len({one.message_id for one in pulled}) == 35


def test_a_message_with_too_many_or_empty_attributes_fails_alone(case: Case) -> None:
    many = Message(b"many", {f"Name{number}": "value" for number in range(11)})
    empty = Message(b"empty", {"Name": ""})
    published, failed = case.topic.publish([many, Message(b"good"), empty])
    assert published == 1
    assert [one.message for one in failed] == [many, empty]
    assert all(one.sender_fault and one.reason for one in failed)
    assert case.bodies(case.pull()) == [b"good"]


def test_a_pulled_message_is_not_given_out_again_before_its_deadline(case: Case) -> None:
    case.publish(b"one")
    (first,) = case.pull(deadline=1)
    assert case.pull() == []
    case.pass_time(1.1)
    (second,) = case.pull()
    assert second.message_id == first.message_id
    assert (first.receive_count, second.receive_count) == (1, 2)


def test_an_acknowledged_message_is_not_delivered_again(case: Case) -> None:
    case.publish(b"one", b"two")
    first = case.pull(1, deadline=1)
    assert case.topic.acknowledge(first) == []
    case.pass_time(1.1)
    assert len(case.pull()) == 1
    assert case.topic.acknowledge([]) == []


def test_a_message_whose_deadline_is_set_to_zero_is_visible_at_once(case: Case) -> None:
    case.publish(b"one")
    assert case.topic.refresh_deadline(case.pull(), 0) == []
    assert case.bodies(case.pull()) == [b"one"]


def test_a_refreshed_deadline_counts_from_the_refresh(case: Case) -> None:
    case.publish(b"one")
    pulled = case.pull(deadline=1)
    assert case.topic.refresh_deadline(pulled, 60) == []
    case.pass_time(1.1)
    assert case.pull() == []


@pytest.mark.parametrize("timeout", [-1, 43_201])
def test_a_deadline_that_sqs_does_not_take_is_refused(case: Case, timeout: int) -> None:
    with pytest.raises(InvalidValueError):
        case.topic.refresh_deadline([], timeout)


def test_a_message_that_is_not_there_cannot_be_kept(case: Case) -> None:
    case.publish(b"one")
    pulled = case.pull()
    case.topic.acknowledge(pulled)
    assert case.topic.refresh_deadline(pulled, 60) == pulled


def test_a_delayed_message_comes_after_its_delay(case: Case) -> None:
    case.publish(b"one", delay_seconds=1)
    assert case.pull() == []
    assert case.topic.counts() == Counts(0, 0, 1)
    case.pass_time(1.1)
    assert case.bodies(case.pull()) == [b"one"]


def test_messages_are_counted_by_what_can_be_done_with_them(case: Case) -> None:
    assert case.topic.counts() == Counts(0, 0, 0)
    case.publish(b"one", b"two", b"three")
    assert case.topic.counts() == Counts(3, 0, 0)
    pulled = case.pull(2)
    assert case.topic.counts() == Counts(1, 2, 0)
    case.topic.acknowledge(pulled[:1])
    assert case.topic.counts() == Counts(1, 1, 0)


def test_a_message_that_was_delivered_too_often_goes_to_the_dead_letter_topic(case: Case) -> None:
    case.publish(b"one", Name="value")
    for _ in range(2):
        case.topic.refresh_deadline(case.pull(), 0)
    assert case.pull() == []
    dead = case.topic.dead_letter_topic()
    assert dead is not None
    assert dead.name == "topic-dead-letter"
    (pulled,) = dead.pull(1, 10, 0)
    assert dead.read(pulled) == Message(b"one", {"Name": "value"})


def test_a_topic_without_a_dead_letter_topic_says_so(case: Case) -> None:
    dead = case.topic.dead_letter_topic()
    assert dead is not None
    assert dead.dead_letter_topic() is None


@pytest.mark.parametrize(("least", "most", "timeout"), [(0, 1, 0.0), (3, 2, 0.0), (1, 1, -1.0)])
def test_numbers_that_do_not_fit_together_are_refused(case: Case, least: int, most: int, timeout: float) -> None:
    with pytest.raises(InvalidValueError):
        case.topic.pull(least, most, timeout)


def test_pulling_returns_the_messages_so_far_when_its_time_is_over(case: Case) -> None:
    case.publish(b"one")
    assert case.bodies(case.topic.pull(2, 10, 1)) == [b"one"]


def test_a_lease_keeps_messages_longer_than_their_deadline(case: Case) -> None:
    case.publish(b"one")
    pulled = case.pull(deadline=1)
    with Lease(case.topic, pulled, 60):
        case.pass_time(1.1)
        assert case.pull() == []


def test_a_message_says_when_it_was_sent(case: Case) -> None:
    before = case_time(case)
    case.publish(b"one")
    (pulled,) = case.pull()
    assert before - 1 <= pulled.sent <= case_time(case) + 1


def test_a_message_is_acknowledged_by_its_receipt_without_its_content(case: Case) -> None:
    case.publish(b"one", Entries="1")
    (pulled,) = case.pull()
    receipt = pulled.receipt()
    assert (receipt.size, dict(receipt.attributes)) == (0, {})
    assert case.topic.acknowledge([receipt]) == []
    assert case.topic.counts() == Counts(0, 0, 0)


def test_a_message_published_again_as_it_is_is_the_same(case: Case) -> None:
    case.publish(b"\0binary", Entries="1")
    pulled = case.pull()
    case.topic.publish([pulled[0].as_it_is()])
    case.topic.acknowledge(pulled)
    (again,) = case.pull()
    assert case.topic.read(again) == Message(b"\0binary", {ENTRIES: "1"})


def case_time(case: Case) -> float:
    topic = case.topic
    return topic._clock() if isinstance(topic, MemoryTopic) else time.time()


class TestMemory:
    def test_pulling_waits_until_a_message_is_published(self) -> None:
        topic = MemoryTopic("topic")
        pulled: list[Pulled] = []
        puller = Thread(target=lambda: pulled.extend(topic.pull(1, 10, 30)))
        puller.start()
        topic.publish([Message(b"one")])
        puller.join(10)
        assert [topic.read(one).body for one in pulled] == [b"one"]

    def test_pulling_waits_for_a_deadline_that_was_set_after_it_began(self) -> None:
        topic = MemoryTopic("topic")
        topic.publish([Message(b"one")])
        first = topic.pull(1, 1, 0, deadline=600)
        pulled: list[Pulled] = []
        puller = Thread(target=lambda: pulled.extend(topic.pull(1, 10, 30)))
        puller.start()
        time.sleep(0.05)
        topic.refresh_deadline(first, 0)
        puller.join(10)
        assert len(pulled) == 1

    def test_only_the_receipt_of_the_latest_delivery_counts(self, clock: Any) -> None:
        topic = MemoryTopic("topic", clock=clock)
        topic.publish([Message(b"one")])
        first = topic.pull(1, 1, 0)
        clock.now += 31
        second = topic.pull(1, 1, 0)
        assert topic.acknowledge(first) == first
        assert topic.refresh_deadline(first, 60) == first
        assert topic.acknowledge(second) == []
        assert topic.acknowledge(second) == []

    def test_a_late_acknowledgement_deletes_a_message_that_nobody_else_got(self, clock: Any) -> None:
        topic = MemoryTopic("topic", clock=clock)
        topic.publish([Message(b"one")])
        pulled = topic.pull(1, 1, 0)
        clock.now += 31
        assert topic.counts() == Counts(1, 0, 0)
        assert topic.acknowledge(pulled) == []
        assert topic.counts() == Counts(0, 0, 0)
        assert topic.pull(1, 1, 0) == []

    def test_an_uploader_waits_for_room_and_what_is_put_back_does_not(self) -> None:
        topic = MemoryTopic("topic", max_bytes=4000)
        done: list[int] = []
        uploader = Thread(
            target=lambda: done.append(topic.publish(topic.when_there_is_room([Message(b"x" * 1000)] * 9)).published),
            daemon=True,
        )
        uploader.start()
        taken = 0
        while taken < 9:
            pulled = topic.pull(1, 1, 10)
            assert sum(topic.counts()) <= 4 + taken
            assert topic.publish([Message(b"half" * 1000)] * 2).published == 2  # more than fits, and still at once
            halves = topic.pull(2, 2, 10) if taken == 0 else []
            taken += len(pulled) + sum(topic.read(one).body.startswith(b"x") for one in halves)
            topic.acknowledge([*pulled, *halves])
            rest = topic.pull(1, 100, 0)
            halves = [one for one in rest if topic.read(one).body.startswith(b"half")]
            topic.acknowledge(halves)
            topic.refresh_deadline([one for one in rest if one not in halves], 0)
            if not uploader.is_alive() and topic.counts().in_flight == 0 and topic.counts().visible == 0:
                break
        topic.close()
        uploader.join(10)
        assert done == [9]

    def test_closing_a_memory_topic_ends_all_that_wait_for_it(self) -> None:
        topic = MemoryTopic("topic", max_bytes=1)
        topic.publish([Message(b"one")])
        waiting = [
            Thread(target=lambda: topic.publish(topic.when_there_is_room([Message(b"two")]))),
            Thread(target=lambda: MemoryTopic.pull(topic, 9, 10, 600)),
        ]
        for thread in waiting:
            thread.start()
        topic.close()
        for thread in waiting:
            thread.join(10)
        assert not any(thread.is_alive() for thread in waiting)

    def test_many_threads_that_pull_at_once_get_every_message_once(self) -> None:
        topic = MemoryTopic("topic")
        got: list[bytes] = []

        def work() -> None:
            while pulled := topic.pull(1, 7, 1):
                got.extend(topic.read(one).body for one in pulled)
                assert topic.acknowledge(pulled) == []

        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        topic.publish(Message(b"%d" % number) for number in range(5000))
        for thread in threads:
            thread.join(30)
        assert sorted(got) == sorted(b"%d" % number for number in range(5000))

    def test_timers_of_messages_that_are_gone_take_no_memory_for_long(self, clock: Any) -> None:
        topic = MemoryTopic("topic", clock=clock)
        for _ in range(5000):
            topic.publish([Message(b"one")])
            topic.acknowledge(topic.pull(1, 1, 0))
        assert len(topic._timers) < 1100


def test_a_memory_topic_and_a_folder_store_do_not_import_boto3() -> None:
    modules = "parcelq.topics.memory, parcelq.topics.lease, parcelq.store.folder"
    code = f"import sys, {modules}; print(sorted({{'boto3', 'botocore'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
