"""Determines the state of a job only from the job's segments."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from parcelq.collect.indexes import open_indexes
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.runs import LARGE, MUCH, Looked, Record, indexes_of, name_of, tidy, write_record
from parcelq.collect.segments import segments_among
from parcelq.errors import ConflictError, NotFoundError
from parcelq.store.store import Store

_log = logging.getLogger(__name__)


class SourceState(NamedTuple):
    """The progress of a source: `covered` of its `total` bytes have collected results.

    Attributes:
        source: the attribute `Source`; empty for messages without lineage. If the first segment could not be read, the
            key of that segment.
        dead: how many entries failed for good.
        holes: how many byte ranges of the source are missing.
        result: key of the result; empty while the result is not finished.
        superseded: whether a newer upload of the same file already has a result.
        problem: why the progress is unknown, or why the job was stopped; else empty.
        looked_at: whether the source was checked; False if there was not enough time.
        report: the report beside the result; None if the report is not written yet.
        whole: whether the result has every entry, so that the job's segments are no longer needed.
    """

    source: str
    covered: int = 0
    total: int | None = None
    dead: int = 0
    holes: int = 0
    result: str = ""
    superseded: bool = False
    problem: str = ""
    looked_at: bool = True
    report: Mapping[str, Any] | None = None
    whole: bool = False


class Seen(NamedTuple):
    """The findings of a look at a job's segments, whose folder has these keys.

    If the job is large and has few new messages, `collected` is None, and `resolution` is the state that was found when
    all messages were last read.
    """

    keys: Sequence[str]
    source: str
    resolution: Resolution
    collected: Collected | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every entry is processed or dead."""
        return self.collected is not None and self.resolution.finished

    @property
    def state(self) -> SourceState:
        """The progress of the source."""
        found = self.resolution
        return SourceState(self.source, found.covered, found.total, found.dead, found.hole_count)


def see(store: Store, topic: str, keys: Sequence[str], now: datetime, *, whole: bool = False) -> Seen:
    """Check a job, whose folder has these keys, and merge the job's indexes if there are many. Raises NotFoundError if
    segments were deleted, because another process has just finished the job. If `whole`, all messages of a large job
    are read, even if few are new; otherwise holes may stay unknown.
    """
    record = tidy(store, topic, keys, now)
    if not whole and (unchanged := _unchanged(store, record, keys)):
        return unchanged
    collected = Collected(store, indexes_of(store, keys, record))
    source = collected.job.source
    resolution = collected.resolve() if source else Resolution(None)
    if source and not resolution.finished and collected.count >= LARGE:
        _note_looked(topic, collected, resolution, record)
    return Seen(keys, source, resolution, collected)


def _unchanged(store: Store, record: Record, keys: Sequence[str]) -> Seen | None:
    """Return the last state of a large job that cannot be finished yet; None if all its messages must be read.

    A job can be finished only if new messages cover at least as many bytes of the source as were missing. So most looks
    at a large job read only new messages.
    """
    looked = record.looked
    if looked is None or not looked.missing:
        return None
    new = [key for key in segments_among(keys) if name_of(key) not in looked.segments]
    collected = Collected(store, open_indexes(store, new or segments_among(keys)[:1]))
    is_much = len(new) > 0 and collected.count * MUCH > looked.count
    if is_much or (new and collected.total != looked.total) or (new and collected.touched() >= looked.missing):
        return None
    found = Resolution(looked.total, looked.covered, looked.dead, missing=looked.missing, hole_count=looked.holes)
    return Seen(keys, collected.job.source, found)


def _note_looked(topic: str, collected: Collected, resolution: Resolution, record: Record) -> None:
    """Store the state of a large job after all its messages were read."""
    names = frozenset(map(name_of, collected.segments))
    found = resolution.total, resolution.covered, resolution.missing, resolution.hole_count, resolution.dead
    looked = Looked(names, collected.count, *found)
    try:
        write_record(collected.store, topic, collected.job, record._replace(looked=looked))
    except (ConflictError, NotFoundError):
        _log.info("another process looks at %s at the same time", collected.job.source)
