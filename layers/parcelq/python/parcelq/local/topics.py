"""The topics of a job on one machine: topics in memory that count their messages in progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from parcelq.local.progress import Ledger
from parcelq.topics.attributes import SOURCE
from parcelq.topics.forwarding import ForwardingTopic
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import Published


class LedgerTopic(ForwardingTopic):
    """A topic in memory that counts its messages in a ledger.

    A message is added just before it is published, and removed just after it is acknowledged.
    """

    def __init__(self, topic: MemoryTopic, ledger: Ledger) -> None:
        super().__init__(topic)
        self.memory = topic
        self._ledger = ledger
        # The sources of pulled messages by their receipts, because an acknowledgement may have only the receipt.
        self._sources: dict[str, str] = {}

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish messages; see `Topic.publish`."""

        def counted() -> Iterator[Message]:
            for message in messages:
                self._ledger.add(message.attributes.get(SOURCE, ""))
                yield message

        published = super().publish(counted(), delay_seconds=delay_seconds)
        self._ledger.remove(one.message.attributes.get(SOURCE, "") for one in published.failed)
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
        pulled = super().pull(min_messages, max_messages, receive_message_timeout, deadline=deadline)
        self._sources.update((one.receipt_handle, one.attributes.get(SOURCE, "")) for one in pulled)
        return pulled

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages; see `Topic.acknowledge`."""
        messages = list(messages)
        failed = super().acknowledge(messages)
        kept = {one.receipt_handle for one in failed}
        done = [one.receipt_handle for one in messages if one.receipt_handle not in kept]
        self._ledger.remove([self._sources.pop(receipt) for receipt in done if receipt in self._sources])
        return failed

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:  # noqa: ARG002
        """Do nothing: on one machine, messages stay locked until an acknowledgement or the end of the process."""
        return []


class DeadLetters(NamedTuple):
    """A `Publisher` that calls a function with each dead letter and drops it: tombstones contain the dead entries."""

    on_dead: Callable[[Message], None]
    name: str = "dead-letters"

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:  # noqa: ARG002
        """Pass messages to `on_dead`, and drop them."""
        dead = list(messages)
        for message in dead:
            self.on_dead(message)
        return Published(len(dead), [])
