"""SQS's fair queues: groups of messages take turns, so that a group with many messages does not delay a group with few.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
"""

from __future__ import annotations

import math


class Turns:
    """Gives each message a turn, which is a number. Messages are delivered in the order of their turns."""

    def __init__(self) -> None:
        self._turn = 0.0
        self._last: dict[str, float] = {}

    def next(self, group: str, first: float) -> float:
        """Return the turn of the next message of a group.

        Args:
            group: the message's `MessageGroupId`.
            first: the turn of the first message that waits; infinite if no message waits.
        """
        self._turn = max(self._turn, max(self._last.values(), default=0.0) if first == math.inf else first)
        self._last[group] = max(self._last.get(group, 0.0) + 1, self._turn)
        return self._last[group]
