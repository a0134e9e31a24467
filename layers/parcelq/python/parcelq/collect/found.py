"""Collects the findings of a look at a job from the job's segments, the upload's notes, and the topics' counts."""

from __future__ import annotations

from collections.abc import Sequence

from parcelq.collect.deaths import dead_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.seeing import Seen
from parcelq.collect.segments import segments_among
from parcelq.collect.source_map import LINE_CELLS, line_of, source_map_of
from parcelq.jobs.changes import Found
from parcelq.jobs.record import MOST_HOLES, JobRecord
from parcelq.upload.notes import Note, is_published, total_of


def found_of(record: JobRecord, seen: Seen | None, notes: Sequence[Note], now: float, *, empty: bool | None) -> Found:
    """Return the findings of a look at a job.

    Args:
        seen: what the job's segments contain; None if the job has no segments.
        notes: the notes of the source's uploads; empty if the notes are not needed.
        empty: whether the topics that the job uses are empty; None if the messages were not counted.
    """
    noted = total_of(notes)
    total = record.total if noted is None else noted
    resolution = (seen.resolution if seen else Resolution(None)).up_to(total)
    new = record._replace(
        segments=len(segments_among(seen.keys)) if seen else 0,
        uploaded=record.uploaded or (total is not None and is_published(notes, total)),
        total=resolution.total,
        covered=resolution.covered,
        dead=resolution.dead,
        dead_messages=resolution.dead_messages,
        dead_bytes=resolution.dead_bytes,
        missing=resolution.missing,
        holes=resolution.holes[:MOST_HOLES],
        hole_count=resolution.hole_count,
    )
    problem = next((note.problem for note in notes if note.problem), "")
    if seen is None or seen.collected is None:
        return Found(record, new, now, empty=empty, problem=problem)
    new = _drawn(new, seen.collected, resolution)
    died_again = _have_died_again(record, seen.collected, resolution)
    return Found(record, new, now, seen.is_complete, empty, problem, died_again)


def _drawn(record: JobRecord, collected: Collected, resolution: Resolution) -> JobRecord:
    """Return a job's record with the count of entries, the map, and why the first dead entry failed."""
    shown, reason = record.map, record.reason
    if resolution.total is not None:
        shown = line_of(source_map_of(collected, resolution, LINE_CELLS))
    if resolution.has_dead and not reason:
        reason = next((one.reason for one in dead_of(collected, ())), "")
    return record._replace(entries=max(resolution.ran, resolution.entries), map=shown, reason=reason)


def _have_died_again(record: JobRecord, collected: Collected, resolution: Resolution) -> bool:
    if not (resolution.has_dead and record.redriven_after):
        return False
    segments = collected.segments
    return sum(segments[row.extent.segment] <= record.redriven_after for row in collected.dead()) <= record.left_dead
