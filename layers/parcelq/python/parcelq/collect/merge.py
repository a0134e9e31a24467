"""Merges the rows of many sorted indexes into one sorted stream of chunks. Only a window of each index is in memory."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from parcelq.aws.parallel import in_flight

ROWS_HELD: Final = 100_000
"""How many rows the windows of all indexes have together."""
_FEWEST: Final = 32
"""How many rows a window has at least."""

ReadRows: TypeAlias = Callable[[int, int], Sequence[bytes]]
"""A function that reads the next rows of an index, given how many to read, and how many are left including these."""


class _Window:
    """A window of a sorted index: the next rows of the index, which are in memory."""

    __slots__ = ("_at", "_read", "_rows", "_size", "left")

    def __init__(self, count: int, read: ReadRows, size: int) -> None:
        self._read = read
        self._size = size
        self._rows: list[bytes] = []
        self._at = 0
        self.left = count

    @property
    def first(self) -> bytes:
        """The first row of the window."""
        return self._rows[self._at]

    @property
    def last(self) -> bytes:
        """The last row of the window."""
        return self._rows[-1]

    @property
    def held(self) -> int:
        """How many rows the window has."""
        return len(self._rows) - self._at

    def take(self, until: bytes | None) -> list[bytes]:
        """Remove and return the rows up to and including `until`; all rows of the window if `until` is None."""
        end = len(self._rows) if until is None else bisect_right(self._rows, until, self._at)
        taken = self._rows[self._at : end]
        self._at = end
        return taken

    @property
    def is_low(self) -> bool:
        """Whether the window should be refilled."""
        return self.left > 0 and 2 * self.held < self._size

    def fill(self) -> None:
        """Refill the window with the next rows of the index."""
        count = min(self.left, self._size)
        rows = self._read(count, self.left)
        self._rows = [*self._rows[self._at :], *rows]
        self._at = 0
        self.left -= count


def merged(indexes: Iterable[tuple[int, ReadRows]], held: int = ROWS_HELD) -> Iterator[list[bytes]]:
    """Yield the rows of sorted indexes in order, in chunks. About `held` rows are in memory at a time.

    Each index is a pair: how many rows the index has, and a function that reads its next rows.
    """
    some = [index for index in indexes if index[0]]
    size = max(_FEWEST, held // max(1, len(some)))
    windows = [_Window(count, read, size) for count, read in some]
    _fill(windows)
    waiting = [(window.first, number, window) for number, window in enumerate(windows)]
    heapq.heapify(waiting)
    while waiting:
        # Rows after the barrier must wait, because rows that are not read yet may sort before the waiting rows.
        barrier: bytes | None = None
        taken = []
        while waiting and (barrier is None or waiting[0][0] <= barrier):
            _, number, window = heapq.heappop(waiting)
            taken.append((number, window))
            if window.left:
                barrier = window.last if barrier is None else min(barrier, window.last)
        chunk = [row for _, window in taken for row in window.take(barrier)]
        _fill(window for _, window in taken)
        for number, window in taken:
            if window.held:
                heapq.heappush(waiting, (window.first, number, window))
        chunk.sort()
        yield chunk


def _fill(windows: Iterable[_Window]) -> None:
    low = [window for window in windows if window.is_low]
    if len(low) == 1:
        low[0].fill()
    elif low:
        deque(in_flight(_Window.fill, low), maxlen=0)
