"""Measures `parcelq run` on one machine, compared with GNU parallel, Celery, `multiprocessing` and a bare loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.data import write_lines, write_smiles
from benchmarks.harness import (
    MB,
    Bench,
    Figure,
    MissingToolError,
    Spread,
    Target,
    at_least,
    at_most,
    not_measured,
    side_by_side,
)
from benchmarks.jobs import (
    Job,
    celery,
    celery_workers,
    gnu_parallel,
    parcelq_run,
    pool_imap,
    run_command,
    smiles_loop,
)
from benchmarks.processes import run_watched
from benchmarks.tools import STEPS, compiled, program

_SMALL: Final = 1_000
_LARGE: Final = 20_000
"""How many lines have about 1 MB, the default block of GNU parallel."""
_SMALL_BLOCK: Final = "50k"
_BAD: Final = 6
"""One of this many SMILES is bad."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    compiled()
    count = bench.size(1_000_000, 20_000)
    job = Job.of(write_lines(bench.folder / "lines.txt", count), count)
    yield _beside_parallel(bench, job, _SMALL, ("--block", _SMALL_BLOCK), at_most(0.3))
    yield _beside_parallel(bench, job, _LARGE, (), at_most(1))
    yield _beside_celery(bench, job)
    yield _warm(bench, count)
    yield _ten_lines(bench)
    yield from _growth(bench)
    yield _smiles(bench)


def _time(
    bench: Bench,
    what: str,
    job: Job,
    ours: Callable[[], Path],
    beside: str,
    theirs: Callable[[], Path],
    target: Target,
) -> Figure:
    pairs = side_by_side(lambda: job.check(ours()), lambda: job.check(theirs()), bench.size(5, 1))
    one, other = pairs.medians(lambda sample: sample.seconds)
    return Figure(what, beside, pairs.ratio(lambda sample: sample.seconds), f"{one:.3g} beside {other:.3g} s", target)


def _what(job: Job, how: str) -> str:
    return f"`parcelq run`, {job.size:,} lines, {how}: time"


def _beside_parallel(bench: Bench, job: Job, lines: int, options: tuple[str, ...], target: Target) -> Figure:
    what, beside = _what(job, f"{lines:,} a run"), f"`{' '.join(('parallel --pipe', *options))}`"
    try:
        program("parallel")
    except MissingToolError as error:
        return not_measured(what, beside, str(error))
    ours, theirs = partial(parcelq_run, job, lines), partial(gnu_parallel, job, *options)
    return _time(bench, what, job, ours, beside, theirs, target)


def _beside_celery(bench: Bench, job: Job) -> Figure:
    what = _what(job, f"{_SMALL:,} a run")
    beside = "Celery with Redis, a task for 1,000 lines, workers already running"
    ours = partial(parcelq_run, job, _SMALL)
    try:
        with celery_workers(bench.folder) as broker:
            theirs = partial(celery, job, broker)
            return _time(bench, what, job, ours, beside, theirs, at_most(0.5))
    except MissingToolError as error:
        return not_measured(what, beside, str(error))


def _warm(bench: Bench, count: int) -> Figure:
    """Run a Python function whose process stays alive, compared with worker processes of the standard library that get
    the same chunks.
    """
    job = Job.of(write_lines(bench.folder / "warm.txt", count), count)
    ours = partial(parcelq_run, job, _SMALL, STEPS / "upper_each.py", settings=None)
    theirs = partial(pool_imap, job, _SMALL)
    pairs = side_by_side(lambda: job.check(ours()), lambda: job.check(theirs()), bench.size(5, 1))
    one, other = pairs.medians(lambda sample: sample.speed / 1000)
    return Figure(
        f"`parcelq run`, {count:,} lines through a Python function, {_SMALL:,} a run: speed",
        "`multiprocessing.Pool.imap` over the same chunks, from start to end",
        pairs.ratio(lambda sample: sample.speed),
        f"{one:,.0f} beside {other:,.0f} thousand lines a second",
        at_least(0.8),
    )


def _ten_lines(bench: Bench) -> Figure:
    job = Job.copied(write_lines(bench.folder / "ten.txt", 10), 10)
    settings = bench.folder / "filter.yaml"
    settings.write_text("filter: true\n")
    what, beside = _what(job, "`cat`, from the start of the command to its end"), "`parallel --pipe`"
    try:
        program("parallel")
    except MissingToolError as error:
        return not_measured(what, beside, str(error))
    ours = partial(parcelq_run, job, _SMALL, "cat", settings)
    return _time(bench, what, job, ours, beside, partial(gnu_parallel, job, command=("cat",)), at_most(5))


def _growth(bench: Bench) -> Iterator[Figure]:
    """Measure how time and memory grow from a million lines to ten million lines."""
    sizes = bench.size(1_000_000, 10_000), bench.size(10_000_000, 100_000)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    memory: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(bench.long_runs):
        for size in sizes:
            job = Job.of(write_lines(bench.folder / "growth.txt", size), size)
            peaks = run_watched(run_command(job, _SMALL))
            job.check(job.folder / job.source.name)
            seconds[size].append(peaks.seconds)
            memory[size].append(peaks.largest)
    less, more = sizes
    yield Figure(
        f"`parcelq run`, growth to {more:,} lines: time",
        f"that of {less:,} lines",
        Spread.of_ratios(seconds[more], seconds[less]),
        f"{median(seconds[more]):.1f} s after {median(seconds[less]):.1f} s",
        at_most(10.5),
    )
    yield Figure(
        f"`parcelq run`, {more:,} lines: memory of the largest process",
        "300 MB",
        Spread.of(one / (300 * MB) for one in memory[more]),
        f"{median(memory[more]) / MB:.0f} MB",
        at_most(1),
    )


def _smiles(bench: Bench) -> Figure:
    """Process molecules with RDKit, some of them bad, compared with a loop that also saves why molecules are bad."""
    count = bench.size(20_000, 1_000)
    what = f"`parcelq run`, {count:,} SMILES, one in {_BAD} bad, RDKit with `@step(each=True)`: time"
    beside = "a bare loop over the file"
    try:
        import rdkit  # noqa: F401 - only to find out whether it is installed
    except ImportError:
        return not_measured(what, beside, "rdkit is missing; make setup")
    source = write_smiles(bench.folder / "molecules.smi", count, _BAD)
    job = Job(source, count, bench.folder / "expected.smi", bench.folder / "out")
    smiles_loop(job, job.expected)
    ours = partial(parcelq_run, job, _SMALL, STEPS / "mass.py", settings=None, dead=(count + _BAD - 1) // _BAD)
    theirs = partial(smiles_loop, job, job.folder / "loop")
    return _time(bench, what, job, ours, beside, theirs, at_most(3))
