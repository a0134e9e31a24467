"""SQS's fair queues: groups of messages take turns, so that one with few is not delayed by one with many.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
"""

from __future__ import annotations

import math


class Turns:
    """Gives each message its turn, a number by which messages are given out in order."""

    def __init__(self) -> None:
        self._turn = 0.0
        self._last: dict[str, float] = {}

    def next(self, group: str, first: float) -> float:
        """The turn of the next message of a group.

        Args:
            group: the group.
            first: the turn of the first message that waits; infinite if none does.
        """
        self._turn = max(self._turn, max(self._last.values(), default=0.0) if first == math.inf else first)
        self._last[group] = max(self._last.get(group, 0.0) + 1, self._turn)
        return self._last[group]
