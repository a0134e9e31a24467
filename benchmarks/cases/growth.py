"""Measures how a job grows with its file: time may grow as the number of lines does, but memory must not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from benchmarks.data import write_lines
from benchmarks.harness import MB, Bench, Figure, Spread, at_most, not_measured
from benchmarks.jobs import Job, local_command
from benchmarks.processes import Peaks, run_watched

_FLAT: Final = 1.25
"""Memory counts as constant if it grows at most by this factor while the file becomes ten times as large."""

Runs = Mapping[int, Sequence[float]]
"""Maps the number of lines of a file to the measurements of the runs with this file."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    sizes = [10**power for power in range(bench.size(4, 3), bench.size(7, 5) + 1)]
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    together: dict[int, list[float]] = {size: [] for size in sizes}
    largest: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(bench.long_runs):
        for size in sizes:
            taken, peaks = _run(bench, size)
            seconds[size].append(taken)
            together[size].append(peaks.together)
            largest[size].append(peaks.largest)
    yield from _time(seconds)
    yield _time_without_stack(seconds)
    yield from _memory("all processes together", together)
    yield from _memory("the largest process", largest)


def _run(bench: Bench, size: int) -> tuple[float, Peaks]:
    """Run a job of `size` lines, and return how many seconds and how much memory it took."""
    job = Job.of(write_lines(bench.folder / "lines.txt", size), size)
    began = time.perf_counter()
    peaks = run_watched(local_command(job))
    taken = time.perf_counter() - began
    job.check(job.folder / job.source.name)
    return taken, peaks


def _time(seconds: Runs) -> Iterator[Figure]:
    for less, more in pairwise(seconds):
        before, after = median(seconds[less]), median(seconds[more])
        yield Figure(
            f"growth to {more:,} lines: time",
            f"{more // less} times that of {less:,} lines",
            Spread.of_ratios(seconds[more], [one * (more // less) for one in seconds[less]]),
            f"{after:.1f} s after {before:.1f} s",
            at_most(1),
        )


def _time_without_stack(seconds: Runs) -> Figure:
    """Compare times after subtracting the time of the smallest file, which would hide how the remaining time grows."""
    least, *_, less, more = seconds
    lines = (more - least) / (less - least)
    what = f"growth to {more:,} lines, beyond the time of {least:,}: time"
    beside = f"{lines:.2f} times that of {less:,} lines, beyond the time of {least:,}"
    grown = [[two - one for one, two in zip(seconds[least], seconds[size], strict=True)] for size in (more, less)]
    if min(grown[1]) <= 0:
        return not_measured(what, beside, f"{less:,} lines took no longer than {least:,}")
    absolute = f"{median(grown[0]):.1f} s after {median(grown[1]):.1f} s"
    return Figure(what, beside, Spread.of_ratios(grown[0], [one * lines for one in grown[1]]), absolute, at_most(1))


def _memory(of: str, peaks: Runs) -> Iterator[Figure]:
    *_, last = peaks
    for less, more in pairwise(peaks):
        yield Figure(
            f"growth to {more:,} lines: memory of {of}",
            f"that of {less:,} lines",
            Spread.of_ratios(peaks[more], peaks[less]),
            f"{median(peaks[more]) / MB:.0f} after {median(peaks[less]) / MB:.0f} MB",
            at_most(_FLAT) if more == last else None,  # for smaller files, buffers still fill up
        )
