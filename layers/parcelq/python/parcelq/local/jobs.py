"""Finds out the progress of jobs on one machine, and the work that is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parcelq.collect.segments import JobKey
from parcelq.errors import JobError, ParcelqError
from parcelq.lineage.lineage import MAX_POSITION
from parcelq.lineage.source import workflow_name
from parcelq.local.files import LocalSource
from parcelq.local.kept import Kept
from parcelq.local.reading import EVERYTHING, Range
from parcelq.local.recipe import Options
from parcelq.local.state import LocalRecord
from parcelq.upload.notes import EntryCounts, notes_of, upload_folder

if TYPE_CHECKING:
    from parcelq.collect.resolution import Collected, Resolution


@dataclass(slots=True)
class LocalJob:
    """A job that a command of this machine has claimed and runs.

    Attributes:
        missing: the ranges of the source that the steps still have to process.
        marks: the begins and ends of messages whose dead entries are entries of a step's output, not of the source.
        total: how many bytes the source has; None if unknown.
        done: how many bytes of the source are already done.
        dead_before, ran_before: how many entries were dead, and how many a step had processed, when this command began;
            0 if dead entries run again.
        all_failed: whether entries are dead and no run has succeeded.
        stored: the keys of the job's objects that were already stored when this run began.
        is_noted: whether the number of the source's records has been stored.
        report: the report of the job if its result is complete and only cleaning up is left; else None.
        uploaded: whether the whole source was published.
        problem: why the job cannot continue; empty if it can. If `is_hopeless`, another run cannot solve it.
        healings: how often the job's missing records were published again.
        is_closed: whether the job's state was deleted.
    """

    source: LocalSource
    record: LocalRecord
    missing: Sequence[Range] = EVERYTHING
    marks: Sequence[int] = ()
    total: int | None = None
    done: int = 0
    dead_before: int = 0
    ran_before: int = 0
    all_failed: bool = False
    stored: frozenset[str] = frozenset()
    is_noted: bool = False
    report: Mapping[str, Any] | None = None
    uploaded: bool = False
    problem: str = ""
    is_hopeless: bool = False
    healings: int = 0
    is_closed: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the job's result is complete and only cleaning up is left."""
        return self.report is not None

    @property
    def job(self) -> JobKey:
        """The key that names the job in segments."""
        return JobKey(self.record.source, self.record.workflow)


def _record_of(source: LocalSource, options: Options, recipe: Mapping[str, Any], kept: Kept) -> LocalRecord:
    """Return the job record of a new job."""
    workflow = workflow_name(options.recipe.workflow_id)
    job = JobKey(str(source.source), workflow)
    present = kept.results.stat(source.names.result)
    return LocalRecord(
        job.id,
        job.source,
        workflow,
        source.names.result,
        source.files,
        (options.version,),
        recipe,
        before=present.etag if present else "",
        combined=source.combined,
        name=source.name,
    )


def take_up(
    sources: Sequence[LocalSource],
    options: Options,
    kept: Kept,
    command: str,
    note: Callable[[str], None],
    *,
    redrive: bool = False,
    chosen: Sequence[Range] | None = None,
) -> list[LocalJob]:
    """Claim the jobs of sources, and find out what work is left.

    Nothing is deleted until it is certain that no other command runs one of the jobs, and that all jobs can continue.

    Args:
        note: a function that is called with each sentence for the user.
        redrive: whether the steps run again over dead entries.
        chosen: if `redrive` is true, the byte ranges of the dead entries that run again; None for all dead entries.

    Raises:
        JobError: if another command runs one of the jobs, if another job with the same result is not finished, or if a
            job began with other steps and neither `fresh` nor `go_on` is set.
    """
    recipe = options.recipe.document()
    records = [_record_of(source, options, recipe, kept) for source in sources]
    present, others = kept.state.claim(command, records)
    jobs = [
        LocalJob(source, present.get(record.id, record)._replace(command=command))
        for source, record in zip(sources, records, strict=True)
    ]
    try:
        for number, job in enumerate(jobs):
            if job.record.id in present and not options.fresh:
                look_at(job, kept, redrive=redrive, chosen=chosen)
                if job.all_failed and not redrive and job.record.versions[-1:] != (options.version,):
                    jobs[number] = LocalJob(job.source, job.record)  # no run of the earlier version has succeeded
                else:
                    _check_version(job, options)
        for other in others:
            if not options.fresh:
                _check_replaceable(other, kept)
    except BaseException:
        release(jobs, kept)
        raise
    for other in others:
        note(
            f"{other.result!r} is the result of job {other.id}, which read another file or another content, or ran "
            "other steps; the new result replaces it, and the state of that job is deleted"
        )
        kept.drop(other)
    known = [(job, record) for job, record in zip(jobs, records, strict=True) if record.id in present]
    for job, record in known:
        if not (job.stored or job.is_whole):
            kept.drop_stored(record)  # the state of an earlier run before --fresh, or of a killed command
            job.record = record._replace(command=command)
        versions = tuple(dict.fromkeys([*job.record.versions, options.version]))
        job.record = job.record._replace(versions=versions, recipe=record.recipe)
    kept.state.write([job.record for job, _ in known])
    return jobs


