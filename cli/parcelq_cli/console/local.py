"""The jobs of one machine in the console: those that `parcelq jobs --json` lists, and those completed since the console
started.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from parcelq.collect.deaths import Dead
from parcelq.collect.page.figures import figures_of
from parcelq.collect.page.render import content
from parcelq.collect.page.verdict import verdict
from parcelq.collect.report import report_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.runs import indexes_of, read_record
from parcelq.errors import JobError, NotFoundError, ParcelqError
from parcelq.local.jobs import source_of
from parcelq.local.kept import Kept
from parcelq.local.manage import LocalJobs
from parcelq.local.state import LocalRecord
from parcelq.result_names import COMPRESSED, DEAD, PAGE, REPORT
from parcelq.upload.notes import notes_of

from parcelq_cli.console.view import JobView, Which, banner, chosen, main_of

_TRIES: Final = 5
"""How often to retry reading a job while its segments are being merged."""
_RATE_SECONDS: Final = 30.0
"""A rate is the average of the last `_RATE_SECONDS` seconds."""


@dataclass(frozen=True, slots=True)
class _Read:
    """The files of a job, as read at one moment.

    Attributes:
        record: the job's record.
        total: bytes of its source; None if unknown.
        collected: its collected messages; None if there are none.
        resolution: their resolution: the result, the dead entries and the holes.
    """

    record: LocalRecord
    total: int | None
    collected: Collected | None
    resolution: Resolution

    @property
    def missing(self) -> int | None:
        """Bytes that are neither collected nor dead; None if unknown."""
        if self.total is None:
            return None
        return self.total - self.resolution.covered - self.resolution.dead_bytes

    @property
    def share(self) -> float | None:
        """The share of the source that is done, dead entries included."""
        return None if self.missing is None or not self.total else 1 - self.missing / self.total


@dataclass(slots=True)
class _Began:
    """An action that this console runs on a job: its thread, and the event that stops it."""

    thread: threading.Thread
    cancelled: threading.Event


@dataclass(slots=True)
class LocalConsole:
    """The jobs of one folder of results.

    Attributes:
        results: the folder.
        clock: returns a time in seconds.
    """

    results: Path
    clock: Callable[[], float] = time.monotonic
    _began: dict[str, _Began] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    _known: dict[str, LocalRecord] = field(default_factory=dict)
    _seen: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    _cache: dict[str, tuple[tuple[str, ...], Collected, Resolution]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def views(self) -> Sequence[JobView]:
        """Return the progress of all jobs; those completed while the console runs are last."""
        with self._lock:
            records = self._records()
            there = {record.id for record in records}
            views = [self._view(self._read(record)) for record in records]
            gone = [record for name, record in self._known.items() if name not in there]
            return [*views, *(_whole(record) for record in gone if self._is_whole(record))]

    def main(self, job: str) -> str:
        """Return the main element of a job's page."""
        with self._lock:
            records = {record.id: record for record in self._records()}
            if job in records:
                read = self._read(records[job])
                return self._page(read, self._view(read))
            if job in self._known and self._is_whole(self._known[job]):
                return self._whole_page(self._known[job])
        raise JobError(job, "there is no such job; the list shows all jobs")

    def act(self, job: str, action: str, which: Which) -> str:
        """Begin an action on a job."""
        with self._lock:
            view = next((one for one in self.views() if one.id == job), None)
            if view is None or action not in view.actions:
                state = (
                    "there is no such job"
                    if view is None
                    else f"it is {view.state}, so this action is not possible now"
                )
                raise JobError(job, state)
            if action == "cancel":
                self._began[job].cancelled.set()
                return "The job stops; finished work is kept."
            only = chosen(which) if action == "redrive" else None
            self._begin(job, redrive=action == "redrive", only=only)
            return "Failed records run again." if action == "redrive" else "The job continues with what is missing."

    def close(self) -> None:
        """Stop all actions that this console began, and wait until they have stopped."""
        for began in self._began.values():
            began.cancelled.set()
        for began in self._began.values():
            began.thread.join()

    def _begin(self, job: str, *, redrive: bool, only: Callable[[Dead], bool] | None) -> None:
        cancelled = threading.Event()

        def run() -> None:
            try:
                LocalJobs(self.results).run_again(job, redrive=redrive, only=only, go_on=True, cancelled=cancelled)
            except ParcelqError as error:
                if not cancelled.is_set():
                    self._problems[job] = str(error)

        self._problems.pop(job, None)
        self._seen.pop(job, None)
        thread = threading.Thread(target=run, name=f"parcelq-{job}", daemon=True)
        self._began[job] = _Began(thread, cancelled)
        thread.start()

    def _records(self) -> list[LocalRecord]:
        if not self.results.is_dir():
            return []
        records = Kept.beside(self.results).state.records()
        self._known |= {record.id: record for record in records}
        return records

    def _read(self, record: LocalRecord) -> _Read:
        """Read a job without changing it: a command may run it at the same time."""
        kept = Kept.beside(self.results)
        for _ in range(_TRIES):
            keys = kept.segments(record.id)
            if not keys:
                break
            if self._cache.get(record.id, ((),))[0] == tuple(keys):
                _, collected, resolution = self._cache[record.id]
                return _Read(record, _size(record, resolution, self.results), collected, resolution)
            try:
                collected = Collected(kept.store, indexes_of(kept.store, keys, read_record(kept.store, keys)))
                resolution = collected.resolve()
            except NotFoundError:
                continue
            self._cache[record.id] = tuple(keys), collected, resolution
            return _Read(record, _size(record, resolution, self.results), collected, resolution)
        return _Read(record, _size(record, Resolution(None), self.results), None, Resolution(None))

    def _view(self, read: _Read) -> JobView:
        job = read.record.id
        began = self._began.get(job)
        is_own = began is not None and began.thread.is_alive()
        is_running = is_own or Kept.beside(self.results).state.is_running(read.record)
        if is_running:
            state, actions = "running", ("cancel",) if is_own else ()
        else:
            state = "finished" if read.missing == 0 else "stopped"
            actions = (*(("redrive",) if read.resolution.has_dead else ()), *(("resume",) if read.missing != 0 else ()))
        rate, left = self._rate(read) if is_running else (None, None)
        problem = self._problems.get(job, "")
        title, dead = read.record.result, read.resolution.dead
        return JobView(job, title, state, read.share, dead, rate, left, actions, problem)

    def _rate(self, read: _Read) -> tuple[float | None, float | None]:
        """Entries of the result per second, and the remaining seconds, calculated from earlier views."""
        seen = self._seen.setdefault(read.record.id, [])
        done = read.resolution.covered + read.resolution.dead_bytes
        seen.append((self.clock(), done, read.resolution.entries))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > _RATE_SECONDS:
            seen.pop(0)
        seconds, gained = seen[-1][0] - seen[0][0], seen[-1][1] - seen[0][1]
        if seconds < 1 or gained <= 0:
            return None, None
        left = None if read.missing is None else read.missing * seconds / gained
        return max(0, seen[-1][2] - seen[0][2]) / seconds, left

    def _page(self, read: _Read, view: JobView) -> str:
        if read.collected is None:
            return f"<main>{banner(view, 'It has no results yet.')}</main>"
        notes = notes_of(Kept.beside(self.results).store, read.record.source)
        result, resolution = read.record.result, read.resolution
        listed = result + DEAD if (self.results / (result + DEAD)).exists() else ""
        report = report_of(
            read.record.source,
            read.collected,
            resolution,
            notes,
            result,
            written=resolution.size,
            dead_list=listed,
            listed=0,
        )
        recipe = {name: value for name, value in read.record.recipe.items() if value}
        report = replace(report, workflows=read.record.versions, recipe=recipe)
        figures = figures_of(read.collected, resolution.up_to(read.total), notes)
        shown = banner(view, verdict(report).sentence)
        return content(report, figures, shown, redrivable="redrive" in view.actions)

    def _is_whole(self, record: LocalRecord) -> bool:
        """Whether a job without state has a complete result, which the report beside the result says."""
        try:
            report = json.loads((self.results / f"{record.result}{REPORT}").read_bytes())
            return report["source"] == record.source and report["complete"] is True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _whole_page(self, record: LocalRecord) -> str:
        """The main element of the page beside a complete result."""
        page = (self.results / f"{record.result}{PAGE}").read_text(encoding="utf-8")
        return main_of(page)


def _whole(record: LocalRecord) -> JobView:
    return JobView(record.id, record.result, "whole", 1.0, 0)


def _size(record: LocalRecord, resolution: Resolution, results: Path) -> int | None:
    """Bytes of a job's source, from its messages, or else from its files; None if these are compressed."""
    if resolution.total is not None:
        return resolution.total
    is_compressed = any(one.state.path.name.lower().endswith(COMPRESSED) for one in record.files)
    return None if is_compressed else source_of(record, results).size
