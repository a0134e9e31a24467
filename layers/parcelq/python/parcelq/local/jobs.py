"""Jobs on one machine: how far they are, and what is left to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parcelq.collect.segments import Job
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
    """A job that is being run.

    Attributes:
        source: what is read.
        record: what is kept of it.
        missing: ranges of the source that are to be run.
        marks: where messages begin and end that have dead parts, although these are no entries of the source.
        total: bytes of the source; None if that is not known.
        done: bytes of it that are done already.
        stored: whether something of it was stored when this run began.
        is_noted: whether the number of the source's records is noted.
        report: the report of its result, where that is whole and only cleaning was left to do; else None.
        uploaded: whether all of it was published.
        problem: why it cannot go on; empty where it can.
        is_hopeless: whether that stays so however often it is tried.
        healings: how often what was missing was published again.
        is_closed: whether nothing is kept of it any more.
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
        """Whether its result is there, and only cleaning was left to do."""
        return self.report is not None

    @property
    def job(self) -> Job:
        """Whose messages its messages are."""
        return Job(self.record.source, self.record.workflow)


def _record_of(source: LocalSource, options: Options, recipe: Mapping[str, Any], kept: Kept) -> LocalRecord:
    """The record of a job that is new."""
    workflow = workflow_name(options.workflow)
    job = Job(str(source.source), workflow)
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
    """The source of a job that is kept."""
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
    """Claim the jobs of sources, and find out what is left to do of them.

    No part of a job is deleted before all of them are known to be free and fit to go on.

    Args:
        sources: the sources.
        options: how they are run.
        kept: what is kept beside the results.
        command: id of the command that claims them.
        note: called with sentences about things that may surprise the user.
        redrive: whether dead entries are to be run again.
        chosen: with `redrive`, where those dead entries are that are run again; None for all.

    Raises:
        JobError: another command runs one of them, one began with other steps and the options do not say what to do, or
            another job with the same result could still continue.
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
            f"{other.result!r} was the result of {other.paths!r} in an earlier state, or of another job; the state of "
            f"job {other.id} is deleted"
        )
        kept.drop(other)
    known = [(job, record) for job, record in zip(jobs, records, strict=True) if record.id in present]
    for job, record in known:
        if not (job.stored or job.is_whole):
            kept.drop_stored(record)  # with --fresh, or what a killed command left
            job.record = replace(record, command=command)
        versions = tuple(dict.fromkeys([*job.record.versions, options.version]))
        job.record = replace(job.record, versions=versions, recipe=record.recipe)
    kept.state.write([job.record for job, _ in known])
    return jobs


def look_at(job: LocalJob, kept: Kept, *, redrive: bool = False, chosen: Sequence[Range] | None = None) -> None:
    """Find out how far a job is, and what is missing.

    Args:
        job: the job.
        kept: what is kept beside the results.
        redrive: whether dead entries are missing too.
        chosen: with `redrive`, where those are; None for all.

    Raises:
        ParcelqError: what is stored cannot be read.
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
    with suppress(ValueError, KeyError):  # of a note that a crash left empty
        notes = notes_of(kept.notes, job.record.source)
        job.is_noted = job.total is not None and entries_in(notes, 0, job.total, job.total) is not None
    if not job.is_noted:
        shutil.rmtree(kept.notes.folder / upload_folder(job.record.source), ignore_errors=True)


def missing_of(collected: Collected, resolution: Resolution, dead: Sequence[Range] = ()) -> list[Range]:
    """Ranges of a source that are missing, in order, those that touch as one.

    Args:
        collected: the messages that are stored.
        resolution: what they make.
        dead: where dead entries are that count as missing.
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
    """Bytes of ranges, those that are equal counted once."""
    return sum(end - start for start, end in set(ranges))


def _check_version(job: LocalJob, options: Options) -> None:
    """Check that a job may continue with these steps: if nothing is done yet, or if they are the same as before."""
    if job.is_whole:
        job.report = job.report if job.record.versions[-1:] == (options.version,) else None
    elif job.done and job.record.versions[-1:] != (options.version,) and not options.go_on:
        share = f"{100 * job.done / job.total:.0f} %" if job.total else f"{job.done:,} bytes"
        raise JobError(
            job.record.id,
            f"{share} of {job.source.title!r} are done with an earlier version of the steps; --continue runs the rest "
            f"with this one, --fresh starts over, parcelq redrive {job.record.id[:12]} runs only dead entries again",
        )


def _check_replaceable(other: LocalRecord, kept: Kept) -> None:
    """Check that no work is lost when a job takes over the name of another job's result: that one is finished, or
    cannot continue."""
    collected = kept.collected(other.id, tidies=False)
    if collected and not collected.resolve().finished and all(file.is_unchanged() for file in other.files):
        raise JobError(
            other.id,
            f"it is not finished, and its result is called {other.result!r} too; parcelq resume {other.id[:12]} "
            "continues it, --name or --output give the new result another name, --fresh deletes what it has done",
        )


def release(jobs: Iterable[LocalJob], kept: Kept) -> None:
    """Forget jobs that have stored nothing; the same command begins them anew."""
    for job in jobs:
        if not job.is_closed:
            with suppress(ParcelqError, OSError):
                if not kept.segments(job.record.id):
                    kept.drop(job.record)
