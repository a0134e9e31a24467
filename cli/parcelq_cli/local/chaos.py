"""Making the embedded stack hostile, as AWS may be: messages come twice and in any order, and functions die anywhere.

With the same seed the same choices are made, as far as threads and processes come in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from parcelq_cli.local.sqs_message import Message
from parcelq_cli.local.sqs_queue import StandardQueue

DELIVERED_TWICE: Final = 0.2
"""Share of the messages that are delivered twice, S3's events among them."""


def hostile_queue(seed: int) -> type[StandardQueue]:
    """A queue that delivers some messages twice, and all in random order."""
    choice = random.Random(seed)  # nosec B311 # not a secret

    class HostileQueue(StandardQueue):
        """A queue that does everything that SQS does not rule out."""

        def send(self, messages: Iterable[tuple[Message, int]]) -> None:
            """Send messages, and some of them twice, under the same ids."""
            given = list(messages)
            super().send(given + [one for one in given if choice.random() < DELIVERED_TWICE])

        def _place(self, number: int) -> float:
            del number
            return choice.random()

    return HostileQueue
