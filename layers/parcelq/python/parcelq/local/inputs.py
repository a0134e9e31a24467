"""Finds the inputs that a user names: paths, folders, patterns, pipes and the standard input (`-`)."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.local.files import PIPE, STDIN, FileState, LocalFile, LocalSource, is_nameless
from parcelq.local.spool import spooled
from parcelq.local_files import check_free, check_readable, check_targets, lies_about_its_size, reading
from parcelq.records import Format, by_name
from parcelq.result_names import check_distinct
from parcelq.steps.find import Step

_STDIN: Final = "-"
_DESCRIPTORS: Final = re.compile(r"/dev/fd/|/proc/[^/]+/fd/|/dev/stdin")
"""Matches the paths of pipes without a name, such as the pipes of a shell's `<(command)`."""


class FoundFile(NamedTuple):
    """An input that the user named, or a file that a named folder or pattern includes.

    Attributes:
        given: the name that the user gave to the input.
        name: the name from which the result's name is derived. For a file below a named folder, it has subfolders.
        is_pipe: whether the input is a pipe, which can be read only once.
    """

    path: Path
    given: str
    name: str
    is_pipe: bool = False


def find_inputs(given: Sequence[str | os.PathLike[str]], results: Path) -> list[FoundFile]:
    """Find the inputs that a user names; none is read yet.

    A folder means all files in the folder and in its subfolders, sorted by name, except files and folders whose names
    begin with a dot, and the folder of results. A pattern such as `data/*.smi` or `data/**/*.smi` that is not an
    existing path means all files that match the pattern. Files in the folder of results do not match, unless the
    pattern begins with a folder below it.

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
    put: Callable[[FoundFile], LocalFile],
    *,
    name: str = "",
    combine: str = "",
    fmt: str = "",
    steps: Sequence[Step] = (),
) -> list[LocalSource]:
    """Create the sources of a run from the inputs that `find_inputs` returned.

    Args:
        put: a function that returns the file to read for an input; for a pipe, a copy of the pipe's whole content.
        name: the name of the only result; empty for the default name.
        combine: the name of one result for all files; empty if each file has its own result.
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
    targets = [results / target for one in sources for target in one.names]
    check_targets([one.path for one in found if not one.is_pipe], targets)
    check_targets([path for one in steps for path in (one.path, one.settings.path) if path], targets, "file of a step")
    for one in sources:
        check_free(results, one.names.result)
    return sources


def file_of(one: FoundFile, command: str, spool: Path) -> LocalFile:
    """Return the file to read for an input. If it is a pipe, `command` copies its content to a file below `spool`.

    Raises ParcelqError if the input cannot be read.
    """
    if not one.is_pipe:
        return LocalFile(one.given, FileState.of(one.path))
    with (
        reading(one.given),
        open(0, "rb", closefd=False) if one.given == _STDIN else one.path.open("rb") as pipe,
    ):
        return spooled(pipe, one.name, spool, command)


def _found(text: str, results: Path) -> Iterator[FoundFile]:
    if text == _STDIN:
        yield FoundFile(Path("/dev/stdin"), _STDIN, STDIN, is_pipe=True)
        return
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        yield from _below(path, text, results)
    elif not os.path.lexists(path) and glob.has_magic(text):
        apart = results.resolve()
        begin = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts)).resolve()
        found = [Path(one) for one in sorted(_matching(path.parts)) if os.path.isfile(one)]
        matches = [one for one in found if apart in begin.parents or not one.resolve().is_relative_to(apart)]
        if not matches:
            raise ParcelqError(f"{text!r} matches no file outside the folder of results")
        for match in matches:
            yield _one(match, os.fspath(match))
    else:
        yield _one(path, text)


def _matching(parts: tuple[str, ...]) -> set[str]:
    """Return what matches a pattern, given as its parts. `**` follows no links, which may lead in circles."""
    if "**" not in parts:
        return set(glob.glob(os.path.join(*parts)))
    at = parts.index("**")
    found: set[str] = set()
    for top in glob.glob(os.path.join(*parts[:at], "")) if at else [""]:
        for here, folders, _ in os.walk(top or os.curdir):
            folders[:] = [one for one in folders if not one.startswith(".")]
            inside = glob.escape(here) if top else os.path.relpath(glob.escape(here))
            found |= _matching((*Path(inside).parts, *(parts[at + 1 :] or "*")))
    return found


def _one(path: Path, given: str) -> FoundFile:
    found = check_readable(path)
    is_pipe = not stat.S_ISREG(found.st_mode) or lies_about_its_size(path, found)
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
            with reading(path):
                is_file = not name.startswith(".") and stat.S_ISREG(path.stat().st_mode)
            if is_file:
                is_empty = False
                yield FoundFile(path, os.fspath(path), path.relative_to(folder).as_posix())
    if is_empty:
        raise ParcelqError(
            f"folder {given!r} has no files; files and folders whose names begin with a dot do not count"
        )


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


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
