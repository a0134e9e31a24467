"""Reports for tests of their page, without any job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from parcelq.collect.deaths import Dead
from parcelq.collect.page import figures
from parcelq.collect.page.rates import Rate
from parcelq.collect.report import Entries, Report
from parcelq.collect.source_map import SourceMap


def dead_at(record: int, reason: str = "why", entry: bytes = b"entry\n", size: int = 10) -> Dead:
    """A dead entry, the `record`th of entries of `size` bytes each."""
    start = max(0, record - 1) * size
    return Dead(start, start + size, 1, reason, True, record, record, entry)


def figures_from(
    total: int, dead: Iterable[Dead], holes: Iterable[tuple[int, int]] = (), rate: Rate | None = None
) -> figures.Figures:
    """The figures of a source of `total` bytes."""
    source_map = SourceMap(total)
    for start, end in holes:
        source_map.add_missing(start, end)
    return figures.figures_from(source_map, dead, rate)


def report_of(total: int, dead: Any = 0, *, read: int | None, **about: Any) -> Report:
    """A report of a source, with its dead entries or their number."""
    listed = () if isinstance(dead, int) or dead is None else tuple(dead)
    count = len(listed) if listed else dead
    holes = tuple(about.get("holes", ()))
    done = None if read is None or count is None or holes else read - count
    return Report(
        source=f"file:///data/{about.get('name', 'm.smi')}?put=1",
        version="1",
        result="m.smi",
        state="dead-1" if count else "whole-1",
        format="lines",
        format_chosen_by="name",
        one_stream="",
        doubts=tuple(about.get("doubts", ())),
        warnings=(*about.get("doubts", ()), *about.get("warnings", ())),
        workflows=("score@0123456789abcdef",),
        entries=Entries(read, done, count, 0, done or 0),
        bytes_read=total,
        bytes_written=total,
        dead=listed[:1000],
        dead_list="m.smi.dead.jsonl" if count or count is None else "",
        holes=holes,
        duplicates=3,
        healings=0,
        first="2026-11-26T10:00:00+00:00",
        last="2026-11-26T12:10:07+00:00",
        complete=about.get("complete", count == 0 and not holes and not about.get("doubts")),
    )
