"""Waits for jobs of a stack by reading the jobs' records again and again, and downloads the results."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.collect.seeing import SourceState
from parcelq.errors import InvalidValueError, JobError, NotFoundError, ParcelqError
from parcelq.jobs.record import JobRecord, State, key_of
from parcelq.lineage.source import Source
from parcelq.local.finish import FileResult
from parcelq.local.progress import Progress
from parcelq.names import INBOX, JOBS
from parcelq.result_names import result_names
from parcelq.stack.jobs import StackJobs
from parcelq.store.bucket import BucketStore

LOOK_SECONDS: Final = 1.0
_READS_IN_FLIGHT: Final = 16
_INBOX_LOOKS: Final = 5
"""After each such number of polls, check whether the files without a job are still in the inbox."""
_CLOCKS_DIFFER: Final = 5.0
"""By how many seconds a job's record may seem older than the job's file, because clocks differ."""

OnProgress = Callable[[Progress], None]


class Put(NamedTuple):
    """A file in the inbox of a stack. `name` is the name below `inbox/`, `etag` has no quotes, `modified` is the time
    of the upload in seconds since the epoch, and `job` is the id of the file's job, or empty if the job is not known
    yet.
    """

    name: str
    etag: str = ""
    modified: float = 0.0
    size: int = 0
    job: str = ""

    @property
    def file(self) -> str:
        """The file's own name, without folders."""
        return self.name.rpartition("/")[2]


def found_in_inbox(store: BucketStore, name: str) -> Put:
    """Return a description of the file of this name in the inbox. Raises ParcelqError if the inbox has no such file."""
    found = store.stat(f"{INBOX}{name}")
    if found is None:
        raise ParcelqError(f"there is no s3://{store.bucket}/{INBOX}{name}; parcelq run --detach prints the names")
    return Put(name, found.etag.strip('"'), found.modified, found.size)


def put_of_job(record: JobRecord) -> Put:
    """Return the file in the inbox over which a job runs."""
    return Put(Source.parse(record.source).name, size=record.total or 0, job=record.id)


@dataclass(slots=True)
class Followed:
    """Files in the inbox of a stack, and the jobs that run a workflow over these files.

    Attributes:
        problems: maps a file to the reason why the file will never have a job.
    """

    jobs: StackJobs
    puts: Sequence[Put]
    records: dict[Put, JobRecord] = field(default_factory=dict)
    problems: dict[Put, str] = field(default_factory=dict)
    _ids: dict[Put, str] = field(default_factory=dict)
    _others: set[str] = field(default_factory=set)
    _looks: int = 0

    def look(self) -> None:
        """Find the jobs that have begun meanwhile, and then read the records of all jobs that have not ended."""
        self._ids |= {put: put.job for put in self.puts if put.job}
        waiting = [put for put in self.puts if put not in self._ids and put not in self.problems]
        if waiting:
            self._find(waiting)
            if self._looks % _INBOX_LOOKS == _INBOX_LOOKS - 1:
                self._look_for_problems([put for put in waiting if put not in self._ids])
            self._looks += 1
        going = [put for put in self._ids if not self.has_ended(put)]
        for put, record in in_flight(lambda put: (put, self.jobs.find(self._ids[put])), going, _READS_IN_FLIGHT):
            self.records[put] = record

    def has_ended(self, put: Put) -> bool:
        """Return whether the job of a file has ended or will never begin."""
        record = self.records.get(put)
        return put in self.problems or (record is not None and not record.is_looked_at)

    def cancel(self) -> bool:
        """Cancel the running jobs. If a job has not begun yet, cancel no job and return False."""
        if any(put not in self.records and put not in self.problems for put in self.puts):
            return False
        for put, record in self.records.items():
            if not self.has_ended(put):
                with suppress(JobError):  # the job has just ended
                    self.jobs.cancel(record.id)
        return True

    def progress(self) -> Progress:
        """Return the progress of all files together, according to the job records that were read last."""
        total = sum(put.size for put in self.puts) or 1
        records = self.records.values()
        shares = ((put, 1.0 if one.state is State.FINISHED else one.share) for put, one in self.records.items())
        done = sum(put.size * (share or 0.0) for put, share in shares)
        entries, dead = sum(one.entries for one in records), sum(one.dead for one in records)
        reason = next((one.reason for one in records if one.reason), "")
        left = max((one.time_left for one in records if one.time_left is not None), default=None)
        going = [one for put, one in self.records.items() if not self.has_ended(put)]
        rate = sum(one.rate * one.entries / one.covered for one in going if one.covered)
        seconds = max((one.seconds for one in records), default=0.0)
        shown = next((one.map for one in going if one.map), "")
        return Progress(min(1.0, done / total), entries, rate, left, dead, reason, seconds, shown)

    def _find(self, waiting: Sequence[Put]) -> None:
        """Find the jobs of files among jobs that began after the upload of the files. Each job record is read once."""
        since = min(put.modified for put in waiting) - _CLOCKS_DIFFER
        listed = (one.key for one in self.jobs.store.listing(JOBS) if one.modified >= since)
        new = [key for key in listed if key not in self._others]
        wanted = {(put.name, put.etag): put for put in waiting}
        for record in in_flight(self.jobs.read_listed, new, _READS_IN_FLIGHT):
            if record:
                source = Source.parse(record.source)
                put = wanted.get((source.name, source.etag))
                if put and source.bucket == self.jobs.store.bucket and record.started >= put.modified - _CLOCKS_DIFFER:
                    self._ids[put] = record.id
                self._others.add(key_of(record.id))

    def _look_for_problems(self, waiting: Sequence[Put]) -> None:
        for put in waiting:
            now = self.jobs.store.stat(f"{INBOX}{put.name}")
            if now is None:
                self.problems[put] = "it was deleted from the inbox"
            elif now.etag.strip('"') != put.etag:
                self.problems[put] = "another file of that name was put into the inbox"