def look_at(job: LocalJob, kept: Kept, *, redrive: bool = False, chosen: Sequence[Range] | None = None) -> None:
    """Find out the progress of a job and the missing ranges of its source, and set the job's attributes.

    For `redrive` and `chosen`, see `take_up`. Raises ParcelqError if the stored state cannot be read.
    """
    try:
        collected = kept.collected(job.record.id)
    except ParcelqError as error:
        raise JobError(job.record.id, f"its state cannot be read: {error}; parcelq run --fresh starts over") from None
    job.report = kept.written(job.record)
    if job.is_whole:
        job.done = job.source.size
    if collected is None or job.is_whole:
        return
    resolution = collected.resolve()
    job.stored = frozenset(kept.segments(job.record.id))
    dead = chosen if chosen is not None else [(row.start, row.end) for row in collected.dead()] if redrive else []
    job.done = resolution.covered + resolution.dead_bytes - min(resolution.dead_bytes, _bytes(dead))
    if not redrive:
        job.dead_before, job.ran_before = resolution.dead, resolution.ran
    job.all_failed = resolution.has_dead and not (resolution.ran or resolution.entries)
    job.missing, job.total = missing_of(collected, resolution, dead), resolution.total
    if resolution.has_dead:
        rows = [row for row in collected.dead() if not row.of_source]
        job.marks = sorted({place for row in rows for place in (row.start, row.end)})
    with suppress(ValueError, KeyError):  # the stored number of records may be missing after a crash
        notes = notes_of(kept.notes, job.record.source)
        job.is_noted = EntryCounts(notes, job.total).between(0, job.total or 0) is not None
    if not job.is_noted:
        shutil.rmtree(kept.notes.folder / upload_folder(job.record.source), ignore_errors=True)


def missing_of(collected: Collected, resolution: Resolution, dead: Sequence[Range] = ()) -> list[Range]:
    """Return the missing ranges of a source and the ranges `dead`, in order; adjacent ranges are joined."""
    found = sorted([*collected.holes(resolution.up_to(MAX_POSITION)), *dead])
    ranges: list[Range] = []
    for start, end in found:
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((start, end))
    return ranges


def _bytes(ranges: Sequence[Range]) -> int:
    """Return how many bytes ranges have together. Equal ranges count once."""
    return sum(end - start for start, end in set(ranges))


def _check_version(job: LocalJob, options: Options) -> None:
    """Raise JobError if work of a job was done with other steps than the given ones."""
    if job.is_whole:
        job.report = job.report if job.record.versions[-1:] == (options.version,) else None
    elif job.done and job.record.versions[-1:] != (options.version,) and not options.go_on:
        share = f"{100 * job.done / job.total:.0f} %" if job.total else f"{job.done:,} bytes"
        raise JobError(
            job.record.id,
            f"{share} of {job.source.title!r} were processed with an earlier version of the steps; "
            f"parcelq redrive {job.record.id[:12]} runs only dead entries again, "
            f"--continue runs the rest with this version, --fresh starts over",
        )


def _check_replaceable(other: LocalRecord, kept: Kept) -> None:
    """Raise JobError if another job would lose work because a new job takes the name of its result."""
    collected = kept.collected(other.id, tidies=False)
    if collected and not collected.resolve().finished and all(file.is_unchanged() for file in other.files):
        raise JobError(
            other.id,
            f"it is not finished, and its result has the same name {other.result!r}; parcelq resume {other.id[:12]} "
            "continues it, --name or --output give the new result another name, --fresh deletes its finished work",
        )


def release(jobs: Iterable[LocalJob], kept: Kept) -> None:
    """Delete the job records of jobs that have stored nothing. If the command is repeated, these jobs begin anew."""
    for job in jobs:
        if not job.is_closed:
            with suppress(ParcelqError, OSError):
                if not kept.segments(job.record.id):
                    kept.drop(job.record)
