"""Runs steps over files on one machine, with the same code as on AWS, but with topics in memory and a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from parcelq.errors import JobError, ParcelqError, PublishError, SourceError
from parcelq.limits import MIB
from parcelq.local.files import LocalFile
from parcelq.local.inputs import FoundFile, file_of, find_inputs, sources_of
from parcelq.local.jobs import LocalJob, release, take_up
from parcelq.local.kept import Kept
from parcelq.local.pipeline import Pipeline
from parcelq.local.printed import PrintLogs
from parcelq.local.progress import Progress, WorkMeter
from parcelq.local.publish import PipelineStopped, publish
from parcelq.local.recipe import Options
from parcelq.process.broken import BrokenStep

if TYPE_CHECKING:
    from parcelq.local.finish import FileResult

_LOOK_SECONDS: Final = 0.05
_SMALL_BYTES: Final = MIB
_FINISHED_AT_ONCE: Final = 8

OnProgress = Callable[[Progress], None]


class BrokenStepError(ParcelqError):
    """The job was stopped, because the step fails on every input. Stored results are kept."""

    def __init__(self, verdict: BrokenStep) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


def run_files(
    given: Sequence[str | os.PathLike[str]],
    options: Options,
    on_progress: OnProgress = lambda _progress: None,
    *,
    name: str = "",
    combine: str = "",
    note: Callable[[str], None] = lambda _text: None,
    cancelled: threading.Event | None = None,
) -> list[FileResult]:
    """Run steps over files, and write a result for each file or one result for all files; see `parcelq.run`.

    Outputs are stored beside the results at short intervals during the run. So the same call continues where an earlier
    call was stopped for any reason.

    Args:
        on_progress: a function that is called with the progress several times a second.
        note: a function that is called with each sentence for the user.
        cancelled: an event that stops the run when it is set.

    Raises:
        ParcelqError: if a file cannot be read, two results would have the same name, another command runs a job, or the
            steps changed since a job began. No step was run in this case.
        JobError, BrokenStepError, KeyboardInterrupt: if too many entries are dead, if the step is broken, or if the run
            was cancelled or interrupted. Finished work is kept.
    """
    found = find_inputs(given, options.results)
    kept = Kept.beside(options.results)
    with kept.state.command() as command:

        def put(one: FoundFile) -> LocalFile:
            return file_of(one, command, kept.state.spool)

        sources = sources_of(
            found, options.results, put, name=name, combine=combine, fmt=options.recipe.format, steps=options.steps
        )
        jobs = take_up(sources, options, kept, command, note)
        return run_jobs(jobs, options, kept, on_progress, cancelled, note)


def run_jobs(
    jobs: Sequence[LocalJob],
    options: Options,
    kept: Kept,
    on_progress: OnProgress,
    cancelled: threading.Event | None,
    note: Callable[[str], None],
) -> list[FileResult]:
    """Run the missing parts of jobs that this command has claimed, and write the jobs' results; see `run_files`."""
    try:
        meter = WorkMeter({job.record.source: job.source.size for job in jobs}, sum(job.done for job in jobs))
        results = _run(jobs, options, kept, meter, on_progress, cancelled or threading.Event())
        kept.forget([job.record for job in jobs if job.is_closed])
        return results
    except BaseException:
        with suppress(ParcelqError, OSError):  # the first error is the one to show
            _note_old_results(jobs, kept, note)
        raise
    finally:
        release(jobs, kept)


