"""Seeing how far a job is, from its segments and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from parcelq.collect.indexes import open_indexes
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.runs import LARGE, MUCH, Looked, Record, indexes_of, name_of, tidy, write_record
from parcelq.collect.segments import segments_among
from parcelq.errors import ConflictError, NotFoundError
from parcelq.store.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a source is.

    Attributes:
        source: the attribute `Source`; empty for messages without lineage; the key of its first segment if that could
            not be read.
        covered: bytes of it whose results are there.
        total: bytes of it; None if that is not known yet.
        dead: entries that failed for good.
        holes: how many byte ranges are missing.
        result: key of its result; empty while it is not finished.
        superseded: whether a newer put of the same file already has a result.
        problem: why the state is unknown; empty if it is known.
        looked_at: whether there was time to look at it.
        report: the report beside the result, if that is written.
        whole: whether its result has every entry, so that its segments are not needed any more.
    """

    source: str
    covered: int
    total: int | None
    dead: int
    holes: int
    result: str = ""
    superseded: bool = False
    problem: str = ""
    looked_at: bool = True
    report: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    whole: bool = False


class Seen(NamedTuple):
    """What a look at a job's segments found.

    Attributes:
        keys: the keys in the job's folder.
        state: how far the source is.
        missing: bytes of the source that are neither there nor dead.
        holes: the first ranges of these.
        dead_bytes: bytes of the source that dead entries came in.
        collected: the job's messages; None for a large job in which little is new.
        resolution: what they make; None for such a job.
    """

    keys: Sequence[str]
    state: SourceState
    missing: int = 0
    holes: tuple[tuple[int, int], ...] = ()
    dead_bytes: int = 0
    collected: Collected | None = None
    resolution: Resolution | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every entry has a result or is dead."""
        return self.resolution is not None and self.resolution.finished


def see(store: Store, topic: str, keys: Sequence[str], now: datetime) -> Seen:
    """Look at a job, and merge its indexes as far as it is time to.

    Args:
        store: where the segments are.
        topic: name of the topic that was drained.
        keys: the keys in the job's folder, among them some of segments.
        now: the time of day.

    Raises:
        NotFoundError: segments are gone, since somebody else has just finished the job.
        ParcelqError: a segment or the record of index runs cannot be read.
    """
    record = tidy(store, topic, keys, now)
    if unchanged := _unchanged(store, record, keys):
        return unchanged
    collected = Collected(store, indexes_of(store, keys, record))
    source = collected.job.source
    resolution = collected.resolve() if source else Resolution(None)
    state = SourceState(source, resolution.covered, resolution.total, resolution.dead, resolution.hole_count)
    if source and not resolution.finished and collected.count >= LARGE:
        _note_looked(topic, collected, resolution, record)
    return Seen(keys, state, resolution.missing, resolution.holes, resolution.dead_bytes, collected, resolution)


def _unchanged(store: Store, record: Record, keys: Sequence[str]) -> Seen | None:
    """The state of a large job that cannot be finished by what came since the last look at all of it; else None.

    What is new must have to do with at least as many bytes of the source as were missing. So nearly every look at a
    job reads only what is new.
    """
    looked = record.looked
    if looked is None or not looked.missing:
        return None
    new = [key for key in segments_among(keys) if name_of(key) not in looked.segments]
    collected = Collected(store, open_indexes(store, new or segments_among(keys)[:1]))
    is_much = len(new) > 0 and collected.count * MUCH > looked.count
    if is_much or (new and collected.total != looked.total) or (new and collected.touched() >= looked.missing):
        return None
    state = SourceState(collected.job.source, looked.covered, looked.total, looked.dead, looked.holes)
    return Seen(keys, state, looked.missing)


def _note_looked(topic: str, collected: Collected, resolution: Resolution, record: Record) -> None:
    """Store what a look at all messages of a large job found."""
    names = frozenset(map(name_of, collected.segments))
    found = resolution.total, resolution.covered, resolution.missing, resolution.hole_count, resolution.dead
    looked = Looked(names, collected.count, *found)
    try:
        write_record(collected.store, topic, collected.job, record._replace(looked=looked))
    except (ConflictError, NotFoundError):
        _log.info("someone else looks at %s at the same time", collected.job.source)
