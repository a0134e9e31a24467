"""The collector: which of a source's messages make its result, in which order, and what is missing. Pure.

What came is kept by its lineage, and the result is a function of that set: it does not matter how often a message came,
nor, but for runs that differ, in which order. The messages make a tree, of which `tiling` tells; pieces of the source
that are one message are kept apart from it, in little memory, as `settled` tells.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from parcelq.collect.extents import Extent, Messages
from parcelq.collect.rows import Row, in_columns
from parcelq.collect.settled import Settled
from parcelq.collect.tiling import Candidate, Piece, Tiling, candidates_of, choose, find
from parcelq.errors import LineageError
from parcelq.lineage.lineage import Lineage, Span
from parcelq.topics.message import UNTOLD

LOOSE: Final = 16 * 1024
"""Pieces that are kept as they came before it is worth looking which of them touch."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Entries that failed for good.

    Attributes:
        start: first byte, in the source, of the message that they came in.
        end: just after its last byte.
        entries: how many they are.
        reason: why they failed.
        of_source: whether they are entries of the source, and not of what an earlier step made of some.
    """

    start: int
    end: int
    entries: int
    reason: str
    of_source: bool = True


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the messages that came make.

    Attributes:
        total: bytes of the source; None while no message told.
        covered: bytes of the source whose results are there.
        dead: what failed for good, in order.
        holes: byte ranges of the source that are neither there nor dead, in order.
        extents: where the result's bytes lie, in order.
        entries: entries of the result.
    """

    total: int | None
    covered: int
    dead: tuple[Dead, ...]
    holes: tuple[tuple[int, int], ...]
    extents: Sequence[Extent] = field(repr=False)
    entries: int

    @property
    def finished(self) -> bool:
        """Whether nothing is missing but what is dead."""
        return self.total is not None and not self.holes

    @property
    def whole(self) -> bool:
        """Whether nothing is missing at all."""
        return self.finished and not self.dead


class Collector:
    """Takes the messages of one source, in any order."""

    def __init__(self) -> None:
        self._duplicates = 0
        self._source = Tiling()
        self._messages = Messages()
        self._settled = Settled(self._messages)
        self._until_merged = LOOSE

    @property
    def duplicates(self) -> int:
        """Messages that were there already."""
        self._sort()
        return self._duplicates + self._settled.duplicates

    def add(self, lineage: str, extent: Extent, entries: int = 0, dead: str = "") -> bool:
        """Take a message.

        Args:
            lineage: which bytes it stands for.
            extent: where its bytes lie.
            entries: how many it has; of a tombstone, how many are dead.
            dead: why they are dead; empty for a result.

        Returns:
            Whether it is new.

        Raises:
            LineageError: the text is no lineage of a message.
        """
        told = Lineage.parse(lineage)
        new = self._add(_shortened(told), extent, entries, dead, of_source=not told.outputs)
        self._duplicates += not new
        self._came(1)
        return new

    def add_all(self, segment: int, rows: Sequence[Row]) -> list[Extent]:
        """Take the messages of a segment, as if each were added; only much faster.

        Returns:
            Where those lie whose lineage is none.
        """
        results, others = in_columns(rows)
        if results.starts:
            self._source.total = self._source.total if results.total is None else results.total
            row = self._messages.add_all(segment, results.offsets, results.lengths, results.entries, results.ends)
            self._settled.add_all(results.starts, row)
            self._came(len(results.starts))
        wrong: list[Extent] = []
        for lineage, offset, length, count, dead in others:
            extent = segment, offset, length
            try:
                self.add(lineage, extent, count, dead)
            except LineageError:
                wrong.append(extent)
        return wrong

    def resolve(self) -> Resolution:
        """Work out what the messages make, by now."""
        self._merge()
        candidates = list(candidates_of(self._source, {}))
        wholes = self._settled.wholes((start, end) for start, end, _ in candidates)
        chosen = choose([*candidates, *((one.start, one.end, one) for one in wholes)])
        return _resolution(self._source.total, chosen, self._messages)

    def _came(self, count: int) -> None:
        self._until_merged -= count
        if self._until_merged < 0:
            self._merge()
            # When there are four times as many, so that in no order of arrival they are looked at again and again.
            self._until_merged = max(LOOSE, 3 * (self._settled.loose + len(self._source.pieces)))

    def _add(self, lineage: Lineage, extent: Extent, entries: int, dead: str, *, of_source: bool) -> bool:
        root = lineage.root
        if self._settled.has((root.start, root.end)):
            return bool(dead)
        if not lineage.outputs and not dead and root.start < root.end:
            self._source.total = self._source.total if root.total is None else root.total
            self._settled.add_all((root.start,), self._messages.add(extent, entries, root.end))
            return True
        piece = self._piece(lineage)
        if piece is None:
            return False
        if dead:
            new = piece.dead is None
            if piece.dead is None or piece.dead[0] == UNTOLD:
                piece.dead = dead, entries, of_source
        else:
            new = piece.row is None
            if new:
                piece.row = self._messages.add(extent, entries, piece.end)
        return new

    def _piece(self, lineage: Lineage) -> Piece | None:
        """The piece that a message is; None if it is of one that is there whole already, by an earlier run."""
        root = lineage.root
        piece = self._source.piece(root)
        for output in lineage.outputs:
            if piece.row is not None:
                return None
            piece = piece.run(output.digest).piece(output.span)
        return piece

    def _tiling(self, lineage: Lineage) -> Tiling:
        """The tiling that a message is a piece of."""
        if not lineage.outputs:
            return self._source
        *before, last = lineage.outputs
        root = lineage.root
        piece = self._source.piece(root)
        for output in before:
            piece = piece.run(output.digest).piece(output.span)
        return piece.run(last.digest)

    def _sort(self) -> None:
        for row, (start, end) in self._settled.sort():
            piece = self._source.piece(Span(start, end, None))
            self._duplicates += piece.row is not None
            piece.row = row if piece.row is None else piece.row

    def _merge(self) -> None:
        """Let go of all but the messages of pieces whose neighbours are there."""
        self._sort()
        others = {}
        for (start, end), piece in self._source.pieces.items():
            found = find(piece, {})
            if found and not found.dead and not found.places and start < end:
                others[start, end] = found.rows
        for place in self._settled.merge(others, self._source.total):
            del self._source.pieces[place]


def _shortened(lineage: Lineage) -> Lineage:
    """The lineage without what makes no difference to where a message belongs.

    All that a step made of something stands for just that.
    """
    outputs = tuple(one for one in lineage.outputs if one.span.start or one.span.end != one.span.total)
    return lineage if len(outputs) == len(lineage.outputs) else Lineage(lineage.root, outputs)


def _resolution(total: int | None, chosen: Iterable[Candidate], messages: Messages) -> Resolution:
    covered = at = 0
    dead: list[Dead] = []
    holes: list[tuple[int, int]] = []
    rows = array("i")
    empty = True
    for start, end, found in chosen:
        empty = False
        if start > at:
            holes.append((at, start))
        at = end
        covered += 0 if found.dead else end - start
        dead += [Dead(start, end, count, reason, of_source) for reason, count, of_source in found.dead]
        rows.extend(found.rows)
    if total is not None and (at < total or empty):
        holes.append((at, total))
    return Resolution(total, covered, tuple(dead), tuple(holes), messages.extents(rows), messages.entries(rows))
