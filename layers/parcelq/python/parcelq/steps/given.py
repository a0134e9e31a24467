"""What a run is given: entries, and what they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from parcelq.records import LINES, Format
from parcelq.records.lines import Lines
from parcelq.steps.entries import FORMAT_SUFFIX
from parcelq.steps.settings import StepSettings


class Given(NamedTuple):
    r"""The input of a run.

    Attributes:
        bodies: slices of a file, one after another; one that lacks its last `\n` gets it where another follows.
        entries: how many entries they have, where the caller knows; rejects beyond them fail the run.
        format: their record format.
        header: what comes before them.
    """

    bodies: Iterable[bytes]
    entries: int | None = None
    format: Format = LINES
    header: bytes = b""

    def write(self, file: IO[bytes]) -> None:
        """Write it to a file. Raises OSError."""
        write_bodies(file, chain((self.header,), self.bodies) if self.header else self.bodies)

    def about(self, settings: StepSettings) -> dict[str, Any] | None:
        """Return what functions of `parcelq.step` must know of its records; None if they are lines."""
        written = settings.output or self.format
        one_line = _is_lines(written)
        if one_line and not self.header and _is_lines(self.format):
            return None
        passed = bool(self.header) and written == self.format and settings.output_header
        return {
            "format": str(self.format),
            "header": len(self.header),
            "writes_header": passed,
            "one_line": one_line,
        }

    def put(self, folder: Path, settings: StepSettings) -> None:
        """Write it as `input` into the folder of a run, and what it is beside it. Raises OSError."""
        with open(folder / "input", "wb") as file:
            self.write(file)
        if about := self.about(settings):
            (folder / f"input{FORMAT_SUFFIX}").write_text(json.dumps(about))


def _is_lines(fmt: Format) -> bool:
    return isinstance(fmt, Lines) and fmt.size == 1


def write_bodies(file: IO[bytes], bodies: Iterable[bytes]) -> None:
    r"""Write slices of a file one after another, so that every entry stays a line of its own."""
    ended = True
    for body in bodies:
        if body:
            file.write(body if ended else b"\n" + body)
            ended = body.endswith(b"\n")
