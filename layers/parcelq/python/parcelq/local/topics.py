"""The topics of a job on one machine: topics in memory that count the messages that are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from parcelq.local.progress import Ledger
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import SOURCE, Message, Pulled
from parcelq.topics.topic import Counts, Published


@dataclass(frozen=True, slots=True)
class LedgerTopic:
    """A topic in memory whose messages a ledger counts; a `Topic`.

    Attributes:
        topic: the topic.
        ledger: counts messages before they are published, and counts them off after they are acknowledged.
    """

    topic: MemoryTopic
    ledger: Ledger
    _sources: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The sources of pulled messages by receipt, because an acknowledged message may have nothing but its receipt."""

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic.name

    def bounded(self) -> LedgerTopic:
        """The same topic for the uploader: `publish` waits for room."""
        return LedgerTopic(self.topic.bounded(), self.ledger, self._sources)

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish messages; see `Topic.publish`."""

        def counted() -> Iterator[Message]:
            for message in messages:
                self.ledger.add(message.attributes.get(SOURCE, ""))
                yield message

        published = self.topic.publish(counted(), delay_seconds=delay_seconds)
        self.ledger.remove(one.message.attributes.get(SOURCE, "") for one in published.failed)
        return published

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """Pull messages; see `Topic.pull`."""
        pulled = self.topic.pull(min_messages, max_messages, receive_message_timeout, deadline=deadline)
        self._sources.update((one.receipt_handle, one.attributes.get(SOURCE, "")) for one in pulled)
        return pulled

    def read(self, pulled: Pulled) -> Message:
        """Return the message that was pulled."""
        return self.topic.read(pulled)

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages; see `Topic.acknowledge`."""
        messages = list(messages)
        failed = self.topic.acknowledge(messages)
        kept = {one.receipt_handle for one in failed}
        done = [one.receipt_handle for one in messages if one.receipt_handle not in kept]
        self.ledger.remove([self._sources.pop(receipt) for receipt in done if receipt in self._sources])
        return failed

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:  # noqa: ARG002
        """Do nothing: messages on one machine stay locked until they are acknowledged, or the process ends."""
        return []

    def counts(self) -> Counts:
        """Count the messages, exactly."""
        return self.topic.counts()

    def dead_letter_topic(self) -> None:
        """There is none: only tombstones on the output topic are kept of dead entries."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Takes dead letters and keeps none of them, since tombstones carry the dead entries; a `Topic`.

    Attributes:
        on_dead: called with each dead letter.
    """

    on_dead: Callable[[Message], None]
    name: str = "dead-letters"

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:  # noqa: ARG002
        """Pass messages on, and forget them."""
        published = 0
        for message in messages:
            self.on_dead(message)
            published += 1
        return Published(published, [])

    def pull(
        self,
        min_messages: int = 1,  # noqa: ARG002
        max_messages: int = 10,  # noqa: ARG002
        receive_message_timeout: float = 300,  # noqa: ARG002
        *,
        deadline: int | None = None,  # noqa: ARG002
    ) -> list[Pulled]:
        """Return nothing."""
        return []

    def read(self, pulled: Pulled) -> Message:
        """Return the message that was pulled."""
        return pulled.message()

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Return all of them: nothing was pulled here."""
        return list(messages)

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:  # noqa: ARG002
        """Return all of them: nothing was pulled here."""
        return list(messages)

    def counts(self) -> Counts:
        """Count nothing."""
        return Counts(0, 0, 0)

    def dead_letter_topic(self) -> None:
        """There is none."""
