"""Handing a step's output to the next step of the stage, and to the stage's topic where that cannot run now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from parcelq.process.apply import Outcome
from parcelq.process.budget import Budget
from parcelq.process.chain import Onward
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Published

MESSAGES = [Message(f"{number}\n".encode()) for number in range(20)]
FOREVER = float("inf")


class Half:
    """A processor that does every second message, and has no time for the others."""

    def __init__(self) -> None:
        self.given: list[Message] = []

    def handle(self, pulled: Iterable[Pulled], *_: Any, **__: Any) -> Outcome:
        pulled = list(pulled)
        self.given += [one.message() for one in pulled]
        failed = [(one, "there was no time left to run it") for one in pulled[1::2]]
        return Outcome(done=pulled[::2], failed=failed, dead=len(pulled[::2]))


@pytest.fixture
def topic() -> MemoryTopic:
    return MemoryTopic("stage")


def onward(topic: MemoryTopic, *, direct: bool) -> tuple[Onward, Half]:
    half = Half()
    made = Onward(topic, half)  # type: ignore[arg-type]
    made.begin(Budget(lambda: FOREVER), "invocation", direct=direct)
    return made, half


def test_messages_that_the_next_step_cannot_take_now_go_to_the_topic(topic):
    made, half = onward(topic, direct=True)
    assert made.publish(iter(MESSAGES)) == Published(20, [])
    assert half.given == MESSAGES
    left = topic.pull(1, 100, 0)
    assert [one.message() for one in left] == MESSAGES[1::2]
    assert made.dead == 10


def test_messages_that_neither_the_step_nor_the_topic_takes_are_not_published(topic, monkeypatch):
    made, _ = onward(topic, direct=True)

    def refuse(_topic: object, messages: Iterable[Message], **_: Any) -> Published:
        return Published(0, [FailedMessage(one, "Throttled", "later", sender_fault=False) for one in messages])

    monkeypatch.setattr(MemoryTopic, "publish", refuse)
    published, failed = made.publish(iter(MESSAGES))
    assert published == 10
    assert [id(one.message) for one in failed] == [id(one) for one in MESSAGES[1::2]]


def test_nothing_is_handed_over_while_it_is_not_direct(topic):
    made, half = onward(topic, direct=False)
    assert made.publish(iter(MESSAGES)) == Published(20, [])
    assert (half.given, topic.counts().visible) == ([], 20)
