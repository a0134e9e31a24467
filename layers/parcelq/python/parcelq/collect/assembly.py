"""Putting a result together: pieces that lie in many segments, in order, as one stream of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Final, TypeAlias

from parcelq.collect.extents import Extent
from parcelq.errors import ParcelqError
from parcelq.limits import KIB, MIB
from parcelq.store.stores import Store

CACHE_BYTES: Final = 96 * MIB
"""What is kept of segments in memory, in windows of which each segment has one; so many bytes are fetched at a time."""
LARGEST_WINDOW: Final = 8 * MIB
SMALLEST_WINDOW: Final = 64 * KIB
Part: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""A part of a result, from one place to another: the number of an extent, and how many bytes of it are before."""


class SegmentReader:
    """Reads extents of segments that lie in order in each of them, so that every byte is fetched about once.

    Args:
        store: where the segments lie.
        keys: keys of the segments, by their number.
    """

    def __init__(self, store: Store, keys: Sequence[str]) -> None:
        self._store = store
        self._keys = keys
        self._window = min(LARGEST_WINDOW, max(SMALLEST_WINDOW, CACHE_BYTES // max(1, len(keys))))
        self._windows: OrderedDict[int, tuple[int, bytes]] = OrderedDict()

    def read(self, extent: Extent) -> Iterator[bytes]:
        """Yield an extent's bytes in blocks.

        Raises:
            ParcelqError: the segment is shorter than it should be.
            AwsError, OSError: the store refused.
        """
        segment, at, left = extent
        while left:
            start, data = self._windows.get(segment, (0, b""))
            if not start <= at < start + len(data):
                start, data = self._fetch(segment, at)
            block = data[at - start : at - start + left]
            at, left = at + len(block), left - len(block)
            yield block

    def _fetch(self, segment: int, at: int) -> tuple[int, bytes]:
        data = self._store.read(self._keys[segment], at, self._window)
        if not data:
            raise ParcelqError(f"segment {self._keys[segment]!r} ends before byte {at}")
        self._windows.pop(segment, None)
        while len(self._windows) >= CACHE_BYTES // self._window:
            self._windows.popitem(last=False)
        self._windows[segment] = at, data
        return at, data


def joined(pieces: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    r"""Put pieces after one another, with a `\n` behind each that lacks it and is not the last with bytes."""
    ended = True
    for piece in pieces:
        for number, block in enumerate(block for block in piece if block):
            if number == 0 and not ended:
                yield b"\n"
            yield block
            ended = block.endswith(b"\n")


def parts_of(extents: Iterable[Extent], size: int) -> list[Part]:
    """Cut a result into parts of `size` bytes, all but the last, wherever that is.

    Line ends that `joined` puts between extents are not counted.
    """
    parts: list[Part] = []
    begin = end = 0, 0
    room = size
    for number, (_, _, length) in enumerate(extents):
        at = 0
        while length - at >= room:
            at += room
            end = (number, at) if at < length else (number + 1, 0)
            parts.append((begin, end))
            begin, room = end, size
        if at < length:
            room -= length - at
            end = number + 1, 0
    if begin != end:
        parts.append((begin, end))
    return parts


def part_bodies(reader: SegmentReader, extents: Sequence[Extent], parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield the bytes of parts that follow one another, each as `joined` puts them behind all that is before them."""
    ended: bool | None = None
    for begin, end in parts:
        first, skipped = begin
        if skipped or not first:
            ended = True  # in the midst of an extent no line end is put
        elif ended is None:
            ended = _last_byte(reader, extents[first - 1]) == b"\n"
        # Not by a join, which would have all blocks in memory beside the part.
        file = BytesIO()
        file.write(b"" if ended else b"\n")
        file.writelines(joined(map(reader.read, _between(extents, begin, end))))
        body = file.getvalue()
        del file
        ended = body.endswith(b"\n")
        yield body


def _between(extents: Sequence[Extent], begin: tuple[int, int], end: tuple[int, int]) -> Iterator[Extent]:
    """The extents, and at either end the part of one, between two places."""
    for number in range(begin[0], end[0] + bool(end[1])):
        segment, start, length = extents[number]
        low = begin[1] if number == begin[0] else 0
        high = end[1] if number == end[0] else length
        yield segment, start + low, high - low


def _last_byte(reader: SegmentReader, extent: Extent) -> bytes:
    segment, start, length = extent
    return b"".join(reader.read((segment, start + length - 1, 1)))
