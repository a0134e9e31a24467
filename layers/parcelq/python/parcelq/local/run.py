"""Running a workflow over files on one machine: the same parts as on AWS, with topics in memory and a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from parcelq.collect.finish import Finisher, SourceState
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.runs import indexes_of, tidy
from parcelq.collect.segments import Job, folder, segments_among
from parcelq.errors import JobError, ParcelqError
from parcelq.lineage.source import source_id, workflow_name
from parcelq.local.files import Files, FileState
from parcelq.local.pipeline import OUTPUT, Pipeline
from parcelq.local.printed import PrintLogs
from parcelq.local.progress import Meter, Progress
from parcelq.local.state import JobRecord, JobState
from parcelq.process.broken import BrokenStep
from parcelq.process.rules import Rules
from parcelq.records import Format
from parcelq.result_names import STATE, ResultNames, check_distinct, result_names
from parcelq.steps.find import Step
from parcelq.store.folder import FolderStore
from parcelq.store.store import Store
from parcelq.upload.objects import ObjectUploader

MAX_HEALINGS: Final = 3
"""How often what is missing of a job is published again before the job is given up."""
_LOOK_SECONDS: Final = 0.05

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How files are run.

    Attributes:
        steps: the steps, in a row.
        output: the folder of results.
        format: the record format of all files; None to go by the name of each.
        rules: how messages are run, and how failures are treated.
        batch_sizes: most entries of one run of each step; empty for what the rules say.
        max_seconds: stop when it took longer; None for no limit.
        max_dead: stop when more entries than this have failed for good; None for no limit.
        max_dead_share: the same as a share of the entries that were run, from 0 to 1; None for no limit.
        keep_going: go on although every entry fails.
        fresh: start over where a job was stopped, or has dead entries.
        go_on: continue a job that began with another version of its steps.
    """

    steps: Sequence[Step]
    output: Path
    format: Format | None = None
    rules: Rules = field(default_factory=lambda: Rules(back_off_seconds=0))
    batch_sizes: Sequence[int] = ()
    max_seconds: int | None = None
    max_dead: int | None = None
    max_dead_share: float | None = None
    keep_going: bool = False
    fresh: bool = False
    go_on: bool = False

    @property
    def version(self) -> str:
        """A digest of everything that decides what the steps do."""
        digest = hashlib.sha256(" ".join(step.version for step in self.steps).encode())
        digest.update(str(self.format or "").encode())
        return digest.hexdigest()[:16]


class BrokenStepError(ParcelqError):
    """The step fails whatever it is given, so the job was stopped. Nothing that was stored is lost.

    Attributes:
        verdict: why, and how many single entries it failed on.
    """

    def __init__(self, verdict: BrokenStep) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file.

    Attributes:
        file: its path.
        names: the paths of the result and of what lies beside it.
        state: how far the job is.
        healings: how often what was missing was published again.
        problem: why there is no result; empty if there is one.
    """

    file: Path
    names: ResultNames
    state: SourceState
    healings: int = 0
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Whether every entry is in the result, and nothing makes that doubtful."""
        return bool(self.state.report and self.state.report["complete"]) and not self.problem


@dataclass(slots=True)
class _Job:
    """A file that is being run."""

    path: Path
    file: FileState
    job: Job
    names: ResultNames
    state: JobState
    holes: tuple[tuple[int, int], ...] | None = None
    total: int | None = None
    done: int = 0
    is_finished: bool = False
    uploaded: bool = False
    problem: str = ""
    healings: int = 0
    result: FileResult | None = None

    @property
    def source(self) -> str:
        return self.job.source