def _run(
    jobs: Sequence[LocalJob],
    options: Options,
    kept: Kept,
    meter: WorkMeter,
    on_progress: OnProgress,
    cancelled: threading.Event,
) -> list[FileResult]:
    results: dict[str, FileResult] = {}
    paths = {job.record.source: options.results / job.source.names.printed for job in jobs}
    for job in jobs:
        if not (job.stored or job.is_whole):  # a log that already exists belongs to another result
            paths[job.record.source].unlink(missing_ok=True)
    logs = PrintLogs(paths)
    pipeline = Pipeline(
        options.steps, kept.store, options.rules, meter, keep_going=options.keep_going, on_printed=logs.add
    )

    def upload(some: Sequence[LocalJob]) -> None:
        for job in some:
            if not pipeline.stopped:
                _upload(job, options, kept, meter, pipeline)

    finishers = ThreadPoolExecutor(_FINISHED_AT_ONCE, thread_name_prefix="parcelq-finish")
    with finishers, pipeline:
        pipeline.upload(lambda: upload(jobs))
        # The modules that finish jobs are imported while the steps run.
        import parcelq.collect.page.render
        import parcelq.local.finish  # noqa: F401

        waiting = list(jobs)
        while waiting and not pipeline.stopped:
            quiet = [job for job in waiting if job.uploaded and not pipeline.ledger.count(job.record.source)]
            if pipeline.may_be_broken and (pipeline.ledger.total() or not all(job.uploaded for job in waiting)):
                quiet = []  # the results of a broken step must not replace earlier results
            if pipeline.stopped:
                break
            results |= {job.record.id: result for job, result in _finished(quiet, kept, finishers) if result}
            waiting = [job for job in waiting if job.record.id not in results]
            if again := [job for job in quiet if job.record.id not in results]:
                pipeline.upload(partial(upload, again))
            on_progress(meter.now())
            _check(options, meter, cancelled, jobs)
            if waiting:
                pipeline.ledger.wait(_LOOK_SECONDS)
    on_progress(meter.now())
    if pipeline.broken:
        _forget(jobs, kept)
        raise BrokenStepError(pipeline.broken)
    if pipeline.error:
        raise pipeline.error
    return [results[job.record.id] for job in jobs]


def _finished(
    jobs: Sequence[LocalJob], kept: Kept, pool: ThreadPoolExecutor
) -> Iterator[tuple[LocalJob, FileResult | None]]:
    """Finish jobs. Small jobs are finished in parallel, because finishing mostly waits for the disk."""
    from parcelq.local.finish import finish

    for job in jobs:
        job.uploaded = False  # so that missing records can be published again
    large = [job for job in jobs if job.source.size > _SMALL_BYTES]
    small = [job for job in jobs if job.source.size <= _SMALL_BYTES]
    yield from zip(small, pool.map(partial(finish, kept=kept), small), strict=True)
    yield from ((job, finish(job, kept)) for job in large)


def _upload(job: LocalJob, options: Options, kept: Kept, meter: WorkMeter, pipeline: Pipeline) -> None:
    """Publish the missing records of a job. If a file cannot be uploaded, the jobs of all other files continue."""
    try:
        if not job.is_whole and (job.missing or not job.is_noted):
            publish(job, options, kept, meter, pipeline)
    except PipelineStopped:
        return
    except PublishError as error:
        job.problem = str(error)
    except ParcelqError as error:
        job.problem, job.is_hopeless = str(error), isinstance(error, SourceError)
    job.uploaded = True


def _forget(jobs: Sequence[LocalJob], kept: Kept) -> None:
    """Delete the segments of a broken step. These segments contain no output, and their dead entries may be good."""
    for job in jobs:
        with suppress(ParcelqError):
            kept.store.delete([key for key in kept.segments(job.record.id) if key not in job.stored])


def _note_old_results(jobs: Sequence[LocalJob], kept: Kept, note: Callable[[str], None]) -> None:
    """Say which results are older than their jobs, so that nobody takes an old result for that of the failed run."""
    old = [job.record.result for job in jobs if job.record.before and kept.is_old(job.record)]
    if old:
        more = f" and {len(old) - 1:,} more are still the results" if len(old) > 1 else " is still the result"
        note(f"{kept.state.results / old[0]}{more} of an earlier run")


def _check(options: Options, meter: WorkMeter, cancelled: threading.Event, jobs: Sequence[LocalJob]) -> None:
    """Raise JobError if the run was cancelled, or ParcelqError if too many entries are dead."""
    if cancelled.is_set():
        raise JobError(jobs[0].record.id, "it was cancelled; finished work is kept, and the same call continues it")
    progress = meter.now()
    dead = progress.dead + sum(job.dead_before for job in jobs)
    seen = progress.entries + dead + sum(job.ran_before for job in jobs)
    if problem := options.limits.exceeded(dead, seen, progress.seconds, progress.reason):
        raise ParcelqError(f"stopped: {problem}; parcelq resume continues without the limit")
