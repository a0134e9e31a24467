"""How time and memory of the whole job grow with the file: time no faster than its lines, memory not at all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from benchmarks.data import write_lines
from benchmarks.harness import MB, Bench, Figure, Spread, at_most
from benchmarks.harness import measure as timed
from benchmarks.jobs import Job, local_command
from benchmarks.processes import run_watched

_FLAT = 1.25
"""Memory that grows by less than a quarter while the file grows to its tenfold does not grow with it."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    sizes = [10**power for power in range(4, bench.size(7, 5) + 1)]
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    peaks: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(bench.size(2, 1)):
        for size in sizes:
            job = Job.of(write_lines(bench.folder / "lines.txt", size), size)
            sample = timed(lambda job=job: run_watched(local_command(job)))  # type: ignore[misc]
            job.check(job.folder / job.source.name)
            seconds[size].append(sample.seconds)
            peaks[size].append(sample.amount)
    for less, more in pairwise(sizes):
        before, after = median(seconds[less]), median(seconds[more])
        yield Figure(
            f"growth to {more:,} lines: time",
            f"{more // less} times that of {less:,} lines",
            Spread.of(two / one / (more // less) for one, two in zip(seconds[less], seconds[more], strict=True)),
            f"{after:.1f} s after {before:.1f} s",
            at_most(1),
        )
    for less, more in pairwise(sizes):
        yield Figure(
            f"growth to {more:,} lines: memory of the largest process",
            f"that of {less:,} lines",
            Spread.of(two / one for one, two in zip(peaks[less], peaks[more], strict=True)),
            f"{median(peaks[more]) / MB:.0f} after {median(peaks[less]) / MB:.0f} MB",
            at_most(_FLAT) if more == sizes[-1] else None,  # before that, buffers fill up that have a limit
        )
