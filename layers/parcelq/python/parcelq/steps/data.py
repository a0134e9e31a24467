"""Classes and functions for the input and the output of a step's run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Literal, NamedTuple, TypeAlias

from parcelq.limits import MIB
from parcelq.records import LINES, Format
from parcelq.records.lines import Lines
from parcelq.steps.entries import FORMAT_SUFFIX
from parcelq.steps.settings import StepSettings

MOST_HELD: Final = 4 * MIB
"""If the outputs of a request have at most this number of bytes together, they are kept in memory."""


class Given(NamedTuple):
    r"""The input of a run.

    Attributes:
        bodies: slices of a file, in order. If a slice lacks `\n` at its end and another slice follows, `\n` is added.
        entries: how many entries the slices have; None if the caller does not know. If the step rejects an entry beyond
            these entries, the run fails.
        header: the header that comes before the slices; empty if there is none.
    """

    bodies: Iterable[bytes]
    entries: int | None = None
    format: Format = LINES
    header: bytes = b""

    def write(self, file: IO[bytes]) -> None:
        """Write the input to a file. Raises OSError if this fails."""
        write_bodies(file, chain((self.header,), self.bodies) if self.header else self.bodies)

    def about(self, settings: StepSettings) -> dict[str, Any] | None:
        """Return the description of the records for a Python function; None if the records are lines."""
        written = settings.output or self.format
        one_line = _is_lines(written)
        if one_line and not self.header and _is_lines(self.format):
            return None
        passed = bool(self.header) and written == self.format and settings.output_header
        return {"format": str(self.format), "header": len(self.header), "writes_header": passed, "one_line": one_line}

    def put(self, folder: Path, settings: StepSettings) -> None:
        """Write the input into the folder of a run, and if the records are not lines, their description too. Raises
        OSError if the input cannot be written.
        """
        with open(folder / "input", "wb") as file:
            self.write(file)
        if about := self.about(settings):
            (folder / f"input{FORMAT_SUFFIX}").write_text(json.dumps(about))


def _is_lines(fmt: Format) -> bool:
    return isinstance(fmt, Lines) and fmt.size == 1


def write_bodies(file: IO[bytes], bodies: Iterable[bytes]) -> None:
    r"""Write slices of a file in order, so that each entry stays a separate line."""
    ended = True
    for body in bodies:
        if body:
            file.write(body if ended else b"\n" + body)
            ended = body.endswith(b"\n")


class HeldOutput(NamedTuple):
    """An output that is kept in memory. The class has the methods of `Path` that Parcelq uses to read outputs."""

    data: bytes

    def open(self, mode: Literal["rb"]) -> BinaryIO:  # noqa: ARG002
        """Open the output for reading."""
        return BytesIO(self.data)

    def read_bytes(self) -> bytes:
        """Return all bytes of the output."""
        return self.data


Output: TypeAlias = Path | HeldOutput
"""The output of a run: a file, or bytes in memory if the output is small."""


def part_of_file(file: BinaryIO, start: int, end: int) -> bytes:
    """Read bytes `[start, end)` of a file that a step wrote. Raises OSError if the file ends before `end`."""
    blocks = []
    while start < end:
        block = os.pread(file.fileno(), min(end - start, MOST_HELD), start)
        if not block:
            raise OSError(0, "the file is shorter than the step said")
        blocks.append(block)
        start += len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def copied(file: BinaryIO, start: int, end: int, target: Path) -> Path:
    """Copy bytes `[start, end)` of an open file into a new file, and empty the open file. Raises OSError as
    `part_of_file` does.
    """
    with target.open("wb") as copy:
        for at in range(start, end, MOST_HELD):
            copy.write(part_of_file(file, at, min(end, at + MOST_HELD)))
    file.truncate(0)
    return target
