"""Assembles a result: lists the places of messages' bodies, adds line ends between bodies, and reads the bytes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Final, NamedTuple

from parcelq.aws.parallel import in_flight
from parcelq.collect.choice import Choice
from parcelq.collect.rows import ENTRIES, FLAG, MAX_OFFSET, NUMBER, OFFSET_BITS, SIZE, WHERE
from parcelq.errors import ParcelqError
from parcelq.limits import KIB, MIB
from parcelq.store.store import Store

CACHE_BYTES: Final = 96 * MIB
"""How many bytes of segments are kept in memory: one window per segment, each fetched with one request."""
LARGEST_WINDOW: Final = 8 * MIB
SMALLEST_WINDOW: Final = 64 * KIB
NOTHING_AHEAD: Final[Mapping[int, tuple[int, bytes]]] = MappingProxyType({})


class Extent(NamedTuple):
    """The place of some bytes: the number of a segment, an offset in this segment, and how many bytes there are."""

    segment: int
    offset: int
    size: int


def joined_extents(extents: Iterator[Extent]) -> Iterator[Extent]:
    """Join extents that are adjacent in a segment."""
    last: Extent | None = None
    for segment, offset, size in extents:
        if last is not None:
            if segment == last.segment and offset == last.offset + last.size:
                last = Extent(segment, last.offset, last.size + size)
                continue
            yield last
        last = Extent(segment, offset, size)
    if last is not None and last.size:
        yield last


def bodies_of(choices: Iterator[Choice]) -> Iterator[tuple[Extent, bool]]:
    """Yield the place of each chosen message's body, and whether the body does not end with a line end."""
    for choice in choices:
        wheres, sizes, entries = (choice.columns[column] for column in (WHERE, SIZE, ENTRIES))
        for number in choice.rows:
            size = sizes[number]
            if size and entries[number] < FLAG:
                yield extent_of(wheres[number], size & NUMBER), size >= FLAG


def with_line_ends(bodies: Iterator[tuple[Extent, bool]]) -> Iterator[Extent]:
    """Yield the places of bodies; if a body lacks its last line end, add a line end, except after the last body."""
    lacking: Extent | None = None
    for body, lacks_end in bodies:
        if lacking is not None:
            yield Extent(lacking.segment, lacking.offset, lacking.size + 1)
        lacking = body if lacks_end else None
        if lacking is None:
            yield body
    if lacking is not None:
        yield lacking


def extent_of(where: int, size: int) -> Extent:
    """Return the place of `size` bytes, given the field `where` of a row in an index."""
    return Extent(where >> OFFSET_BITS, where & MAX_OFFSET, size)


class SegmentReader:
    """Reads byte ranges ("extents") of segments. If extents are read in order, bytes are fetched about once.

    Args:
        used: how many different segments are read; None if all segments of `keys` are read.
        most: how many bytes one request reads at most. `read_all` reads about as many bytes in parallel.
        ahead: maps a segment's number to bytes of the segment that were already read, as a pair of an offset and the
            bytes.
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[str],
        used: int | None = None,
        most: int = LARGEST_WINDOW,
        ahead: Mapping[int, tuple[int, bytes]] = NOTHING_AHEAD,
    ) -> None:
        self._store = store
        self._keys = keys
        self._window = min(LARGEST_WINDOW, most, max(SMALLEST_WINDOW, CACHE_BYTES // max(1, used or len(keys))))
        self._windows: OrderedDict[int, tuple[int, bytes]] = OrderedDict(ahead)
        self._together = max(1, most // self._window)
        self._wanted: deque[tuple[int, int]] = deque()
        self._fetched: dict[tuple[int, int], bytes] = {}

    def read_all(self, extents: Sequence[Extent]) -> Iterator[memoryview]:
        """Yield the bytes of extents in blocks, fetching several windows in parallel; see `read`."""
        self._fetched.clear()
        self._wanted = deque(self._missing(extents))
        for extent in extents:
            yield from self.read(extent)

    def read(self, extent: Extent) -> Iterator[memoryview]:
        """Yield an extent's bytes in blocks. Raises ParcelqError if the segment ends before the extent ends."""
        segment, at, left = extent
        while left:
            start, data = self._windows.get(segment, (0, b""))
            if not start <= at < start + len(data):
                start, data = self._fetch(segment, at)
            block = memoryview(data)[at - start : at - start + left]
            at, left = at + len(block), left - len(block)
            yield block

    def _missing(self, extents: Iterable[Extent]) -> Iterator[tuple[int, int]]:
        """Yield the windows that must be fetched to read extents, each as a segment's number and an offset."""
        held = {segment: (start, start + len(data)) for segment, (start, data) in self._windows.items()}
        for segment, first, size in extents:
            start, end = held.get(segment, (0, 0))
            stop = first + size
            if start <= first and stop <= end:
                continue
            at = first
            while at < stop:
                if not start <= at < end:
                    yield segment, at
                    start, end = at, at + self._window
                at = min(stop, end)
            held[segment] = start, end

    def _read(self, window: tuple[int, int]) -> tuple[tuple[int, int], bytes]:
        return window, self._store.read(self._keys[window[0]], window[1], self._window)

    def _fetch(self, segment: int, at: int) -> tuple[int, bytes]:
        window = segment, at
        if window not in self._fetched:
            is_next = bool(self._wanted) and self._wanted[0] == window  # False if the window was dropped since
            count = min(self._together, len(self._wanted))
            some = [self._wanted.popleft() for _ in range(count)] if is_next else [window]
            self._fetched |= in_flight(self._read, some)
        data = self._fetched.pop(window)
        if not data:
            raise ParcelqError(f"segment {self._keys[segment]!r} ends before byte {at}")
        self._windows.pop(segment, None)
        while len(self._windows) >= CACHE_BYTES // self._window:
            self._windows.popitem(last=False)
        self._windows[segment] = at, data
        return at, data


def parts_of(reader: SegmentReader, extents: Iterable[Extent], size: int) -> Iterator[bytes]:
    """Yield the bytes of each part of a result. All parts but the last have `size` bytes."""
    return (part_file(reader, part).getvalue() for part in extents_of_parts(extents, size))


def part_file(reader: SegmentReader, extents: Sequence[Extent]) -> BytesIO:
    """Return a file that contains the bytes of extents, and that is positioned at the file's start."""
    file = BytesIO()  # joining a list would keep all blocks in memory together with the part
    file.writelines(reader.read_all(extents))
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
