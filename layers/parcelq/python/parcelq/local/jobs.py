"""Jobs on one machine: their progress, and the work that is left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
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
from parcelq.upload.notes import entries_in, notes_of, upload_folder

if TYPE_CHECKING:
    from parcelq.collect.resolution import Collected, Resolution


@dataclass(slots=True)
class LocalJob:
    """A running job.

    Attributes:
        source: its input.
        record: its stored record.
        missing: ranges of the source that still have to run.
        marks: begins and ends of messages whose dead entries are not entries of the source but of a step's output.
        total: bytes of the source; None if unknown.
        done: bytes of it that are already done.
        stored: whether outputs of it were stored when this run began.
        is_noted: whether the number of the source's records has been noted.
        report: the report of its result, if that is complete and only cleaning up was left; else None.
        uploaded: whether all of it was published.
        problem: why it cannot continue; empty if it can.
        is_hopeless: whether retrying cannot help.
        healings: how often missing records were published again.
        is_closed: whether its state was deleted.
    """

    source: LocalSource
    record: LocalRecord
    missing: Sequence[Range] = EVERYTHING
    marks: Sequence[int] = ()
    total: int | None = None
    done: int = 0
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
        """Whether its result exists, and only cleaning up was left."""
        return self.report is not None

    @property
    def job(self) -> JobKey:
        """The job of its messages, as segments name it."""
        return JobKey(self.record.source, self.record.workflow)


def _record_of(source: LocalSource, options: Options, recipe: Mapping[str, Any], kept: Kept) -> LocalRecord:
    """The record of a new job."""
    workflow = workflow_name(options.workflow)
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


def source_of(record: LocalRecord, results: Path) -> LocalSource:
    """The source of a stored job."""
    if record.combined:
        return LocalSource.of_files(record.files, record.name, results)
    return LocalSource.of_file(record.files[0], record.name)


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

    Nothing is deleted before all of the jobs are known to be free and able to continue.

    Args:
        sources: the sources.
        options: the options of the run.
        kept: the stored state beside the results.
        command: id of the command that claims them.
        note: called with sentences that inform the user.
        redrive: whether dead entries run again.
        chosen: with `redrive`, the places of the dead entries that run again; None for all.

    Raises:
        JobError: another command runs one of the jobs; one began with other steps and the options do not say what to
            do; or another job with the same result is not finished.
    """
    recipe = options.recipe.document()
    records = [_record_of(source, options, recipe, kept) for source in sources]
    present, others = kept.state.claim(command, records)
    jobs = [
        LocalJob(source, replace(present.get(record.id, record), command=command))
        for source, record in zip(sources, records, strict=True)
    ]
    try:
        for job in jobs:
            if job.record.id in present and not options.fresh:
                look_at(job, kept, redrive=redrive, chosen=chosen)
                _check_version(job, options)
        for other in others:
            if not options.fresh:
                _check_replaceable(other, kept)
    except BaseException:
        release(jobs, kept)
        raise
    for other in others:
        note(
            f"{other.result!r} was the result of {other.paths!r} before that changed, or of another job; "
            f"the state of job {other.id} is deleted"
        )
        kept.drop(other)
    known = [(job, record) for job, record in zip(jobs, records, strict=True) if record.id in present]
    for job, record in known:
        if not (job.stored or job.is_whole):
            kept.drop_stored(record)  # after --fresh, or remains of a killed command
            job.record = replace(record, command=command)
        versions = tuple(dict.fromkeys([*job.record.versions, options.version]))
        job.record = replace(job.record, versions=versions, recipe=record.recipe)
    kept.state.write([job.record for job, _ in known])
    return jobs


def look_at(job: LocalJob, kept: Kept, *, redrive: bool = False, chosen: Sequence[Range] | None = None) -> None:
    """Find out the progress of a job, and what is missing.

    Args:
        job: the job.
        kept: the stored state beside the results.
        redrive: whether dead entries count as missing.
        chosen: with `redrive`, the places of these entries; None for all.

    Raises:
        ParcelqError: the stored state cannot be read.
    """
    collected = kept.collected(job.record.id)
    job.report = kept.written(job.record)
    if collected is None or job.is_whole:
        return
    resolution = collected.resolve()
    job.stored = frozenset(kept.segments(job.record.id))
    dead = chosen if chosen is not None else [(row.start, row.end) for row in collected.dead()] if redrive else []
    job.done = resolution.covered + resolution.dead_bytes - min(resolution.dead_bytes, _bytes(dead))
    job.missing, job.total = missing_of(collected, resolution, dead), resolution.total
    if resolution.has_dead:
        rows = [row for row in collected.dead() if not row.of_source]
        job.marks = sorted({place for row in rows for place in (row.start, row.end)})
    with suppress(ValueError, KeyError):  # of a note that is empty after a crash
        notes = notes_of(kept.notes, job.record.source)
        job.is_noted = job.total is not None and entries_in(notes, 0, job.total, job.total) is not None
    if not job.is_noted:
        shutil.rmtree(kept.notes.folder / upload_folder(job.record.source), ignore_errors=True)


def missing_of(collected: Collected, resolution: Resolution, dead: Sequence[Range] = ()) -> list[Range]:
    """Return the missing ranges of a source, in order; adjacent ranges are joined.

    Args:
        collected: the stored messages.
        resolution: their resolution.
        dead: the places of dead entries that count as missing.
    """
    found = sorted([*collected.holes(resolution.up_to(MAX_POSITION)), *dead])
    ranges: list[Range] = []
    for start, end in found:
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((start, end))
    return ranges


def _bytes(ranges: Sequence[Range]) -> int:
    """Return the total bytes of ranges; equal ranges count once."""
    return sum(end - start for start, end in set(ranges))


def _check_version(job: LocalJob, options: Options) -> None:
    """Check that a job may continue with these steps: nothing is done yet, or they are the same as before."""
    if job.is_whole:
        job.report = job.report if job.record.versions[-1:] == (options.version,) else None
    elif job.done and job.record.versions[-1:] != (options.version,) and not options.go_on:
        share = f"{100 * job.done / job.total:.0f} %" if job.total else f"{job.done:,} bytes"
        raise JobError(
            job.record.id,
            f"{share} of {job.source.title!r} are done with an earlier version of the steps; "
            f"--continue runs the rest with this version, --fresh starts over, "
            f"parcelq redrive {job.record.id[:12]} runs only dead entries again",
        )


def _check_replaceable(other: LocalRecord, kept: Kept) -> None:
    """Check that no work is lost when a job takes the result name of another job: the other one is finished, or cannot
    continue.
    """
    collected = kept.collected(other.id, tidies=False)
    if collected and not collected.resolve().finished and all(file.is_unchanged() for file in other.files):
        raise JobError(
            other.id,
            f"it is not finished, and its result has the same name {other.result!r}; parcelq resume {other.id[:12]} "
            "continues it, --name or --output give the new result another name, --fresh deletes its finished work",
        )


def release(jobs: Iterable[LocalJob], kept: Kept) -> None:
    """Delete the records of jobs that have stored nothing; the same command begins them anew."""
    for job in jobs:
        if not job.is_closed:
            with suppress(ParcelqError, OSError):
                if not kept.segments(job.record.id):
                    kept.drop(job.record)
