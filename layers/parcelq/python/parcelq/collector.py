"""The collector: which of a source's messages make its result, in which order, and what is missing. Pure.

What came is kept by its lineage, and the result is a function of that set: it does not matter how often a message came,
nor, but for runs that differ, in which order. The messages make a tree:

- A *tiling* is a space of bytes `[0, total)`, the source or what one run of a step put out, with *pieces* in it.
- A piece is there if its bytes came as they are, or if a run of a step over it is whole: its tiling is covered.
- Of pieces that overlap (a message run whole on one delivery and halved on another) those are chosen that together
  cover most. Runs are never mixed, since each has a tiling of its own; the first that is whole counts.
- Messages that were run together are one piece in several places: all of these are chosen, or none.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeAlias

from parcelq.lineage import DIGEST, NUMBER, Lineage, Span
from parcelq.message import UNTOLD

Extent: TypeAlias = tuple[int, int, int]
"""Where a message's bytes lie: the number of a segment, an offset in it, and how many they are."""

_ONE_WHOLE_RUN: Final = re.compile(rf"({NUMBER})-({NUMBER})/({NUMBER})>0-({NUMBER})/\4:{DIGEST}")
"""What nearly all lineages look like: all that one run of a step made of bytes of the source."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Entries that failed for good.

    Attributes:
        start: first byte, in the source, of the message that they came in.
        end: just after its last byte.
        entries: how many they are.
        reason: why they failed.
    """

    start: int
    end: int
    entries: int
    reason: str


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
    extents: tuple[Extent, ...] = field(repr=False)
    entries: int

    @property
    def finished(self) -> bool:
        """Whether nothing is missing but what is dead."""
        return self.total is not None and not self.holes

    @property
    def whole(self) -> bool:
        """Whether nothing is missing at all."""
        return self.finished and not self.dead


@dataclass(slots=True, eq=False)
class _Piece:
    """Bytes of a tiling: where they are if they came, else runs of a step over them, or word that they are dead."""

    start: int
    end: int
    extent: Extent | None = None
    entries: int = 0
    dead: tuple[str, int] | None = None
    runs: dict[str, _Tiling] | None = None
    group: _Group | None = None


@dataclass(slots=True, eq=False)
class _Tiling:
    """A space of bytes, and what came of it: by place, and for groups beside it, since a member may be there alone."""

    total: int | None = None
    pieces: dict[tuple[int, int], _Piece] = field(default_factory=dict)
    grouped: list[_Piece] = field(default_factory=list)

    def piece(self, start: int, end: int, total: int | None) -> _Piece:
        if total is not None:
            self.total = total
        piece = self.pieces.get((start, end))
        if piece is None:
            piece = self.pieces[start, end] = _Piece(start, end)
        return piece


@dataclass(slots=True, eq=False)
class _Group:
    """Messages that were run together: one piece with its runs, and a place in the tiling of each member."""

    piece: _Piece
    places: list[_Piece] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """What a piece comes to: leaves with bytes, in order; dead entries in it; and places of groups that were used."""

    leaves: list[_Piece] = field(default_factory=list)
    dead: list[tuple[str, int]] = field(default_factory=list)
    places: list[_Piece] = field(default_factory=list)

    def add(self, other: _Found) -> None:
        self.leaves += other.leaves
        self.dead += other.dead
        self.places += other.places


class Collector:
    """Takes the messages of one source, in any order.

    Attributes:
        duplicates: messages that were there already.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self._source = _Tiling()
        self._groups: dict[tuple[Lineage, ...], _Group] = {}

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
            LineageError: the text is no lineage.
        """
        found = None if dead else _ONE_WHOLE_RUN.fullmatch(lineage)
        if found:
            start, end, total = int(found[1]), int(found[2]), int(found[3])
            piece = self._source.piece(start, end, total)
        else:
            piece = self._piece(Lineage.parse(lineage))
        if dead:
            new = piece.dead is None
            if piece.dead is None or piece.dead[0] == UNTOLD:
                piece.dead = dead, entries
        else:
            new = piece.extent is None
            if new:
                piece.extent, piece.entries, piece.runs = extent, entries, None
        self.duplicates += not new
        return new

    def resolve(self) -> Resolution:
        """Work out what the messages make, by now."""
        refused: set[int] = set()
        while True:
            chosen = _choose(self._source, dict.fromkeys(refused))
            # What a group made lies at all of its places, so one found in it is met at each of them.
            places = {id(place): place for _, found in chosen for place in found.places}
            used = Counter(id(place.group) for place in places.values())
            torn = {id(group) for group in self._groups.values() if used[id(group)] not in {0, len(group.places)}}
            if not torn:
                return _resolution(self._source.total, chosen)
            # One at a time: without the first, the others may fit.
            refused.add(next(iter(torn)))

    def _piece(self, lineage: Lineage) -> _Piece:
        if isinstance(lineage.root, Span):
            root = lineage.root
            piece = self._source.piece(root.start, root.end, root.total)
        else:
            piece = self._group(lineage.root).piece
        for output in lineage.outputs:
            if piece.extent is not None:
                return piece  # whole already, by an earlier run
            if piece.runs is None:
                piece.runs = {}
            run = piece.runs.setdefault(output.digest, _Tiling())
            piece = run.piece(output.span.start, output.span.end, output.span.total)
        return piece

    def _group(self, members: tuple[Lineage, ...]) -> _Group:
        group = self._groups.get(members)
        if group is None:
            group = self._groups[members] = _Group(_Piece(0, 0))
            for member in members:
                tiling, span = self._tiling(member), member.span
                place = _Piece(span.start, span.end, group=group)
                tiling.total = tiling.total if span.total is None else span.total
                tiling.grouped.append(place)
                group.places.append(place)
        return group

    def _tiling(self, lineage: Lineage) -> _Tiling:
        """The tiling that a message is a piece of."""
        if not lineage.outputs:
            return self._source
        *before, last = lineage.outputs
        parent = self._piece(Lineage(lineage.root, tuple(before)))
        if parent.runs is None:
            parent.runs = {}
        return parent.runs.setdefault(last.digest, _Tiling())


