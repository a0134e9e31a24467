"""Files as sources of jobs on one machine: what makes a file the same file, and reading parts of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parcelq.errors import ParcelqError
from parcelq.lineage.source import Source
from parcelq.local_files import naming
from parcelq.store.store import OpenedPut


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was at one moment. Two equal states mean the same content.

    Attributes:
        path: the absolute path, with links followed.
        device: number of the device that the file lies on.
        inode: its number there.
        size: its bytes.
        modified_ns: when it was modified last, in nanoseconds since the epoch.
    """

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file.

        Raises:
            ParcelqError: there is no such file, or it is no regular file.
        """
        try:
            real = path.resolve(strict=True)
            found = real.stat()
        except OSError as error:
            raise ParcelqError(f"file {str(path)!r} cannot be read: {error.strerror or error}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ParcelqError(f"{str(path)!r} is {_kind(found.st_mode)}, but must be a regular file")
        return cls(real, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def source(self) -> Source:
        """The source that a job reads: this file in this state."""
        # The time comes first, because results of later states overtake those of earlier ones.
        state = f"{self.modified_ns:016x}-{self.size:x}-{self.inode:x}-{self.device:x}"
        return Source.of_file(os.fspath(self.path), state)

    def check_unchanged(self) -> None:
        """Look at the file again.

        Raises:
            ParcelqError: it is not as it was.
        """
        if FileState.of(self.path) != self:
            raise ParcelqError(f"file {str(self.path)!r} changed while it was read; run the command again")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in kinds.items() if test(mode)), "no file")


@dataclass(frozen=True, slots=True)
class Files:
    """Reads files as sources; what `ObjectUploader` takes objects from on one machine.

    Attributes:
        states: the files by their paths, as they were when their jobs began.
    """

    states: Mapping[str, FileState]

    def in_bucket(self, bucket: str) -> Files:  # noqa: ARG002 - files are in none
        """Return this."""
        return self

    @contextmanager
    def opened_put(
        self,
        key: str,
        *,
        version: str = "",  # noqa: ARG002 - files have no versions
        etag: str = "",  # noqa: ARG002
        start: int = 0,
    ) -> Iterator[OpenedPut | None]:
        """Open a file, from byte `start` on.

        Raises:
            ParcelqError: it cannot be read, or is not as it was.
        """
        state = self.states[key]
        state.check_unchanged()
        with naming(state.path), state.path.open("rb", buffering=0) as file:
            file.seek(start)
            yield OpenedPut(file, state.size, "")
