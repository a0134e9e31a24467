"""Tilings: what came of a space of bytes, and which of it makes a whole. Pure.

- A *tiling* is a space of bytes `[0, total)`, the source or what one run of a step put out, with *pieces* in it.
- A piece is there if its bytes came, or all that a run of a step made of them. A run that put out several messages has
  a tiling of its own, which must be covered.
- Of pieces that overlap (a message run whole on one delivery and halved on another) those are chosen that together
  cover most. Runs are never mixed, since each has a tiling of its own; the first that is whole counts.
- Messages that were run together are one piece: of the bytes from the first to the last of them if they are neighbours,
  else in several places, and all of these are chosen, or none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from parcelq.collect.settled import Whole
from parcelq.lineage.lineage import Span


@dataclass(slots=True, eq=False)
class Piece:
    """Bytes of a tiling: the message, by its row, if it came, else runs of a step over them, or word of death."""

    start: int
    end: int
    row: int | None = None
    dead: tuple[str, int, bool] | None = None
    runs: dict[str, Tiling] | None = None
    group: Group | None = None

    def run(self, digest: str) -> Tiling:
        """What the run of a step that this digest names put out."""
        if self.runs is None:
            self.runs = {}
        return self.runs.setdefault(digest, Tiling())


@dataclass(slots=True, eq=False)
class Tiling:
    """A space of bytes, and what came of it: by place, and for groups beside it, since a member may be there alone."""

    total: int | None = None
    pieces: dict[tuple[int, int], Piece] = field(default_factory=dict)
    grouped: list[Piece] = field(default_factory=list)

    def piece(self, span: Span) -> Piece:
        """The piece at a place, made if it is not there yet."""
        self.total = self.total if span.total is None else span.total
        piece = self.pieces.get((span.start, span.end))
        if piece is None:
            piece = self.pieces[span.start, span.end] = Piece(span.start, span.end)
        return piece


@dataclass(slots=True, eq=False)
class Group:
    """Messages that were run together and are no neighbours: one piece with its runs, and a place for each of them."""

    piece: Piece
    places: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What a piece comes to: rows of messages, in order; dead entries in it; and places of groups that were used."""

    rows: list[int] = field(default_factory=list)
    dead: list[tuple[str, int, bool]] = field(default_factory=list)
    places: list[Piece] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Add what comes after it."""
        self.rows += other.rows
        self.dead += other.dead
        self.places += other.places


Candidate: TypeAlias = tuple[int, int, Found | Whole]
"""Bytes of a tiling, and what is there of them."""


def candidates_of(tiling: Tiling, known: dict[int, Found | None]) -> Iterator[Candidate]:
    """What is there of a tiling, or there but for dead entries.

    `known` keeps what each group, by its `id`, comes to; None for one that must not be used.
    """
    for piece in (*tiling.pieces.values(), *tiling.grouped):
        found = find(piece, known)
        if found is not None and (piece.start < piece.end or tiling.total == 0):
            yield piece.start, piece.end, found


def choose(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Of what is there of a tiling, that which covers most of it, in order."""
    best: dict[tuple[int, int], Candidate] = {}
    for candidate in candidates:
        start, end, found = candidate
        rival = best.get((start, end))
        # A group goes before one of its members alone, or the other members would be lost with it.
        if rival is None or (not found.dead and (rival[2].dead or found.places)):
            best[start, end] = candidate
    ordered = [best[place] for place in sorted(best)]
    if all(one[1] <= other[0] for one, other in pairwise(ordered)):
        return ordered
    return _heaviest(ordered)


def _heaviest(candidates: list[Candidate]) -> list[Candidate]:
    """Of pieces that overlap, those apart that weigh most: by bytes accounted for, then by bytes that are not dead.

    Weighted interval scheduling: going by their ends, each is taken or not on top of the best before its start.
    """
    by_end = sorted(candidates, key=lambda one: (one[1], one[0]))
    ends = [end for _, end, _ in by_end]
    weights: list[tuple[int, int]] = [(0, 0)]
    taken: list[int] = []
    for number, (start, end, found) in enumerate(by_end):
        before = bisect_right(ends, start, 0, number)
        weight = weights[before][0] + end - start, weights[before][1] + (0 if found.dead else end - start)
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


def find(piece: Piece, known: dict[int, Found | None]) -> Found | None:
    """What a piece comes to, if it is there, or there but for dead entries."""
    if piece.group is not None:
        group = piece.group
        if id(group) not in known:
            known[id(group)] = find(group.piece, known)
        found = known[id(group)]
        if found is None or found.dead:
            return None
        return Found(found.rows if piece is group.places[0] else [], [], [*found.places, piece])
    finished = None
    for run in (piece.runs or {}).values():
        found = _cover(run, known)
        if found and not found.dead and (piece.row is None or found.places):
            return found
        finished = finished or found
    if piece.row is not None:
        return Found([piece.row])
    if finished is None and piece.dead:
        return Found(dead=[piece.dead])
    return finished


def _cover(tiling: Tiling, known: dict[int, Found | None]) -> Found | None:
    """What a tiling comes to, if it is covered."""
    chosen = choose(candidates_of(tiling, known))
    if not chosen or sum(end - start for start, end, _ in chosen) != tiling.total:
        return None
    whole = Found()
    for _, _, found in chosen:
        if isinstance(found, Found):
            whole.add(found)
    return whole
