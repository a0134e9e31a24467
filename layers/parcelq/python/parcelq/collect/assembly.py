"""Assembling a result: bytes from many segments, in order, as one stream."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Final

from parcelq.collect.resolution import Extent
from parcelq.errors import ParcelqError
from parcelq.limits import KIB, MIB
from parcelq.store.store import Store

CACHE_BYTES: Final = 96 * MIB
"""Bytes of segments in memory: one window for each segment, fetched as a whole."""
LARGEST_WINDOW: Final = 8 * MIB
SMALLEST_WINDOW: Final = 64 * KIB


class SegmentReader:
    """Reads extents of segments. In each segment they are in order, so that every byte is fetched about once.

    Args:
        store: where the segments are.
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
            AwsError, StoreError, OSError: the store refused.
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


def parts_of(reader: SegmentReader, extents: Iterable[Extent], size: int, first: int = 0) -> Iterator[bytes]:
    """Yield the parts of a result from a number on, each of `size` bytes but the last.

    Args:
        reader: reads the bytes.
        extents: where they lie.
        size: bytes of a part.
        first: the number of the first part to yield, from 0.
    """
    skipped = first * size
    part = BytesIO()  # joining a list would have all blocks in memory beside the part
    for segment, offset, length in extents:
        if skipped >= length:
            skipped -= length
            continue
        for block in reader.read(Extent(segment, offset + skipped, length - skipped)):
            rest = memoryview(block)
            while rest:
                written = part.write(rest[: size - part.tell()])
                rest = rest[written:]
                if part.tell() == size:
                    yield part.getvalue()
                    part = BytesIO()
        skipped = 0
    if part.tell():
        yield part.getvalue()
