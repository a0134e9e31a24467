"""The state of a job, calculated from its messages: what is done, missing and dead, and where the result's bytes are.

Everything follows from one choice among the messages (see `choice`). Each pass over the indexes repeats the choice: the
first pass counts, and another pass finds the places of the bytes. So memory does not grow with the number of messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    READ,
    SIZE,
    UNKNOWN,
    WHERE,
    Columns,
    words_of,
)
from parcelq.collect.segments import JobKey
from parcelq.collect.yields import Yields
from parcelq.store.store import Store, Stored

MOST_HOLES: Final = 10_000
"""How many holes a resolution lists at most; a job may have more holes."""
WHOLE: Final = "whole"
"""The prefix of the state of a complete result."""


class DeadRow(NamedTuple):
    """Entries that failed for good, in a message made from the bytes `[start, end)` of the source.

    Attributes:
        of_source: whether the entries are entries of the source; if False, an earlier step wrote these entries.
        extent: the place of the reason and the entries in a segment.
        records: if an earlier step wrote the entries: numbers of the first and the last record of the source from which
            it wrote them; None if unknown.
        read: how many records of the source the entries are, or were made from; None if unknown.
    """

    start: int
    end: int
    entries: int
    of_source: bool
    extent: Extent
    records: tuple[int, int] | None = None
    read: int | None = None


class Resolution(NamedTuple):
    """The state of a job, calculated from the collected messages.

    Attributes:
        total: how many bytes the source has; None if no message says this.
        covered: how many bytes of the source have collected results.
        dead: how many entries failed for good, in `dead_messages` messages.
        dead_bytes: how many bytes of the source are in messages with dead entries.
        holes: the first of all `hole_count` ranges of missing bytes, in order; at most `MOST_HOLES` ranges.
        entries: how many entries the result has.
        ran: how many entries of the source successful runs got, as far as the messages say.
        doubts: why the result may differ from what the step would write for the whole source.
        state: a digest of all chosen messages; results with equal states are equal.
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
    state: str = ""

    @property
    def finished(self) -> bool:
        """Whether every entry is processed or dead."""
        return self.total is not None and not self.hole_count

    @property
    def whole(self) -> bool:
        """Whether every entry is processed and no entry is dead."""
        return self.finished and not self.has_dead

    @property
    def has_dead(self) -> bool:
        """Whether entries failed for good."""
        return self.dead_messages > 0

    def up_to(self, total: int | None) -> Resolution:
        """Return this resolution if its `total` is known; otherwise a copy with the size `total` and a missing end."""
        if self.total is not None or total is None:
            return self
        at = self.covered + self.dead_bytes + self.missing
        holes, missing = (*self.holes, (at, total)), self.missing + total - at
        return self._replace(total=total, holes=holes, hole_count=self.hole_count + 1, missing=missing)


