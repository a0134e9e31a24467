"""Finds the inputs that a user names: paths, folders, patterns, pipes and the standard input. All inputs are found
before any input is read.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.limits import KIB
from parcelq.local.files import PIPE, STDIN, FileState, LocalFile, LocalSource, is_nameless
from parcelq.local.spool import spooled
from parcelq.local_files import check_free, check_readable, check_targets
from parcelq.records import Format, by_name
from parcelq.result_names import check_distinct
from parcelq.steps.find import Step

_STDIN: Final = "-"
_DESCRIPTORS: Final = re.compile(r"/dev/fd/|/proc/[^/]+/fd/|/dev/stdin")
"""Matches the paths of pipes without a name, such as the pipes of a shell's `<(command)`."""
_READ_AT_ONCE: Final = 64 * KIB


class FoundFile(NamedTuple):
    """An input that the user named, or a file that a named folder or pattern includes.

    Attributes:
        path: the path of the input.
        given: the name that the user gave to the input.
        name: the name from which the result's name is derived; if the user named a folder, this name contains
            subfolders.
        is_pipe: whether the input is a pipe, which can be read only once.
    """

    path: Path
    given: str
    name: str
    is_pipe: bool = False


Put = Callable[[FoundFile], LocalFile]


def find_inputs(given: Sequence[str | os.PathLike[str]], results: Path) -> list[FoundFile]:
    """Find the inputs that a user names.

    A folder means all files in the folder and in its subfolders, sorted by name, except files and folders whose names
    begin with a dot, and the folder of results. A pattern such as `data/*.smi` or `data/**/*.smi` that is not an
    existing path means all files outside the folder of results that match the pattern.

    Args:
        given: the paths of files, folders and pipes, patterns, and `-` for the standard input.
        results: the path of the folder of results.

    Raises:
        ParcelqError: if an input does not exist, cannot be read, or has no files.
    """
    found = [one for text in given for one in _found(os.fspath(text), results)]
    if not found:
        raise InvalidValueError("files", list(given), "at least one file")
    if sum(one.given == _STDIN for one in found) > 1:
        raise InvalidValueError("files", _STDIN, "given once: the standard input cannot be read twice")
    return found


def sources_of(
    found: Sequence[FoundFile],
    results: Path,
    put: Put,
    *,
    name: str = "",
    combine: str = "",
    fmt: str = "",
    steps: Sequence[Step] = (),
) -> list[LocalSource]:
    """Create the sources of a run from its inputs.

    Args:
        found: the inputs, from `find_inputs`.
        results: the path of the folder of results.
        put: a function that returns the file to read for an input; for a pipe, a copy of the pipe's whole content.
        name: the name of the only result; empty for the default name.
        combine: the name from which the name of one result for all files is derived; empty if each file has its own
            result.
        fmt: the record format of all files, as text; empty if the files' names decide.
        steps: the steps, whose files no result may overwrite.

    Raises:
        InvalidValueError: if two results would have the same name, or the files cannot be combined.
        ParcelqError: if an input cannot be read.
    """
    if name and len(found) > 1 and not combine:
        wanted = f"given for one file only, not for {len(found)}; --combine makes one result of all"
        raise InvalidValueError("name", name, wanted)
    called = combine or name
    if called and ("\0" in called or not {"", ".", ".."}.isdisjoint(called.split("/"))):
        raise InvalidValueError("combine" if combine else "name", called, "the name of a file, optionally with folders")
    if combine:
        files = [put(one) for one in found]
        if not fmt:
            _check_one_format(files)
        sources = [LocalSource.of_files(files, combine, results)]
    else:
        check_distinct([one.given for one in found], [name or one.name for one in found])
        sources = [LocalSource.of_file(put(one), name or one.name) for one in found]
    targets = [results / target for one in sources for target in one.names.all]
    check_targets([one.path for one in found if not one.is_pipe], targets)
    check_targets([path for one in steps for path in (one.path, one.settings.path) if path], targets, "file of a step")
    for one in sources:
        check_free(results, one.names.result)
    return sources


