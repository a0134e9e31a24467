"""How many records of the source failed, and which numbers they have, if a later step failed on the output of a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_store import Objects
from parcelq.collect.deaths import dead_entries, dead_of
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import indexes_of, read_record
from parcelq.collect.segments import JobKey, segment_keys, write_segment
from parcelq.lineage.lineage import Lineage, Span
from parcelq.topics.pieces import Piece
from parcelq.upload.notes import EntryCounts, Note, is_published

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = "s3://bucket/inbox/lines.txt?version=1"
RECORD = 10
"""How many bytes a record of the source has in these tests."""


def collected(pieces: list[Piece], in_segment: int = 3) -> Collected:
    store = Objects()
    for at in range(0, len(pieces), in_segment):
        when = WHEN + timedelta(microseconds=at)
        write_segment(store, "topic", JobKey(SOURCE), pieces[at : at + in_segment], [], WHEN, when)
    keys = [key for some in segment_keys(store, "topic").values() for key in some]
    return Collected(store, indexes_of(store, keys, read_record(store, keys)))


class Job:
    """Runs of a first step over records of a source, whose outputs a second step got."""

    def __init__(self, total: int) -> None:
        self.total = total * RECORD
        self.records = 0
        self.pieces: list[Piece] = []

    def run(self, records: int, *died: bool, told: bool = True) -> tuple[int, int]:
        """Add a run over `records` records, with a message of output for each of `died`: whether step 2 failed.

        Returns:
            The numbers of the first and the last record.
        """
        root = Span(self.records * RECORD, (self.records + records) * RECORD, self.total)
        for number, dead in enumerate(died):
            span = Span(number * 5, number * 5 + 5, len(died) * 5)
            lineage = Lineage(root).child(span, f"{self.records:016x}", records if told else None)
            if dead:
                self.pieces.append(Piece(str(lineage), b"gone\n", 1, "why"))
            else:
                self.pieces.append(Piece(str(lineage.child(Span(0, 2, 2), "b" * 16, 1)), b"a\n", 1))
        self.records += records
        return self.records - records + 1, self.records

    def fail(self) -> int:
        """Add a record on which the first step failed; returns its number."""
        root = Span(self.records * RECORD, (self.records + 1) * RECORD, self.total)
        self.pieces.append(Piece(str(Lineage(root)), b"bad\n", 1, "bad", f"{self.records + 1},{self.records + 1}"))
        self.records += 1
        return self.records


RUNS = st.lists(st.one_of(st.none(), st.tuples(st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=4))))


@given(runs=RUNS, seed=st.randoms(use_true_random=False), in_segment=st.integers(1, 5))
def test_failures_of_a_later_step_have_the_numbers_of_the_records_that_the_first_step_got_together(
    runs, seed, in_segment
):
    job = Job(sum(run[0] if run else 1 for run in runs))
    wanted: list[tuple[int, int]] = []
    failed: set[int] = set()
    for one in runs:
        if one is None:
            wanted.append((job.fail(),) * 2)
            failed.add(job.records)
        else:
            first, last = job.run(one[0], *one[1])
            wanted += [(first, last)] * sum(one[1])
            failed |= set(range(first, last + 1)) if any(one[1]) else set()
    if not runs:
        return
    pieces = list(job.pieces)
    seed.shuffle(pieces)
    found = collected(pieces, in_segment)
    numbers = [(dead.record, dead.record) if dead.record else dead.records for dead in dead_of(found, [])]
    assert numbers == wanted
    assert dead_entries(found) == len(failed)


def test_the_numbers_are_unknown_after_a_hole() -> None:
    job = Job(9)
    job.run(2, True)
    job.records += 1
    job.run(3, False, True)
    assert [one.records for one in dead_of(collected(job.pieces), [])] == [(1, 2), None]
    assert dead_entries(collected(job.pieces)) == 5


def test_the_numbers_are_unknown_after_a_run_that_does_not_say_how_many_records_it_got() -> None:
    job = Job(6)
    job.run(2, True)
    job.run(2, False, told=False)
    job.run(2, True)
    found = collected(job.pieces)
    assert [one.number for one in dead_of(found, [])] == ["1 to 2", ""]
    assert dead_entries(found) == 4
    job.pieces[0] = Piece(str(Lineage(Span(0, 20, 60)).child(Span(0, 5, 5), "a" * 16)), b"gone\n", 1, "why")
    assert dead_entries(collected(job.pieces)) is None


def sum_of(parts: list[tuple[int, int, int]], start: int, end: int) -> int | None:
    """Add up the parts from `start` to `end`; None if no parts have these bounds, or if parts overlap with others."""
    inside = [one for one in parts if one[0] < end and one[1] > start]
    at = start
    for first, last, _ in inside:
        if first != at or last > end:
            return None
        at = last
    return sum(entries for _, _, entries in inside) if at == end else None


PARTS = st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=4), max_size=4)


@given(
    parts=PARTS, gaps=st.lists(st.integers(-1, 1), min_size=4, max_size=4), bounds=st.tuples(*[st.integers(0, 30)] * 2)
)
def test_records_are_counted_between_any_two_bounds_of_parts_of_uploads(parts, gaps, bounds):
    notes, at = [], 0
    for some, gap in zip(parts, gaps, strict=False):
        at = max(0, at + gap)
        size = sum(one for one, _ in some)
        notes.append(Note(SOURCE, at, at + size, 0, parts=tuple(some)))
        at += size
    start, end = sorted(bounds)
    every = sorted(part for note in notes for part in note.counted_ranges)
    total = max((note.end for note in notes), default=0)
    counted = EntryCounts(notes, total).between(start, end)
    if start == end:
        assert counted == 0
    elif counted is None:
        overlaps = any(one[1] > other[0] for one, other in pairwise(every))
        assert sum_of(every, start, end) is None or overlaps
    else:
        assert counted == sum_of(every, start, end)
    covered = {place for note in notes for place in range(note.start, note.end)}
    assert is_published(notes, total) == (covered == set(range(total)))


@pytest.mark.parametrize("total", [None, 5])
def test_records_are_not_counted_without_a_size_or_with_notes_about_bytes_after_the_end(total):
    assert EntryCounts([Note(SOURCE, 0, 6, 3)], total).between(0, 6) is None
    assert EntryCounts([Note(SOURCE, 0, 6, 3)], total).between(0, 0) is None


def test_a_repeated_upload_that_handed_over_at_another_place_covers_the_source() -> None:
    notes = [Note(SOURCE, 0, 60, 6), Note(SOURCE, 50, 100, 5), Note(SOURCE, 60, 100, 4)]
    assert is_published(notes, 100)
    assert EntryCounts(notes, 100).between(0, 100) is None
    assert not is_published(notes[1:], 100)
    assert not is_published(notes, 101)
