"""The interface of topics: the operations of all senders and receivers of messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from parcelq.errors import InvalidValueError, PublishError
from parcelq.limits import MAX_DEADLINE_SECONDS
from parcelq.topics.message import Message, Pulled


class FailedMessage(NamedTuple):
    """A message that was not published.

    Attributes:
        code: AWS's error code, or the name of one of Parcelq's errors.
        reason: AWS's error message.
        sender_fault: True if sending it again cannot help.
    """

    message: Message
    code: str
    reason: str
    sender_fault: bool


class Published(NamedTuple):
    """The number of messages confirmed as published, and the messages that are not."""

    published: int
    failed: list[FailedMessage]


class Counts(NamedTuple):
    """How many messages of a topic are visible, are locked, and are delayed."""

    visible: int
    in_flight: int
    delayed: int


class Publisher(Protocol):
    """An interface for publishing messages.

    Every method raises TopicError or AwsError if the topic does not exist or refuses a whole request.
    """

    @property
    def name(self) -> str:
        """The topic's name, never its URL."""

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish any number of messages, read lazily.

        Args:
            delay_seconds: seconds before they can be pulled, at most 15 minutes.
        """


class Topic(Publisher, Protocol):
    """A topic. Messages may arrive in any order, and more than once."""

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """Pull messages. No other receiver gets them before their acknowledgement deadline.

        Args:
            min_messages: return as soon as this many have arrived.
            max_messages: never return more.
            receive_message_timeout: seconds after which to return the messages so far, possibly none; 0 does not wait.
            deadline: seconds until the messages can be pulled again; the topic's own setting by default.

        Raises:
            InvalidValueError: the numbers do not fit together.
        """

    def read(self, pulled: Pulled) -> Message:
        """Return the pulled message, decoded, with its body read from S3 if necessary.

        Raises:
            MessageError: it cannot be read.
        """

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages, and return those that could not be deleted; they will be delivered again."""

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """Set the acknowledgement deadline to `timeout` seconds from now; 0 makes the messages visible at once.

        Returns:
            The messages for which it failed; other receivers may get them.

        Raises:
            InvalidValueError: the timeout is not from 0 to 12 hours.
        """

    def counts(self) -> Counts:
        """Count the messages: exactly in memory; on SQS approximately, about 60 s after the last send."""

    def dead_letter_topic(self) -> Topic | None:
        """The topic for messages that failed for good; None if it does not exist."""


def publish_all(topic: Publisher, messages: Iterable[Message], *, delay_seconds: int = 0) -> int:
    """Publish messages, and return their number. Raises PublishError if one of them was not published."""
    published, failed = topic.publish(messages, delay_seconds=delay_seconds)
    # guard[False]: looks and tasks count as published only if the topic confirms each
    if failed:
        raise PublishError(topic.name, [one.reason for one in failed])
    return published


def check_pull(min_messages: int, max_messages: int, receive_message_timeout: float) -> None:
    """Raise InvalidValueError if the arguments of `Topic.pull` do not fit together."""
    if not 1 <= min_messages <= max_messages:
        raise InvalidValueError("min_messages", min_messages, f"from 1 to max_messages, which is {max_messages}")
    if receive_message_timeout < 0:
        raise InvalidValueError("receive_message_timeout", receive_message_timeout, "0 or more seconds")


def check_deadline(timeout: int) -> None:
    """Raise InvalidValueError for a deadline that SQS does not allow."""
    if not 0 <= timeout <= MAX_DEADLINE_SECONDS:
        raise InvalidValueError("timeout", timeout, f"0 to {MAX_DEADLINE_SECONDS} seconds")
