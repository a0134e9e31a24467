"""The files that are sources of jobs on one machine. Detects changed files, and joins files into one source."""

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
from parcelq.local_files import reading
from parcelq.result_names import ResultNames, result_names

STDIN: Final = "stdin"
PIPE: Final = "pipe"
"""The name that Parcelq gives to a pipe without a name, other than the standard input."""


class FileState(NamedTuple):
    """The state of a file at one moment; equal states mean equal content. In `path`, links are resolved."""

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read the state of a file. Raises ParcelqError if it is not a regular file or cannot be read."""
        with reading(path):
            real = path.resolve(strict=True)
            found = real.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ParcelqError(f"file {str(path)!r} cannot be read: it is not a regular file")
        if not os.access(real, os.R_OK):
            raise ParcelqError(f"file {str(path)!r} cannot be read: Permission denied")
        return cls.at(real, found)

    @classmethod
    def at(cls, path: Path, found: os.stat_result) -> Self:
        """Return the state of a file from its path, in which links are resolved, and the result of `os.stat`."""
        return cls(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def text(self) -> str:
        """The state as text, without the path."""
        return f"{self.modified_ns:016x}-{self.size:x}-{self.inode:x}-{self.device:x}"


class LocalFile(NamedTuple):
    """An input file of a job.

    Attributes:
        name: the name that the user gave to the file; the extension determines its record format and compression.
        state: the state of the file when the job began.
        content: a digest of the content of a pipe, so that the same content is the same source; empty for other files.
    """

    name: str
    state: FileState
    content: str = ""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> LocalFile:
        """Return the file that a value of `document` describes."""
        path, *numbers = document["state"]
        return cls(document["name"], FileState(Path(path), *numbers), document["content"])

    def document(self) -> dict[str, Any]:
        """The file as JSON values for the job record."""
        return {"name": self.name, "state": [os.fspath(self.state.path), *self.state[1:]], "content": self.content}

    @property
    def identity(self) -> str:
        """A text that distinguishes the file's present content from earlier and later contents."""
        return self.content or self.state.text

    def check_unchanged(self) -> None:
        """Raise ParcelqError if the file changed since its job began, or cannot be read."""
        with reading(self.name):
            found = self.state.path.stat()
        if FileState.at(self.state.path, found) != self.state:
            raise ParcelqError(f"file {self.name!r} changed since the job began; run the command again")

    def is_unchanged(self) -> bool:
        """Whether the file exists and is unchanged since its job began."""
        try:
            self.check_unchanged()
        except ParcelqError:
            return False
        return True

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the file for reading. Raises ParcelqError if it cannot be read, or has changed when the context ends."""
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
        name: the name of the result, which may contain folders.
        source: the attribute `Source` of the messages made from this source.
        combined: whether the user asked for one result for several files.
    """

    files: tuple[LocalFile, ...]
    name: str
    source: Source
    combined: bool = False

    @classmethod
    def of_file(cls, file: LocalFile, name: str) -> LocalSource:
        """Return the source of one file. With another name, the same file is another source with its own result."""
        named = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        return cls((file,), name, Source.of_file(os.fspath(file.state.path), f"{file.identity}-{named}"))

    @classmethod
    def of_files(cls, files: Sequence[LocalFile], name: str, results: Path) -> LocalSource:
        """Return the source that joins several files."""
        digest = hashlib.blake2b(digest_size=16)
        for one in files:
            digest.update(f"{os.fspath(one.state.path)}\0{one.identity}\0".encode("utf-8", "surrogateescape"))
        source = Source.of_file(os.path.abspath(results / name), digest.hexdigest())
        return cls(tuple(files), name, source, combined=True)

    @property
    def names(self) -> ResultNames:
        """The names of the result and of the files beside it."""
        return result_names(self.name)

    @property
    def format_name(self) -> str:
        """The name that determines the record format: that of the first file with a name, else the result's."""
        return next((one.name for one in self.files if not is_nameless(one)), self.name)

    @property
    def size(self) -> int:
        """How many bytes the files have on disk, perhaps compressed."""
        return sum(one.state.size for one in self.files)

    @property
    def title(self) -> str:
        """The source's name in messages to the user: the name of its only file, or the name of its result."""
        return self.name if self.combined else self.files[0].name

    def check_unchanged(self) -> None:
        """Raise ParcelqError if a file of the source has changed since the job began."""
        for one in self.files:
            one.check_unchanged()
