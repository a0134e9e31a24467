"""The rules for processing messages and handling failures."""

from __future__ import annotations

from typing import Final, NamedTuple

from parcelq.limits import MAX_DELAY_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.process.plan import Work
from parcelq.upload.parcels import MAX_BODY_BYTES

_MOST_DOUBLINGS: Final = 16


class Rules(NamedTuple):
    """How messages are processed, and what happens when a run fails.

    Attributes:
        batch_size: how many entries the step should get at a time.
        parcel_size: most entries of a published message.
        max_failures: runs of a message that may fail; after the last failure it is halved or dead.
        halving: whether a message that failed for the last time is halved; otherwise all of it is dead.
        back_off_seconds: delay of a message that failed once; doubled after each further failure.
        joins: whether adjacent messages of one source or output run together.
        counts: whether output messages carry their cost.
        body_bytes: most bytes of a published message's body with its header.
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
        """Return whether one more failed run of a message is its last."""
        return work.failures + 1 >= self.max_failures

    def can_be_cut(self, work: Work) -> bool:
        """Return whether a message that failed for the last time is split into several; otherwise it becomes a dead
        letter.
        """
        return self.halving and work.entries > 1

    def would_die(self, work: Work) -> bool:
        """Return whether a message becomes a dead letter if one more run of it fails."""
        return self.is_last(work) and not self.can_be_cut(work)

    def part_size(self, work: Work, *, killed: bool) -> int:
        """Return the entries of each part into which a message is cut after its last failure.

        Halves find a bad entry in about log2(n) rounds. If each round kills a function, fewer rounds with more parts
        are better: as many parts as a request has messages.
        """
        parts = MAX_REQUEST_MESSAGES if killed else 2
        return min(self.batch_size, -(-work.entries // parts))

    def delay(self, failures: int) -> int:
        """Return the seconds after which a message with this many failures is delivered again."""
        doublings = min(max(0, failures - 1), _MOST_DOUBLINGS)
        return int(min(MAX_DELAY_SECONDS, self.back_off_seconds * 2**doublings))
