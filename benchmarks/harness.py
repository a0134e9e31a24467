"""Measures two functions in turns, so that other work on the machine affects the two alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

MB: Final = 1_000_000
"""How many bytes a MB has. Speeds use decimal units, as is usual for networks and disks."""


class MissingToolError(Exception):
    """A case cannot be measured here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The settings with which a case is measured.

    Attributes:
        quick: whether to try the case on little data; the figures are not meaningful then.
        folder: the path of an empty folder for the case.
    """

    quick: bool
    folder: Path

    def size(self, full: int, quick: int) -> int:
        """Return an amount: `full`, or `quick` with the option --quick."""
        return quick if self.quick else full

    @property
    def runs(self) -> int:
        """How often a function is run that takes seconds at most."""
        return self.size(7, 2)

    @property
    def long_runs(self) -> int:
        """How often a function is run that takes longer than seconds."""
        return self.size(3, 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one run.

    Attributes:
        seconds: the duration of the run.
        cpu: how many CPU seconds this process spent on the run.
        amount: how much work the run did, in the unit of the case.
    """

    seconds: float
    cpu: float
    amount: float

    @property
    def speed(self) -> float:
        """The amount of work per second."""
        return self.amount / self.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of several runs, with the median, the lowest and the highest value.

    Attributes:
        median: the median of all runs.
        low: the lowest value of a run.
        high: the highest value of a run.
        runs: for each run, its value, followed by the values from which it was calculated, if any.
    """

    median: float
    low: float
    high: float
    runs: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, values: Iterable[float], *made_of: Iterable[float]) -> Spread:
        """Return the spread of values, one value per run."""
        runs = tuple(zip(values, *made_of, strict=True))
        every = sorted(value for value, *_ in runs)
        return cls(median(every), every[0], every[-1], runs)

    @classmethod
    def of_ratios(cls, ours: Iterable[float], theirs: Iterable[float]) -> Spread:
        """Return the spread of ratios: for each pair, Parcelq's value divided by the other tool's value."""
        pairs = list(zip(ours, theirs, strict=True))
        return cls.of((one / other for one, other in pairs), *zip(*pairs, strict=True))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Runs of Parcelq, each paired with a run of the other tool."""

    ours: tuple[Sample, ...]
    theirs: tuple[Sample, ...]

    def ratio(self, value: Callable[[Sample], float]) -> Spread:
        """Return the spread of ratios: for each pair, Parcelq's value divided by the other tool's value."""
        return Spread.of_ratios(map(value, self.ours), map(value, self.theirs))

    def medians(self, value: Callable[[Sample], float]) -> tuple[float, float]:
        """Return the medians of Parcelq and of the other tool, which explain the ratio."""
        return median(map(value, self.ours)), median(map(value, self.theirs))


@dataclass(frozen=True, slots=True)
class Target:
    """The target that a ratio must reach.

    Attributes:
        wanted: `at least` or `at most`.
        number: the limit of the ratio.
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
    """A row of the table of results.

    Attributes:
        what: what was measured, ending with the quantity: `speed`, `time`, `CPU` or `memory`.
        beside: what the measured value is compared with.
        ratio: the measured value divided by the other value; None if the case could not be measured.
        absolute: the figures from which the ratio was calculated, or the reason why there are no figures.
        target: the target of the ratio; None if there is no target.
    """

    what: str
    beside: str
    ratio: Spread | None
    absolute: str
    target: Target | None = None


def at_least(number: float) -> Target:
    """Return a target for a quantity that should be large, such as speed."""
    return Target("at least", number)


def at_most(number: float) -> Target:
    """Return a target for a quantity that should be small, such as time."""
    return Target("at most", number)


def measure(call: Callable[[], float]) -> Sample:
    """Run and time a function that returns how much work it did."""
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
    """Run two functions in turns; each function begins equally often.

    Args:
        ours: the function that is measured, which returns how much work it did.
        theirs: the function with which `ours` is compared.
        runs: how often each function is run.
        before: a function that is called before each run and is not measured.
        after: a function that is called after each run to check the result, and is not measured.
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
    """Return a text with the median speeds of both tools; `unit` is the amount that counts as one."""
    one, other = pairs.medians(lambda sample: sample.speed / unit)
    return f"{one:,.3g} beside {other:,.3g}"


def not_measured(what: str, beside: str, reason: str) -> Figure:
    """Return a row of the table for a case that could not be measured."""
    return Figure(what, beside, None, f"not measured: {reason}")


def failed(what: str, error: Exception) -> Figure:
    """Return a row of the table for a case that ended with an error."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return Figure(what, "", None, f"failed: {told}")