def run_files(
    paths: Sequence[Path], options: Options, on_progress: OnProgress = lambda _progress: None
) -> list[FileResult]:
    """Run steps over files, and write the result of each.

    What came out is stored beside the results as it comes. So the same call goes on where an earlier one was stopped,
    whatever stopped it.

    Args:
        paths: the files.
        options: how they are run.
        on_progress: called several times a second.

    Returns:
        What became of each file, in their order.

    Raises:
        ParcelqError: a file cannot be read, two results would have one name, another command runs a job, or the steps
            changed since a job began. Nothing was run then.
        JobError: the step is broken, or too many entries are dead. What there is stays.
        KeyboardInterrupt: somebody interrupted it. What there is stays.
    """
    store = FolderStore(options.output / STATE)
    jobs = [_job(path, options) for path in paths]
    check_distinct(job.names.result for job in jobs)
    with ExitStack() as locks:
        for job in jobs:
            locks.enter_context(job.state.locked())
            _prepare(job, store, options)
        meter = Meter(sum(job.file.size for job in jobs), sum(job.done for job in jobs))
        _run(jobs, store, options, meter, on_progress)
        for job in jobs:
            if job.result and job.result.whole:
                _clean(job, store)
    return [job.result for job in jobs if job.result]


def _job(path: Path, options: Options) -> _Job:
    file = FileState.of(path)
    job = Job(str(file.source), workflow_name(options.steps[0].workflow_id))
    return _Job(path, file, job, result_names(path.name), JobState(options.output / STATE, job.id))


def _prepare(job: _Job, store: FolderStore, options: Options) -> None:
    """Look at what there is of a job, and decide what is left to do."""
    record = None if options.fresh else job.state.read()
    if options.fresh:
        _clean(job, store)
    resolution = _resolution(job, store)
    done = resolution.covered + resolution.dead_bytes if resolution else 0
    if record and done and record.versions[-1] != options.version and not options.go_on:
        raise JobError(
            job.job.id,
            f"{100 * done / max(1, job.file.size):.0f} % of {str(job.path)!r} are done with an earlier version of the "
            "steps; --continue does the rest with this one, --fresh starts over",
        )
    versions = tuple(dict.fromkeys([*(record.versions if record else ()), options.version]))
    job.state.write(JobRecord(job.job.id, str(job.file.path), job.source, job.job.workflow, versions, job.names.result))
    if not done:  # whatever was printed before belongs to no result that will be
        (options.output / job.names.printed).unlink(missing_ok=True)
    if resolution:
        job.done = done
        job.holes, job.total = resolution.holes, resolution.total
        job.is_finished = resolution.finished


def _run(jobs: Sequence[_Job], store: FolderStore, options: Options, meter: Meter, on_progress: OnProgress) -> None:
    files = Files({job.file.source.key: job.file for job in jobs})
    uploader = ObjectUploader(files, store, options.rules.parcel_size, {"step1": OUTPUT}, options.format)
    finisher = Finisher(store, OUTPUT, "", FolderStore(options.output, own=f"{STATE}/results"))
    sizes = options.batch_sizes or [options.rules.batch_size] * len(options.steps)
    rules = [replace(options.rules, batch_size=size) for size in sizes]
    logs = PrintLogs({job.source: options.output / job.names.printed for job in jobs})
    pipeline = Pipeline(options.steps, store, rules, meter, keep_going=options.keep_going, on_printed=logs.add)
    waiting = list(jobs)
    with pipeline:
        pipeline.upload(lambda: _upload(jobs, uploader, pipeline))
        while waiting and not pipeline.stopped:
            quiet = [job for job in waiting if job.uploaded and not pipeline.ledger.count(job.source)]
            for job in quiet:
                if _finish(job, store, finisher, uploader, pipeline):
                    waiting.remove(job)
            on_progress(meter.now())
            _check_limits(options, meter)
            pipeline.ledger.wait(_LOOK_SECONDS)
    on_progress(meter.now())
    if pipeline.broken:
        for job in jobs:
            resolution = _resolution(job, store)
            if resolution and not resolution.covered:  # the entries that died did not die of themselves
                store.delete(list(store.keys(folder(OUTPUT, job.job.id))))
        raise BrokenStepError(pipeline.broken)
    if pipeline.error:
        raise pipeline.error


