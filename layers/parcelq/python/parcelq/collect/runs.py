"""Index runs: stored results of merging indexes. Because of index runs, a check of a large job reads mostly new rows.

If a job has many segments, the segments' indexes are merged into an index run, and runs of similar size are merged into
a larger run. So the number of runs grows only logarithmically. A file `runs.json` beside the segments names the current
runs and the findings of the last full look. The file is written only if it has not changed since it was read, and other
runs are ignored. So a process that merges may be killed at any moment, and two processes may merge at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

from parcelq.collect.indexes import Index, all_indexes, open_indexes
from parcelq.collect.merge import merged
from parcelq.collect.resolution import Collected
from parcelq.collect.rows import WORD, words_of
from parcelq.collect.segments import RUN_SUFFIX, JobKey, costs_in_head, folder, head_of, key_in, segments_among
from parcelq.errors import ConflictError, NotFoundError, ParcelqError, StoreError
from parcelq.limits import MIB
from parcelq.store.store import Store, joined, part_bytes
from parcelq.topics.cost import NOTHING

FEWEST: Final = 32
"""How many segments are merged into one index run."""
FEWEST_RUNS: Final = 8
"""How many index runs of similar size are merged into one larger run."""
LARGE: Final = 50_000
"""A job with at least this many messages is large. A check of a large job does not always read all rows."""
MUCH: Final = 8
"""All rows of a large job are read if it has more than one new message for this many earlier messages."""
_RECORD: Final = "runs.json"
_RECORD_BYTES: Final = 16 * MIB
_TRIES: Final = 5
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Looked:
    """The findings of the last look at all messages of a job. The look read `count` messages in the segments with these
    names; `holes` is the number of missing ranges.
    """

    segments: frozenset[str]
    count: int
    total: int | None
    covered: int
    missing: int
    holes: int
    dead: int


class Record(NamedTuple):
    """The content of the file `runs.json`: a job's current index runs, and the last look at all messages."""

    runs: tuple[str, ...] = ()
    looked: Looked | None = None
    etag: str | None = None


def read_record(store: Store, keys: Sequence[str]) -> Record:
    """Read `runs.json` of a job, given the keys in the job's folder. Raises ParcelqError if the file cannot be read."""
    key = next((key for key in keys if key.endswith(f"/{_RECORD}")), None)
    seen = store.stat(key) if key else None
    if key is None or seen is None:
        return Record()
    try:
        document: Any = json.loads(store.read(key, 0, _RECORD_BYTES))
        looked = document["looked"] and Looked(
            **{**document["looked"], "segments": frozenset(document["looked"]["segments"])}
        )
        return Record(tuple(map(str, document["runs"])), looked or None, seen.etag)
    except (ValueError, KeyError, TypeError) as error:
        raise ParcelqError(f"{key!r} is not a record of a job: {error}") from None


def write_record(store: Store, topic: str, job: JobKey, record: Record) -> Record:
    """Replace the `runs.json` of a job that was read before, and return its new content. Raises ConflictError or
    NotFoundError if another process wrote or deleted the file in the meantime.
    """
    looked = record.looked and {**asdict(record.looked), "segments": sorted(record.looked.segments)}
    text = json.dumps({"runs": record.runs, "looked": looked}, separators=(",", ":")).encode()
    key = folder(topic, job.id) + _RECORD
    # guard[return replace(record, etag=store.put(key, text))]: the record of index runs is written only if nobody else
    # wrote it in the meantime
    return record._replace(etag=store.put(key, text, if_match=record.etag, if_absent=record.etag is None))


def name_of(segment: str) -> str:
    """Return the part of a segment's key by which `runs.json` names the segment."""
    return segment.rpartition("/")[2].split("-")[1]


def indexes_of(store: Store, keys: Sequence[str], record: Record) -> list[Index]:
    """Open the index runs of a job, and the segments in none of them. Raises NotFoundError if one was deleted."""
    runs = open_indexes(store, record.runs)
    # guard[return runs + open_indexes(store, segments_among(keys))]: a segment that is in an index run counts once
    return runs + open_indexes(store, _unmerged(runs, keys))


def _unmerged(runs: Sequence[Index], keys: Sequence[str]) -> list[str]:
    """Return the keys of the segments that are in none of the index runs."""
    merged_already = {segment for run in runs for segment in run.segments}
    return [key for key in segments_among(keys) if key not in merged_already]


