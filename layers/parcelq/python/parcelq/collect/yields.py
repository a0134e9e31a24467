"""Pure functions that compare how many entries runs wrote with how many entries the runs got. This detects steps that
depend on how records are grouped.

Parcelq promises that every record went through a successful run. Whether all runs together write the same as one run
over the whole file depends on the step. For example, a step that takes the first line of each input for a header loses
a record in every run, and loses all records that run one by one. The counts of entries show such a loss, and `doubts`
describes the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

from parcelq.amounts import amount
from parcelq.collect.rows import FLAG, UNKNOWN

_UNLIKELY: Final = 0.05
"""Counts are suspicious if their probability is lower than this for a step that treats records independently."""
_DEVIATIONS: Final = 3
"""A difference of more than this many standard deviations is not regarded as chance."""
_TAKES_HEADER: Final = "a step that takes the first record for a header does that"
_FEWEST_RUNS: Final = 3
_FEWEST_ENTRIES: Final = 10
"""A loss or a gain is not regarded as chance if at least `_FEWEST_RUNS` runs all lose, or gain, the same number of
entries, and these runs got at least `_FEWEST_ENTRIES` times as many entries as they lost or gained.
"""


@dataclass(slots=True)
class Sized:
    """Runs over inputs of similar size: how many entries they got (`read`) and wrote. `empty` runs wrote nothing for
    `dropped` entries.
    """

    runs: int = 0
    read: int = 0
    written: int = 0
    empty: int = 0
    dropped: int = 0

    def add(self, other: Sized) -> None:
        """Add the counts of other runs."""
        self.runs += other.runs
        self.read += other.read
        self.written += other.written
        self.empty += other.empty
        self.dropped += other.dropped

    def without_empty(self) -> Sized:
        """Return the counts of the runs that wrote something."""
        return Sized(self.runs - self.empty, self.read - self.dropped, self.written)

    @property
    def rate(self) -> float:
        """How many entries were written per entry read."""
        return self.written / self.read if self.read else 0.0


@dataclass(slots=True)
class Yields:
    """Counts of runs by the size of their input. The memory for these counts does not grow with the number of runs.

    `sizes` maps a number of binary digits to the counts of runs whose number of entries has that many digits, because
    halving a parcel removes one digit.
    """

    sizes: dict[int, Sized] = field(default_factory=dict)
    most_lost: int | None = None
    least_lost: int | None = None

    def add(self, reads: Sequence[int], entries: Sequence[int]) -> None:
        """Add messages of a result, given the fields `read` and `entries` of their rows."""
        # If `is_plain`, every message is the whole output of a run.
        is_plain = min(reads, default=1) > 0 and max(entries, default=0) < FLAG
        runs = zip(reads, entries, strict=True) if is_plain else _counts(reads, entries)
        for (read, written), count in Counter(runs).items():
            if read and read != UNKNOWN:
                self._add(read, written, count)

    def _add(self, read: int, written: int, count: int) -> None:
        sized = self.sizes.setdefault(read.bit_length(), Sized())
        empty = 0 if written else count
        sized.add(Sized(count, count * read, count * written, empty, empty * read))
        lost = read - written
        self.most_lost = lost if self.most_lost is None else max(self.most_lost, lost)
        self.least_lost = lost if self.least_lost is None else min(self.least_lost, lost)

    @property
    def read(self) -> int:
        """How many entries the runs got."""
        return sum(one.read for one in self.sizes.values())

    def doubts(self) -> tuple[str, ...]:
        """Return one sentence if counts show that a step does not treat each record independently; else nothing."""
        if not self.sizes:
            return ()
        usual_digits, usual = max(self.sizes.items(), key=lambda one: one[1].read)
        smaller = Sized()
        for digits, sized in self.sizes.items():
            if digits < usual_digits:
                smaller.add(sized)
        single = self.sizes.get(1, Sized()) if usual_digits > 1 else Sized()
        if self._filters:
            smaller, single = smaller.without_empty(), Sized()
        doubt = ""
        if usual.written and single.runs and single.empty == single.runs and _is_unlikely(usual.rate, single.runs):
            doubt = (
                f"{_runs(single)} over a single record wrote nothing, but {_runs(usual)} over many "
                f"wrote {usual.written:,} for {usual.read:,}"
            )
        elif _is_less(smaller, usual.rate):
            doubt = (
                f"{_runs(smaller)} over fewer records, such as halves, wrote {smaller.written:,} for {smaller.read:,}, "
                f"but {_runs(usual)} over more wrote {usual.written:,} for {usual.read:,}"
            )
        elif self._all_lose_as_many and self.most_lost:
            lost = self.most_lost
            more, cause = ("fewer", _TAKES_HEADER) if lost > 0 else ("more", "a step that writes a header does that")
            return (f"each of {self._runs:,} runs wrote {amount(abs(lost), 'record')} {more} than it got; {cause}",)
        return (f"{doubt}; {_TAKES_HEADER}",) if doubt else ()

    @property
    def _filters(self) -> bool:
        """Whether empty runs are the work of a filter: no run wrote more than it got, and a run wrote as many. A step
        that takes the first record for a header writes less in every run.
        """
        return self.least_lost == 0

    @property
    def _all_lose_as_many(self) -> bool:
        """Whether all runs lost, or gained, the same small number of entries."""
        lost = self.most_lost
        if not lost or lost != self.least_lost or self._runs < _FEWEST_RUNS:
            return False
        return self.read >= _FEWEST_ENTRIES * abs(lost) * self._runs

    @property
    def _runs(self) -> int:
        return sum(one.runs for one in self.sizes.values())


def _counts(reads: Iterable[int], entries: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield how many entries each run got and wrote. If a message of the output is dead, the run got `UNKNOWN`."""
    known, written = 0, 0
    for read, count in zip(reads, entries, strict=True):
        if read:
            yield known, written
            known, written = read, 0
        if count >= FLAG:
            known = UNKNOWN
        written += count
    yield known, written


def _is_unlikely(rate: float, runs: int) -> bool:
    """Return whether it is unlikely to be chance that this many runs, each over a single record, all write nothing."""
    return (1 - min(rate, 1.0)) ** runs < _UNLIKELY


def _is_less(found: Sized, rate: float) -> bool:
    """Return whether runs wrote less than chance explains if a step writes `rate` records per record on average."""
    expected = found.read * rate
    variance = expected * max(1 - rate, rate - 1, 0.0)
    return found.written < expected - _DEVIATIONS * max(1.0, sqrt(variance))


def _runs(sized: Sized) -> str:
    return f"{sized.runs:,} run" if sized.runs == 1 else f"{sized.runs:,} runs"
