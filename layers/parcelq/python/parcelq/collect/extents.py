"""Where messages lie: a table of all that came, and the extents of a result, in few bytes each. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import compress, islice, repeat
from operator import add, and_, eq, not_, sub
from typing import Final, TypeAlias, overload

Extent: TypeAlias = tuple[int, int, int]
"""Where a message's bytes lie: the number of a segment, an offset in it, and how many they are."""

_AT_ONCE: Final = 64 * 1024
"""Messages that are looked at together, so that what is worked out on the way stays small."""


class Messages:
    """All messages that came, in columns of 36 bytes for each. What else is known of one is known by its row.

    Attributes:
        ends: just after the last byte that the message stands for; of some, what `Settled` keeps in its place.
    """

    __slots__ = ("_entries", "_lengths", "_offsets", "_segments", "ends")

    def __init__(self) -> None:
        self._segments, self._offsets, self._lengths = array("i"), array("q"), array("q")
        self._entries, self.ends = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.ends)

    def add(self, extent: Extent, entries: int, end: int) -> int:
        """Add a message and return its row."""
        segment, offset, length = extent
        return self.add_all(segment, (offset,), (length,), (entries,), (end,))

    def add_all(
        self, segment: int, offsets: Sequence[int], lengths: Sequence[int], entries: Sequence[int], ends: Sequence[int]
    ) -> int:
        """Add messages that lie in one segment and return the row of the first."""
        row = len(self.ends)
        self._segments.extend(repeat(segment, len(ends)))
        self._offsets.extend(offsets)
        self._lengths.extend(lengths)
        self._entries.extend(entries)
        self.ends.extend(ends)
        return row

    def entries(self, rows: Sequence[int]) -> int:
        """How many entries these have."""
        return sum(map(self._entries.__getitem__, rows))

    def extents(self, rows: Sequence[int]) -> Extents:
        """Where these lie, in their order."""
        extents = Extents()
        for at in range(0, len(rows), _AT_ONCE):
            some = rows[at : at + _AT_ONCE]
            extents.extend(
                array("i", map(self._segments.__getitem__, some)),
                array("q", map(self._offsets.__getitem__, some)),
                array("q", map(self._lengths.__getitem__, some)),
            )
        return extents


class Extents(Sequence[Extent]):
    """Extents in the order of the result, in arrays. One that goes on in the same segment becomes one with the last."""

    __slots__ = ("_lengths", "_offsets", "_segments")

    def __init__(self) -> None:
        self._segments, self._offsets, self._lengths = array("i"), array("q"), array("q")

    def extend(self, segments: array[int], offsets: array[int], lengths: array[int]) -> None:
        """Add extents, whose columns may be changed; those without bytes leave no trace."""
        if 0 in lengths:
            segments, offsets = (array(one.typecode, compress(one, lengths)) for one in (segments, offsets))
            lengths = array("q", filter(None, lengths))
        if not lengths:
            return
        if self._segments:  # what they may go on with
            for own, others in ((self._segments, segments), (self._offsets, offsets), (self._lengths, lengths)):
                others.insert(0, own.pop())
        # In loops of C, since there may be millions.
        ends = array("q", map(add, offsets, lengths))
        goes_on = map(and_, map(eq, segments, islice(segments, 1, None)), map(eq, ends, islice(offsets, 1, None)))
        firsts = [0, *compress(range(1, len(ends)), map(not_, goes_on))]
        if len(firsts) == len(ends):
            self._segments.extend(segments)
            self._offsets.extend(offsets)
            self._lengths.extend(lengths)
            return
        lasts = [*(number - 1 for number in islice(firsts, 1, None)), len(ends) - 1]
        self._segments.extend(map(segments.__getitem__, firsts))
        self._offsets.extend(map(offsets.__getitem__, firsts))
        self._lengths.extend(map(sub, map(ends.__getitem__, lasts), map(offsets.__getitem__, firsts)))

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
            some = Extents()
            some.extend(self._segments[index], self._offsets[index], self._lengths[index])
            return some
        return self._segments[index], self._offsets[index], self._lengths[index]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Extents | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
