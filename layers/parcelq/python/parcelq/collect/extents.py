"""Extents: the places of bodies' bytes, in order, with the line ends that belong between them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from parcelq.collect.choice import Choice
from parcelq.collect.rows import FLAG, MAX_OFFSET, NUMBER, OFFSET_BITS


class Extent(NamedTuple):
    """A place of bytes: the number of a segment, an offset in it, and the number of bytes."""

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
    """Yield the places of the chosen messages' bodies, and whether they lack their last line end."""
    for choice in choices:
        wheres, sizes, entries = choice.columns.wheres, choice.columns.sizes, choice.columns.entries
        for number in choice.rows:
            size = sizes[number]
            if size and entries[number] < FLAG:
                yield extent_of(wheres[number], size & NUMBER), size >= FLAG


def with_line_ends(bodies: Iterator[tuple[Extent, bool]]) -> Iterator[Extent]:
    """Yield bodies, adding a line end to each that lacks one, except the last."""
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
    """Return the place of `size` bytes, given the word `where` of a row."""
    return Extent(where >> OFFSET_BITS, where & MAX_OFFSET, size)
