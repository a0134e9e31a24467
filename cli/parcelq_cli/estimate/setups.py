"""Finds setups to compare with the chosen setup, and writes warnings about the chosen setup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.model import Estimate


def grid(
    job: Estimate, parcels: Iterable[int], memories: Iterable[int], *, batches_follow: bool
) -> list[list[Estimate]]:
    """Return a job with several setups, including its own: a list for each parcel size, sorted by memory.

    Args:
        job: the job on the chosen setup.
        parcels: the parcel sizes to compare.
        memories: the memory sizes to compare, in MB.
        batches_follow: whether the batch size is always the parcel size; otherwise the batch size stays the same.
    """

    def on(parcel: int, memory: int) -> Estimate:
        batch = parcel if batches_follow else job.setup.batch_size
        return replace(job, setup=replace(job.setup, parcel_size=parcel, batch_size=batch, memory=memory))

    every = sorted({*memories, job.setup.memory})
    return [[on(parcel, memory) for memory in every] for parcel in sorted({*parcels, job.setup.parcel_size})]


def neighbours(job: Estimate, *, batches_follow: bool) -> list[Estimate]:
    """Return a job with a tenth and with ten times its parcel size; for either, with several memory sizes."""
    parcels = max(1, job.setup.parcel_size // 10), job.setup.parcel_size * 10
    rows = grid(job, parcels, (512, VCPU_MB, 2 * VCPU_MB), batches_follow=batches_follow)
    return [one for row in rows for one in row]


def cheapest(found: Iterable[Estimate]) -> Estimate | None:
    """Return the cheapest job whose runs fit into an invocation, or the first of several cheapest jobs; None if no job
    fits.
    """
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
