"""What a look finds of a job: from its segments, from the notes of its upload, and from the counts of topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parcelq.collect.deaths import dead_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.seeing import Seen
from parcelq.collect.segments import segments_among
from parcelq.collect.source_map import LINE_CELLS, line_of, source_map_of
from parcelq.jobs.changes import Found
from parcelq.jobs.record import MOST_HOLES, JobRecord
from parcelq.upload.notes import Note, entries_in


def found_of(record: JobRecord, seen: Seen | None, notes: Sequence[Note], now: float, *, empty: bool | None) -> Found:
    """Say how far a job is.

    Args:
        record: the job's record.
        seen: what its segments hold; None if there are none.
        notes: what is noted of its upload, where that matters.
        now: the time, in seconds since the epoch.
        empty: whether the topics that it uses are empty; None if nobody counted.
    """
    noted = next((note.total for note in notes if note.total is not None), record.total)
    found = Found(
        now,
        len(segments_among(seen.keys)) if seen else 0,
        total=noted,
        empty=empty,
        uploaded=noted is not None and entries_in(notes, 0, noted, noted) is not None,
        problem=next((note.problem for note in notes if note.problem), ""),
    )
    if seen is None:
        return found._replace(**_all_of(noted))
    state = seen.state
    found = found._replace(
        total=noted if state.total is None else state.total,
        covered=state.covered,
        dead=state.dead,
        dead_bytes=seen.dead_bytes,
        missing=seen.missing,
        holes=seen.holes[:MOST_HOLES],
        hole_count=state.holes,
        complete=seen.is_complete,
    )
    if seen.collected and seen.resolution:
        found = found._replace(**_drawn(record, seen.collected, seen.resolution, found.total))
    if state.total is None and noted is not None:  # so no message of the end of the source came
        at = found.covered + found.dead_bytes + found.missing
        holes = (*found.holes, (at, noted))
        found = found._replace(missing=found.missing + noted - at, holes=holes, hole_count=found.hole_count + 1)
    return found


def _drawn(record: JobRecord, collected: Collected, resolution: Resolution, total: int | None) -> dict[str, Any]:
    """What a look shows of a job beside its figures: entries, the map, and why the first dead entry failed."""
    drawn: dict[str, Any] = {"entries": max(resolution.ran, resolution.entries)}
    if total is not None:
        drawn["map"] = line_of(source_map_of(collected, resolution, total, LINE_CELLS))
    if resolution.has_dead and not record.reason:
        drawn["reason"] = next((one.reason for one in dead_of(collected, ())), "")
    if resolution.has_dead and record.redriven_after:
        segments = collected.segments
        old = sum(segments[row.extent.segment] <= record.redriven_after for row in collected.dead())
        drawn["died_again"] = old <= record.left_dead
    return drawn


def _all_of(total: int | None) -> dict[str, Any]:
    """What is missing if no message came at all."""
    if total is None:
        return {}
    return {"missing": total, "holes": ((0, total),), "hole_count": 1}
