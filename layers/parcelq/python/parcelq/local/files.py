"""Files as sources of jobs on one machine: when a file counts as unchanged, and several files as one source."""

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
    def of(cls, path: Path) -> Self:
        """Look at a file.

        Raises:
            ParcelqError: there is no such file, it cannot be read, or it is not a regular file.
        """
        try:
            real = path.resolve(strict=True)
            found = real.stat()
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
            reason = getattr(error, "strerror", None) or error
            raise ParcelqError(f"file {str(path)!r} cannot be read: {reason}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ParcelqError(f"file {str(path)!r} cannot be read: it is not a regular file")
        if not os.access(real, os.R_OK):
            raise ParcelqError(f"file {str(path)!r} cannot be read: Permission denied")
        return cls.at(real, found)

    @classmethod
    def at(cls, path: Path, found: os.stat_result) -> Self:
        """The state of the file at a path without links, as `os.stat` says it."""
        return cls(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def text(self) -> str:
        """This state without the path, as text."""
        return f"{self.modified_ns:016x}-{self.size:x}-{self.inode:x}-{self.device:x}"


class LocalFile(NamedTuple):
    """A file that is to be read.

    Attributes:
        name: what the user calls it; its ending says what its records are and how it is compressed.
        state: the file that is read, as it was when its job began.
        content: a digest of its content where it was read from a pipe, which makes the same content the same source.
    """

    name: str
    state: FileState
    content: str = ""

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> LocalFile:
        """Read again what `document` gave."""
        path, *numbers = told["state"]
        return cls(told["name"], FileState(Path(path), *numbers), told["content"])

    def document(self) -> dict[str, Any]:
        """As it is kept in the record of a job."""
        state = self.state
        numbers = state.device, state.inode, state.size, state.modified_ns
        return {"name": self.name, "state": [os.fspath(state.path), *numbers], "content": self.content}

    @property
    def identity(self) -> str:
        """Identifies this content of the file among earlier and later ones."""
        return self.content or self.state.text

    def check_unchanged(self) -> None:
        """Look at the file again.

        Raises:
            ParcelqError: it is not as it was.
        """
        try:
            found = self.state.path.stat()
        except OSError as error:
            raise ParcelqError(f"file {self.name!r} cannot be read: {error.strerror or error}") from None
        if FileState.at(self.state.path, found) != self.state:
            raise ParcelqError(f"file {self.name!r} changed since the job began; run the command again")

    def is_unchanged(self) -> bool:
        """Whether the file is as it was, and there."""
        try:
            self.check_unchanged()
        except ParcelqError:
            return False
        return True

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file.

        Raises:
            ParcelqError: it cannot be read, or it is not as it was, now or when the context is left.
        """
        self.check_unchanged()
        try:
            with self.state.path.open("rb", buffering=0) as file:
                yield file
        except OSError as error:
            raise ParcelqError(f"file {self.name!r} cannot be read: {error.strerror or error}") from None
        self.check_unchanged()


def is_nameless(file: LocalFile) -> bool:
    """Whether a file was read from a pipe that has no name."""
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
        """The source that one file is."""
        return cls((file,), name, Source.of_file(os.fspath(file.state.path), file.identity))

    @classmethod
    def of_files(cls, files: Sequence[LocalFile], name: str, results: Path) -> LocalSource:
        """The source that several files are together."""
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
        """The name that says what the records are: that of the first file that has one, or else of the result."""
        return next((one.name for one in self.files if not is_nameless(one)), self.name)

    @property
    def size(self) -> int:
        """Bytes of the files, as they are stored."""
        return sum(one.state.size for one in self.files)

    @property
    def title(self) -> str:
        """What to call it in messages: its only file, or the name of its result."""
        return self.name if self.combined else self.files[0].name

    def check_unchanged(self) -> None:
        """Look at the files again. Raises ParcelqError if one is not as it was."""
        for one in self.files:
            one.check_unchanged()
