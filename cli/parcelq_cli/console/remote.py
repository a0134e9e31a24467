"""Shows the jobs of a stack in the console, live. They are the jobs that `parcelq jobs --stack` lists."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from parcelq.collect.page.figures import Figures, figures_of
from parcelq.collect.report import Report
from parcelq.collect.reporting import stopped_report
from parcelq.collect.resolution import Collected
from parcelq.errors import NotFoundError
from parcelq.jobs.record import JobRecord, State
from parcelq.lineage.source import Source
from parcelq.stack.jobs import StackJobs
from parcelq.upload.notes import notes_of

from parcelq_cli.console.view import JobView, Selected

MOST_SHOWN: Final = 500
"""How many jobs the list shows: incomplete jobs first, and within both groups the newest first."""


@dataclass(slots=True)
class StackConsole:
    """The jobs of a stack."""

    jobs: StackJobs
    _known: dict[str, tuple[str, JobRecord | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def views(self) -> Sequence[JobView]:
        """Return the progress of jobs. Only job records that changed since the last call are read."""
        with self._lock:
            records = self.jobs.all(self._known)
        return [view_of(one) for one in sorted(records, key=lambda one: one.is_whole)[:MOST_SHOWN]]

    def view(self, job: str) -> JobView:
        return view_of(self.jobs.find(job))

    def written(self, job: str) -> str:
        store = self.jobs.store
        try:
            return store.read(Source.parse(self.jobs.find(job).source).names(store.bucket).page).decode()
        except NotFoundError:
            return ""

    def drawn(self, job: str) -> tuple[Report, Figures] | None:
        record, store = self.jobs.find(job), self.jobs.store
        notes, names = notes_of(store, record.source), Source.parse(record.source).names(store.bucket)

        def draw(collected: Collected | None) -> tuple[Report, Figures] | None:
            if collected is None:
                return None
            resolution = collected.resolve().up_to(record.total)
            report = stopped_report(record, collected, resolution, notes, names)
            return report._replace(bytes_written=resolution.size), figures_of(collected, resolution, notes)

        return self.jobs.read(record, draw)

    def redrive(self, job: str, only: Selected) -> None:
        self.jobs.redrive(job, only=only)

    def resume(self, job: str) -> None:
        self.jobs.resume(job)

    def cancel(self, job: str) -> None:
        self.jobs.cancel(job)

    def close(self) -> None:
        """Do nothing: the stack continues without the console."""


def view_of(record: JobRecord) -> JobView:
    """Return the progress of a job from its job record."""
    state, rate, left = "whole" if record.is_whole else str(record.state), None, None
    actions = ("redrive",) * record.has_dead
    if not record.state.is_ended:
        state, actions, left = "running", ("cancel",) * (record.state is not State.FINISHING), record.time_left
        rate = record.rate * record.entries / record.covered if record.covered else None
    elif record.state is not State.FINISHED:
        actions += ("resume",) * bool(record.topic)
    title = Source.parse(record.source).name
    return JobView(record.id, title, state, record.share, record.dead, rate, left, actions, record.problem)
