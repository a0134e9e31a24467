"""The dead-letter topic of a job on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from parcelq.topics.message import Message
from parcelq.topics.topic import Published


class DeadLetters(NamedTuple):
    """A `Publisher` that stores no dead letters, because tombstones contain the dead entries.

    Attributes:
        on_dead: a function that is called with each dead letter.
    """

    on_dead: Callable[[Message], None]
    name: str = "dead-letters"

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:  # noqa: ARG002
        """Pass messages to `on_dead`, and drop them."""
        published = 0
        for message in messages:
            self.on_dead(message)
            published += 1
        return Published(published, [])
