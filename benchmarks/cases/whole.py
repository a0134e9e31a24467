"""The whole job, from a file to its result, beside GNU parallel, Celery, and the step run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.data import write_lines
from benchmarks.harness import Bench, Figure, MissingToolError, Target, at_most, not_measured, side_by_side
from benchmarks.jobs import Job, bare, celery, celery_workers, gnu_parallel, parcelq_local

_LARGE: Final = 20_000
"""Lines that have about the 1 MB that GNU parallel takes as a block unless told otherwise."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    count = bench.size(1_000_000, 20_000)
    job = Job.of(write_lines(bench.folder / "lines.txt", count), count)
    yield _beside(bench, job, "1,000 lines a run", parcelq_local, "`parallel --pipe -N 1000`", _lines_a_run, at_most(3))
    yield _beside(
        bench,
        job,
        "20,000 lines a run",
        lambda job: parcelq_local(job, _LARGE),
        "`parallel --pipe`, which gives 1 MB to a run",
        gnu_parallel,
    )
    beside = "Celery with Redis, a task for 1,000 lines"
    from_nothing = f"{beside}, from nothing as well"
    yield _beside(bench, job, "1,000 lines a run", parcelq_local, from_nothing, _celery_from_nothing, at_most(1))
    running = f"{beside}, its workers running already"
    try:
        with celery_workers(job.folder) as broker:
            yield _beside(bench, job, "1,000 lines a run", parcelq_local, running, lambda job: celery(job, broker))
    except MissingToolError as error:
        yield not_measured(f"whole job, {count:,} lines, 1,000 lines a run: time", running, str(error))
    yield _beside(bench, job, "1,000 lines a run", parcelq_local, "the step run once over the file", bare)


def _lines_a_run(job: Job) -> Path:
    return gnu_parallel(job, "-N", "1000")


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
) -> Figure:
    what = f"whole job, {job.size:,} lines, {how}: time"
    try:
        pairs = side_by_side(lambda: job.check(ours(job)), lambda: job.check(theirs(job)), bench.long_runs)
    except MissingToolError as error:
        return not_measured(what, beside, str(error))
    one, other = pairs.medians(lambda sample: sample.seconds)
    return Figure(what, beside, pairs.ratio(lambda sample: sample.seconds), f"{one:.1f} beside {other:.2g} s", target)
