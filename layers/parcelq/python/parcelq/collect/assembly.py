"""Assembles a result: reads bytes from many segments, in order, as one stream."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Final

from parcelq.collect.extents import Extent
from parcelq.errors import ParcelqError
from parcelq.limits import KIB, MIB
from parcelq.store.store import Store

CACHE_BYTES: Final = 96 * MIB
"""Bytes of segments in memory: a window of each segment, fetched with one request."""
LARGEST_WINDOW: Final = 8 * MIB
SMALLEST_WINDOW: Final = 64 * KIB


class SegmentReader:
    """Reads byte ranges ("extents") of segments. Within each segment they are in order, so that every byte is fetched
    about once.

    Args:
        store: where the segments are.
        keys: keys of the segments; a segment's number is its index here.
        used: the number of segments that are read.
        most: most bytes of a request.
    """

    def __init__(self, store: Store, keys: Sequence[str], used: int | None = None, most: int = LARGEST_WINDOW) -> None:
        self._store = store
        self._keys = keys
        self._window = min(LARGEST_WINDOW, most, max(SMALLEST_WINDOW, CACHE_BYTES // max(1, used or len(keys))))
        self._windows: OrderedDict[int, tuple[int, bytes]] = OrderedDict()

    def read(self, extent: Extent) -> Iterator[memoryview]:
        """Yield an extent's bytes in blocks.

        Raises:
            ParcelqError: the segment is too short.
            AwsError, StoreError, OSError: the store cannot be read.
        """
        segment, at, left = extent
        while left:
            start, data = self._windows.get(segment, (0, b""))
            if not start <= at < start + len(data):
                start, data = self._fetch(segment, at)
            block = memoryview(data)[at - start : at - start + left]
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


def parts_of(reader: SegmentReader, extents: Iterable[Extent], size: int) -> Iterator[bytes]:
    """Yield the parts of a result. All but the last have `size` bytes.

    Args:
        reader: reads the bytes.
        extents: the places of the bytes.
        size: bytes of a part.
    """
    for part in extents_of_parts(extents, size):
        yield part_file(reader, part).getvalue()


def part_file(reader: SegmentReader, extents: Iterable[Extent]) -> BytesIO:
    """Return a file with the bytes of extents, positioned at its start."""
    file = BytesIO()  # joining a list would keep all blocks in memory together with the part
    for extent in extents:
        file.writelines(reader.read(extent))
    file.seek(0)
    return file


def extents_of_parts(extents: Iterable[Extent], size: int) -> Iterator[list[Extent]]:
    """Yield the extents of each part of a result. All parts but the last have `size` bytes."""
    part: list[Extent] = []
    room = size
    for segment, start, length in extents:
        at, end = start, start + length
        while at < end:
            taken = min(end - at, room)
            part.append(Extent(segment, at, taken))
            at, room = at + taken, room - taken
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part
