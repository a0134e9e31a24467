"""The rules by which messages are run and failures are treated."""

from __future__ import annotations

from typing import Final, NamedTuple

from parcelq.limits import MAX_DELAY_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.process.plan import Work

_MOST_DOUBLINGS: Final = 16


class Rules(NamedTuple):
    """How messages are run, and what follows when a run fails.

    Attributes:
        batch_size: how many entries the step should get at a time.
        parcel_size: most entries of a message that is published.
        max_failures: how many runs of a message may fail; the last failure halves it, or is its death.
        halving: whether a message that failed for the last time is halved; otherwise it dies whole.
        back_off_seconds: how long a message that failed once is delayed; twice as long after each further failure.
        joins: whether neighbours in one source or one output run together.
        counts: whether output messages carry what they cost.
    """

    batch_size: int = 1000
    parcel_size: int = 1000
    max_failures: int = 2
    halving: bool = True
    back_off_seconds: float = 5
    joins: bool = True
    counts: bool = False

    def is_last(self, work: Work) -> bool:
        """Whether one more failed run of a message is its last."""
        return work.failures + 1 >= self.max_failures

    def can_be_cut(self, work: Work) -> bool:
        """Whether a message that failed for the last time becomes several, rather than a dead letter."""
        return self.halving and work.entries > 1

    def would_die(self, work: Work) -> bool:
        """Whether a message becomes a dead letter if one more run of it fails."""
        return self.is_last(work) and not self.can_be_cut(work)

    def part_size(self, work: Work, *, killed: bool) -> int:
        """Entries of each part that a message is cut into after its last failure.

        Halves find a bad entry in about log2(n) rounds. If each round kills a function, there are fewer rounds with
        more parts: as many as a request has messages.
        """
        parts = MAX_REQUEST_MESSAGES if killed else 2
        return min(self.batch_size, -(-work.entries // parts))

    def delay(self, failures: int) -> int:
        """Seconds after which a message that failed this often is delivered again."""
        doublings = min(max(0, failures - 1), _MOST_DOUBLINGS)
        return int(min(MAX_DELAY_SECONDS, self.back_off_seconds * 2**doublings))
