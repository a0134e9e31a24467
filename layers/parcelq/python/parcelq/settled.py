"""What of a source is settled: pieces that are whole, kept in few bytes each. Pure.

A piece that came is *loose* at first. Once its neighbours are there too it is moved to a *stretch*: pieces that touch,
in arrays, some 40 bytes for each instead of some 500. So memory is bounded by disorder, not by the number of messages.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import ClassVar, Final, TypeAlias, cast, overload

from parcelq.lineage import MAX_GROUP_LENGTH

Extent: TypeAlias = tuple[int, int, int]
"""Where a message's bytes lie: the number of a segment, an offset in it, and how many they are."""
Place: TypeAlias = tuple[int, int]
"""Which bytes a piece stands for: first, and just after the last."""
Leaf: TypeAlias = tuple[Extent, int]
"""A message that is there: its extent and its entries."""
Row: TypeAlias = tuple[int, int, int, int, int]
"""Where a piece ends, and of a message of it the extent and the entries: one object, not three."""

SHORTEST: Final = 32
"""Pieces that touch before they become a stretch of their own."""
MARGIN: Final = MAX_GROUP_LENGTH // len("0-1/1>0-1/1:0123456789abcdef,") + 1
"""Pieces that must be there on either side of one before all but its messages is forgotten: as many as can be run
together, so that no group that something else is still missing from reaches it."""


