"""Reads the entries of a range of a source, so that many Lambda functions can read a large source in parallel.

A source is divided into ranges of any sizes. Each entry belongs to the range in which the entry starts. In formats with
an end line, an entry belongs to the range in which the end line before the entry starts. An entry is read to its end,
even if the end is beyond the range. So all ranges together give the same entries as one stream.

CSV needs two phases, because a line end may be inside quotes. First, each range is scanned with `flips`. After that, a
range starts inside quotes if `flips` was true for an odd number of the ranges before the range.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from parcelq.errors import InvalidValueError
from parcelq.readable import Readable
from parcelq.records.cutting import BLOCK_BYTES
from parcelq.records.format import Format, is_blank


class FirstBytes:
    """Reads the first bytes of a stream, at most `size` bytes."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(min(size, self._left)) if self._left else b""
        self._left -= len(block)
        return block


def flips(stream: Readable, fmt: Format) -> bool:
    """Return whether the bytes of a stream contain an odd number of quotes, so that they begin or end inside quotes."""
    inside = False
    while block := stream.read(BLOCK_BYTES):
        inside = fmt.inside(block, inside)
    return inside


class RangeReader:
    """Reads the entries of the range `[start, end)`, up to the end of the last entry. The format must have `ranges`.

    Args:
        stream: the bytes of the source from `max(0, start - 1)` to its end. The stream is read only as far as needed.
        origin: the offset of the source's first entry, which equals the length of the header. In a range that contains
            this offset, the entries begin there.
        inside: whether the range starts inside quotes, because `flips` was true for an odd number of the ranges before
            the range.

    Attributes:
        start: the offset of the range's first entry; None if no entry belongs to the range.

    Raises:
        InvalidValueError: if the format does not support ranges.
    """

    def __init__(
        self, stream: Readable, fmt: Format, start: int, end: int, *, origin: int = 0, inside: bool = False
    ) -> None:
        if not fmt.ranges:
            raise InvalidValueError("format", str(fmt), "one that can be cut from the middle")
        self._stream = stream
        self._format = fmt
        self._data = b""  # includes the byte before `_at`, if there is one
        self._base = max(0, start - 1)
        self._at = start
        self._inside = inside
        self._blocks = self._entries(start, end, origin)
        self._first = next(self._blocks, b"")
        self._rest = b""
        self.start: int | None = self._at - len(self._first) if self._first else None

    def read(self, size: int, /) -> bytes:
        block = self._first or self._rest or next(self._blocks, b"")
        self._first = b""
        self._rest = block[size:]
        return block[:size] if self._rest else block

    def _entries(self, start: int, end: int, origin: int) -> Iterator[bytes]:
        if start <= origin:
            if end <= origin:
                return
            for _ in self._up_to(origin):
                pass
            self._inside = False
        else:
            for _ in self._up_to_entry(start, end):
                pass
            if self._place is None:
                return
            self._inside = False
        yield from self._up_to_entry(end)

    def _up_to_entry(self, target: int, limit: int = sys.maxsize) -> Iterator[bytes]:
        """Yield the bytes before the first entry with a place in `[target, limit)`, and store this place in `_place`.

        If there is no such entry, `_place` is None, and all bytes that could be before such an entry are yielded.
        """
        self._place: int | None = None
        yield from self._up_to(target)
        while target <= self._at < limit:
            at = self._at - self._base
            place, start = self._format.seek(self._data, at, self._inside)
            found = self._base + place
            if start >= 0 and self._format.keeps_blank_end and is_blank(self._data, start):
                if self._read():
                    continue
                break  # blank lines at the end belong to the last entry
            if start >= 0:
                yield from self._up_to(self._base + start)
                self._place = found if found < limit else None
                return
            yield from self._up_to(found)
            if not self._read():
                break
        if limit == sys.maxsize:
            yield from self._up_to(self._base + len(self._data))

    def _up_to(self, position: int) -> Iterator[bytes]:
        """Yield the bytes before a position, or fewer bytes if the stream ends."""
        while self._at < position:
            here = self._at - self._base
            block = self._data[here : position - self._base]
            if block:
                self._inside = self._format.inside(block, self._inside)
                self._at += len(block)
                yield block
            elif not self._read():
                return

    def _read(self) -> bool:
        """Read another block, and drop the bytes that are no longer needed. Return False at the end of the stream."""
        kept = self._data[max(0, self._at - 1 - self._base) :]
        block = self._stream.read(max(BLOCK_BYTES, len(kept)))
        self._base += len(self._data) - len(kept)
        self._data = kept + block
        return block != b""