def follow(
    followed: Followed,
    folder: Path,
    on_progress: OnProgress = lambda _progress: None,
    cancelled: threading.Event | None = None,
) -> list[FileResult]:
    """Wait until the jobs of all files have ended, download the results, and return the outcomes in the order of the
    files. Raises JobError if the jobs were cancelled; results of finished messages are then kept.

    Args:
        on_progress: called once a second with the progress of all files.
        cancelled: when this event is set, the jobs are cancelled.
    """
    stop = cancelled or threading.Event()
    results: dict[Put, FileResult] = {}
    while True:
        followed.look()
        for put in followed.puts:
            if put not in results and followed.has_ended(put):
                results[put] = result_of(followed, put, folder)
        on_progress(followed.progress())
        if len(results) == len(followed.puts):
            return [results[put] for put in followed.puts]
        if stop.is_set() and followed.cancel():
            first = next((record.id for record in followed.records.values()), "")
            raise JobError(first, "it was cancelled; finished work is kept, and parcelq resume continues it")
        _pause(stop)


def _pause(stop: threading.Event) -> None:
    (time.sleep if stop.is_set() else stop.wait)(LOOK_SECONDS)


def result_of(followed: Followed, put: Put, folder: Path) -> FileResult:
    """Download the result of a file whose job has ended, and return the outcome."""
    local, store = result_names(put.file), followed.jobs.store
    record = followed.records.get(put)
    if record is None:
        return FileResult(put.file, "", local, SourceState(""), problem=followed.problems[put])
    remote = Source.parse(record.source).names(store.bucket)
    report = _report(store, remote.report, record)
    state = SourceState(record.source, record.covered, record.total, record.dead, record.hole_count)
    has_result = record.state is State.FINISHED and record.result
    for one, name in zip(remote, local, strict=True) if report else ():
        if has_result or one != remote.result:
            _fetch(store, one, folder / name, needed=one == remote.result)
    if not (has_result and report):
        later = "the result of a later put of the same file, or of another job, has replaced its result"
        return FileResult(put.file, record.id, local, state, record.healings, record.why_no_result or later)
    state = state._replace(result=record.result, report=report)
    return FileResult(put.file, record.id, local, state, record.healings)


def _report(store: BucketStore, key: str, record: JobRecord) -> Mapping[str, Any] | None:
    """Return the report of a job; None if the report does not exist or belongs to another job."""
    try:
        report: Mapping[str, Any] = json.loads(store.read(key))
        return report if report["source"] == record.source else None
    except (NotFoundError, ValueError, KeyError, TypeError):
        return None


def _fetch(store: BucketStore, key: str, path: Path, *, needed: bool) -> None:
    """Replace a file by an object atomically. If the object is missing and not `needed`, delete the file."""
    if not needed and store.stat(key) is None:
        path.unlink(missing_ok=True)
        return
    if path.is_dir():
        raise InvalidValueError("result", str(path), "a file, but there is a folder of that name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".parcelq-{uuid.uuid4().hex}")
    try:
        with translated():
            store.s3.download_file(store.bucket, key, str(part))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
