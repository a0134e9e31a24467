"""Records of jobs on one machine, beside their segments, and a lock for each job."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from parcelq.errors import JobError

STATE_FOLDER: Final = ".parcelq"
"""The folder beside the results that holds the state of all jobs."""
_JOBS: Final = "jobs"


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


class JobState:
    """The record and the lock of one job. One command at a time holds the lock.

    Args:
        folder: the folder of all states, `.parcelq` beside the results.
        job_id: the job's id.
    """

    def __init__(self, folder: Path, job_id: str) -> None:
        self.job_id = job_id
        self._folder = folder / _JOBS
        self._record = self._folder / f"{job_id}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the job's lock. The kernel releases it when this process ends, however it ends.

        Raises:
            JobError: another command holds it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{self.job_id}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobError(self.job_id, "another command runs it now; wait until that has ended") from None
            yield

    def read(self) -> JobRecord | None:
        """Return the job's record; None if the job is new.

        Raises:
            JobError: the record cannot be read.
        """
        try:
            fields = json.loads(self._record.read_bytes())
            return JobRecord(**{**fields, "versions": tuple(fields["versions"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise JobError(
                self.job_id, f"its record {os.fspath(self._record)!r} is damaged; --fresh starts over"
            ) from None

    def write(self, record: JobRecord) -> None:
        """Replace the job's record; it is on the disk when this returns."""
        temporary = self._record.with_suffix(".part")
        with temporary.open("w") as file:
            json.dump(asdict(record), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._record)

    def remove(self) -> None:
        """Delete the record, while holding the lock. The lock's file goes last."""
        self._record.unlink(missing_ok=True)
        (self._folder / f"{self.job_id}.lock").unlink(missing_ok=True)


def job_records(folder: Path) -> list[JobRecord]:
    """Return the records of all jobs below a folder of states, in the order of their paths."""
    found = (JobState(folder, path.stem).read() for path in (folder / _JOBS).glob("*.json"))
    return sorted((record for record in found if record), key=lambda record: (record.path, record.id))
