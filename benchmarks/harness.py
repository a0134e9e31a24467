"""Measures two things in turns, so that other work on the machine affects both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

MB: Final = 1_000_000
"""Bytes of a MB. Figures of speed are decimal, like those of networks and disks."""


class MissingToolError(Exception):
    """A case cannot be measured here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How a case is to be measured.

    Attributes:
        quick: whether to try the case on little data; its figures are not meaningful.
        folder: an empty folder for the case.
    """

    quick: bool
    folder: Path

    def size(self, full: int, quick: int) -> int:
        """Choose an amount: `full`, or `small` with --quick."""
        return quick if self.quick else full

    @property
    def runs(self) -> int:
        """How many runs of something that takes seconds at most."""
        return self.size(7, 2)

    @property
    def long_runs(self) -> int:
        """How many runs of something that takes longer."""
        return self.size(3, 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run.

    Attributes:
        seconds: the duration.
        cpu: CPU seconds that this process spent on it.
        amount: how much it did, in the unit of the case.
    """

    seconds: float
    cpu: float
    amount: float

    @property
    def speed(self) -> float:
        """Amount per second."""
        return self.amount / self.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs, and the lowest and highest.

    Attributes:
        median: of all runs.
        low: the lowest of them.
        high: the highest.
        runs: the value of each in the order of the runs, followed by the values that it was calculated from, if any.
    """

    median: float
    low: float
    high: float
    runs: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, values: Iterable[float], *made_of: Iterable[float]) -> Spread:
        """The spread of one value per run."""
        runs = tuple(zip(values, *made_of, strict=True))
        every = sorted(value for value, *_ in runs)
        return cls(median(every), every[0], every[-1], runs)

    @classmethod
    def of_ratios(cls, ours: Iterable[float], theirs: Iterable[float]) -> Spread:
        """The spread of our value divided by theirs, pair by pair."""
        pairs = list(zip(ours, theirs, strict=True))
        return cls.of((one / other for one, other in pairs), *zip(*pairs, strict=True))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Our runs, each paired with one of theirs."""

    ours: tuple[Sample, ...]
    theirs: tuple[Sample, ...]

    def ratio(self, value: Callable[[Sample], float]) -> Spread:
        """Our value divided by theirs, pair by pair."""
        return Spread.of_ratios(map(value, self.ours), map(value, self.theirs))

    def medians(self, value: Callable[[Sample], float]) -> tuple[float, float]:
        """Our median and theirs, which explain the ratio."""
        return median(map(value, self.ours)), median(map(value, self.theirs))


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a ratio.

    Attributes:
        wanted: `at least` or `at most`.
        number: the ratio.
    """

    wanted: str
    number: float

    def reached(self, ratio: float) -> bool:
        """Return whether a ratio meets the target."""
        return ratio >= self.number if self.wanted == "at least" else ratio <= self.number

    def __str__(self) -> str:
        return f"{self.wanted} {self.number:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Attributes:
        what: what was measured, and the quantity: `speed`, `time`, `CPU`, `memory`.
        beside: what it is compared with.
        ratio: the measured value divided by the other; None if it could not be measured.
        absolute: the figures that the ratio was calculated from; or why there are none.
        target: the target of the ratio, if it has one.
    """

    what: str
    beside: str
    ratio: Spread | None
    absolute: str
    target: Target | None = None


def at_least(number: float) -> Target:
    """A target for a quantity that should be large, such as speed."""
    return Target("at least", number)


def at_most(number: float) -> Target:
    """A target for a quantity that should be small, such as time."""
    return Target("at most", number)


def measure(call: Callable[[], float]) -> Sample:
    """Run something that returns the amount it did, and time it."""
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
    """Run two things in turns; each begins equally often.

    Args:
        ours: what is measured; it returns how much it did.
        theirs: what it is compared with.
        runs: how often each is run.
        before: called before each run, not measured.
        after: called after each run, not measured; it checks the result.
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
    """Both medians of speed, in MB/s or in the given unit."""
    one, other = pairs.medians(lambda sample: sample.speed / unit)
    return f"{one:,.3g} beside {other:,.3g}"


def not_measured(what: str, beside: str, reason: str) -> Figure:
    """A row of the table for a case that could not be measured."""
    return Figure(what, beside, None, f"not measured: {reason}")


def failed(what: str, error: Exception) -> Figure:
    """A row of the table for a case that ended with an error."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return Figure(what, "", None, f"failed: {told}")
