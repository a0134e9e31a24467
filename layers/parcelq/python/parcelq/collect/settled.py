"""What of a source is settled: pieces that are whole, kept in few bytes each. Pure.

A piece that came is *loose* at first. Once its neighbours are there too it is moved to a *stretch*: pieces that touch,
in order. Beside what the table of all messages has of it, a loose piece takes 12 bytes, one in a stretch 4.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, groupby, islice, pairwise
from operator import eq, ne
from typing import ClassVar, Final, TypeAlias

from parcelq.collect.extents import Messages

Place: TypeAlias = tuple[int, int]
"""Which bytes a piece stands for: first, and just after the last."""

SHORTEST: Final = 32
"""Pieces that touch before they become a stretch of their own."""
MARGIN: Final = 500
"""Pieces that must be there on either side of one before all but its messages is forgotten: as many as can be run
together, so that no group that something else is still missing from reaches it."""
_ROW_BITS: Final = 31
_ROW: Final = (1 << _ROW_BITS) - 1
_FOREIGN: Final = -1
"""Stands for a piece that is not loose."""


class Stretch:
    """Pieces that touch, from `start` to `end`: the rows of their messages, in order.

    The end that is kept for a message is its piece's end if it is the last of the piece, else the piece's start: so a
    piece of three messages from 10 to 20 has the ends 10, 10, 20, and is found by bisection.
    """

    __slots__ = ("_ends", "rows", "start")

    def __init__(self, start: int, ends: array[int]) -> None:
        self.start = start
        self.rows = array("i")
        self._ends = ends

    @property
    def end(self) -> int:
        """Just after its last byte."""
        return self._ends[self.rows[-1]] if self.rows else self.start

    def has(self, place: Place) -> bool:
        """Whether one of its pieces has just this place."""
        return next(self.touched(*place), None) == place

    def touched(self, start: int, end: int) -> Iterator[Place]:
        """The places of its pieces that have bytes in common with `[start, end)`."""
        number = bisect_right(self.rows, start, key=self._ends.__getitem__)
        at = self._ends[self.rows[number - 1]] if number else self.start
        for row in islice(self.rows, number, None):
            if at >= end:
                break
            if self._ends[row] > at:
                yield at, self._ends[row]
                at = self._ends[row]

    def part(self, start: int, end: int) -> Whole:
        """Its pieces from one place's start to one's end."""
        return Whole(start, end, self.rows, self._first(start), self._first(end))

    def _first(self, start: int) -> int:
        """The number of the first row of the piece that begins here."""
        return 0 if start == self.start else bisect_left(self.rows, start, key=self._ends.__getitem__) + 1


@dataclass(frozen=True, slots=True)
class Whole:
    """Bytes that are there: a loose piece, or a part of a stretch."""

    start: int
    end: int
    _rows: Sequence[int]
    _first: int = 0
    _last: int = 1
    dead: ClassVar[tuple[tuple[str, int, bool], ...]] = ()
    places: ClassVar[tuple[()]] = ()

    @property
    def rows(self) -> Sequence[int]:
        """The rows of its messages, in order."""
        return self._rows[self._first : self._last]


class Settled:
    """Pieces of a source that are whole.

    Attributes:
        duplicates: pieces that were added though they were there; up to date once they are sorted.
    """

    def __init__(self, messages: Messages) -> None:
        self.duplicates = 0
        self._ends = messages.ends
        # Where each loose piece begins, and its row; in order but for those that came since they were sorted last.
        # In arrays, because the garbage collector looks through lists, and at each number in them.
        self._starts, self._rows = array("q"), array("i")
        # The places of the first so many of them: of those that were there when one was looked for last.
        self._places: set[Place] = set()
        self._placed = 0
        # Stretches in order, and apart from them where each begins and ends.
        self._stretches: list[Stretch] = []
        self._stretch_starts: list[int] = []
        self._stretch_ends: list[int] = []

    @property
    def loose(self) -> int:
        """How many pieces are loose."""
        return len(self._rows)

    def add_all(self, starts: Sequence[int], row: int) -> None:
        """Take pieces that are one message each, in rows that follow each other from this one."""
        self._starts.extend(starts)
        self._rows.extend(range(row, row + len(starts)))

    def has(self, place: Place) -> bool:
        """Whether a piece with just this place is there."""
        number = bisect_right(self._stretch_starts, place[0]) - 1
        if number >= 0 and place[0] < self._stretch_ends[number] and self._stretches[number].has(place):
            return True
        self._places.update(map(self._place, range(self._placed, self.loose)))
        self._placed = self.loose
        return place in self._places

    def sort(self) -> list[tuple[int, Place]]:
        """Bring loose pieces in order and let go of those that are there already.

        Returns:
            Pieces that begin where another does but end elsewhere, with their rows; these are not kept here.
        """
        # Both in one number, which is what sorts fastest.
        packed = [start << _ROW_BITS | row for start, row in zip(self._starts, self._rows, strict=True)]
        packed.sort()
        starts = self._starts = array("q", [one >> _ROW_BITS for one in packed])
        self._rows = array("i", [one & _ROW for one in packed])
        del packed
        gone: set[int] = set()
        others: list[tuple[int, Place]] = []
        seen: set[Place] = set()
        for number in compress(range(1, len(starts)), map(eq, starts, islice(starts, 1, None))):
            gone.add(number)
            seen.add(self._place(number - 1))
            place = self._place(number)
            if place not in seen:
                others.append((self._rows[number], place))
        repeated = len(gone) - len(others)
        for stretch in self._stretches:
            for number in range(bisect_left(starts, stretch.start), bisect_left(starts, stretch.end)):
                if number not in gone and stretch.has(self._place(number)):
                    gone.add(number)
                    repeated += 1
        self._keep(bytes(number not in gone for number in range(len(starts))) if gone else b"")
        self.duplicates += repeated
        return others

    def merge(self, others: Mapping[Place, Sequence[int]], total: int | None) -> list[Place]:
        """Move pieces that touch into stretches. The loose ones must have been sorted.

        Args:
            others: pieces that are whole, and of which more is known than their messages; the rows of these, in order.
                They are moved only where `MARGIN` pieces on either side are there.
            total: bytes of the source, if known.

        Returns:
            Those of `others` that were moved, or that a loose piece of the same place has made needless.
        """
        starts: Sequence[int] = self._starts
        rows: Sequence[int] = self._rows
        ends: Sequence[int] = array("q", map(self._ends.__getitem__, rows))
        if others:
            loose = set(zip(starts, ends, strict=True))
            foreign = ((start, end, _FOREIGN) for start, end in others if (start, end) not in loose)
            starts, ends, rows = zip(*sorted(chain(zip(starts, ends, rows, strict=True), foreign)), strict=True)
        stays = bytearray(b"\1" * len(rows))
        moved: list[Place] = []
        for first, last in _chains(starts, ends):
            chained = range(first, last)
            # Nearly all are too short where much is missing, so that is looked at before anything is called.
            is_short = last - first < SHORTEST and not self._stretches
            if is_short or not self._fits(starts[first], ends[last - 1], last - first):
                continue
            for part in self._ripe(chained, starts, ends, rows, total) if others else (chained,):
                if self._fits(starts[part[0]], ends[part[-1]], len(part)):
                    some = slice(part.start, part.stop)
                    self._move(starts[some], ends[some], rows[some], others)
                    stays[some] = bytes(len(part))
                    moved += filter(others.__contains__, zip(starts[some], ends[some], strict=True)) if others else ()
        self._keep(bytes(stay for stay, row in zip(stays, rows, strict=True) if row != _FOREIGN) if others else stays)
        return moved

    def wholes(self, rivals: Iterable[Place]) -> Iterator[Whole]:
        """Everything that is there: loose pieces; and stretches, in pieces where they overlap with those or rivals."""
        loose = [self._place(number) for number in range(self.loose)]
        for (start, end), row in zip(loose, self._rows, strict=True):
            yield Whole(start, end, (row,))
        hulls = _hulls(sorted(chain(loose, rivals)))
        for stretch in self._stretches:
            at = stretch.start
            for number in range(max(0, bisect_right(hulls, (at, 0)) - 1), len(hulls)):
                low, high = hulls[number]
                if low >= stretch.end:
                    break
                for start, end in stretch.touched(max(low, at), high):
                    if at < start:
                        yield stretch.part(at, start)
                    yield stretch.part(start, end)
                    at = end
            if at < stretch.end:
                yield stretch.part(at, stretch.end)

    def _place(self, number: int) -> Place:
        """Where a loose piece lies."""
        return self._starts[number], self._ends[self._rows[number]]

    def _keep(self, stays: bytes | bytearray) -> None:
        """Let go of the loose pieces whose byte here is 0."""
        if 0 in stays:
            self._starts = array("q", compress(self._starts, stays))
            self._rows = array("i", compress(self._rows, stays))
        self._places, self._placed = set(), 0

    def _ending_at(self, place: int) -> Stretch | None:
        number = bisect_left(self._stretch_ends, place)
        is_there = number < len(self._stretch_ends) and self._stretch_ends[number] == place
        return self._stretches[number] if is_there else None

    def _beginning_at(self, place: int) -> Stretch | None:
        number = bisect_left(self._stretch_starts, place)
        is_there = number < len(self._stretch_starts) and self._stretch_starts[number] == place
        return self._stretches[number] if is_there else None

    def _ripe(
        self, chained: range, starts: Sequence[int], ends: Sequence[int], rows: Sequence[int], total: int | None
    ) -> Iterator[range]:
        """The longest parts of a chain that may be moved."""
        start, end = starts[chained[0]], ends[chained[-1]]
        low = 0 if start == 0 or _is_deep(self._ending_at(start), total) else MARGIN
        high = 0 if end == total or _is_deep(self._beginning_at(end), total) else MARGIN
        deep = chained[low : max(low, len(chained) - high)]
        for ripe, part in groupby(chained, lambda number: rows[number] != _FOREIGN or number in deep):
            if ripe:
                inside = list(part)
                yield range(inside[0], inside[-1] + 1)

    def _fits(self, start: int, end: int, length: int) -> bool:
        """Whether pieces that touch overlap with no stretch, and go on with one or are enough for their own."""
        number = bisect_right(self._stretch_starts, start)
        before = self._stretch_ends[number - 1] if number else -1
        after = self._stretch_starts[number] if number < len(self._stretch_starts) else end + 1
        return before <= start and end <= after and (length >= SHORTEST or before == start or end == after)

    def _move(
        self,
        starts: Sequence[int],
        ends: Sequence[int],
        rows: Sequence[int],
        others: Mapping[Place, Sequence[int]],
    ) -> None:
        """Make pieces that touch part of a stretch."""
        at = bisect_right(self._stretch_starts, starts[0])
        if not at or self._stretch_ends[at - 1] < starts[0]:
            self._stretches.insert(at, Stretch(starts[0], self._ends))
            self._stretch_starts.insert(at, starts[0])
            self._stretch_ends.insert(at, starts[0])
            at += 1
        stretch = self._stretches[at - 1]
        if _FOREIGN in rows:
            for start, end, row in zip(starts, ends, rows, strict=True):
                of_piece = others[start, end] if row == _FOREIGN else (row,)
                for one in of_piece:
                    self._ends[one] = start
                self._ends[of_piece[-1]] = end
                stretch.rows.extend(of_piece)
        else:
            stretch.rows.extend(rows)
        if at < len(self._stretch_starts) and self._stretch_starts[at] == stretch.end:
            stretch.rows.extend(self._stretches[at].rows)
            for column in (self._stretches, self._stretch_starts, self._stretch_ends):
                del column[at]
        self._stretch_ends[at - 1] = stretch.end


def _is_deep(stretch: Stretch | None, total: int | None) -> bool:
    """Whether nothing that is missing reaches through a stretch."""
    return stretch is not None and (len(stretch.rows) > MARGIN or stretch.start == 0 or stretch.end == total)


def _chains(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of places in order, those that touch: the number of the first, and the one after that of the last."""
    breaks = compress(range(1, len(starts)), map(ne, ends, islice(starts, 1, None)))
    return pairwise(chain((0,), breaks, (len(starts),)) if starts else ())


def _hulls(places: Iterable[Place]) -> list[Place]:
    """Places in order, those that overlap as one."""
    hulls: list[Place] = []
    for start, end in places:
        if hulls and start < hulls[-1][1]:
            hulls[-1] = hulls[-1][0], max(hulls[-1][1], end)
        else:
            hulls.append((start, end))
    return hulls
