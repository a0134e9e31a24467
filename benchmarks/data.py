"""Creates the input data: lines of 50 bytes on average, which are the same in every run."""

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
_GROUPS: Final = ("C", "CC", "N", "O", "C(=O)", "c1ccccc1", "C(F)(F)", "S", "C(N)", "c1ccncc1")
"""Parts of SMILES that form a valid molecule in any order."""


def lines(count: int) -> bytes:
    r"""Return `count` lines of 30 to 70 bytes each, with line ends."""
    return b"".join(_blocks(count))


def write_lines(path: Path, count: int) -> Path:
    """Write `count` lines into a file, and return its path."""
    with path.open("wb") as file:
        file.writelines(_blocks(count))
    return path


def write_smiles(path: Path, count: int, bad: int) -> Path:
    """Write `count` molecules as SMILES with a name into a file; one molecule in `bad` has a ring that never closes."""
    choice = random.Random(6)
    with path.open("w") as file:
        for number in range(count):
            molecule = "".join(choice.choices(_GROUPS, k=choice.randint(2, 8)))
            broken = "c1ccccc" if number % bad == 0 else ""
            file.write(f"{broken}{molecule} molecule-{number}\n")
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
    """Return a block of lines in which all lengths occur equally often, so that the average is exact."""
    choice = random.Random(50)
    span = 2 * (LINE_BYTES - _SHORTEST) + 1
    lengths = [_SHORTEST + number % span for number in range(_BLOCK_LINES)]
    choice.shuffle(lengths)
    return b"".join(bytes(choice.choices(_LETTERS, k=length - 1)) + b"\n" for length in lengths)
