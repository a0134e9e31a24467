"""Dead letters: looked at without being taken, and sent back as what they were."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from parcelq.dead import ABOUT_DEATH, REASON, letter
from parcelq.errors import AwsError, TopicNotFoundError
from parcelq.limits import MAX_ATTRIBUTES
from parcelq.message import ENTRIES, HALVED, LINEAGE, SIZE_ELSEWHERE, SOURCE, Message, Pulled
from parcelq.overflow import Overflow
from parcelq.plan import Work
from parcelq.redrive import peek, redrive

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOLD = {SOURCE: "s3://bucket/inbox/a.txt?etag=e&put=0055", LINEAGE: "0-4/8", ENTRIES: "1", "Colour": "red"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parcelq.redrive._QUIET_SECONDS", 0)


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
    def test_shows_every_message_once_and_leaves_it_unlocked(self, sqs: Any, dead: str, publish_raw: Any) -> None:
        publish_raw(dead, *numbered(25))
        assert bodies(peek(sqs, dead)) == sorted(one.body for one in numbered(25))
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (25, 0)

    def test_shows_no_more_than_asked_for(self, sqs: Any, dead: str, publish_raw: Any) -> None:
        publish_raw(dead, *numbered(25))
        assert len(peek(sqs, dead, 12)) == 12
        assert count(sqs, dead) == 25

    def test_an_empty_topic_shows_nothing(self, sqs: Any, dead: str) -> None:
        assert peek(sqs, dead) == []

    def test_a_topic_that_is_not_there_is_an_error(self, sqs: Any, dead: str) -> None:
        with pytest.raises(TopicNotFoundError):
            peek(sqs, dead + "x")

    def test_what_was_pulled_is_unlocked_even_if_pulling_fails(
        self, sqs: Any, dead: str, publish_raw: Any, requests: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.redrive._PULLED_TOGETHER", 1)
        publish_raw(dead, *numbered(3))
        requests.let_pass("ReceiveMessage", 2)
        requests.refuse("ReceiveMessage", "AccessDenied", 403)
        with pytest.raises(AwsError, match="AccessDenied"):
            peek(sqs, dead)
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (3, 0)


class TestRedrive:
    def test_sends_every_dead_letter_back(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(25))
        assert redrive(sqs, dead, topic) == 25
        assert bodies(everything_on(topic)) == sorted(one.body for one in numbered(25))
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (0, 0)

    def test_a_letter_goes_back_as_the_message_that_it_was(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        message = Message(b"a\x00\xff\n", TOLD)
        publish_raw(topic, message)
        (pulled,) = everything_on(topic)
        publish_raw(dead, letter(Work.of(pulled, pulled.message()), "exit code 3", "step", WHEN))
        assert peek(sqs, dead)[0].attributes[REASON] == "exit code 3"
        assert redrive(sqs, dead, topic) == 1
        (back,) = everything_on(topic)
        assert back.message().body == message.body
        assert TOLD.items() <= back.attributes.items()
        assert not set(ABOUT_DEATH) & set(back.attributes)

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

    def test_ids_that_are_not_there_move_nothing(self, sqs: Any, topics: tuple[str, str], publish_raw: Any) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        assert redrive(sqs, dead, topic, ["none"]) == 0
        assert (count(sqs, dead), count(sqs, topic)) == (3, 0)

    def test_no_letters_is_no_error(self, sqs: Any, topics: tuple[str, str]) -> None:
        assert redrive(sqs, *topics) == 0

    def test_a_message_with_as_many_attributes_as_there_may_be_goes_back(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        many = {f"Name{number}": "x" for number in range(MAX_ATTRIBUTES)}
        publish_raw(dead, Message(b"one\n", many))
        assert redrive(sqs, dead, topic) == 1
        assert [one.attributes for one in everything_on(topic)] == [many]

    def test_what_goes_back_is_run_alone(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, everything_on: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, Message(b"one\n", TOLD), Message(b"two\n", {**TOLD, HALVED: "3"}))
        redrive(sqs, dead, topic)
        assert sorted(one.attributes[HALVED] for one in everything_on(topic)) == ["0", "3"]

    def test_a_letter_that_is_refused_stays_and_the_others_go(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(2))
        failure = {"Id": "1", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "no"}
        success = {"Id": "0", "MessageId": "m", "MD5OfMessageBody": "0"}
        requests.reply("SendMessageBatch", {"Successful": [success], "Failed": [failure]})
        assert redrive(sqs, dead, topic) == 1
        assert (count(sqs, dead), count(sqs, dead, locked=True)) == (1, 0)

    def test_nothing_is_acknowledged_before_it_is_published(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        requests.asked.clear()
        redrive(sqs, dead, topic)
        names = requests.names()
        assert names.index("SendMessageBatch") < names.index("DeleteMessageBatch")

    def test_if_publishing_is_refused_every_letter_stays(
        self, sqs: Any, topics: tuple[str, str], publish_raw: Any, requests: Any
    ) -> None:
        dead, topic = topics
        publish_raw(dead, *numbered(3))
        with pytest.raises(TopicNotFoundError):
            redrive(sqs, dead, topic + "x")
        assert count(sqs, dead) + count(sqs, dead, locked=True) == 3
        assert "DeleteMessageBatch" not in requests.names()
