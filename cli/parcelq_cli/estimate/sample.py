"""Lines from all over a file, without reading it whole."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from parcelq.errors import ParcelqError
from parcelq.limits import MIB
from parcelq.records import BLOCK_BYTES

COUNTED_BYTES: Final = 64 * MIB
"""Lines of a file up to this size are counted; of a larger one, they are worked out from the sample."""
_TOGETHER: Final = 10
"""Lines that are taken at one place, so that files in which long and short lines take turns count right."""
_LONGEST_LINE: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class Sample:
    r"""Some lines of a file.

    Attributes:
        lines: with their `\n`, in the order of the file.
        size: bytes of the whole file.
        total: lines of the whole file.
        counted: whether `total` was counted, not worked out.
    """

    lines: tuple[bytes, ...]
    size: int
    total: int
    counted: bool


def read_sample(path: Path, wanted: int) -> Sample:
    """Take about `wanted` lines, some at a place, from as many equal stretches of the file.

    Where in its stretch a place is, is left to chance, though the same for the same file, so that what recurs in the
    file does not recur in the sample. What is taken at a place begins with the first line that starts there, so that
    long lines are not taken more often than short ones.

    Args:
        path: the file.
        wanted: how many lines, at least 1; all of them where the file has no more.

    Raises:
        ParcelqError: the file is not there, cannot be read, is empty or compressed, or has a line of more than 64 MiB.
    """
    if path.suffix == ".gz":
        raise ParcelqError(f"file {str(path)!r} is compressed; give it decompressed, for it is read at many places")
    if path.is_dir():
        raise ParcelqError(f"file {str(path)!r} cannot be read: it is a folder")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if not size:
                raise ParcelqError(f"file {str(path)!r} is empty, so there is nothing to estimate")
            counted = _count(file) if size <= COUNTED_BYTES else None
            places = 1 if counted is not None and counted <= wanted else -(-wanted // _together(wanted))
            lines = tuple(_lines(file, size, places, wanted))
    except OSError as error:
        raise ParcelqError(f"file {str(path)!r} cannot be read: {error.strerror or error}") from None
    taken = sum(map(len, lines))
    return Sample(lines, size, counted or max(len(lines), round(size * len(lines) / taken)), counted is not None)


def _together(wanted: int) -> int:
    return max(1, min(_TOGETHER, wanted // _TOGETHER))


def _count(file: IO[bytes]) -> int:
    count, last = 0, b"\n"
    while block := file.read(BLOCK_BYTES):
        count += block.count(b"\n")
        last = block[-1:]
    return count + (last != b"\n")


def _lines(file: IO[bytes], size: int, places: int, wanted: int) -> list[bytes]:
    """Lines at so many places; at a single one, all lines that are wanted."""
    lines: list[bytes] = []
    each = wanted if places == 1 else _together(wanted)
    chance = random.Random(size)  # nosec B311 # no secret; the same for the same file
    end = 0
    for place in range(places):
        start = int(size * (place + chance.random()) / places) if places > 1 else 0
        if start <= end:
            file.seek(end)
        else:
            file.seek(start - 1)
            _line(file)
        taken = [_line(file) for _ in range(min(each, wanted - len(lines)))]
        lines += filter(None, taken)
        end = file.tell()
    return lines


def _line(file: IO[bytes]) -> bytes:
    line = file.readline(_LONGEST_LINE)
    if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
        raise ParcelqError(
            f"file {str(file.name)!r} has a line of more than {_LONGEST_LINE // MIB} MiB: is it a file of lines?"
        )
    return line
