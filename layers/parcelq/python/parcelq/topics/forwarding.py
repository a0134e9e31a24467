"""A topic that forwards all operations to another topic; subclasses change some of the operations."""

from __future__ import annotations

from collections.abc import Iterable

from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import Counts, Published, Topic


class ForwardingTopic:
    """A `Topic` that forwards every call to another topic."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    @property
    def name(self) -> str:
        """The topic's name."""
        return self._topic.name

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """See `Topic.publish`."""
        return self._topic.publish(messages, delay_seconds=delay_seconds)

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """See `Topic.pull`."""
        return self._topic.pull(min_messages, max_messages, receive_message_timeout, deadline=deadline)

    def read(self, pulled: Pulled) -> Message:
        """See `Topic.read`."""
        return self._topic.read(pulled)

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """See `Topic.acknowledge`."""
        return self._topic.acknowledge(messages)

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """See `Topic.refresh_deadline`."""
        return self._topic.refresh_deadline(messages, timeout)

    def counts(self) -> Counts:
        """See `Topic.counts`."""
        return self._topic.counts()

    def dead_letter_topic(self) -> Topic | None:
        """See `Topic.dead_letter_topic`."""
        return self._topic.dead_letter_topic()
