"""The state folder `.parcelq` beside results. The folder stores job records and the ids of running commands. It
is deleted when no job and no command needs it.

    lock            a lock that a command holds briefly, while it reads the whole folder or claims jobs
    commands/<id>   one file for each command that runs jobs now; the command locks its file until it ends
    jobs/<id>.json  a job record

The kernel releases the locks of a command however the command ends, so a killed command never blocks its jobs.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from parcelq.errors import JobError
from parcelq.lineage.source import Source
from parcelq.local.files import LocalFile, LocalSource
from parcelq.result_names import STATE

_log = logging.getLogger(__name__)
_JOBS: Final = "jobs"
_COMMANDS: Final = "commands"
_SPOOL: Final = "spool"
_FEW: Final = 16
_OWN: Final = (_JOBS, _COMMANDS, _SPOOL, "segments", "results", ".store")
"""The names of all files and folders that jobs create in the state folder."""
_UNFINISHED: Final = (".store/unfinished", "results/unfinished")
"""Folders with unfinished files of a store. Killed commands may leave such files."""


class LocalRecord(NamedTuple):
    """The job record of a job on one machine.

    Attributes:
        source: the attribute `Source` of the job's messages.
        workflow: the workflow's name; empty if there is none.
        result: the path of the result below the folder of results.
        versions: the digests of all versions of the steps that have run, with the newest last.
        recipe: the options of the run, from `Recipe.document`.
        command: the id of the last command that ran the job.
        before: the etag of the result that existed when the job began; empty if there was none.
        files, name, combined: as in `LocalSource`.
    """

    id: str
    source: str
    workflow: str
    result: str
    files: tuple[LocalFile, ...] = ()
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = {}
    command: str = ""
    before: str = ""
    combined: bool = False
    name: str = ""

    @classmethod
    def parse(cls, data: bytes) -> LocalRecord:
        """Parse a job record. Raises ValueError, TypeError or KeyError if the record is invalid."""
        fields = json.loads(data)
        files = tuple(LocalFile.parse(one) for one in fields["files"])
        record = cls(**{**fields, "versions": tuple(fields["versions"]), "files": files})
        texts = (record[:4], record.versions, (record.command, record.before, record.name))
        if not all(isinstance(text, str) for text in chain(*texts)) or not isinstance(record.recipe, dict):
            raise TypeError("a member has the wrong type")
        return record

    def to_json(self) -> str:
        """Return the job record as the content of its file."""
        fields = self._asdict()
        return json.dumps({**fields, "files": [one.document() for one in self.files]})

    @property
    def local(self) -> LocalSource:
        """The source that the job reads."""
        return LocalSource(self.files, self.name, Source.parse(self.source), self.combined)

    @property
    def paths(self) -> str:
        """The names that the user gave to the files; only the first name if the job has many files."""
        more = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return f"{self.files[0].name}{more}" if self.files else "no files"


class StateFolder:
    """The state of all jobs of one folder of results."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.folder = results / STATE
        self.spool = self.folder / _SPOOL
        self._jobs = self.folder / _JOBS

    @contextmanager
    def command(self) -> Iterator[str]:
        """Register a command that runs jobs while the context lasts; yield the id with which the command claims jobs.

        At the end, the folder is deleted if no job and no other command needs the folder.
        """
        is_new = not self.results.exists()
        name = uuid.uuid4().hex
        with ExitStack() as opened:
            with self._locked():
                opened.enter_context(self._commanding(name))
                self._sweep(name)
            try:
                yield name
            finally:
                with self._locked():
                    opened.close()
                    self._remove_if_unused()
                if is_new:
                    with suppress(OSError):
                        self.results.rmdir()

    def claim(self, command: str, wanted: Iterable[LocalRecord]) -> tuple[dict[str, LocalRecord], list[LocalRecord]]:
        """Claim jobs for a command. A job that does not exist yet is stored with the given job record.

        Returns:
            A dict from the ids of existing jobs to their job records; and the job records of other jobs that have the
            same results, because the files had other content or the workflow was another.

        Raises:
            JobError: if another command runs one of the jobs or writes the same result. No job is claimed in this case.
        """
        named = {one.id: one for one in wanted}
        results = {one.result for one in named.values()}
        with self._locked():
            present = {one.id: one for one in self.records()}
            same = [one for one in present.values() if one.id in named or one.result in results]
            for one in same:
                if one.command != command and self.is_running(one):
                    raise JobError(one.id, f"another command runs {one.paths!r} now; wait until it has ended")
            kept = {one.id: one for one in same if one.id in named}
            self.write([kept.get(name, one)._replace(command=command) for name, one in named.items()])
        return kept, [one for one in same if one.id not in named]

    def is_running(self, record: LocalRecord) -> bool:
        """Return whether a command runs a job now."""
        try:
            file = (self.folder / _COMMANDS / record.command).open("rb")
        except (FileNotFoundError, IsADirectoryError):
            return False
        with file:
            return not _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def records(self) -> list[LocalRecord]:
        """Return the job records of all jobs, sorted by the names of their results."""
        found = (self.read(path.stem) for path in self._jobs.glob("*.json"))
        return sorted((one for one in found if one), key=lambda one: (one.result, one.id))

    def read(self, job: str) -> LocalRecord | None:
        """Return the job record of a job; None if there is none, or if a crash of the machine lost it."""
        path = self._jobs / f"{job}.json"
        try:
            return LocalRecord.parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            _log.warning("%s is not a record of a job, so the job begins anew", path)
            return None

    def write(self, records: Sequence[LocalRecord]) -> None:
        """Write job records. Only a few are certainly on disk at the end; waiting for each of many would take long."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        waits = len(records) <= _FEW
        for record in records:
            path = self._jobs / f"{record.id}.json"
            temporary = path.with_suffix(".part")
            with temporary.open("w") as file:
                file.write(record.to_json())
                file.flush()
                if waits:
                    os.fsync(file.fileno())
            temporary.replace(path)

    def remove(self, record: LocalRecord) -> None:
        """Delete the job record of a job and the copies of its pipes, unless another job reads the same copy. The job's
        other state must already be deleted.
        """
        (self._jobs / f"{record.id}.json").unlink(missing_ok=True)
        if copies := {one.state.path for one in record.files if one.content}:
            for path in copies - {one.state.path for other in self.records() for one in other.files}:
                path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock while the context lasts, and create the folder if it does not exist."""
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("ab")
            except FileNotFoundError:  # another process has just deleted the folder
                continue
            with file:
                _lock(file, fcntl.LOCK_EX)
                if _is_at(file, path):
                    yield
                    return

    @contextmanager
    def _commanding(self, name: str) -> Iterator[None]:
        path = self.folder / _COMMANDS / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            _lock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _running(self) -> list[Path]:
        """Return the files of running commands, and delete the files of commands that have ended."""
        running = []
        for path in (self.folder / _COMMANDS).glob("*"):
            with path.open("rb") as file:
                if _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                    path.unlink()
                else:
                    running.append(path)
        return running

    def _sweep(self, command: str) -> None:
        """Delete unfinished files of killed commands, if no other command runs."""
        if all(path.name == command for path in self._running()):
            for name in _UNFINISHED:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            needed = {one.state.path.name for record in self.records() for one in record.files}
            spooled = [path for path in self.spool.glob("*") if path.name not in needed]
            for path in [*self._jobs.glob("*.part"), *spooled]:
                path.unlink()

    def _remove_if_unused(self) -> None:
        if not self._running() and not any(self._jobs.glob("*.json")):
            for name in _OWN:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            # The lock is deleted last. A command that waits for the lock notices the deletion, and creates another
            # lock.
            (self.folder / "lock").unlink()
            with suppress(OSError):
                self.folder.rmdir()


def _lock(file: IO[bytes], how: int) -> bool:
    """Lock a file and return True. Return False if another process has locked the file and `how` says not to wait.

    Commands lock their own files exclusively. Processes that only check take a shared lock, so that two such processes
    do not mistake each other for a command.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether the file at a path is still the given open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
