"""The interface of topics: the operations that every sender and receiver of messages uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from parcelq.errors import InvalidValueError, PublishError
from parcelq.limits import MAX_DEADLINE_SECONDS
from parcelq.topics.message import Message, Pulled


class FailedMessage(NamedTuple):
    """A message that was not published. If `sender_fault`, it would fail again if it were sent again."""

    message: Message
    code: str
    reason: str
    sender_fault: bool


class Published(NamedTuple):
    """The number of messages confirmed as published, and the messages that failed."""

    published: int
    failed: list[FailedMessage]


class Counts(NamedTuple):
    """How many messages of a topic can be pulled now, are locked, and are delayed."""

    visible: int
    in_flight: int
    delayed: int


class Publisher(Protocol):
    """An interface for publishing messages.

    Every method raises TopicError or AwsError if the topic does not exist or if AWS refuses a whole request.
    """

    @property
    def name(self) -> str:
        """The topic's name, never its URL."""

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish messages from an iterable of any length, one after another.

        The messages can be pulled after `delay_seconds`, at most 15 minutes.
        """


class Topic(Publisher, Protocol):
    """A topic for publishing and pulling messages. Messages may arrive in any order, and more than once."""

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """Pull messages. Until the acknowledgement deadline, no other receiver gets these messages.

        Args:
            min_messages: how many messages must have arrived before this returns early.
            receive_message_timeout: how many seconds to wait at most before this returns the messages that arrived, or
                no message.
            deadline: in how many seconds the messages can be pulled again; by default the topic's own setting.

        Raises:
            InvalidValueError: if the arguments contradict each other.
        """

    def read(self, pulled: Pulled) -> Message:
        """Decode a pulled message and return it, with its body from S3 if necessary. Raises MessageError if this is not
        possible.
        """

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages, and return the messages that could not be deleted and will be delivered again."""

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """Set the acknowledgement deadline to `timeout` seconds from now; 0 makes the messages visible at once.

        Returns the messages whose deadlines could not be set; other receivers may get them. Raises InvalidValueError if
        the timeout is not from 0 to 12 hours.
        """

    def counts(self) -> Counts:
        """Count the messages. A topic in memory returns exact counts, and SQS approximate counts, which become right 60
        s after the last send.
        """

    def dead_letter_topic(self) -> Topic | None:
        """The topic for messages that failed for good; None if the topic has no dead-letter topic."""


def publish_all(topic: Publisher, items: Iterable[object], delay_seconds: int = 0) -> int:
    """Publish texts, each as a message, and return how many. Raises PublishError if a message was not published."""
    messages = (Message(str(one).encode()) for one in items)
    return all_published(topic.name, topic.publish(messages, delay_seconds=delay_seconds))


def all_published(name: str, outcome: Published) -> int:
    """Return how many messages were published. Raises PublishError, which has the name, if a message was not."""
    # guard[False]: messages count as published only if the topic confirms each
    if outcome.failed:
        raise PublishError(name, [one.reason for one in outcome.failed])
    return outcome.published


def check_pull(min_messages: int, max_messages: int, receive_message_timeout: float) -> None:
    """Raise InvalidValueError if the arguments of `Topic.pull` do not fit together."""
    if not 1 <= min_messages <= max_messages:
        raise InvalidValueError("min_messages", min_messages, f"from 1 to max_messages, which is {max_messages}")
    if receive_message_timeout < 0:
        raise InvalidValueError("receive_message_timeout", receive_message_timeout, "0 or more seconds")


def check_deadline(timeout: int) -> None:
    """Raise InvalidValueError if SQS does not allow the deadline `timeout`."""
    if not 0 <= timeout <= MAX_DEADLINE_SECONDS:
        raise InvalidValueError("timeout", timeout, f"0 to {MAX_DEADLINE_SECONDS} seconds")
