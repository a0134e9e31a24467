"""Measures a whole job, from a file to its result, compared with GNU parallel, with Celery, and with a single run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.data import write_lines
from benchmarks.harness import Bench, Figure, MissingToolError, Target, at_most, not_measured, side_by_side
from benchmarks.jobs import Job, bare, celery, celery_python, celery_workers, gnu_parallel, parcelq_local
from benchmarks.tools import program

_LARGE: Final = 20_000
"""How many lines have about 1 MB, the default block of GNU parallel."""
_SMALL_BLOCK: Final = "50k"
"""A block of 50,000 bytes, which are 1,000 lines. GNU parallel could count lines (`-N`), but does so slowly, in Perl.
"""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    count = bench.size(1_000_000, 20_000)
    job = Job.of(write_lines(bench.folder / "lines.txt", count), count)
    for how, lines, block, options in (
        ("1,000 lines a run", 1_000, f"`parallel --pipe --block {_SMALL_BLOCK}`", ("--block", _SMALL_BLOCK)),
        ("20,000 lines a run", _LARGE, "`parallel --pipe`, which gives 1 MB to a run", ()),
    ):
        yield _beside(
            bench,
            job,
            how,
            partial(parcelq_local, parcel_size=lines),
            block,
            partial(_parallel, options),
            at_most(3),
            needs=partial(program, "parallel"),
        )
    yield from _beside_celery(bench, job)
    yield _beside(bench, job, "1,000 lines a run", parcelq_local, "the step run once over the file", bare)


def _beside_celery(bench: Bench, job: Job) -> Iterator[Figure]:
    how, beside = "1,000 lines a run", "Celery with Redis, a task for 1,000 lines"
    from_nothing, running = f"{beside}, also started from nothing", f"{beside}, workers already running"
    yield _beside(bench, job, how, parcelq_local, from_nothing, _celery_from_nothing, at_most(1), needs=celery_python)
    try:
        with celery_workers(job.folder) as broker:
            yield _beside(bench, job, how, parcelq_local, running, partial(celery, broker=broker), at_most(1))
    except MissingToolError as error:
        yield not_measured(_what(job, how), running, str(error))


def _parallel(options: Sequence[str], job: Job) -> Path:
    return gnu_parallel(job, *options)


def _celery_from_nothing(job: Job) -> Path:
    with celery_workers(job.folder) as broker:
        return celery(job, broker)


def _beside(
    bench: Bench,
    job: Job,
    how: str,
    ours: Callable[[Job], Path],
    beside: str,
    theirs: Callable[[Job], Path],
    target: Target | None = None,
    needs: Callable[[], object] = lambda: None,
) -> Figure:
    """Compare the job with another tool. The function `needs` first checks that the tool is installed."""
    what = _what(job, how)
    try:
        needs()
    except MissingToolError as error:
        return not_measured(what, beside, str(error))
    pairs = side_by_side(lambda: job.check(ours(job)), lambda: job.check(theirs(job)), bench.long_runs)
    one, other = pairs.medians(lambda sample: sample.seconds)
    return Figure(what, beside, pairs.ratio(lambda sample: sample.seconds), f"{one:.1f} beside {other:.2g} s", target)


def _what(job: Job, how: str) -> str:
    return f"whole job, {job.size:,} lines, {how}: time"