def _choose(tiling: _Tiling, known: dict[int, _Found | None]) -> list[tuple[_Piece, _Found]]:
    """The pieces of a tiling that are there and together cover most of it, in order.

    `known` keeps what each group, by its `id`, comes to; None for one that must not be used.
    """
    best: dict[tuple[int, int], tuple[_Piece, _Found]] = {}
    for piece in (*tiling.pieces.values(), *tiling.grouped):
        found = _find(piece, known)
        if found is not None and (piece.start < piece.end or tiling.total == 0):
            place = piece.start, piece.end
            rival = best.get(place)
            # A group goes before one of its members alone, or the other members would be lost with it.
            if rival is None or (not found.dead and (rival[1].dead or piece.group)):
                best[place] = piece, found
    candidates = [best[place] for place in sorted(best)]
    if all(one[0].end <= other[0].start for one, other in pairwise(candidates)):
        return candidates
    return _heaviest(candidates)


def _heaviest(candidates: list[tuple[_Piece, _Found]]) -> list[tuple[_Piece, _Found]]:
    """Of pieces that overlap, those apart that weigh most: by bytes accounted for, then by bytes that are not dead.

    Weighted interval scheduling: going by their ends, each is taken or not on top of the best before its start.
    """
    by_end = sorted(candidates, key=lambda one: (one[0].end, one[0].start))
    ends = [piece.end for piece, _ in by_end]
    weights: list[tuple[int, int]] = [(0, 0)]
    taken: list[int] = []
    for number, (piece, found) in enumerate(by_end):
        before = bisect_right(ends, piece.start, 0, number)
        size = piece.end - piece.start
        weight = weights[before][0] + size, weights[before][1] + (0 if found.dead else size)
        taken.append(before if weight > weights[-1] else -1)
        weights.append(max(weight, weights[-1]))
    chosen = []
    number = len(by_end)
    while number:
        if taken[number - 1] >= 0:
            chosen.append(by_end[number - 1])
            number = taken[number - 1]
        else:
            number -= 1
    return chosen[::-1]


def _find(piece: _Piece, known: dict[int, _Found | None]) -> _Found | None:
    """What a piece comes to, if it is there, or there but for dead entries."""
    if piece.group is not None:
        group = piece.group
        if id(group) not in known:
            known[id(group)] = _find(group.piece, known)
        found = known[id(group)]
        if found is None or found.dead:
            return None
        return _Found(found.leaves if piece is group.places[0] else [], [], [*found.places, piece])
    if piece.extent is not None:
        return _Found([piece])
    finished = None
    for run in (piece.runs or {}).values():
        found = _cover(run, known)
        if found and not found.dead:
            return found
        finished = finished or found
    if finished is None and piece.dead:
        return _Found(dead=[piece.dead])
    return finished


def _cover(tiling: _Tiling, known: dict[int, _Found | None]) -> _Found | None:
    """What a tiling comes to, if it is covered."""
    chosen = _choose(tiling, known)
    if not chosen or sum(piece.end - piece.start for piece, _ in chosen) != tiling.total:
        return None
    whole = _Found()
    for _, found in chosen:
        whole.add(found)
    return whole


def _resolution(total: int | None, chosen: Iterable[tuple[_Piece, _Found]]) -> Resolution:
    covered = entries = at = 0
    dead: list[Dead] = []
    holes: list[tuple[int, int]] = []
    extents: list[Extent] = []
    empty = True
    for piece, found in chosen:
        empty = False
        if piece.start > at:
            holes.append((at, piece.start))
        at = piece.end
        covered += 0 if found.dead else piece.end - piece.start
        dead += [Dead(piece.start, piece.end, count, reason) for reason, count in found.dead]
        for leaf in found.leaves:
            entries += leaf.entries
            if leaf.extent is not None and leaf.extent[2]:
                _append(extents, leaf.extent)
    if total is not None and (at < total or empty):
        holes.append((at, total))
    return Resolution(total, covered, tuple(dead), tuple(holes), tuple(extents), entries)


def _append(extents: list[Extent], extent: Extent) -> None:
    """Append, as one with the last where it goes on in the same segment."""
    if extents and extents[-1][0] == extent[0] and extents[-1][1] + extents[-1][2] == extent[1]:
        segment, start, length = extents[-1]
        extents[-1] = segment, start, length + extent[2]
    else:
        extents.append(extent)
