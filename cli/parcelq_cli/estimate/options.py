"""The ways to set up a stack that are compared: a few parcel sizes and memory sizes, the chosen ones among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from parcelq_cli.estimate.costs import Row, file_costs, total
from parcelq_cli.estimate.duration import LONGEST_SECONDS, Duration, duration
from parcelq_cli.estimate.known import Measured
from parcelq_cli.estimate.prices import Prices
from parcelq_cli.estimate.work import Setup, Work, work

_TIMES: Final = 10
_MEMORIES: Final = (512, 1769, 3538)
_RESERVED_SHARE: Final = 0.1
_RESERVED_MOST: Final = 10.0
_FEW: Final = 100
_FAR: Final = 20


@dataclass(frozen=True, slots=True)
class Option:
    """A way to set up a stack, and what a file costs and takes on it.

    Attributes:
        work: what the file comes to.
        duration: how long it takes.
        rows: what it costs.
        chosen: whether it is the one that was asked for.
    """

    work: Work
    duration: Duration
    rows: Sequence[Row]
    chosen: bool

    @property
    def setup(self) -> Setup:
        """How the stack is set up."""
        return self.work.setup

    @property
    def usd(self) -> float:
        """Dollars for running the file."""
        return total(self.rows)

    @property
    def fits(self) -> bool:
        """Whether a run fits into an invocation, of which a part is kept for publishing."""
        timeout = self.setup.timeout
        return self.duration.run <= timeout - min(_RESERVED_MOST, _RESERVED_SHARE * timeout)


def option(known: Measured, setup: Setup, prices: Prices, slowdown: float = 1.0, *, chosen: bool = True) -> Option:
    """Work out one way to set up a stack."""
    of_file = work(known, setup)
    took = duration(of_file, slowdown)
    return Option(of_file, took, file_costs(of_file, took, prices), chosen)


def options(known: Measured, setup: Setup, prices: Prices, slowdown: float, *, batches_follow: bool) -> list[Option]:
    """Work out a few ways: a tenth of the parcel size, that, and ten times it, each with several memory sizes.

    Args:
        known: the file and the step.
        setup: what was asked for.
        prices: what things cost.
        slowdown: see `duration`.
        batches_follow: whether the batch size is always the parcel size; otherwise it stays what was asked for.
    """
    every = _setups(setup, batches_follow=batches_follow)
    return [option(known, one, prices, slowdown, chosen=one == setup) for one in every]


def cheapest(found: Sequence[Option]) -> Option | None:
    """The cheapest of those that fit; of equal ones, the first."""
    return min((one for one in found if one.fits), key=lambda one: one.usd, default=None)


def warnings(chosen: Option, known: Measured) -> Iterator[str]:
    """Where an estimate is not to be trusted, or the job will not run as it is set up."""
    took = chosen.duration
    if not chosen.fits:
        yield (
            f"a run takes {took.run:,.0f} seconds, and an invocation has {chosen.setup.timeout}, of which a part is "
            "kept for publishing; choose a smaller batch size"
        )
    if took.upload > LONGEST_SECONDS:
        yield f"one invocation of the uploader takes {took.upload:,.0f} seconds, and has {LONGEST_SECONDS}"
    if known.sampled < min(known.lines, _FEW):
        yield f"a sample of {known.sampled} lines says little; give a larger --sample"
    if chosen.work.run.entries > _FAR * known.sampled:
        yield (
            f"a run gets {chosen.work.run.entries:,} lines, but the step was measured with {known.sampled:,} at most; "
            "give a larger --sample"
        )


def _setups(setup: Setup, *, batches_follow: bool) -> Iterator[Setup]:
    for parcel_size in sorted({max(1, setup.parcel_size // _TIMES), setup.parcel_size, setup.parcel_size * _TIMES}):
        for memory in sorted({*_MEMORIES, setup.memory}):
            batch_size = parcel_size if batches_follow else setup.batch_size
            yield replace(setup, parcel_size=parcel_size, batch_size=batch_size, memory=memory)
