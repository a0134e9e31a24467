"""The map of a source on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from memory_store import Objects
from parcelq.collect import source_map
from parcelq.collect.indexes import open_indexes
from parcelq.collect.resolution import Collected
from parcelq.collect.segments import JobKey, write_segment
from parcelq.collect.source_map import LINE_CELLS, SourceMap, source_map_of
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.topics.pieces import Piece
from parcelq_cli.source_map import map_line

WHEN = datetime(2026, 11, 26, tzinfo=UTC)
SOURCE = "file:///m.smi?put=1"


def collected_of(
    total: int, done: list[tuple[int, int]], dead: list[tuple[int, int]], *, end: bool = True
) -> Collected:
    """A job of whose source some ranges are done and some are dead."""
    store, whole = Objects(), total if end else None
    pieces = [
        Piece(str(Lineage(Span(start, stop, whole)).child(Span(0, 1, 1), digest(b"%d" % start))), b"x", 1)
        for start, stop in done
    ]
    pieces += [Piece(str(Lineage(Span(start, stop, whole))), b"bad\n", 1, dead="why") for start, stop in dead]
    write_segment(store, "output", JobKey(SOURCE), pieces, [], WHEN, WHEN)
    return Collected(store, open_indexes(store, list(store.keys(""))))


def line_of(collected: Collected, total: int | None = None) -> str:
    return map_line(source_map.line_of(source_map_of(collected, collected.resolve().up_to(total), 10))).plain


def test_each_part_of_a_map_line_shows_the_worst_of_it():
    assert line_of(collected_of(100, [(0, 55), (60, 90)], [(55, 60)])) == "█████▒███░"
    assert line_of(collected_of(100, [(0, 51), (53, 100)], [(51, 52)])) == "█████▓████"
    assert line_of(collected_of(100, [(0, 100)], [])) == "█" * 10


def test_the_header_of_a_source_is_no_part_of_its_map():
    header = Piece(str(Lineage(Span(0, 30, 50)).child(Span(0, 0, 0), digest(b""), 0)), b"", 0)
    store = Objects()
    pieces = [header, *(Piece(str(Lineage(Span(at, at + 10, 50))), b"bad\n", 1, dead="why") for at in (30, 40))]
    write_segment(store, "output", JobKey(SOURCE), pieces, [], WHEN, WHEN)
    collected = Collected(store, open_indexes(store, list(store.keys(""))))
    cells = source_map_of(collected, collected.resolve(), 4)
    assert [(cell.start, cell.end, cell.kind) for cell in cells] == [
        (30, 35, "dead"),
        (35, 40, "dead"),
        (40, 45, "dead"),
        (45, 50, "dead"),
    ]


def test_a_step_that_writes_nothing_for_the_first_records_has_them_in_its_map():
    store = Objects()
    nothing = Piece(str(Lineage(Span(0, 50, 100)).child(Span(0, 0, 0), digest(b""), 5)), b"", 0)
    write_segment(store, "output", JobKey(SOURCE), [nothing], [], WHEN, WHEN)
    assert line_of(Collected(store, open_indexes(store, list(store.keys(""))))) == "█████░░░░░"


def test_bytes_that_never_came_at_the_end_are_missing_where_the_size_is_known():
    assert line_of(collected_of(100, [(0, 40)], [], end=False), 100) == "████░░░░░░"


def test_one_record_of_a_billion_that_failed_shows():
    drawn = SourceMap(10**9, LINE_CELLS)
    drawn.add_dead(500_000_001, 500_000_002, 1)
    assert map_line(source_map.line_of(drawn.cells())).plain == "█" * 30 + "▒" + "█" * 29


def test_holes_whose_numbers_are_not_known_show_in_the_map_line():
    ranges = [(4 * number, 4 * number + 2) for number in range(25_000)]
    assert line_of(collected_of(100_000, ranges, [])) == "░" * 10
