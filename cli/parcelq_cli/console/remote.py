"""The jobs of a stack in the console: those that `parcelq jobs --stack` lists, live."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from parcelq.collect.page.figures import figures_of
from parcelq.collect.page.render import content
from parcelq.collect.page.verdict import verdict
from parcelq.collect.reporting import stopped_report
from parcelq.errors import JobError, NotFoundError
from parcelq.jobs.record import JobRecord, State
from parcelq.lineage.source import Source
from parcelq.stack.jobs import StackJobs
from parcelq.upload.notes import notes_of

from parcelq_cli.console.view import JobView, Which, banner, chosen, main_of

MOST_SHOWN: Final = 500
"""Jobs shown in the list: incomplete jobs first, and the newest first within each kind."""


@dataclass(slots=True)
class StackConsole:
    """The jobs of a stack.

    Attributes:
        jobs: the jobs.
    """

    jobs: StackJobs
    _known: dict[str, tuple[str, JobRecord | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def views(self) -> Sequence[JobView]:
        """Return the progress of jobs. Only records that changed since the last call are read."""
        with self._lock:
            records = self.jobs.all(self._known)
        return [view_of(one) for one in sorted(records, key=lambda one: one.is_whole)[:MOST_SHOWN]]

    def main(self, job: str) -> str:
        """Return the main element of a job's page."""
        record = self.jobs.find(job)
        view, store = view_of(record), self.jobs.store
        names = Source.parse(record.source).names(store.bucket)
        if record.is_whole:
            try:
                return main_of(store.read(names.page).decode())
            except NotFoundError:
                return f"<main>{banner(view, 'Its result is complete, but its report was deleted.')}</main>"
        collected = self.jobs.collected(record)
        if collected is None:
            return f"<main>{banner(view, 'It has no results yet.')}</main>"
        notes = notes_of(store, record.source)
        resolution = collected.resolve().up_to(record.total)
        report = stopped_report(record, collected, resolution, notes, names)
        figures = figures_of(collected, resolution, notes)
        shown = banner(view, verdict(report).sentence)
        return content(report, figures, shown, redrivable="redrive" in view.actions)

    def act(self, job: str, action: str, which: Which) -> str:
        """Begin an action on a job."""
        view = view_of(self.jobs.find(job))
        if action not in view.actions:
            raise JobError(job, f"it is {view.state}, so this action is not possible now")
        if action == "cancel":
            self.jobs.cancel(view.id)
            return "The job is cancelled; finished work is kept."
        if action == "resume":
            self.jobs.resume(view.id)
            return "The job continues with what is missing."
        self.jobs.redrive(view.id, only=chosen(which))
        return "Failed records run again."

    def close(self) -> None:
        """Do nothing: the stack continues without the console."""


def view_of(record: JobRecord) -> JobView:
    """Return the progress of a job from its record."""
    actions: tuple[str, ...]
    if not record.state.is_ended:
        state, actions = "running", () if record.state is State.FINISHING else ("cancel",)
    elif record.state is State.FINISHED:
        state, actions = "whole" if record.is_whole else "finished", ("redrive",) if record.dead else ()
    else:
        dead = ("redrive",) if record.dead else ()
        state, actions = str(record.state), (*dead, *(("resume",) if record.topic else ()))
    rate = record.rate * record.entries / record.covered if state == "running" and record.covered else None
    left = record.time_left if state == "running" else None
    title = Source.parse(record.source).name
    return JobView(record.id, title, state, record.share, record.dead, rate, left, actions, record.problem)
