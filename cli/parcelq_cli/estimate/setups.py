"""Finds setups to compare with the chosen setup, and writes warnings about the chosen setup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.model import Estimate


def grid(job: Estimate, parcels: Iterable[int], memories: Iterable[int]) -> list[list[Estimate]]:
    """Return a job with several setups, including its own: a list for each parcel size, sorted by memory in MB."""
    setup = job.setup
    every = sorted({*memories, setup.memory})
    return [
        [job.on(replace(setup, parcel_size=parcel, memory=memory)) for memory in every]
        for parcel in sorted({*parcels, setup.parcel_size})
    ]


def neighbours(job: Estimate) -> list[Estimate]:
    """Return a job with a tenth and with ten times its parcel size; for either, with several memory sizes."""
    parcels = max(1, job.setup.parcel_size // 10), job.setup.parcel_size * 10
    return [one for row in grid(job, parcels, (512, VCPU_MB, 2 * VCPU_MB)) for one in row]


def cheapest(found: Iterable[Estimate]) -> Estimate | None:
    """Return the first of the cheapest jobs whose runs fit into an invocation; None if no job fits."""
    return min((one for one in found if one.fits), key=usd, default=None)


def warnings(job: Estimate) -> Iterator[str]:
    """Yield a warning for each reason why the estimate is unreliable or the job cannot run with its setup."""
    known = job.known
    if not job.fits:
        yield (
            f"a run takes {job.run:,.0f} seconds, and an invocation has {job.setup.timeout}, minus the time reserved "
            "for publishing; choose a smaller batch size"
        )
    if known.sampled < min(known.records, 100):
        yield f"a sample of {known.sampled} records is too small for a reliable estimate; give a larger --sample"
    if job.entries > 20 * known.sampled:
        yield (
            f"a run gets {job.entries:,} records, but the step was measured with {known.sampled:,} at most; "
            "give a larger --sample"
        )
