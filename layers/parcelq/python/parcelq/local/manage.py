"""Lists the incomplete jobs of one machine and the dead entries of a job, and continues a job by its id."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.collect.deaths import Dead, dead_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.source_map import LINE_CELLS, line_of, source_map_of
from parcelq.errors import JobError, NotFoundError, ParcelqError
from parcelq.jobs.assembled import check_number
from parcelq.jobs.limits import NO_LIMITS
from parcelq.lineage.source import is_job_id
from parcelq.local.finish import FileResult
from parcelq.local.jobs import take_up
from parcelq.local.kept import Kept
from parcelq.local.recipe import Recipe
from parcelq.local.run import OnProgress, run_jobs
from parcelq.local.state import LocalRecord
from parcelq.records.compression import begins_compressed
from parcelq.upload.notes import notes_of

_log = logging.getLogger(__name__)
_TRIES: Final = 5
"""How often reading a job is tried while another command merges the job's segments."""


class JobStatus(NamedTuple):
    """The progress of an incomplete job.

    Attributes:
        keys: the keys of the stored segments of the job.
        collected: the job's collected messages; None if there are none.
        resolution: which of the collected messages form the result.
    """

    record: LocalRecord
    is_running: bool
    keys: tuple[str, ...]
    collected: Collected | None
    resolution: Resolution

    @property
    def total(self) -> int | None:
        """How many bytes the source has; None if unknown."""
        return self.resolution.total

    @property
    def covered(self) -> int:
        """How many bytes of the source have stored results."""
        return self.resolution.covered

    @property
    def dead(self) -> int:
        """How many entries failed for good."""
        return self.resolution.dead

    @property
    def missing(self) -> int | None:
        """How many bytes of the source are neither done nor dead; None if unknown."""
        return None if self.total is None else self.resolution.missing

    @property
    def map(self) -> str:
        """The states of many equal parts of the source, one letter for each part; empty if unknown."""
        if self.collected is None or self.total is None:
            return ""
        try:
            return line_of(source_map_of(self.collected, self.resolution, cells=LINE_CELLS))
        except NotFoundError:  # another command has just merged or deleted its indexes
            return ""

    @property
    def state(self) -> str:
        """The job's state: `running`, `stopped`, or `finished` if only dead entries are left."""
        if self.is_running:
            return "running"
        return "finished" if self.missing == 0 else "stopped"

    @property
    def share(self) -> float | None:
        """The fraction of the source that is done or dead, from 0 to 1; None if unknown."""
        if self.total is None or self.missing is None:
            return None
        return 1 - self.missing / self.total if self.total else 1.0


class LocalJobs(NamedTuple):
    """The jobs of one folder of results."""

    results: Path

    def all(self, known: dict[str, JobStatus] | None = None) -> list[JobStatus]:
        """Return the progress of all incomplete jobs, sorted by the names of their results.

        `known` maps the ids of jobs to what an earlier call returned. Only jobs that changed since then are read again.
        """
        cache = {} if known is None else known
        kept = Kept.beside(self.results)
        records = (record for record in kept.state.records() if not kept.is_whole(record))
        found = [_status(record, kept, cache.get(record.id)) for record in records]
        cache.clear()
        cache.update((one.record.id, one) for one in found if one)
        return list(cache.values())

    def find(self, job: str) -> LocalRecord:
        """Return the job record of an incomplete job, given its id or the beginning of the id.

        Raises JobError if no job or more than one job has such an id.
        """
        kept = Kept.beside(self.results)
        records = kept.state.records() if is_job_id(job) else []
        found = [one for one in records if one.id.startswith(job) and not kept.is_whole(one)]
        if not found:
            raise JobError(
                job,
                f"there is no such job in {str(self.results)!r}, or it is complete; parcelq jobs lists incomplete jobs",
            )
        if len(found) > 1:
            raise JobError(job, f"{len(found)} jobs have ids that begin so: {', '.join(one.id for one in found)}")
        return found[0]

    def dead(self, job: str) -> Iterator[Dead]:
        """Yield the dead entries of a job in the order of the source. For the argument `job`, see `find`."""
        record = self.find(job)
        kept = Kept.beside(self.results)
        if collected := kept.collected(record.id, tidies=False):
            yield from dead_of(collected, notes_of(kept.store, record.source))

    def run_again(
        self,
        job: str,
        *,
        redrive: bool = False,
        only: Callable[[Dead], bool] | None = None,
        steps: Sequence[str] = (),
        go_on: bool = False,
        note: Callable[[str], None] = lambda _text: None,
        on_progress: OnProgress = lambda _progress: None,
        cancelled: threading.Event | None = None,
    ) -> FileResult:
        """Run the missing part of a job with its stored options, but without limits, and write its result.

        Args:
            job: the job's id, or the beginning of the id.
            redrive: whether the steps run again over the job's dead entries too. An entry that dies again is listed
                once.
            only: a function that says whether a dead entry runs again; None if all run again.
            steps: the steps that replace the job's steps, as many as the job has; empty to keep the steps.
            go_on: whether to continue although the steps changed; a redrive always continues.
            note, on_progress, cancelled: as in `run_files`.

        Raises:
            JobError: if there is no such job, if another command runs the job, if it has no dead entries, if the steps
                changed, or if `steps` has another number of steps.
            ParcelqError: if the job's files changed, or if the run was stopped; see `run_files`.
        """
        record = self.find(job)
        recipe = Recipe.of(record.recipe)
        if redrive:  # even if the step is not broken, all dead entries may die again
            recipe = recipe._replace(keep_going=True)
        if steps:
            check_number(record.id, steps, recipe.steps or steps)
            recipe = recipe._replace(steps=tuple(steps))
        options = recipe.options(self.results, note, go_on=go_on or redrive or bool(steps))
        options = options._replace(limits=NO_LIMITS)
        kept = Kept.beside(self.results)
        if redrive and next(self.dead(record.id), None) is None:
            raise JobError(record.id, "it has no dead entries; parcelq resume runs what is missing")
        chosen = [(one.start, one.end) for one in self.dead(record.id) if only(one)] if redrive and only else None
        if chosen == []:
            raise JobError(record.id, "the chosen entries are no longer dead")
        source = record.local
        try:
            source.check_unchanged()
        except ParcelqError as error:
            raise JobError(record.id, f"it cannot continue: {error}") from None
        with kept.state.command() as command:
            jobs = take_up([source], options, kept, command, note, redrive=redrive, chosen=chosen)
            return run_jobs(jobs, options, kept, on_progress, cancelled, note)[0]


def _status(record: LocalRecord, kept: Kept, known: JobStatus | None = None) -> JobStatus | None:
    """Return the progress of a job; None if the job has just finished, or cannot be read."""
    running = kept.state.is_running(record)
    for _ in range(_TRIES):
        keys = tuple(kept.segments(record.id))
        if known and known.keys == keys:
            return known._replace(record=record, is_running=running)
        try:
            collected = kept.opened(keys)
            resolution = collected.resolve() if collected else Resolution(None)
        except NotFoundError:  # the command that runs the job is merging the segments
            continue
        except ParcelqError as error:
            _log.warning("job %s of %r cannot be read: %s", record.id, record.paths, error)
            return None
        total = resolution.total if resolution.total is not None else _size(record)
        return JobStatus(record, running, keys, collected, resolution.up_to(total))
    return None


def _size(record: LocalRecord) -> int | None:
    """Return how many bytes a job's files have; None if a file is missing or compressed."""
    try:
        is_known = all(one.is_unchanged() and not begins_compressed(one.state.path) for one in record.files)
    except OSError:
        return None
    return record.local.size if is_known else None
