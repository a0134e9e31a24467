"""Measuring two things side by side, in turns, so that whatever else the machine does hits both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

MB: Final = 1_000_000
"""Bytes; figures of speed are decimal, as those of networks and disks are."""


class MissingToolError(Exception):
    """A case cannot be measured here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How a case is to be measured.

    Attributes:
        quick: whether to try the case out, on little data; its figures are worth nothing.
        folder: an empty folder for the case.
    """

    quick: bool
    folder: Path

    def size(self, full: int, quick: int) -> int:
        """How much of something to take."""
        return quick if self.quick else full

    @property
    def runs(self) -> int:
        """How often to run what takes seconds at the most."""
        return self.size(7, 2)

    @property
    def long_runs(self) -> int:
        """How often to run what takes longer."""
        return self.size(3, 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run.

    Attributes:
        seconds: how long it took.
        cpu: CPU seconds that this process spent on it.
        amount: how much it did, in whatever the case counts.
    """

    seconds: float
    cpu: float
    amount: float

    @property
    def speed(self) -> float:
        """Amount a second."""
        return self.amount / self.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs, and the lowest and highest.

    Attributes:
        median: of all runs.
        low: the lowest of them.
        high: the highest.
        runs: the value of each, in the order in which they were run, and behind it what it was made of, if anything.
    """

    median: float
    low: float
    high: float
    runs: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, values: Iterable[float], *made_of: Iterable[float]) -> Spread:
        """Of one value a run."""
        runs = tuple(zip(values, *made_of, strict=True))
        every = sorted(value for value, *_ in runs)
        return cls(median(every), every[0], every[-1], runs)

    @classmethod
    def of_ratios(cls, ours: Iterable[float], theirs: Iterable[float]) -> Spread:
        """Of ours over theirs, pair by pair."""
        pairs = list(zip(ours, theirs, strict=True))
        return cls.of((one / other for one, other in pairs), *zip(*pairs, strict=True))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Runs of ours, each beside one of theirs."""

    ours: tuple[Sample, ...]
    theirs: tuple[Sample, ...]

    def ratio(self, value: Callable[[Sample], float]) -> Spread:
        """Ours over theirs, pair by pair."""
        return Spread.of_ratios(map(value, self.ours), map(value, self.theirs))

    def medians(self, value: Callable[[Sample], float]) -> tuple[float, float]:
        """The median of ours and that of theirs, for showing what the ratio is made of."""
        return median(map(value, self.ours)), median(map(value, self.theirs))


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio is to reach.

    Attributes:
        wanted: `at least` or `at most`.
        number: the ratio.
    """

    wanted: str
    number: float

    def reached(self, ratio: float) -> bool:
        """Whether a ratio does."""
        return ratio >= self.number if self.wanted == "at least" else ratio <= self.number

    def __str__(self) -> str:
        return f"{self.wanted} {self.number:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        what: what was measured, and in what: `speed`, `time`, `CPU`, `memory`.
        beside: what it was measured beside.
        ratio: the one over the other; None where it could not be measured.
        absolute: the figures that the ratio is made of; or why there are none.
        target: what the ratio is to reach, if anything.
    """

    what: str
    beside: str
    ratio: Spread | None
    absolute: str
    target: Target | None = None


def at_least(number: float) -> Target:
    """A target for what should be large, such as speed."""
    return Target("at least", number)


def at_most(number: float) -> Target:
    """A target for what should be small, such as time."""
    return Target("at most", number)


def measure(call: Callable[[], float]) -> Sample:
    """Run something that returns how much it did."""
    cpu, began = time.process_time(), time.perf_counter()
    amount = call()
    return Sample(time.perf_counter() - began, time.process_time() - cpu, amount)


def side_by_side(
    ours: Callable[[], float],
    theirs: Callable[[], float],
    runs: int,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> Pairs:
    """Run two things in turns, and let the one begin as often as the other.

    Args:
        ours: what is measured; it returns how much it did.
        theirs: what it is measured beside.
        runs: how often each is run.
        before: called before each, and not measured.
        after: called after each run, without being measured; it checks the result.
    """

    def run(call: Callable[[], float]) -> Sample:
        before()
        sample = measure(call)
        after()
        return sample

    pairs = []
    for number in range(runs):
        if number % 2:
            other = run(theirs)
            pairs.append((run(ours), other))
        else:
            one = run(ours)
            pairs.append((one, run(theirs)))
    return Pairs(tuple(one for one, _ in pairs), tuple(other for _, other in pairs))


def speeds(pairs: Pairs, unit: float) -> str:
    """Both medians of speed, in MB/s or whatever `unit` makes of the amounts."""
    one, other = pairs.medians(lambda sample: sample.speed / unit)
    return f"{one:,.3g} beside {other:,.3g}"


def not_measured(what: str, beside: str, reason: str) -> Figure:
    """A line of the table for what could not be measured."""
    return Figure(what, beside, None, f"not measured: {reason}")


def failed(what: str, error: Exception) -> Figure:
    """A line of the table for what ended with an error."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return Figure(what, "", None, f"failed: {told}")
