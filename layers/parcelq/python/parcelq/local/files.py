"""Files as sources of jobs on one machine: detects changed files, and joins several files to one source."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

from parcelq.errors import ParcelqError
from parcelq.lineage.source import Source
from parcelq.result_names import ResultNames, result_names

STDIN: Final = "stdin"
PIPE: Final = "pipe"
"""The name of the standard input and of other pipes without names."""


class FileState(NamedTuple):
    """The state of a file at one moment. Equal states mean equal content.

    Attributes:
        path: the absolute path, with links followed.
        device: number of the device of the file.
        inode: its inode number on the device.
        size: its bytes.
        modified_ns: when it was modified last, in nanoseconds since the epoch.
    """

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read the state of a file.

        Raises:
            ParcelqError: the file does not exist, cannot be read, or is not a regular file.
        """
        try:
            real = path.resolve(strict=True)
            found = real.stat()
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
            reason = getattr(error, "strerror", None) or error
            raise ParcelqError(f"file {str(path)!r} cannot be read: {reason}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ParcelqError(f"file {str(path)!r} cannot be read: it is not a regular file")
        if not os.access(real, os.R_OK):
            raise ParcelqError(f"file {str(path)!r} cannot be read: Permission denied")
        return cls.at(real, found)

    @classmethod
    def at(cls, path: Path, found: os.stat_result) -> Self:
        """The state of the file at a path without links, from `os.stat`."""
        return cls(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def text(self) -> str:
        """This state without the path, as text."""
        return f"{self.modified_ns:016x}-{self.size:x}-{self.inode:x}-{self.device:x}"


class LocalFile(NamedTuple):
    """An input file.

    Attributes:
        name: the user's name for it; the extension determines its record format and compression.
        state: the state of the file when its job began.
        content: a digest of its content if it was read from a pipe, so that the same content is the same source.
    """

    name: str
    state: FileState
    content: str = ""

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> LocalFile:
        """Read a value of `document`."""
        path, *numbers = told["state"]
        return cls(told["name"], FileState(Path(path), *numbers), told["content"])

    def document(self) -> dict[str, Any]:
        """JSON values for the record of a job."""
        state = self.state
        numbers = state.device, state.inode, state.size, state.modified_ns
        return {"name": self.name, "state": [os.fspath(state.path), *numbers], "content": self.content}

    @property
    def identity(self) -> str:
        """Identifies this content of the file among earlier and later contents."""
        return self.content or self.state.text

    def check_unchanged(self) -> None:
        """Check that the file is unchanged.

        Raises:
            ParcelqError: it changed.
        """
        try:
            found = self.state.path.stat()
        except OSError as error:
            raise ParcelqError(f"file {self.name!r} cannot be read: {error.strerror or error}") from None
        if FileState.at(self.state.path, found) != self.state:
            raise ParcelqError(f"file {self.name!r} changed since the job began; run the command again")

    def is_unchanged(self) -> bool:
        """Whether the file exists and is unchanged."""
        try:
            self.check_unchanged()
        except ParcelqError:
            return False
        return True

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file.

        Raises:
            ParcelqError: it cannot be read, or has changed now or at the end of the context.
        """
        self.check_unchanged()
        try:
            with self.state.path.open("rb", buffering=0) as file:
                yield file
        except OSError as error:
            raise ParcelqError(f"file {self.name!r} cannot be read: {error.strerror or error}") from None
        self.check_unchanged()


def is_nameless(file: LocalFile) -> bool:
    """Return whether a file was read from a pipe without a name."""
    return bool(file.content) and file.name in {STDIN, PIPE}


class LocalSource(NamedTuple):
    """One or more files that are read one after another and have one result.

    Attributes:
        files: the files, in order.
        name: the name of the result; it may have folders.
        source: the attribute `Source` of its messages.
        combined: whether the user asked for one result of several files.
    """

    files: tuple[LocalFile, ...]
    name: str
    source: Source
    combined: bool = False

    @classmethod
    def of_file(cls, file: LocalFile, name: str) -> LocalSource:
        """Return the source of one file."""
        return cls((file,), name, Source.of_file(os.fspath(file.state.path), file.identity))

    @classmethod
    def of_files(cls, files: Sequence[LocalFile], name: str, results: Path) -> LocalSource:
        """Return the source of several files that are joined."""
        digest = hashlib.blake2b(digest_size=16)
        for one in files:
            digest.update(f"{os.fspath(one.state.path)}\0{one.identity}\0".encode("utf-8", "surrogateescape"))
        source = Source.of_file(os.path.abspath(results / name), digest.hexdigest())
        return cls(tuple(files), name, source, combined=True)

    @property
    def names(self) -> ResultNames:
        """Names of the result and of the files beside it."""
        return result_names(self.name)

    @property
    def format_name(self) -> str:
        """The name that determines the record format: that of the first file with a name, or else that of the
        result.
        """
        return next((one.name for one in self.files if not is_nameless(one)), self.name)

    @property
    def size(self) -> int:
        """Bytes of the files, as they are stored."""
        return sum(one.state.size for one in self.files)

    @property
    def title(self) -> str:
        """Its name for messages: that of its only file, or of its result."""
        return self.name if self.combined else self.files[0].name

    def check_unchanged(self) -> None:
        """Check that the files are unchanged. Raises ParcelqError if one has changed."""
        for one in self.files:
            one.check_unchanged()
