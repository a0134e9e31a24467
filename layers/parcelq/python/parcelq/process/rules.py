"""The rules that say how messages are processed and how failures are handled."""

from __future__ import annotations

from typing import Final, NamedTuple

from parcelq.limits import MAX_DELAY_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.process.plan import Work
from parcelq.upload.parcels import MAX_BODY_BYTES

_MOST_DOUBLINGS: Final = 16


class Rules(NamedTuple):
    """The rules that say how messages are processed, and what happens if a run fails.

    Attributes:
        batch_size: how many entries the step should get at a time.
        parcel_size: how many entries a published message may have, at most.
        max_failures: how many runs of a message may fail. After the last failure, the message is halved or dead.
        halving: whether a message that failed for the last time is halved; otherwise the whole message is dead.
        back_off_seconds: how many seconds the next delivery of a message is delayed after its first failure. Each
            further failure doubles the delay.
        joins: whether adjacent messages of one source or output run together.
        counts: whether output messages carry their cost.
        body_bytes: how many bytes the body and the header of a published message may have together, at most.
    """

    batch_size: int = 1000
    parcel_size: int = 1000
    max_failures: int = 2
    halving: bool = True
    back_off_seconds: float = 5
    joins: bool = True
    counts: bool = False
    body_bytes: int = MAX_BODY_BYTES

    def is_last(self, work: Work) -> bool:
        """Return whether the message fails for the last time if its next run fails."""
        return work.failures + 1 >= self.max_failures

    def can_be_cut(self, work: Work) -> bool:
        """Return whether a message that failed for the last time can be split into several messages; otherwise the
        message becomes a dead letter.
        """
        return self.halving and work.entries > 1

    def would_die(self, work: Work) -> bool:
        """Return whether a message becomes a dead letter if its next run fails."""
        return self.is_last(work) and not self.can_be_cut(work)

    def part_size(self, work: Work, *, killed: bool) -> int:
        """Return how many entries each part gets if a message is cut after its last failure.

        Halves find a bad entry in about log2(n) rounds. If each round kills a Lambda function, fewer rounds with more
        parts are better. In this case, the message is cut into as many parts as one request can publish.
        """
        parts = MAX_REQUEST_MESSAGES if killed else 2
        return min(self.batch_size, -(-work.entries // parts))

    def delay(self, failures: int) -> int:
        """Return after how many seconds a message with this number of failures is delivered again."""
        doublings = min(max(0, failures - 1), _MOST_DOUBLINGS)
        return int(min(MAX_DELAY_SECONDS, self.back_off_seconds * 2**doublings))
