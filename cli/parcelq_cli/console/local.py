"""Shows the jobs of one machine in the console, with those completed since the console started."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.collect.page.figures import Figures, figures_of
from parcelq.collect.report import Report, report_of
from parcelq.errors import JobError, ParcelqError
from parcelq.local.kept import Kept
from parcelq.local.manage import JobStatus, LocalJobs
from parcelq.local.state import LocalRecord
from parcelq.result_names import DEAD, PAGE, REPORT
from parcelq.upload.notes import notes_of

from parcelq_cli.console.view import JobView, Selected, sentence_of

_RATE_SECONDS: Final = 30.0
"""A rate is the average of the last `_RATE_SECONDS` seconds."""


class _Began(NamedTuple):
    """An action that this console runs on a job: the thread, and the event that stops the action."""

    thread: threading.Thread
    cancelled: threading.Event


@dataclass(slots=True)
class LocalConsole:
    """The jobs of one folder of results."""

    results: Path
    clock: Callable[[], float] = time.monotonic
    _began: dict[str, _Began] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    _known: dict[str, JobStatus] = field(default_factory=dict)
    _records: dict[str, LocalRecord] = field(default_factory=dict)
    _seen: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def views(self) -> Sequence[JobView]:
        """Return the progress of all jobs. Jobs that were completed since the console started are last."""
        with self._lock:
            there = LocalJobs(self.results).all(self._known) if self.results.is_dir() else []
            self._records |= {one.record.id: one.record for one in there}
            gone = [one for name, one in self._records.items() if name not in self._known and self._is_whole(one)]
            return [*map(self._view, there), *(JobView(one.id, one.result, "whole", 1.0, 0) for one in gone)]

    def view(self, job: str) -> JobView:
        for view in self.views():
            if view.id == job:
                return view
        raise JobError(job, "there is no such job; the list shows all jobs")

    def written(self, job: str) -> str:
        path = self.results / f"{self._records[job].result}{PAGE}"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def drawn(self, job: str) -> tuple[Report, Figures] | None:
        with self._lock:
            status = self._known.get(job)
        if status is None or status.collected is None:
            return None
        record, resolution = status.record, status.resolution
        notes = notes_of(Kept.beside(self.results).store, record.source)
        listed = record.result + DEAD if (self.results / (record.result + DEAD)).exists() else ""
        about = (record.source, status.collected, resolution, notes, record.result)
        report = report_of(*about, written=resolution.size, dead_list=listed, listed=0)
        recipe = {name: value for name, value in record.recipe.items() if value}
        report = report._replace(workflows=record.versions, recipe=recipe)
        return report, figures_of(status.collected, resolution, notes)

    def redrive(self, job: str, only: Selected) -> None:
        self._begin(job, redrive=True, only=only)

    def resume(self, job: str) -> None:
        self._begin(job, redrive=False, only=None)

    def cancel(self, job: str) -> None:
        """Stop the action that this console began on a job."""
        self._began[job].cancelled.set()

    def close(self) -> None:
        """Stop all actions that this console began, and wait until all have stopped."""
        for began in self._began.values():
            began.cancelled.set()
        for began in self._began.values():
            began.thread.join()

    def _begin(self, job: str, *, redrive: bool, only: Selected) -> None:
        cancelled = threading.Event()

        def run() -> None:
            try:
                LocalJobs(self.results).run_again(job, redrive=redrive, only=only, go_on=True, cancelled=cancelled)
            except (ParcelqError, OSError) as error:
                if not cancelled.is_set():
                    self._problems[job] = sentence_of(error)

        with self._lock:
            if self._is_own(job):
                raise JobError(job, "it runs already")
            self._problems.pop(job, None)
            self._seen.pop(job, None)
            thread = threading.Thread(target=run, name=f"parcelq-{job}", daemon=True)
            self._began[job] = _Began(thread, cancelled)
            thread.start()

    def _is_whole(self, record: LocalRecord) -> bool:
        """Return whether the report of a job whose state was deleted says that the result is complete."""
        try:
            report = json.loads((self.results / f"{record.result}{REPORT}").read_bytes())
            return report["source"] == record.source and report["complete"] is True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _is_own(self, job: str) -> bool:
        """Return whether this console runs a job now."""
        return job in self._began and self._began[job].thread.is_alive()

    def _view(self, status: JobStatus) -> JobView:
        job, dead = status.record.id, status.dead
        is_own = self._is_own(job)
        if is_own or status.is_running:
            state, actions, (rate, left) = "running", ("cancel",) * is_own, self._rate(status)
        else:
            state, rate, left = status.state, None, None
            actions = ("redrive",) * bool(dead) + ("resume",) * (status.missing != 0)
        problem = self._problems.get(job, "")
        return JobView(job, status.record.result, state, status.share, dead, rate, left, actions, problem)

    def _rate(self, status: JobStatus) -> tuple[float | None, float | None]:
        """Return how many entries per second the result gains, and the remaining seconds."""
        seen = self._seen.setdefault(status.record.id, [])
        resolution = status.resolution
        seen.append((self.clock(), resolution.covered + resolution.dead_bytes, resolution.entries))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > _RATE_SECONDS:
            seen.pop(0)
        seconds, gained = seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]
        if seconds < 1 or gained <= 0:
            return None, None
        left = None if status.missing is None else status.missing * seconds / gained
        return max(0, seen[-1][2] - seen[0][2]) / seconds, left