class Extents(Sequence[Extent]):
    """Extents in the order of the result, in arrays. One that goes on in the same segment becomes one with the last."""

    __slots__ = ("_lengths", "_offsets", "_segments")

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self._segments, self._offsets, self._lengths = array("i"), array("q"), array("q")
        for extent in extents:
            self.append(extent)

    def append(self, extent: Extent) -> None:
        """Add an extent; one without bytes leaves no trace."""
        segment, offset, length = extent
        if not length:
            return
        if self._segments and self._segments[-1] == segment and self._offsets[-1] + self._lengths[-1] == offset:
            self._lengths[-1] += length
        else:
            self._segments.append(segment)
            self._offsets.append(offset)
            self._lengths.append(length)

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Extent]:
        return zip(self._segments, self._offsets, self._lengths, strict=True)

    @overload
    def __getitem__(self, index: int) -> Extent: ...
    @overload
    def __getitem__(self, index: slice) -> Extents: ...
    def __getitem__(self, index: int | slice) -> Extent | Extents:
        if isinstance(index, slice):
            return Extents(islice(self, *index.indices(len(self))))
        return self._segments[index], self._offsets[index], self._lengths[index]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Extents | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class Stretch:
    """Pieces that touch, from `start` to `end`: a row for each message of theirs.

    A row's end is its piece's if it is the last of the piece, else the piece's start: so a piece of three messages from
    10 to 20 has the ends 10, 10, 20, and is found by bisection.
    """

    __slots__ = ("_ends", "_entries", "_lengths", "_offsets", "_segments", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self._ends, self._entries = array("q"), array("q")
        self._segments, self._offsets, self._lengths = array("i"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def end(self) -> int:
        """Just after its last byte."""
        return self._ends[-1] if self._ends else self.start

    def append(self, rows: Sequence[Row]) -> None:
        """Add pieces that touch, from where this ends: a row for each of their messages, its end as said above."""
        columns = (self._ends, self._segments, self._offsets, self._lengths, self._entries)
        for number, column in enumerate(columns):
            column.extend(map(itemgetter(number), rows))

    def extend(self, other: Stretch) -> None:
        """Add the stretch that begins where this ends."""
        for name in self.__slots__[:-1]:
            getattr(self, name).extend(getattr(other, name))

    def has(self, place: Place) -> bool:
        """Whether one of its pieces has just this place."""
        start, end = place
        row = bisect_right(self._ends, start)
        before = self._ends[row - 1] if row else self.start
        return before == start and row < len(self._ends) and self._ends[row] == end

    def touched(self, start: int, end: int) -> list[Place]:
        """The places of its pieces that have bytes in common with `[start, end)`."""
        row = bisect_right(self._ends, start)
        at = self._ends[row - 1] if row else self.start
        places = []
        while row < len(self._ends) and at < end:
            if self._ends[row] > at:
                places.append((at, self._ends[row]))
                at = self._ends[row]
            row += 1
        return places

    def leaves(self, start: int, end: int) -> Iterator[Leaf]:
        """The messages of its pieces from one place's start to one's end."""
        first, last = self._row(start), self._row(end)
        columns = (self._segments, self._offsets, self._lengths, self._entries)
        # Views, since slices of arrays are copies.
        *extent, entries = (memoryview(column)[first:last] for column in columns)
        return zip(zip(*extent, strict=True), entries, strict=True)

    def _row(self, start: int) -> int:
        """The first row of the piece that begins here."""
        return 0 if start == self.start else bisect_left(self._ends, start) + 1


@dataclass(frozen=True, slots=True)
class Whole:
    """Bytes that are there: a loose piece, or a part of a stretch that can be taken at once."""

    start: int
    end: int
    source: Stretch | Leaf
    dead: ClassVar[tuple[tuple[str, int, bool], ...]] = ()
    places: ClassVar[tuple[()]] = ()

    @property
    def leaves(self) -> Iterable[Leaf]:
        """Its messages, in order."""
        return self.source.leaves(self.start, self.end) if isinstance(self.source, Stretch) else (self.source,)


class Settled:
    """Pieces of a source that are whole."""

    def __init__(self) -> None:
        # By where they begin, since sorting and finding numbers takes half of what pairs take.
        self._loose: dict[int, Row] = {}
        # Stretches in order, and apart from them where each begins and ends.
        self._stretches: list[Stretch] = []
        self._starts: list[int] = []
        self._ends: list[int] = []

    @property
    def loose(self) -> int:
        """How many pieces are loose."""
        return len(self._loose)

    def add(self, place: Place, leaf: Leaf) -> bool | None:
        """Take a piece that is one message.

        Returns:
            Whether it is new; None if it was not taken, because one that begins there ends elsewhere.
        """
        start, end = place
        loose = self._loose.get(start)
        if (loose is not None and loose[0] == end) or (self._starts and self._is_in_stretch(place)):
            return False
        if loose is not None:
            return None
        self._loose[start] = (end, *leaf[0], leaf[1])
        return True

    def has(self, place: Place) -> bool:
        """Whether a piece with just this place is there."""
        return self._is_loose(place) or self._is_in_stretch(place)

    def merge(self, others: Mapping[Place, Sequence[Leaf]], total: int | None) -> list[Place]:
        """Move pieces that touch into stretches.

        Args:
            others: pieces that are whole, and of which more is known than their messages. They are moved only where
                `MARGIN` pieces on either side are there.
            total: bytes of the source, if known.

        Returns:
            Those of `others` that were moved.
        """
        places = [(start, self._loose[start][0]) for start in sorted(self._loose)]
        if others:
            places = sorted([*places, *(place for place in others if not self._is_loose(place))])
        moved: list[Place] = []
        for first, last in _chains(places):
            if self._fits(places[first][0], places[last - 1][1], last - first):
                for part in self._ripe(places[first:last], total) if others else [places[first:last]]:
                    if self._fits(part[0][0], part[-1][1], len(part)):
                        self._move(part, others)
                        moved += [place for place in part if place in others] if others else []
        return moved

    def wholes(self, rivals: Iterable[Place]) -> Iterator[Whole]:
        """Everything that is there: loose pieces; and stretches, in pieces where they overlap with those or rivals."""
        for start, (end, *extent, entries) in self._loose.items():
            yield Whole(start, end, (cast("Extent", tuple(extent)), entries))
        hulls = _hulls(sorted([*((start, row[0]) for start, row in self._loose.items()), *rivals]))
        for stretch in self._stretches:
            at = stretch.start
            for number in range(max(0, bisect_right(hulls, (at, 0)) - 1), len(hulls)):
                low, high = hulls[number]
                if low >= stretch.end:
                    break
                for start, end in stretch.touched(max(low, at), high):
                    if at < start:
                        yield Whole(at, start, stretch)
                    yield Whole(start, end, stretch)
                    at = end
            if at < stretch.end:
                yield Whole(at, stretch.end, stretch)

    def _is_loose(self, place: Place) -> bool:
        return place[0] in self._loose and self._loose[place[0]][0] == place[1]

    def _is_in_stretch(self, place: Place) -> bool:
        number = bisect_right(self._starts, place[0]) - 1
        return number >= 0 and place[0] < self._ends[number] and self._stretches[number].has(place)

    def _ending_at(self, place: int) -> Stretch | None:
        number = bisect_left(self._ends, place)
        return self._stretches[number] if number < len(self._ends) and self._ends[number] == place else None

    def _beginning_at(self, place: int) -> Stretch | None:
        number = bisect_left(self._starts, place)
        return self._stretches[number] if number < len(self._starts) and self._starts[number] == place else None

    def _ripe(self, chain: Sequence[Place], total: int | None) -> Iterator[list[Place]]:
        """The longest parts of a chain that may be moved."""
        start, end = chain[0][0], chain[-1][1]
        low = 0 if start == 0 or _is_deep(self._ending_at(start), total) else MARGIN
        high = 0 if end == total or _is_deep(self._beginning_at(end), total) else MARGIN
        deep = range(low, len(chain) - high)
        for ripe, part in groupby(enumerate(chain), lambda one: self._is_loose(one[1]) or one[0] in deep):
            if ripe:
                yield [place for _, place in part]

    def _fits(self, start: int, end: int, length: int) -> bool:
        """Whether pieces that touch overlap with no stretch, and go on with one or are enough for their own."""
        number = bisect_right(self._starts, start)
        before = self._ends[number - 1] if number else -1
        after = self._starts[number] if number < len(self._starts) else end + 1
        return before <= start and end <= after and (length >= SHORTEST or before == start or end == after)

    def _move(self, places: Sequence[Place], others: Mapping[Place, Sequence[Leaf]]) -> None:
        """Make loose pieces and others that touch part of a stretch."""
        if others:
            rows: list[Row] = []
            for start, end in places:
                if self._is_loose((start, end)):
                    rows.append(self._loose.pop(start))
                else:
                    *before, (extent, entries) = others[start, end]
                    rows += [(start, *extent, entries) for extent, entries in before]
                    rows.append((end, *extent, entries))
        else:
            rows = [self._loose.pop(start) for start, _ in places]
        number = bisect_right(self._starts, places[0][0])
        if not number or self._ends[number - 1] < places[0][0]:
            self._stretches.insert(number, Stretch(places[0][0]))
            self._starts.insert(number, places[0][0])
            self._ends.insert(number, places[0][0])
            number += 1
        stretch = self._stretches[number - 1]
        stretch.append(rows)
        if number < len(self._starts) and self._starts[number] == stretch.end:
            stretch.extend(self._stretches[number])
            del self._stretches[number], self._starts[number], self._ends[number]
        self._ends[number - 1] = stretch.end


def _is_deep(stretch: Stretch | None, total: int | None) -> bool:
    """Whether nothing that is missing reaches through a stretch."""
    return stretch is not None and (len(stretch) > MARGIN or stretch.start == 0 or stretch.end == total)


def _chains(places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """Of places in order, those that touch: the number of the first, and the one after that of the last."""
    breaks = [number for number, (one, other) in enumerate(pairwise(places), 1) if one[1] != other[0]]
    return pairwise([0, *breaks, len(places)] if places else [])


def _hulls(places: Iterable[Place]) -> list[Place]:
    """Places in order, those that overlap as one."""
    hulls: list[Place] = []
    for start, end in places:
        if hulls and start < hulls[-1][1]:
            hulls[-1] = hulls[-1][0], max(hulls[-1][1], end)
        else:
            hulls.append((start, end))
    return hulls
