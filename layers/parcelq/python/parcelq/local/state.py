"""The state folder `.parcelq` beside results: records of jobs, which command runs them, and when the folder goes.

    lock            held for moments, while somebody looks at the folder as a whole or changes who runs what
    commands/<id>   one file for each command that runs jobs now; the command holds a lock on it until it ends
    jobs/<id>.json  the record of a job

The kernel releases the locks of a command that ends in any way, so a killed command never blocks its jobs for others.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final

from parcelq.errors import JobError
from parcelq.local.files import LocalFile
from parcelq.result_names import STATE

_log = logging.getLogger(__name__)
_JOBS: Final = "jobs"
_COMMANDS: Final = "commands"
_SPOOL: Final = "spool"
_FEW: Final = 16
_OWN: Final = (_JOBS, _COMMANDS, _SPOOL, "segments", "results", ".store")
"""The names of everything that jobs keep in the folder."""
_UNFINISHED: Final = (".store/unfinished", "results/unfinished")
"""Folders of files that a store has not finished writing; those of killed commands stay there."""


@dataclass(frozen=True, slots=True)
class LocalRecord:
    """The record of a job on one machine.

    Attributes:
        id: the job's id, a digest of the source and the workflow's name.
        source: the attribute `Source` of its messages.
        workflow: the workflow's name; empty for none.
        result: the result's name below the folder of results.
        files: the files that the source is made of, in order.
        versions: digests of the versions of the steps that ran so far, the newest last.
        recipe: how the files are run, as `Recipe.document` gives it.
        command: id of the command that ran it last.
        before: etag of the result that was there when the job began; empty for none.
        combined: whether the user asked for one result of several files.
        name: the name of the result.
    """

    id: str
    source: str
    workflow: str
    result: str
    files: tuple[LocalFile, ...] = ()
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    before: str = ""
    combined: bool = False
    name: str = ""

    @classmethod
    def parse(cls, data: bytes) -> LocalRecord:
        """Read a record again. Raises ValueError, TypeError or KeyError if it is none."""
        fields = json.loads(data)
        files = tuple(LocalFile.parse(one) for one in fields["files"])
        return cls(**{**fields, "versions": tuple(fields["versions"]), "files": files})

    def to_json(self) -> str:
        """As it is stored in its file."""
        fields = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return json.dumps({**fields, "files": [one.document() for one in self.files]})

    @property
    def paths(self) -> str:
        """The user's name for the files; if there are many, for the first of them."""
        more = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return f"{self.files[0].name}{more}" if self.files else "no files"


class StateFolder:
    """The state of all jobs whose results go to one folder.

    Args:
        results: the folder of results.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        self.folder = results / STATE
        self.spool = self.folder / _SPOOL
        self._jobs = self.folder / _JOBS

    @contextmanager
    def command(self) -> Iterator[str]:
        """Register a command that runs jobs, as long as the context lasts; return the id with which it claims jobs.

        Afterwards the folder is deleted if no job and no other command needs it.
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
        """Make a command the one that runs some jobs.

        Args:
            command: its id.
            wanted: the jobs, as their records are where they are new.

        Returns:
            The records of the jobs that are there already, by id; and those of other jobs with the same results, which
            began with other states of the files, or through other workflows.

        Raises:
            JobError: another command runs one of them now, or writes the same result. No job was claimed then.
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
            self.write([replace(kept.get(name, one), command=command) for name, one in named.items()])
        return kept, [one for one in same if one.id not in named]

    def is_running(self, record: LocalRecord) -> bool:
        """Whether a command runs a job now."""
        try:
            file = (self.folder / _COMMANDS / record.command).open("rb")
        except (FileNotFoundError, IsADirectoryError):
            return False
        with file:
            return not _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def records(self) -> list[LocalRecord]:
        """Return the records of all jobs, in the order of their results."""
        found = (self.read(path.stem) for path in self._jobs.glob("*.json"))
        return sorted((one for one in found if one), key=lambda one: (one.result, one.id))

    def read(self, job: str) -> LocalRecord | None:
        """Return the record of the job of an id; None if there is none, or it was lost with a crash of the machine."""
        path = self._jobs / f"{job}.json"
        try:
            return LocalRecord.parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            _log.warning("%s is no record of a job, so the job begins anew", path)
            return None

    def write(self, records: Sequence[LocalRecord]) -> None:
        """Write records. A few are on the disk when this returns; many are soon, since waiting for each takes long."""
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
        """Delete the record of a job, and what was read of pipes for it; everything else of it is deleted already."""
        (self._jobs / f"{record.id}.json").unlink(missing_ok=True)
        for one in record.files:
            if one.content:
                one.state.path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock, and make the folder if it is not there."""
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("ab")
            except FileNotFoundError:  # somebody has just deleted the folder
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
        """The files of commands that run now; those of others are deleted."""
        running = []
        for path in (self.folder / _COMMANDS).glob("*"):
            with path.open("rb") as file:
                if _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                    path.unlink()
                else:
                    running.append(path)
        return running

    def _sweep(self, command: str) -> None:
        """Delete what killed commands left half written, if no other command runs."""
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
            # The lock goes last: a command that waits for it sees that it is gone, and makes another.
            (self.folder / "lock").unlink()
            with suppress(OSError):
                self.folder.rmdir()


def _lock(file: IO[bytes], how: int) -> bool:
    """Lock a file; False if somebody else has it locked and this is not to wait.

    Commands lock their own files for themselves alone. Who only looks takes a shared lock, so that no two who look at
    once take each other for a command.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether a path still leads to this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
