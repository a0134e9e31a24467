"""Finishes a job on one machine: replaces an earlier result only when the new result is complete."""

from __future__ import annotations

from typing import NamedTuple

from parcelq.collect.finish import Finisher
from parcelq.collect.seeing import SourceState
from parcelq.errors import ParcelqError
from parcelq.jobs.changes import MOST_HEALINGS
from parcelq.local.jobs import LocalJob, missing_of
from parcelq.local.kept import Kept
from parcelq.names import OUTPUT
from parcelq.result_names import ResultNames


class FileResult(NamedTuple):
    """The outcome of a job over a file, or over several files with one result.

    Attributes:
        file: the name that the user gave to the file.
        names: the paths of the result and of the files beside it, below the folder of results.
        healings: how often the job's missing records were published again.
        problem: why there is no result; empty if there is a result.
    """

    file: str
    job: str
    names: ResultNames
    state: SourceState
    healings: int = 0
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Whether every entry is in the result, and no check suggests that the result is wrong."""
        return bool(self.state.report and self.state.report["complete"]) and not self.problem


def finish(job: LocalJob, kept: Kept) -> FileResult | None:
    """Write the result of a job that has no messages in progress. Return None if missing records must run again. Raises
    StoreError or OSError if the result cannot be written.
    """
    if job.is_whole:
        state = SourceState(job.record.source, 0, job.total, 0, 0, job.record.result, report=job.report)
        return _closed(job, kept, state)
    _check_unchanged(job)
    if job.problem:
        if job.is_hopeless:
            return _closed(job, kept, _nothing(job), job.problem)
        return _unfinished(job, _nothing(job), job.problem)
    _make_way(job, kept)
    state = _finisher(job, kept).finish_job(job.record.id) or _nothing(job)
    if state.result and not state.dead:
        return _closed(job, kept, state)
    if state.result or state.problem or job.healings == MOST_HEALINGS:
        problem = "" if state.result else state.problem or f"{state.holes} parts of it are missing"
        return _unfinished(job, state, problem)
    job.healings += 1
    if collected := kept.collected(job.record.id):
        resolution = collected.resolve()
        job.missing, job.total = missing_of(collected, resolution), resolution.total
    return None


def _finisher(job: LocalJob, kept: Kept) -> Finisher:
    return Finisher(
        kept.store,
        OUTPUT,
        "",
        kept.results,
        replaces=True,
        names=lambda _: job.source.names,
        versions=job.record.versions,
        recipe={name: value for name, value in job.record.recipe.items() if value},
    )


def _make_way(job: LocalJob, kept: Kept) -> None:
    """Delete the report and the other files beside an earlier result, as they would seem to describe the new result.

    The earlier result itself stays until the new result replaces it.
    """
    names = job.source.names
    present = kept.results.stat(names.result)
    collected = kept.collected(job.record.id) if present else None
    if present and collected:
        resolution = collected.resolve()
        if resolution.finished and present.metadata.get("parcelq-state") != resolution.state:
            kept.results.delete([names.report, names.page, names.dead])


def _closed(job: LocalJob, kept: Kept, state: SourceState, problem: str = "") -> FileResult:
    """Delete the state of a finished job, and return the outcome of the job. The job's record stays until the command
    has finished all of its jobs, so that a repeated command does not run the job again.
    """
    kept.drop_stored(job.record)
    job.is_closed = True
    return _unfinished(job, state, problem)


def _unfinished(job: LocalJob, state: SourceState, problem: str) -> FileResult:
    """Return the outcome of a job whose state is kept, because records are missing or entries are dead."""
    return FileResult(job.source.title, job.record.id, job.source.names, state, job.healings, problem)


def _check_unchanged(job: LocalJob) -> None:
    try:
        job.source.check_unchanged()
    except ParcelqError as error:
        job.problem, job.is_hopeless = job.problem or str(error), True


def _nothing(job: LocalJob) -> SourceState:
    return SourceState(job.record.source, 0, job.total, 0, 1)
