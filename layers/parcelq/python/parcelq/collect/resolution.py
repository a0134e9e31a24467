"""The state of a job by its messages: how far it is, what is missing and dead, and where the result's bytes are.

Everything follows from one choice among the messages (see `choice`), which is made anew for each pass over the indexes:
the first pass says which messages count, another one where their bytes are. So memory does not grow with the
number of messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import accumulate, chain
from typing import Final, NamedTuple

from parcelq.collect.assembly import Extent, bodies_of, extent_of, joined_extents, with_line_ends
from parcelq.collect.choice import Choice, choose
from parcelq.collect.indexes import Index, all_indexes
from parcelq.collect.merge import merged
from parcelq.collect.rows import (
    CONTENT,
    COUNT,
    ENTRIES,
    FLAG,
    NUMBER,
    OF_STEP,
    PAYLOAD,
    READ,
    SIZE,
    WHERE,
    WORD,
    Columns,
    words_of,
)
from parcelq.collect.segments import Job
from parcelq.collect.yields import Yields
from parcelq.store.store import Store, Stored

MOST_HOLES: Final = 10_000
"""Holes that are listed; there may be more."""
WHOLE: Final = "whole"
"""The state of a whole result begins with this."""


class DeadRow(NamedTuple):
    """Entries that failed for good.

    Attributes:
        start: first byte, in the source, of the message that they came in.
        end: just after its last byte.
        of_source: whether they are entries of the source, and not of the output of an earlier step.
        extent: where the reason and the entries lie.
    """

    start: int
    end: int
    entries: int
    of_source: bool
    extent: Extent


@dataclass(frozen=True, slots=True)
class Resolution:
    """The state of a job by the messages that were collected.

    Attributes:
        total: bytes of the source; None while no message told.
        covered: bytes of the source whose results are there.
        dead: how many entries failed for good, in `dead_messages` messages.
        dead_bytes: bytes of the source that they came of.
        missing: bytes of the source that are neither there nor dead, as far as its size is known.
        holes: the ranges of these, in order; at most `MOST_HOLES` of the `hole_count` that there are.
        entries: entries of the result.
        ran: entries of the source that runs got which succeeded, as far as the messages tell.
        doubts: why the result may not be what the step writes for the whole source.
        state: a digest of the whole choice: two results with the same state are the same.
    """

    total: int | None
    covered: int = 0
    dead: int = 0
    dead_messages: int = 0
    dead_bytes: int = 0
    missing: int = 0
    holes: tuple[tuple[int, int], ...] = ()
    hole_count: int = 0
    entries: int = 0
    size: int = 0
    duplicates: int = 0
    ran: int = 0
    doubts: tuple[str, ...] = ()
    state: str = field(default="", compare=False)

    @property
    def finished(self) -> bool:
        """Whether every entry has a result or is dead."""
        return self.total is not None and not self.hole_count

    @property
    def whole(self) -> bool:
        """Whether nothing is missing at all."""
        return self.finished and not self.has_dead

    @property
    def has_dead(self) -> bool:
        """Whether some of it failed for good."""
        return self.dead_messages > 0

    def up_to(self, total: int | None) -> Resolution:
        """Return the same for a source whose size is known although no message said so: its end is missing then."""
        if self.total is not None or total is None:
            return self
        at = self.covered + self.dead_bytes + self.missing
        holes, missing = (*self.holes, (at, total)), self.missing + total - at
        return replace(self, total=total, holes=holes, hole_count=self.hole_count + 1, missing=missing)


@dataclass(frozen=True, slots=True)
class Collected:
    """All messages of a job, by their indexes."""

    store: Store
    indexes: Sequence[Index]

    @property
    def job(self) -> Job:
        """Whose messages they are."""
        return self.indexes[0].job

    @property
    def segments(self) -> list[str]:
        """Keys of the segments, by their number."""
        return [key for index in self.indexes for key in index.segments]

    @property
    def bodies_ahead(self) -> dict[int, tuple[int, bytes]]:
        """What was read of segments along with their indexes, by their number; see `Index.bodies_ahead`."""
        numbers = accumulate((len(index.segments) for index in self.indexes), initial=0)
        return {
            number: ahead for number, one in zip(numbers, self.indexes, strict=False) if (ahead := one.bodies_ahead)
        }

    @property
    def total(self) -> int | None:
        """Bytes of the source; None if no message told."""
        return max((index.total for index in self.indexes if index.total is not None), default=None)

    @property
    def count(self) -> int:
        """How many messages there are."""
        return sum(index.count for index in self.indexes)

    def rows(self) -> Iterator[list[bytes]]:
        """Yield all rows, in order of lineage, in chunks."""
        return merged(all_indexes(self.indexes, self.store))

    def touched(self) -> int:
        """Count the bytes of the source that any of the messages stands for."""
        at = touched = 0
        for rows in self.rows():
            for start, end in zip(*Columns.of(rows, self.words).spans(0), strict=True):
                touched += max(0, end - max(at, start))
                at = max(at, end)
        return touched

    @property
    def words(self) -> int:
        """How many words a row has."""
        return words_of(max((index.steps for index in self.indexes), default=0))

    def choices(self) -> Iterator[Choice]:
        """Choose the messages that make the result."""
        return choose(self.rows(), self.words, self.total)

    def resolve(self) -> Resolution:
        """Calculate the state of the job."""
        counter = _Counter()
        for choice in self.choices():
            counter.add(choice)
        return counter.resolution(self.total)

    def holes(self, resolution: Resolution) -> Iterator[tuple[int, int]]:
        """Yield all ranges that are missing, also where a resolution lists only the first of them."""
        if len(resolution.holes) == resolution.hole_count:
            return iter(resolution.holes)
        return (hole for choice in choose(self.rows(), self.words, resolution.total) for hole in choice.holes)

    def extents(self) -> Iterator[Extent]:
        """Yield where the result's bytes lie, in order. Those that follow one another in a segment are one extent."""
        return joined_extents(with_line_ends(bodies_of(self.choices())))

    def with_header(self, header: Stored | None, extents: Iterator[Extent]) -> tuple[list[str], Iterator[Extent]]:
        """Return the keys of objects, and where the bytes are in them: first those of the header, then the rest."""
        segments = self.segments
        if header is None:
            return segments, extents
        return [*segments, header.key], chain((Extent(len(segments), 0, header.size),), extents)

    def dead(self) -> Iterator[DeadRow]:
        """Yield what failed for good, in order."""
        for choice in self.choices():
            entries = choice.columns[ENTRIES]
            if not any(entries[number] >= FLAG for number in choice.rows):
                continue
            wheres, sizes = choice.columns[WHERE], choice.columns[SIZE]
            starts, ends = choice.columns.spans(0)
            for number in choice.rows:
                if entries[number] >= FLAG:
                    of_source = not entries[number] & OF_STEP
                    extent = extent_of(wheres[number], sizes[number] & NUMBER)
                    yield DeadRow(starts[number], ends[number], entries[number] & COUNT, of_source, extent)