def _upload(jobs: Sequence[_Job], uploader: ObjectUploader, pipeline: Pipeline) -> None:
    """Publish what is missing of each job; a file that cannot be uploaded is in nobody's way."""
    for job in jobs:
        if pipeline.stopped:
            return
        if not job.is_finished:
            _publish(job, uploader, pipeline)
        job.uploaded = True


def _publish(job: _Job, uploader: ObjectUploader, pipeline: Pipeline) -> None:
    source = job.file.source
    try:
        if job.holes is None:
            uploader.upload(source, pipeline.input)
        elif job.total is None:
            # The end of the source never came. What is there already comes twice then, which does no harm.
            uploader.upload(source, pipeline.input)
        else:
            for start, end in job.holes:
                uploader.upload_part(source, start, end, job.total, pipeline.input)
    except ParcelqError as error:
        job.problem = str(error)


def _finish(job: _Job, store: FolderStore, finisher: Finisher, uploader: ObjectUploader, pipeline: Pipeline) -> bool:
    """Write a job's result, now that nothing of it is under way; False if something is missing and comes again."""
    if job.problem:
        job.result = FileResult(job.path, job.names, SourceState(job.source, 0, None, 0, 0), problem=job.problem)
        return True
    job.file.check_unchanged()
    _make_way(job, finisher.out)
    state = finisher.finish_job(job.job) or SourceState(job.source, 0, job.file.size, 0, 1)
    problem = state.problem
    if not state.result and not problem:
        if job.healings < MAX_HEALINGS and not pipeline.stopped:
            job.healings += 1
            resolution = _resolution(job, store)
            job.holes, job.total = (resolution.holes, resolution.total) if resolution else (None, None)
            job.uploaded = False
            pipeline.upload(lambda: _upload([job], uploader, pipeline))
            return False
        problem = f"{state.holes} parts of it are missing"
    job.result = FileResult(job.path, job.names, state, job.healings, problem)
    return True


def _make_way(job: _Job, results: Store) -> None:
    """Delete the result of another state of the file, so that it does not count as a newer one."""
    present = results.stat(job.names.result)
    if present and present.metadata and present.metadata.get("parcelq-source") != source_id(job.source):
        results.delete([job.names.result])


def _check_limits(options: Options, meter: Meter) -> None:
    progress = meter.now()
    if options.max_seconds is not None and progress.seconds > options.max_seconds:
        raise ParcelqError(f"stopped: it took longer than {options.max_seconds} s; the same command goes on from here")
    limit = options.max_dead
    if limit is not None and progress.dead > limit:
        raise ParcelqError(f"stopped: {progress.dead} entries are dead, more than {limit}: {progress.reason}")
    share = options.max_dead_share
    seen = progress.entries + progress.dead
    if share is not None and seen >= _LEAST_SEEN and progress.dead > share * seen:
        raise ParcelqError(
            f"stopped: {progress.dead} of {seen} entries are dead, more than {share:.3%}: {progress.reason}"
        )


_LEAST_SEEN: Final = 1000
"""Entries that must have been run before a share of dead ones says something."""


def _resolution(job: _Job, store: FolderStore) -> Resolution | None:
    """What the segments of a job make; None if it has none."""
    keys = list(store.keys(folder(OUTPUT, job.job.id)))
    if not segments_among(keys):
        return None
    record = tidy(store, OUTPUT, keys, datetime.now(UTC))
    return Collected(store, indexes_of(store, keys, record)).resolve()


def _clean(job: _Job, store: FolderStore) -> None:
    """Delete all state of a job."""
    store.delete(list(store.keys(folder(OUTPUT, job.job.id))))
    for prefix in (f"segments/.uploads/{source_id(job.source)}/", f"segments/.results/{source_id(job.source)}"):
        store.delete(list(store.keys(prefix)))
    job.state.remove()
