"""Reading parts of a stream: its first bytes, or the lines that start in a range of it; and counting lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parcelq.records.parcels import BLOCK_BYTES, Readable


class FirstBytes:
    """Reads the first so many bytes of a stream."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        block = self._stream.read(min(size, self._left)) if self._left else b""
        self._left -= len(block)
        return block


class LinesOfRange:
    r"""Reads the lines that start in `[start, end)`, to the end of the last of them.

    Args:
        stream: the bytes from `start - 1` on, or from 0.
        start: first byte of the range.
        end: just after its last byte.

    Attributes:
        start: where the first of the lines starts; None if none does.
    """

    def __init__(self, stream: Readable, start: int, end: int) -> None:
        self._blocks = self._lines(stream, start, end)
        self.start: int | None = None
        self._first = next(self._blocks, b"")
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        block = self._first or self._rest or next(self._blocks, b"")
        self._first = b""
        self._rest = block[size:]
        return block[:size] if self._rest else block

    def _lines(self, stream: Readable, start: int, end: int) -> Iterator[bytes]:
        at = max(0, start - 1)
        inside = start == 0
        while block := stream.read(BLOCK_BYTES):
            here, at = at, at + len(block)
            if not inside:
                found = block.find(b"\n", 0, max(0, end - here))
                if found < 0:
                    if at >= end:
                        return
                    continue
                block, here, inside = block[found + 1 :], here + found + 1, True
                if here >= end:
                    return
            if self.start is None:
                self.start = here
            if at < end:
                if block:
                    yield block
                continue
            # The last line may go on behind the range: it ends with the first line end at `end - 1` or later.
            last = block.find(b"\n", max(0, end - 1 - here))
            if last >= 0:
                yield block[: last + 1]
                return
            if block:
                yield block


def line_numbers(stream: Readable, positions: Iterable[int]) -> dict[int, int]:
    """The numbers of the lines that these bytes of a stream lie in, counted from 1; without those behind its end."""
    numbers: dict[int, int] = {}
    at, lines = 0, 1
    for position in sorted(set(positions)):
        while at < position:
            block = stream.read(min(BLOCK_BYTES, position - at))
            if not block:
                return numbers
            lines += block.count(b"\n")
            at += len(block)
        numbers[position] = lines
    return numbers