class _Counter:
    """Adds up choices."""

    def __init__(self) -> None:
        self.covered = self.dead = self.dead_messages = self.dead_bytes = self.missing = self.hole_count = 0
        self.entries = self.size = self.duplicates = 0
        self.holes: list[tuple[int, int]] = []
        self._yields = Yields()
        self._last_lacks_end = False
        # One for each column, so that the digest does not depend on how rows are grouped into chunks.
        self._hashers = [blake2b(digest_size=12) for _ in range(3)]

    def add(self, choice: Choice) -> None:
        """Take what was chosen of some rows."""
        self.covered += choice.covered
        self.dead_bytes += choice.dead
        self.duplicates += choice.duplicates
        self.missing += sum(end - start for start, end in choice.holes)
        self.hole_count += len(choice.holes)
        self.holes += choice.holes[: MOST_HOLES - len(self.holes)]
        if not choice.rows:
            return
        columns, rows = choice.columns, choice.rows
        starts, ends = columns.spans(0)
        for hasher, column in zip(self._hashers, (starts, ends, columns[CONTENT]), strict=True):
            hasher.update(_chosen(column, rows))
        entries, sizes = _chosen(columns[ENTRIES], rows), _chosen(columns[SIZE], rows)
        self._yields.add(_chosen(columns[READ], rows), entries)
        if max(entries) >= FLAG:
            self.dead += sum(count & COUNT for count in entries if count >= FLAG)
            self.dead_messages += sum(count >= FLAG for count in entries)
            sizes = array("Q", (size for size, count in zip(sizes, entries, strict=True) if count < FLAG))
            entries = array("Q", (count for count in entries if count < FLAG))
        self.entries += sum(entries)
        if sizes and max(sizes) >= FLAG:
            self.size += sum((size & NUMBER) + (size >= FLAG) for size in sizes)
        else:
            self.size += sum(sizes)
        last = next((size for size in reversed(sizes) if size), None)
        self._last_lacks_end = self._last_lacks_end if last is None else last >= FLAG

    def resolution(self, total: int | None) -> Resolution:
        """Return what they add up to."""
        kind = "part" if total is None or self.hole_count else "dead" if self.dead_messages else WHOLE
        state = f"{kind}-{blake2b(b''.join(one.digest() for one in self._hashers), digest_size=12).hexdigest()}"
        return Resolution(
            total,
            self.covered,
            self.dead,
            self.dead_messages,
            self.dead_bytes,
            self.missing,
            tuple(self.holes),
            self.hole_count,
            self.entries,
            self.size - self._last_lacks_end,
            self.duplicates,
            self._yields.read,
            self._yields.doubts(),
            state,
        )


def all_extents(collected: Collected) -> Iterator[Extent]:
    """Yield where all bodies are, each once: in order of lineage; those without lineage in the order they came in."""
    bodies = bodies_of(_first_of_each(collected))
    return joined_extents(with_line_ends(bodies if collected.job.source else iter(sorted(bodies))))


def _first_of_each(collected: Collected) -> Iterator[Choice]:
    """Choose the first of all messages that have the same lineage."""
    key = (collected.words - PAYLOAD) * WORD
    last = b""
    for rows in collected.rows():
        chosen = []
        for number, row in enumerate(rows):
            if row[:key] != last:
                last = row[:key]
                chosen.append(number)
        yield Choice(Columns.of(rows, collected.words), chosen)


def _chosen(column: array[int], rows: Sequence[int]) -> array[int]:
    if len(rows) == len(column):
        return column
    return array("Q", map(column.__getitem__, rows))
