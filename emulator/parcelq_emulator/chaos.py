"""Makes the emulated stack behave as badly as AWS may: messages arrive twice and in any order, and functions die at any
moment.

The same seed gives the same faults, if threads and processes run in the same order.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parcelq_emulator.runtime import CHAOS_FILE
from parcelq_emulator.sqs_message import Message
from parcelq_emulator.sqs_queue import StandardQueue

DELIVERED_TWICE: Final = 0.2
"""The share of messages that are delivered twice. S3's events are always delivered twice."""
_TEST_EVENT: Final = '"s3:TestEvent"'


@dataclass(frozen=True, slots=True)
class Chaos:
    """Counts the faults that were injected into a stack so far.

    Attributes:
        invocations: how many invocations of functions there were.
        killed: how many invocations were killed.
        messages: how many messages were delivered twice.
        events: how many events of S3 were delivered twice.
    """

    invocations: int
    killed: int
    messages: int
    events: int

    @classmethod
    def below(cls, folder: Path) -> Chaos:
        """Add up the counts that the server and the functions wrote into their folders."""
        counts: Counter[str] = Counter()
        for path in (*folder.glob(CHAOS_FILE), *folder.glob(f"*/{CHAOS_FILE}")):
            counts.update(json.loads(path.read_bytes()))
        return cls(*(counts[name] for name in cls.__slots__))

    def __str__(self) -> str:
        return (
            f"chaos: {self.killed:,} of {self.invocations:,} invocations killed, "
            f"{self.messages:,} messages and {self.events:,} S3 events delivered twice"
        )


def hostile_queue(seed: int, folder: Path | None = None) -> type[StandardQueue]:
    """Return a class of queues that deliver some messages and all events of S3 twice, and all messages in random order.

    Args:
        seed: the seed of the queues' random choices.
        folder: the folder to which the queues write their counts.
    """
    choice = random.Random(seed)  # nosec B311 # not a secret
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def tell(name: str, more: int) -> None:
        if more and folder:
            with lock:
                counts[name] += more
                unfinished = folder / f"{CHAOS_FILE}.part"
                unfinished.write_text(json.dumps(counts))
                unfinished.replace(folder / CHAOS_FILE)

    class HostileQueue(StandardQueue):
        """A queue that delivers duplicates and changes the order, as SQS may."""

        def send(self, messages: Iterable[tuple[Message, int]]) -> None:
            """Send messages, and send some of the messages twice with the same ids."""
            given = list(messages)
            twice = [one for one in given if choice.random() < DELIVERED_TWICE]
            super().send(given + twice)
            tell("messages", len(twice))

        def add_message(self, message: Any) -> None:
            """Add an event of S3 twice."""
            super().send([self.taken(message)] * 2)
            tell("events", _TEST_EVENT not in message.body)

        def _place(self, number: int) -> float:
            del number
            return choice.random()

    return HostileQueue
