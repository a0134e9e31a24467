"""A topic in the memory of one process, which behaves like SQS but sends no requests and encodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_ATTRIBUTES, MAX_DELAY_SECONDS, MIB
from parcelq.topics.memory_queue import Queue, Wait
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import Counts, FailedMessage, Published, check_deadline, check_pull


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTopic:
    """A `Topic` whose messages are in the memory of this process.

    The topic behaves like SQS. A message is delivered again if it is not acknowledged before its deadline. Deliveries
    are counted. Only the receipt of a message's latest delivery acknowledges the message. Any number of threads may use
    the topic.

    `publish` never waits, so that a message pulled from a topic can always be published there again. An uploader uses
    `bounded()` instead, whose `publish` waits while the topic's messages take more memory than `max_bytes`.
    """

    name: str
    queue: Queue
    waits: bool = False
    dead_letters: MemoryTopic | None = None

    @classmethod
    def create(
        cls,
        name: str,
        *,
        deadline_seconds: float = 30,
        max_bytes: int = 64 * MIB,
        max_receive_count: int = 0,
        dead_letter_topic: MemoryTopic | None = None,
        clock: Callable[[], float] | None = None,
        wait: Wait = Condition.wait,
    ) -> MemoryTopic:
        """Create an empty topic.

        Args:
            deadline_seconds: the acknowledgement deadline, in seconds, of messages that are pulled without a deadline.
            max_bytes: how many bytes of memory the messages take at most before `bounded().publish` waits.
            max_receive_count: how often a message is delivered before it goes to the dead-letter topic; 0 for no limit.
            clock: a function that returns the time in seconds; by default a monotonic clock.
            wait: a function that waits for a condition; a test can pass a function that advances an artificial clock.
        """
        dead = dead_letter_topic.queue if dead_letter_topic else None
        queue = Queue(deadline_seconds, max_bytes, max_receive_count, dead, clock, wait)
        return cls(name, queue, dead_letters=dead_letter_topic)

    def bounded(self) -> MemoryTopic:
        """Return this topic with a `publish` that waits while the topic is full, for a publisher that pulls from no
        topic.
        """
        return MemoryTopic(self.name, self.queue, True, self.dead_letters)

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish messages from an iterable of any length, one after another; see `Topic.publish`."""
        if not 0 <= delay_seconds <= MAX_DELAY_SECONDS:
            raise InvalidValueError("delay_seconds", delay_seconds, f"0 to {MAX_DELAY_SECONDS} seconds")
        published, failed = 0, []
        for message in messages:
            if reason := _refusal(message):
                failed.append(FailedMessage(message, "InvalidAttributeValue", reason, sender_fault=True))
            else:
                self.queue.put(message, delay_seconds, wait=self.waits)
                published += 1
        return Published(published, failed)

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """Pull messages, usually the oldest first; see `Topic.pull`."""
        check_pull(min_messages, max_messages, receive_message_timeout)
        return self.queue.take(min_messages, max_messages, receive_message_timeout, deadline)

    def read(self, pulled: Pulled) -> Message:
        """Return the pulled message."""
        return pulled.message()

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages, and return the messages that were not deleted because they have been delivered again."""
        return self.queue.remove(messages)

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """Set the acknowledgement deadline of messages; see `Topic.refresh_deadline`."""
        check_deadline(timeout)
        return self.queue.hold(messages, timeout)

    def counts(self) -> Counts:
        """Return the exact numbers of messages."""
        return self.queue.counts()

    @property
    def size(self) -> int:
        """The approximate bytes of memory that the topic's messages take."""
        return self.queue.size

    def dead_letter_topic(self) -> MemoryTopic | None:
        """The dead-letter topic that this topic was created with."""
        return self.dead_letters

    def close(self) -> None:
        """End all waiting, and wait no more: from now on, `pull` and `bounded().publish` return without waiting."""
        self.queue.close()


def _refusal(message: Message) -> str:
    """Return the reason why SQS would refuse a message's attributes; empty if SQS would accept the attributes."""
    attributes = message.attributes
    if len(attributes) > MAX_ATTRIBUTES:
        return f"the message has {len(attributes)} attributes; SQS allows {MAX_ATTRIBUTES}"
    if "" in attributes.values():
        return "an attribute is empty, which SQS refuses"
    return ""
