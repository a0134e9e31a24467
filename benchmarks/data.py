"""The bytes that are worked on: lines of 50 bytes on average, the same at every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

LINE_BYTES: Final = 50
_SHORTEST: Final = 30
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789()[]=#@+-/"
_BLOCK_LINES: Final = 10_000


def lines(count: int) -> bytes:
    r"""So many lines, of 30 to 70 bytes each with its `\n`."""
    return b"".join(_blocks(count))


def write_lines(path: Path, count: int) -> Path:
    """Write so many lines into a file, and return its path."""
    with path.open("wb") as file:
        file.writelines(_blocks(count))
    return path


def _blocks(count: int) -> Iterator[bytes]:
    whole, rest = divmod(count, _BLOCK_LINES)
    block = _block()
    for _ in range(whole):
        yield block
    if rest:
        yield b"".join(block.splitlines(keepends=True)[:rest])


@cache
def _block() -> bytes:
    """Each length as often as the others, so that the average is exact."""
    choice = random.Random(50)
    span = 2 * (LINE_BYTES - _SHORTEST) + 1
    lengths = [_SHORTEST + number % span for number in range(_BLOCK_LINES)]
    choice.shuffle(lengths)
    return b"".join(bytes(choice.choices(_LETTERS, k=length - 1)) + b"\n" for length in lengths)
