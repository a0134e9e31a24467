"""Dead letters: looked at without being taken, and sent back as what they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs.models import sqs_backends
from parcelq.errors import AwsError, TopicNotFoundError
from parcelq.limits import MAX_ATTRIBUTES, MAX_MESSAGE_BYTES
from parcelq.process import redrive as redriving
from parcelq.process.dead import Circumstances, dead_letter
from parcelq.topics.attributes import ENTRIES, FAILURES, FIRST, LINEAGE, REASON, SIZE_ELSEWHERE, SOURCE
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic
from parcelq_emulator.application import listen
from parcelq_emulator.sqs import SqsFrontend
from parcelq_emulator.sqs_backend import StandardQueueBackend

TOLD = {SOURCE: "s3://bucket/inbox/a.txt?etag=e&put=0055", LINEAGE: "0-4/8", ENTRIES: "1", "Colour": "red"}


def peek(sqs: Any, topic_url: str, most: int | None = None) -> list[Pulled]:
    return redriving.peek(SqsTopic(sqs, topic_url), most)


def redrive(
    sqs: Any,
    dead_letter_url: str,
    topic_url: str,
    only: Collection[str] | None = None,
    now: Callable[[], float] = time.time,
) -> int:
    return redriving.redrive(SqsTopic(sqs, dead_letter_url), SqsTopic(sqs, topic_url), only, now=now)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parcelq.process.redrive._QUIET_SECONDS", 0)


@pytest.fixture
def topics(make_topic: Callable[[str], str]) -> tuple[str, str]:
    """URLs of a dead-letter topic and of its topic."""
    topic = make_topic("topic")
    return topic + "-dead-letter", topic


@pytest.fixture
def dead(topics: tuple[str, str]) -> str:
    return topics[0]


def count(sqs: Any, topic: str, *, locked: bool = False) -> int:
    name = "ApproximateNumberOfMessages" + "NotVisible" * locked
    return int(sqs.get_queue_attributes(QueueUrl=topic, AttributeNames=[name])["Attributes"][name])


def numbered(number: int) -> list[Message]:
    return [Message(b"%d\n" % one) for one in range(number)]


def bodies(pulled: list[Pulled]) -> list[bytes]:
    return sorted(one.message().body for one in pulled)


class TestPeek:
    def test_peek_shows_every_message_once_and_leaves_it_unlocked(self, sqs: Any, dead: str, publish_raw: Any) -> None:
        publish_raw(dead, *numbered(25))
        assert bodies(peek(sqs, dead)) == sorted(one.body for one in numbered(25))
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (25, 0)

    def test_peek_shows_no_more_messages_than_asked_for(self, sqs: Any, dead: str, publish_raw: Any) -> None:
        publish_raw(dead, *numbered(25))
        assert len(peek(sqs, dead, 12)) == 12
        assert count(sqs, dead) == 25

    def test_peek_at_an_empty_topic_shows_nothing(self, sqs: Any, dead: str) -> None:
        assert peek(sqs, dead) == []

    def test_peek_at_a_topic_that_is_not_there_is_an_error(self, sqs: Any, dead: str) -> None:
        with pytest.raises(TopicNotFoundError):
            peek(sqs, dead + "x")

    def test_peek_unlocks_what_it_pulled_even_if_pulling_fails(
        self, sqs: Any, dead: str, publish_raw: Any, requests: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.process.redrive._PULLED_TOGETHER", 1)
        publish_raw(dead, *numbered(3))
        requests.let_pass("ReceiveMessage", 2)
        requests.refuse("ReceiveMessage", "AccessDenied", 403)
        with pytest.raises(AwsError, match="AccessDenied"):
            peek(sqs, dead)
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (3, 0)


class TestRedrive:
    def test_redrive_sends_every_dead_letter_back(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(25))
        assert redrive(sqs, dead, topic) == 25
        assert bodies(everything_on(topic)) == sorted(one.body for one in numbered(25))
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (0, 0)

    def test_a_dead_letter_goes_back_as_its_original_message(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        message = Message(b"a\x00\xff\n", {**TOLD, FIRST: "7,9", FAILURES: "1"})
        publish_raw(dead, dead_letter(message, "exit code 3", Circumstances("step", 0.0), 2))
        assert peek(sqs, dead)[0].attributes[REASON] == "exit code 3"
        assert redrive(sqs, dead, topic) == 1
        (back,) = everything_on(topic)
        assert back.message().body == message.body
        attributes = {name: value for name, value in back.attributes.items() if name != "Encoding"}
        assert attributes == {**TOLD, FIRST: "7,9"}

    def test_a_message_that_sqs_moved_goes_back_unchanged_in_what_it_says(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, Message(b"one\n", TOLD))
        redrive(sqs, dead, topic)
        (back,) = everything_on(topic)
        assert back.message().body == b"one\n"
        assert TOLD.items() <= back.attributes.items()

    def test_a_pointer_goes_back_as_a_pointer(
        self, sqs: Any, overflow: Overflow, topics: tuple[str, str], everything_on: Any
    ) -> None:
        dead, topic = topics
        wire = overflow.offload(Message(b"large\n", TOLD).wire())
        sqs.send_message(QueueUrl=dead, **wire.request())
        redrive(sqs, dead, topic)
        (back,) = everything_on(topic)
        assert back.attributes[SIZE_ELSEWHERE] == "6"
        assert overflow.load(back).message().body == b"large\n"

    def test_only_those_that_are_chosen_go_back_and_the_others_are_unlocked(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(12))
        chosen = {one.message_id for one in peek(sqs, dead) if one.message().body in {b"3\n", b"11\n"}}
        assert redrive(sqs, dead, topic, chosen) == 2
        assert bodies(everything_on(topic)) == [b"11\n", b"3\n"]
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (10, 0)

    def test_redrive_of_ids_that_are_not_there_moves_nothing(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        assert redrive(sqs, dead, topic, ["none"]) == 0
        assert (count(sqs, dead), count(sqs, topic)) == (3, 0)

    def test_redrive_of_a_topic_without_dead_letters_is_no_error(self, sqs: Any, topics: tuple[str, str]) -> None:
        assert redrive(sqs, *topics) == 0

    def test_a_message_with_as_many_attributes_as_there_may_be_goes_back(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        many = {f"Name{number}": "x" for number in range(MAX_ATTRIBUTES)}
        publish_raw(dead, Message(b"one\n", many))
        assert redrive(sqs, dead, topic) == 1
        assert [one.attributes for one in everything_on(topic)] == [many]

    def test_the_types_of_other_peoples_attributes_stay(
        self, sqs: Any, topics: tuple[str, str], everything_on: Any
    ) -> None:
        dead, topic = topics
        theirs = {
            "Picture": {"DataType": "Binary.png", "BinaryValue": b"\0\xff"},
            "Count": {"DataType": "Number.int", "StringValue": "7"},
        }
        sqs.send_message(QueueUrl=dead, MessageBody="a", MessageAttributes=theirs)
        redrive(sqs, dead, topic)
        (back,) = everything_on(topic)
        assert back.wire.request()["MessageAttributes"] == theirs

    def test_one_of_several_dead_letters_of_the_same_bytes_goes_back_and_all_are_deleted(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, Message(b"one\n", TOLD), Message(b"one\n", TOLD), Message(b"two\n"), Message(b"two\n"))
        assert redrive(sqs, dead, topic) == 4
        assert bodies(everything_on(topic)) == [b"one\n", b"two\n", b"two\n"]

    def test_a_dead_letter_of_the_largest_size_goes_back(
        self, sqs: Any, topics: tuple[str, str], everything_on: Any
    ) -> None:
        dead, topic = topics
        room = MAX_MESSAGE_BYTES - Wire("", TOLD).size
        sqs.send_message(QueueUrl=dead, **Wire("x" * room, TOLD).request())
        assert redrive(sqs, dead, topic) == 1
        (back,) = everything_on(topic)
        assert (len(back.wire.text), back.attributes) == (room, TOLD)

    def test_a_dead_letter_that_is_refused_stays_and_the_others_go_back(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(2))
        failure = {"Id": "1", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "no"}
        success = {"Id": "0", "MessageId": "m", "MD5OfMessageBody": "0"}
        requests.reply("SendMessageBatch", {"Successful": [success], "Failed": [failure]})
        assert redrive(sqs, dead, topic) == 1
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (1, 0)

    def test_redrive_acknowledges_no_dead_letter_before_it_is_published(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        requests.asked.clear()
        redrive(sqs, dead, topic)
        names = requests.names()
        assert names.index("SendMessageBatch") < names.index("DeleteMessageBatch")

    def test_every_dead_letter_stays_if_publishing_is_refused(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        with pytest.raises(TopicNotFoundError):
            redrive(sqs, dead, topic + "x")
        assert count(sqs, dead) + count(sqs, dead, locked=True) == 3
        assert "DeleteMessageBatch" not in requests.names()


class Later:
    """Real time, plus the jumps that a test makes."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def quick_client(monkeypatch: pytest.MonkeyPatch, later: Later) -> Iterator[Callable[[], Any]]:
    """Makes clients of the embedded stack's SQS: moto's is slow with many messages, and not for several threads."""
    sqs_backends.clear()
    monkeypatch.setattr(sqs_backends, "backend", partial(StandardQueueBackend, clock=later))
    server = listen(SqsFrontend(DomainDispatcherApplication(create_backend_app)), 0)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    config = Config(max_pool_connections=50, retries={"total_max_attempts": 1})
    yield partial(boto3.client, "sqs", endpoint_url=f"http://{server.host}:{server.port}", config=config)
    server.shutdown()
    server.server_close()
    sqs_backends.clear()


