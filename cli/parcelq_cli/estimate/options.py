"""The setups that are compared, and warnings about the chosen one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.model import Job


def jobs(chosen: Job, *, batches_follow: bool) -> list[Job]:
    """A job on other setups and its own: a tenth, one and ten times the parcel size, each with several memory sizes.

    Args:
        chosen: the job on the setup that the user asked for.
        batches_follow: whether the batch size is always the parcel size; otherwise it stays the same.
    """
    setup, every = chosen.setup, []
    for parcel in sorted({max(1, setup.parcel_size // 10), setup.parcel_size, setup.parcel_size * 10}):
        for memory in sorted({512, VCPU_MB, 2 * VCPU_MB, setup.memory}):
            batch = parcel if batches_follow else setup.batch_size
            other = replace(setup, parcel_size=parcel, batch_size=batch, memory=memory)
            every.append(replace(chosen, setup=other, chosen=other == setup))
    return every


def cheapest(found: Sequence[Job]) -> Job | None:
    """The cheapest of the jobs that fit; the first if several cost the same."""
    return min((one for one in found if one.fits), key=usd, default=None)


def warnings(job: Job) -> Iterator[str]:
    """Warnings: where the estimate is unreliable, or the job cannot run with this setup."""
    known, timeout = job.known, job.setup.timeout
    if not job.fits:
        yield (
            f"a run takes {job.run:,.0f} seconds, and an invocation has {timeout}, minus the time reserved for "
            "publishing; choose a smaller batch size"
        )
    if known.sampled < min(known.records, 100):
        yield f"a sample of {known.sampled} records is too small for a reliable estimate; give a larger --sample"
    if job.entries > 20 * known.sampled:
        yield (
            f"a run gets {job.entries:,} records, but the step was measured with {known.sampled:,} at most; "
            "give a larger --sample"
        )