def file_of(one: FoundFile, command: str, spool: Path) -> LocalFile:
    """Return the file to read for an input. If the input is a pipe, its content is copied to a file below `spool`.

    Args:
        one: the input to read.
        command: the id of the command that reads the input.
        spool: a folder of the state folder.

    Raises:
        ParcelqError: if the input cannot be read.
    """
    if not one.is_pipe:
        return LocalFile(one.given, FileState.of(one.path))
    try:
        with open(0, "rb", closefd=False) if one.given == _STDIN else one.path.open("rb") as pipe:
            return spooled(pipe, one.name, spool, command)
    except OSError as error:
        raise ParcelqError(f"file {one.given!r} cannot be read: {error.strerror or error}") from None


def _found(text: str, results: Path) -> Iterator[FoundFile]:
    if text == _STDIN:
        yield FoundFile(Path("/dev/stdin"), _STDIN, STDIN, is_pipe=True)
        return
    if text.startswith("s3://"):
        raise ParcelqError(f"file {text!r} is an object in S3, which only a stack can read; --stack names the stack")
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        yield from _below(path, text, results)
    elif not os.path.lexists(path) and glob.has_magic(text):
        apart = results.resolve()
        found = (Path(one) for one in sorted(glob.glob(os.fspath(path), recursive=True)))
        matches = [one for one in found if one.is_file() and not one.resolve().is_relative_to(apart)]
        if not matches:
            raise ParcelqError(f"{text!r} matches no file outside the folder of results")
        for match in matches:
            yield _one(match, os.fspath(match))
    else:
        yield _one(path, text)


def _one(path: Path, given: str) -> FoundFile:
    found = check_readable(path)
    is_pipe = not stat.S_ISREG(found.st_mode) or _lies_about_its_size(path, found)
    name = PIPE if is_pipe and _DESCRIPTORS.match(os.path.abspath(path)) else path.name
    return FoundFile(path, given, name, is_pipe)


def _below(folder: Path, given: str, results: Path) -> Iterator[FoundFile]:
    def refuse(error: OSError) -> None:
        raise ParcelqError(f"folder {error.filename!r} cannot be read: {error.strerror}")

    is_empty = True
    for here, folders, names in os.walk(folder, onerror=refuse):
        inside = Path(here)
        folders[:] = sorted(one for one in folders if not one.startswith(".") and not _is_same(inside / one, results))
        for name in sorted(names):
            path = inside / name
            if not name.startswith(".") and stat.S_ISREG(_stat(path).st_mode):
                is_empty = False
                yield FoundFile(path, os.fspath(path), path.relative_to(folder).as_posix())
    if is_empty:
        raise ParcelqError(f"folder {given!r} has no files, apart from those whose names begin with a dot")


def _check_one_format(files: Sequence[LocalFile]) -> None:
    formats: dict[Format, str] = {}
    for file in files:
        if not is_nameless(file):
            formats.setdefault(by_name(file.name), file.name)
    if len(formats) > 1:
        (fmt, first), (other, second), *_ = formats.items()
        raise ParcelqError(
            f"files that are combined must have one record format, but {first!r} is {fmt} and {second!r} is {other}; "
            "--format names one for all"
        )


def _lies_about_its_size(path: Path, found: os.stat_result) -> bool:
    """Return whether the system reports a wrong size for a file, as for files of /proc and /sys. Such a file can be
    read only as a pipe.
    """
    if found.st_blocks or found.st_size > _READ_AT_ONCE:
        return False
    try:
        with path.open("rb") as file:
            return len(file.read(_READ_AT_ONCE + 1)) != found.st_size
    except OSError as error:
        raise ParcelqError(f"file {str(path)!r} cannot be read: {error.strerror}") from None


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise ParcelqError(f"file {str(path)!r} cannot be read: {error.strerror}") from None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