def fill(sqs: Any, topic_url: str, number: int) -> list[bytes]:
    """Publish so many, and return their bodies."""
    for first in range(0, number, 10):
        entries = [{"Id": str(one), "MessageBody": f"{one}\n"} for one in range(first, min(first + 10, number))]
        sqs.send_message_batch(QueueUrl=topic_url, Entries=entries)
    return sorted(b"%d\n" % one for one in range(number))


class OnQuickSqs:
    @pytest.fixture
    def sqs(self, quick_client: Callable[[], Any]) -> Any:
        return quick_client()


class TestManyLetters(OnQuickSqs):
    @pytest.fixture
    def hasty(self, sqs: Any, dead: str) -> None:
        """Lets a dead-letter topic give out again at once what was pulled."""
        sqs.set_queue_attributes(QueueUrl=dead, Attributes={"VisibilityTimeout": "0"})

    def test_redrive_sends_all_back_however_short_the_deadline_of_the_topic_is(
        self, sqs: Any, topics: tuple[str, str], everything_on: Any, hasty: None
    ) -> None:
        dead, topic = topics
        sent = fill(sqs, dead, 417)
        assert redrive(sqs, dead, topic) == 417
        assert bodies(everything_on(topic)) == sent
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (0, 0)

    def test_peek_shows_all_however_short_the_deadline_of_the_topic_is(self, sqs: Any, dead: str, hasty: None) -> None:
        sent = fill(sqs, dead, 217)
        assert bodies(peek(sqs, dead)) == sent
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (217, 0)

    def test_dead_letters_are_sent_back_in_small_groups(self, sqs: Any, topics: tuple[str, str]) -> None:
        dead, topic = topics
        fill(sqs, dead, 217)
        most = in_hand = 0
        lock = threading.Lock()

        def took(parsed: dict[str, Any], **_: Any) -> None:
            nonlocal most, in_hand
            with lock:
                in_hand += len(parsed.get("Messages", []))
                most = max(most, in_hand)

        def settled(parsed: dict[str, Any], **_: Any) -> None:
            nonlocal in_hand
            with lock:
                in_hand -= len(parsed["Successful"])

        sqs.meta.events.register("after-call.sqs.ReceiveMessage", took)
        sqs.meta.events.register("after-call.sqs.DeleteMessageBatch", settled)
        assert redrive(sqs, dead, topic) == 217
        assert (most, in_hand) == (50, 0)

    def test_a_few_chosen_of_many_are_found_and_the_others_are_unlocked(
        self, sqs: Any, topics: tuple[str, str], everything_on: Any, hasty: None
    ) -> None:
        dead, topic = topics
        fill(sqs, dead, 217)
        chosen = {one.message_id for one in peek(sqs, dead) if one.message().body in {b"7\n", b"203\n"}}
        assert redrive(sqs, dead, topic, chosen) == 2
        assert bodies(everything_on(topic)) == [b"203\n", b"7\n"]
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (215, 0)

    def test_when_the_chosen_are_found_the_others_are_not_pulled(
        self, sqs: Any, topics: tuple[str, str], requests: Any
    ) -> None:
        dead, topic = topics
        fill(sqs, dead, 217)
        (first,) = peek(sqs, dead, 1)
        requests.asked.clear()
        redrive(sqs, dead, topic, [first.message_id])
        assert len(requests.of("ReceiveMessage")) <= 6

    def test_a_dead_letter_that_cannot_be_unlocked_is_no_failure(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        (one, *_) = peek(sqs, dead)
        requests.refuse("ChangeMessageVisibilityBatch", "AccessDenied", 403)
        assert redrive(sqs, dead, topic, [one.message_id]) == 1
        assert "stay locked" in caplog.text


class TestWhatComesMeanwhile(OnQuickSqs):
    """Dead letters that arrive during a redrive, above all those that it causes."""

    @contextmanager
    def dying_at_once(self, sqs: Any, other: Any, dead: str, topic: str) -> Iterator[list[int]]:
        """Lets all that is published on a topic be a dead letter again at once; tells how many that were."""
        times = [0]

        def die(params: dict[str, Any], **_: Any) -> None:
            if params["QueueUrl"] == topic:
                times[0] += len(params["Entries"])
                assert times[0] < 200
                time.sleep(0.002)  # dates are of milliseconds
                for entry in params["Entries"]:
                    other.send_message(QueueUrl=dead, MessageBody=entry["MessageBody"])

        sqs.meta.events.register("before-parameter-build.sqs.SendMessageBatch", die)
        yield times
        sqs.meta.events.unregister("before-parameter-build.sqs.SendMessageBatch", die)

    def test_a_message_that_dies_again_is_not_sent_back_again(
        self, sqs: Any, quick_client: Any, topics: tuple[str, str], publish_raw: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(70))
        with self.dying_at_once(sqs, quick_client(), dead, topic) as times:
            assert redrive(sqs, dead, topic) == 70
        assert times == [70]
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (70, 0)
        assert redrive(sqs, dead, topic) == 70  # which are there by now

    def test_endless_new_dead_letters_do_not_keep_a_redrive_going(
        self, sqs: Any, quick_client: Any, topics: tuple[str, str], publish_raw: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(5))
        other = quick_client()

        def more(params: dict[str, Any], **_: Any) -> None:
            time.sleep(0.002)
            other.send_message(QueueUrl=dead, MessageBody="late\n")

        sqs.meta.events.register("before-parameter-build.sqs.ReceiveMessage", more)
        assert redrive(sqs, dead, topic) == 5
        sqs.meta.events.unregister("before-parameter-build.sqs.ReceiveMessage", more)
        assert count(sqs, dead, locked=True) == 0
        assert {one.message().body for one in peek(sqs, dead)} == {b"late\n"}

    @pytest.mark.parametrize("behind", [3600, -3600, 0])
    def test_a_wrong_clock_of_this_machine_does_not_keep_dead_letters_back(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, behind: float
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        assert redrive(sqs, dead, topic, now=lambda: time.time() - behind) == 3


class Killed(BaseException):
    """How the process that redrives ends."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("for_good", [True, False], ids=["killed", "interrupted"])
def test_a_crash_at_any_request_loses_no_dead_letter(
    quick_client: Callable[[], Any], later: Later, moment: str, for_good: bool
) -> None:
    sqs, client = quick_client(), quick_client()
    dead, topic = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("topic-dead-letter", "topic"))
    calls = at = 0
    lock = threading.Lock()

    def crash(**_: Any) -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls == at or (for_good and calls > at):
                raise Killed

    client.meta.events.register(f"{moment}-call.sqs", crash)
    crashed = True
    while crashed:
        calls, at = 0, at + 1
        sent = fill(sqs, dead, 60)
        try:
            redrive(client, dead, topic, now=later)
            crashed = False
        except Killed:
            later.ahead += 301  # until what was locked is delivered again
        back = bodies(peek(sqs, dead)) + bodies(peek(sqs, topic))
        assert sorted(set(back)) == sent, f"at request {at}"
        if not crashed:
            assert bodies(peek(sqs, topic)) == sent
        for url in (dead, topic):
            sqs.purge_queue(QueueUrl=url)
        later.ahead += 61  # which may be done once a minute
    assert at > 20
