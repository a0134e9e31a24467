"""The folder in which a job on one machine keeps its state until its result is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from parcelq.errors import JobError

STATE_FOLDER: Final = ".parcelq"
"""The folder beside the results that holds the state of all jobs."""
_RECORD: Final = "job.json"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What a job on one machine is about.

    Attributes:
        id: the job's id, a digest of the source and the workflow's name.
        path: the source's absolute path.
        source: the attribute `Source` of its messages.
        workflow: the workflow's name.
        versions: digests of the workflow's versions that ran so far, the newest last.
        result: the result's name below the folder of results.
    """

    id: str
    path: str
    source: str
    workflow: str
    versions: tuple[str, ...]
    result: str


class JobFolder:
    """The state of one job: its record, its segments, and a lock that one command holds at a time.

    Args:
        results: the folder of results; the state lies in `.parcelq/<job id>` below it.
        job_id: the job's id.
    """

    def __init__(self, results: Path, job_id: str) -> None:
        self.path = results / STATE_FOLDER / job_id
        self.job_id = job_id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the job's lock. The kernel releases it when this process ends, however it ends.

        Raises:
            JobError: another command holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobError(self.job_id, "another command is running it now; wait for that or stop it") from None
            yield

    def record(self) -> JobRecord | None:
        """Return the job's record; None if the job is new.

        Raises:
            JobError: the record cannot be read.
        """
        try:
            fields = json.loads((self.path / _RECORD).read_bytes())
            return JobRecord(**{**fields, "versions": tuple(fields["versions"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise JobError(
                self.job_id, f"its record {str(self.path / _RECORD)!r} is damaged ({error}); --fresh starts over"
            ) from None

    def write_record(self, record: JobRecord) -> None:
        """Replace the job's record; it is on the disk when this returns."""
        temporary = self.path / f"{_RECORD}.part"
        with temporary.open("w") as file:
            json.dump(asdict(record), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / _RECORD)

    def clear(self) -> None:
        """Delete everything but the lock."""
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()

    def remove(self) -> None:
        """Delete the state, and the folder of all states if this was the last one."""
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.parent.rmdir()
        except OSError:  # other jobs have their state there
            pass


def job_records(results: Path) -> list[JobRecord]:
    """Return the records of all jobs that have state below a folder of results, in the order of their paths."""
    folder = results / STATE_FOLDER
    if not folder.is_dir():
        return []
    found = (JobFolder(results, entry.name).record() for entry in folder.iterdir() if entry.is_dir())
    return sorted((record for record in found if record), key=lambda record: (record.path, record.id))
