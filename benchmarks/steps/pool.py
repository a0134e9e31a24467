"""The work of `upper_each.py` with `multiprocessing.Pool.imap`: `pool.py SOURCE TARGET LINES`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from multiprocessing import Pool
from typing import IO


def upper(entry: str) -> str:
    """Return the line in upper case."""
    return entry.upper()


def upper_all(entries: list[str]) -> list[str]:
    """Call the function for each line of a chunk."""
    return list(map(upper, entries))


def chunks(lines: IO[str], size: int) -> Iterator[list[str]]:
    """Yield chunks of `size` lines, without line ends."""
    while chunk := [line.rstrip("\n") for line in islice(lines, size)]:
        yield chunk


if __name__ == "__main__":
    source, target, size = sys.argv[1:]
    with open(source) as lines, open(target, "w") as out, Pool() as pool:
        for made in pool.imap(upper_all, chunks(lines, int(size))):
            out.write("\n".join(made) + "\n")