@dataclass(frozen=True, slots=True)
class Collected:
    """All messages of a job, read from their indexes."""

    store: Store
    indexes: Sequence[Index]

    @property
    def job(self) -> JobKey:
        """The job of the messages."""
        return self.indexes[0].job

    @property
    def segments(self) -> list[str]:
        """Keys of the segments; a segment's number is its index in this list."""
        return [key for index in self.indexes for key in index.segments]

    @property
    def bodies_ahead(self) -> dict[int, tuple[int, bytes]]:
        """Maps a segment's number to bytes of the segment that were read with its index; see `Index.bodies_ahead`."""
        numbers = accumulate((len(index.segments) for index in self.indexes), initial=0)
        return {
            number: ahead for number, one in zip(numbers, self.indexes, strict=False) if (ahead := one.bodies_ahead)
        }

    @property
    def total(self) -> int | None:
        """How many bytes the source has; None if no message says this."""
        return max((index.total for index in self.indexes if index.total is not None), default=None)

    @property
    def count(self) -> int:
        """How many messages were collected, including duplicates."""
        return sum(index.count for index in self.indexes)

    def rows(self) -> Iterator[list[bytes]]:
        """Yield all rows, sorted by lineage, in chunks."""
        return merged(all_indexes(self.indexes, self.store))

    def header_bytes(self) -> int:
        """Return how many bytes at the start of the source are its header; 0 if the message with the header is not
        collected.
        """
        first = Columns.of(next(self.rows(), [])[:1], self.words)
        (starts, ends), entries, read = first.spans(0), first[ENTRIES], first[READ]
        return ends[0] if starts and not (starts[0] or entries[0] or read[0]) else 0

    def touched(self) -> int:
        """Return how many bytes of the source any message was made from, including messages with dead entries."""
        at = touched = 0
        for rows in self.rows():
            for start, end in zip(*Columns.of(rows, self.words).spans(0), strict=True):
                touched += max(0, end - max(at, start))
                at = max(at, end)
        return touched

    @property
    def words(self) -> int:
        """How many numbers a row of this job has."""
        return words_of(max((index.steps for index in self.indexes), default=0))

    def choices(self) -> Iterator[Choice]:
        """Choose the messages that form the result."""
        return choose(self.rows(), self.words, self.total)

    def resolve(self) -> Resolution:
        """Calculate the state of the job."""
        counter = _Counter()
        for choice in self.choices():
            counter.add(choice)
        return counter.resolution(self.total)

    def holes(self, resolution: Resolution) -> Iterator[tuple[int, int]]:
        """Yield all missing ranges, even if a resolution lists only the first of them."""
        if len(resolution.holes) == resolution.hole_count:
            return iter(resolution.holes)
        return (hole for choice in choose(self.rows(), self.words, resolution.total) for hole in choice.holes)

    def extents(self) -> Iterator[Extent]:
        """Yield the places of the result's bytes, in order. Adjacent places in a segment are joined."""
        return joined_extents(with_line_ends(bodies_of(self.choices())))

    def with_header(self, header: Stored | None, extents: Iterator[Extent]) -> tuple[list[str], Iterator[Extent]]:
        """Return the keys of segments and header, and the places of all bytes: the header's, then `extents`."""
        segments = self.segments
        if header is None:
            return segments, extents
        return [*segments, header.key], chain((Extent(len(segments), 0, header.size),), extents)

    def dead(self) -> Iterator[DeadRow]:
        """Yield the dead entries, in order."""
        run = _CurrentRun()
        for choice in self.choices():
            columns, rows = choice.columns, choice.rows
            entries, reads = _chosen(columns[ENTRIES], rows), _chosen(columns[READ], rows)
            run.end += UNKNOWN * len(choice.holes)
            if max(entries, default=0) < FLAG:
                run.pass_by(reads)
                continue
            wheres, sizes = columns[WHERE], columns[SIZE]
            starts, ends = columns.spans(0)
            for number, count, read in zip(rows, entries, reads, strict=True):
                is_dead, of_source = count >= FLAG, not count & OF_STEP
                run.go_on(count & COUNT if is_dead and of_source else read)
                if is_dead:
                    extent = extent_of(wheres[number], sizes[number] & NUMBER)
                    records = None if of_source else run.records
                    yield DeadRow(starts[number], ends[number], count & COUNT, of_source, extent, records, run.read)


@dataclass(slots=True)
class _CurrentRun:
    """The run whose messages are read: the first of its records has the number `before + 1`, the last `end`. Numbers of
    at least `UNKNOWN` are unknown.
    """

    before: int = 0
    end: int = 0

    def go_on(self, read: int) -> None:
        """Go on to the run of the next message, whose field `read` is 0 if it is of the same run."""
        if read:
            self.before, self.end = self.end, self.end + read

    def pass_by(self, reads: Sequence[int]) -> None:
        """Go on to the run of the last of many messages."""
        self.end += sum(reads)
        self.before = self.end - next(filter(None, reversed(reads)), self.end - self.before)

    @property
    def records(self) -> tuple[int, int] | None:
        """The numbers of the run's first and last record."""
        return (self.before + 1, self.end) if self.end < UNKNOWN else None

    @property
    def read(self) -> int | None:
        """How many records the run got."""
        read = self.end - self.before
        return read if read < UNKNOWN else None


class _Counter:
    """Adds up what `choices` yields to a `Resolution`."""

    def __init__(self) -> None:
        self.covered = self.dead = self.dead_messages = self.dead_bytes = self.missing = self.hole_count = 0
        self.entries = self.size = self.duplicates = 0
        self.holes: list[tuple[int, int]] = []
        self._yields = Yields()
        self._last_lacks_end = False
        # One hasher for each column, so that the digest does not depend on how rows are grouped into chunks.
        self._hashers = [blake2b(digest_size=12) for _ in range(3)]

    def add(self, choice: Choice) -> None:
        """Add what was chosen from some rows."""
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
        """Return the sum of the choices."""
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


def _chosen(column: array[int], rows: Sequence[int]) -> array[int]:
    if len(rows) == len(column):
        return column
    return array("Q", map(column.__getitem__, rows))
