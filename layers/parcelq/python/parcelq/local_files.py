"""Files of this machine: opens them as sources, and prevents overwriting a source with a result."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.limits import KIB
from parcelq.readable import Readable

_READ_AT_ONCE: Final = 64 * KIB
"""Files of /proc and /sys, whose size is another than the system reports, seem to be at most this large."""
_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class Input(NamedTuple):
    """A file that is open for reading.

    Attributes:
        stream: a stream of the file's bytes. Reading raises ParcelqError if the file changed since it was opened.
        size: how many bytes the file has; None if unknown before its end, as for a pipe.
        path: the file's absolute path, in which links are resolved if the file is a regular file.
    """

    stream: Readable
    size: int | None
    path: str


def check_readable(path: Path) -> os.stat_result:
    """Return the status of a regular file, a pipe or a terminal, which can be read to an end.

    Raises ParcelqError if the path leads to a folder or a device, for example.
    """
    with reading(path):
        found = os.stat(path)
    for is_kind, kind in _KINDS:
        if is_kind(found.st_mode) and not (stat.S_ISCHR(found.st_mode) and _is_terminal(path)):
            raise ParcelqError(f"file {str(path)!r} cannot be read: it is {kind}, not a file or a pipe")
    return found


@contextmanager
def opened(path: Path) -> Iterator[Input]:
    """Open a file, a pipe or a terminal for reading. A named pipe waits until another process opens it for writing.

    Raises:
        ParcelqError: if the file cannot be read. Reading from the stream may raise this error too.
    """
    found = check_readable(path)
    is_regular = stat.S_ISREG(found.st_mode)
    resolved = os.path.realpath(path) if is_regular else os.path.abspath(path)
    has_size = is_regular and not lies_about_its_size(path, found)
    with reading(path):
        file = path.open("rb")
    with file:
        before = os.fstat(file.fileno()) if has_size else None
        yield Input(_Stream(file, path, before), before.st_size if before else None, resolved)


def lies_about_its_size(path: Path, found: os.stat_result) -> bool:
    """Return whether the status of a file has a wrong size, as in /proc and /sys. Such a file is read like a pipe."""
    if found.st_blocks or found.st_size > _READ_AT_ONCE:
        return False
    with reading(path), path.open("rb") as file:
        return len(file.read(_READ_AT_ONCE + 1)) != found.st_size


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an OSError that names no file, such as the error when a file is written to a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def check_targets(sources: Iterable[Path], targets: Iterable[Path], what: str = "source") -> None:
    """Raise ParcelqError if an output is a folder or overwrites an input, even if their names differ. `what` says what
    the inputs are.
    """
    known = {identity: path for path in sources if (identity := _identity(path))}
    for target in targets:
        if target.is_dir():
            raise ParcelqError(f"{str(target)!r} is a folder, not a file; choose another output")
        source = known.get(_identity(target) or (-1, -1))
        if source is not None:
            same = f"the {what} {str(source)!r}" if str(source) != str(target) else f"a {what}"
            raise ParcelqError(f"{str(target)!r} is {same} and would be overwritten; choose another output")


def check_folder(folder: Path, option: str) -> None:
    """Raise InvalidValueError if a folder, which need not exist yet, is a file or leads through a file."""
    for one in (folder, *folder.parents):
        if one.is_dir():
            return
        if os.path.lexists(one):
            below = "" if one == folder else f"; {str(one)!r} is a file"
            raise InvalidValueError(option, str(folder), f"a folder{below}" if below else "a folder; it is a file")


def check_free(folder: Path, name: str) -> None:
    """Raise ParcelqError if a file cannot be put into a folder, because a folder or a file has its name or path."""
    path = folder
    *folders, last = name.split("/")
    for part in folders:
        path /= part
        if path.exists() and not path.is_dir():
            raise ParcelqError(f"{name!r} needs a folder {str(path)!r}, but that is a file; move it away")
    if (path / last).is_dir():
        raise ParcelqError(f"{name!r} is to be a file, but {str(path / last)!r} is a folder; move it away")


class _Stream:
    """Reads the bytes of a file; every error names the file.

    If `before`, the file's status when it was opened, is given, exactly as many bytes as the file had then are read,
    and ParcelqError is raised at the end if the file has changed. Otherwise the file is read to its end.
    """

    def __init__(self, file: IO[bytes], path: Path, before: os.stat_result | None) -> None:
        self._file = file
        self._path = path
        self._before = before
        self._left = before.st_size if before else 0

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes; the result is empty only at the end."""
        with reading(self._path):
            data = self._file.read(size if self._before is None else min(size, self._left))
        if self._before is not None:
            self._left -= len(data)
            is_end = not self._left or len(data) < size
            if is_end:
                _check_unchanged(self._file, self._before, self._path)
            if is_end and self._left:
                raise ParcelqError(f"file {str(self._path)!r} ended {self._left:,} bytes before its expected end")
        return data


def _check_unchanged(file: IO[bytes], before: os.stat_result, path: Path) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        sizes = f"it had {before.st_size:,} bytes and has {now.st_size:,} now"
        raise ParcelqError(
            f"file {str(path)!r} changed while it was read ({sizes}); try again when nothing writes to it"
        )


def _is_terminal(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the numbers of the device and the inode of a path; None if the path does not exist."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Convert errors of the operating system to a ParcelqError that says in a sentence why the file cannot be read."""
    try:
        yield
    except FileNotFoundError:
        is_object = str(path).startswith("s3:/")
        why = "only parcelq run --stack NAME reads objects in S3" if is_object else "there is no such file"
        raise ParcelqError(f"file {str(path)!r} cannot be read: {why}") from None
    except (OSError, ValueError, RuntimeError) as error:  # before Python 3.13, a loop of links is a RuntimeError
        if isinstance(error, ParcelqError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ParcelqError(f"file {str(path)!r} cannot be read: {reason}") from None
