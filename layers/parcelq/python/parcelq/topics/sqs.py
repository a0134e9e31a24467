"""A topic that is an SQS queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parcelq.names import topic_of_url
from parcelq.topics.admin import Topics
from parcelq.topics.message import Message, Pulled
from parcelq.topics.publish import publish_many, publish_one
from parcelq.topics.pull import acknowledge, pull, refresh_deadline
from parcelq.topics.topic import Counts, Published

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from parcelq.topics.overflow import Overflow


@dataclass(frozen=True, slots=True)
class SqsTopic:
    """An SQS queue; a `Topic`.

    Attributes:
        sqs: a boto3 SQS client.
        url: the queue's URL.
        overflow: stores and reads bodies that are too large for a message; without it such messages fail.
        fair: whether messages of a source carry their job's id as `MessageGroupId`; see `publish_many`.
        clock: returns a time in seconds.
        sleep: waits for a number of seconds.
    """

    sqs: SQSClient
    url: str
    overflow: Overflow | None = None
    fair: bool = True
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """The queue's name."""
        return topic_of_url(self.url)

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish any number of messages in as few requests as possible; see `Topic.publish`."""
        return publish_many(
            self.sqs,
            self.url,
            messages,
            overflow=self.overflow,
            delay_seconds=delay_seconds,
            fair=self.fair,
            sleep=self.sleep,
        )

    def publish_one(self, message: Message) -> str:
        """Publish one message and return the id that SQS gave it."""
        return publish_one(self.sqs, self.url, message, overflow=self.overflow, fair=self.fair)

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """Pull messages by long polls; see `Topic.pull`."""
        return pull(
            self.sqs,
            self.url,
            min_messages,
            max_messages,
            receive_message_timeout,
            deadline=deadline,
            clock=self.clock,
            sleep=self.sleep,
        )

    def read(self, pulled: Pulled) -> Message:
        """Return the pulled message, decoded; see `Topic.read`."""
        return (self.overflow.load(pulled) if self.overflow else pulled).message()

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages, and return those that were not deleted."""
        return acknowledge(self.sqs, self.url, messages)

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """Set the acknowledgement deadline of messages; see `Topic.refresh_deadline`."""
        return refresh_deadline(self.sqs, self.url, messages, timeout)

    def counts(self) -> Counts:
        """Count the messages approximately; the count is right about 60 s after the last send."""
        return Topics(self.sqs).counts(self.url)

    def attributes(self) -> dict[str, str]:
        """Return all attributes of the queue, with SQS's names."""
        return Topics(self.sqs).attributes(self.url)

    def dead_letter_topic(self) -> SqsTopic | None:
        """The queue that the RedrivePolicy names; without a policy, the queue with the matching name."""
        url = Topics(self.sqs).dead_letter_url(self.url)
        return replace(self, url=url) if url else None
