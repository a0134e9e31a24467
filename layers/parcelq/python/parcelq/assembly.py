"""Putting a result together: pieces that lie in many segments, in order, as one stream of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.limits import KIB, MIB
from parcelq.settled import Extent
from parcelq.store import Store

CACHE_BYTES: Final = 128 * MIB
"""What is kept of segments in memory, in windows of which each segment has one; so many bytes are fetched at a time."""
LARGEST_WINDOW: Final = 8 * MIB
SMALLEST_WINDOW: Final = 64 * KIB


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


def parts_of(extents: Sequence[Extent], size: int) -> list[tuple[int, int]]:
    """Cut a result into parts of at least `size` bytes, all but the last, between two extents.

    Returns:
        For each part, the number of its first extent and the one after that of its last.
    """
    parts = []
    first = total = 0
    for number, (_, _, length) in enumerate(extents, 1):
        total += length
        if total >= size:
            parts.append((first, number))
            first, total = number, 0
    if first < len(extents):
        parts.append((first, len(extents)))
    return parts


def part_bodies(reader: SegmentReader, extents: Sequence[Extent], parts: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the bytes of parts that follow one another, each as `joined` puts them behind all that is before them."""
    ended: bool | None = None
    for first, last in parts:
        if ended is None:
            ended = first == 0 or _last_byte(reader, extents[first - 1]) == b"\n"
        body = b"".join(joined(map(reader.read, extents[first:last])))
        yield body if ended else b"\n" + body
        ended = body.endswith(b"\n")


def _last_byte(reader: SegmentReader, extent: Extent) -> bytes:
    segment, start, length = extent
    return b"".join(reader.read((segment, start + length - 1, 1)))
