"""What a run wrote: a file, or bytes in memory where they are few."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple, Protocol

from parcelq.limits import MIB

MOST_HELD: Final = 4 * MIB
"""Outputs of this many bytes together are held in memory."""


class Output(Protocol):
    """An output of a run; a `Path` is one."""

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open it for reading."""

    def read_bytes(self) -> bytes:
        """Return all of it."""


class Held(NamedTuple):
    """An output in memory."""

    data: bytes

    def open(self, mode: Literal["rb"]) -> BinaryIO:  # noqa: ARG002
        """Open it for reading."""
        return BytesIO(self.data)

    def read_bytes(self) -> bytes:
        """Return all of it."""
        return self.data


def slices(file: BinaryIO, places: Iterable[tuple[int, int]]) -> list[bytes]:
    """Read bytes `[start, end)` of a file that a step wrote, for each place.

    Raises:
        OSError: the file ends before one of them.
    """
    return [_slice(file.fileno(), start, end) for start, end in places]


def _slice(descriptor: int, start: int, end: int) -> bytes:
    blocks = []
    while start < end:
        block = os.pread(descriptor, min(end - start, MOST_HELD), start)
        if not block:
            raise OSError(0, "it is shorter than the step said")
        blocks.append(block)
        start += len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def copied(file: BinaryIO, start: int, end: int, target: Path) -> Path:
    """Copy bytes `[start, end)` of a file that a step wrote, and empty that.

    Raises:
        OSError: the file ends before that, or there is no room.
    """
    with target.open("wb") as copy:
        for at in range(start, end, MOST_HELD):
            copy.writelines(slices(file, [(at, min(end, at + MOST_HELD))]))
    file.truncate(0)
    return target