def collected_of(store: Store, keys: Sequence[str], record: Record | None = None) -> Collected | None:
    """Open the collected messages of a job without a change in the store; None if no messages are collected. Raises
    NotFoundError if another process has just finished the job, or merged its indexes.
    """
    if not segments_among(keys):
        return None
    return Collected(store, indexes_of(store, keys, record or read_record(store, keys)))


def read_collected(
    store: Store, topic: str, job: str, read: Callable[[Collected | None], Read], keys: Sequence[str] = ()
) -> Read:
    """Call `read` with the collected messages of a job, or with None if there are none, and return the result of this
    call.

    If another process merges indexes or finishes the job meanwhile, the job's keys are listed and `read` is called
    again. Raises StoreError if objects were deleted at each try. `keys` are the keys in the job's folder, if known.
    """
    gone = folder(topic, job)
    for _ in range(_TRIES):
        try:
            return read(collected_of(store, keys or list(store.keys(folder(topic, job)))))
        except NotFoundError as error:
            gone, keys = error.key, ()
    raise StoreError(gone, "another process deleted it before it was read; try again")


def tidy(store: Store, topic: str, keys: Sequence[str], now: datetime) -> Record:
    """Merge indexes of a job if the job has enough indexes, and return the content of `runs.json`. Raises NotFoundError
    if another process merged or deleted indexes that are read here. `now` becomes part of the keys of new index runs.
    """
    record = read_record(store, keys)
    if len(segments_among(keys)) < FEWEST:
        return record
    runs = open_indexes(store, record.runs)
    left = _unmerged(runs, keys)
    written: list[str] = []
    # Only a limited number of segments is merged at a time, so that their indexes fit into memory.
    for first in range(0, len(left) - FEWEST + 1, FEWEST):
        index = _merge(store, topic, open_indexes(store, left[first : first + FEWEST]), now)
        written.append(index.key)
        runs.append(index)
    while some := of_one_size([run.count for run in runs]):
        index = _merge(store, topic, [runs[number] for number in some], now)
        written.append(index.key)
        runs = [*(run for number, run in enumerate(runs) if number not in some), index]
    return _name(store, topic, record, runs, written) if written else record


def _name(store: Store, topic: str, record: Record, runs: Sequence[Index], written: Sequence[str]) -> Record:
    """Make `runs.json` name these index runs, and delete the index runs that the file no longer names."""
    named = tuple(run.key for run in runs)
    try:
        new = write_record(store, topic, runs[0].job, record._replace(runs=named))
    except (ConflictError, NotFoundError):
        store.delete(written)
        raise NotFoundError(
            folder(topic, runs[0].job.id), "another process merged its indexes in the meantime"
        ) from None
    store.delete(one for one in (*record.runs, *written) if one not in named)
    return new


def of_one_size(counts: Sequence[int]) -> list[int]:
    """Return which index runs are merged next: the smallest runs of similar size, if there are enough; else none. Index
    runs are given by their numbers of rows, and returned by their places in this list.
    """
    by_size: dict[int, list[int]] = {}
    for number, count in enumerate(counts):
        by_size.setdefault(count.bit_length() // 3, []).append(number)
    return next((some for _, some in sorted(by_size.items()) if len(some) >= FEWEST_RUNS), [])


def _merge(store: Store, topic: str, indexes: Sequence[Index], now: datetime) -> Index:
    """Merge the rows of indexes, and write the merged rows as one index run."""
    steps = max(index.steps for index in indexes)
    count = sum(index.count for index in indexes)
    totals = [index.total for index in indexes if index.total is not None]
    job = indexes[0].job
    head = head_of(
        job,
        chain.from_iterable(index.versions for index in indexes),
        first=min(index.first for index in indexes),
        last=max(index.last for index in indexes),
        total=max(totals, default=None),
        rows=count,
        steps=steps,
        segments=[segment for index in indexes for segment in index.segments],
        **costs_in_head(
            sum((index.processing for index in indexes), NOTHING), sum((index.draining for index in indexes), NOTHING)
        ),
    )
    size = len(head) + count * words_of(steps) * WORD
    key = key_in(folder(topic, job.id), now, size, RUN_SUFFIX)
    rows = map(b"".join, merged(all_indexes(indexes, store)))
    if not store.write(key, joined(chain((head,), rows), part_bytes(size)), {}, None):
        raise ParcelqError(f"{key!r} was not written, although no other process could have written it")
    return open_indexes(store, [key])[0]
