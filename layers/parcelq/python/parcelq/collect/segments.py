"""Segments: immutable objects, each with an index of numbers, followed by collected messages of one job, sorted.

    head      one line of JSON, padded with spaces to whole words
    rows      one row per message, in order of lineage; see the module `rows`
    bodies    the messages' bodies, in the same order

An *index run* has the same form without bodies: it contains the merged rows of many segments, and its head names these
segments.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final, NamedTuple

from parcelq.collect.rows import FLAG, OF_STEP, UNKNOWN, WORD, Key, content_of, key_of, read_of, row, steps_of, words_of
from parcelq.errors import ParcelqError
from parcelq.lineage.lineage import Lineage
from parcelq.lineage.source import job_id
from parcelq.names import SEGMENTS
from parcelq.store.store import Store
from parcelq.topics.cost import NOTHING, Cost
from parcelq.topics.pieces import Piece

SEGMENT_SUFFIX: Final = ".seg"
RUN_SUFFIX: Final = ".run"
_TIME: Final = "%Y%m%dT%H%M%S%f"


class JobKey(NamedTuple):
    """The job of a segment's messages. `source` is empty for messages without lineage, and `workflow`, the workflow's
    name, for the built-in step.
    """

    source: str
    workflow: str = ""

    @property
    def id(self) -> str:
        """The job's id, which names its folder."""
        return job_id(self.source, self.workflow)


class _Stored(NamedTuple):
    """What a segment stores of a message or of its dead entries: the fields of a row in the index, and the body."""

    key: Key
    content: int
    body: bytes
    entries: int
    read: int
    total: int | None


def folder(topic: str, job: str = "") -> str:
    """Return the prefix of a topic's segments, or of the segments of one job."""
    return f"{SEGMENTS}{topic}/" + (f"{job}/" if job else "")


def write_segment(
    store: Store,
    topic: str,
    job: JobKey,
    pieces: Iterable[Piece],
    versions: Iterable[str],
    first: datetime,
    last: datetime,
    processing: Cost = NOTHING,
    draining: Cost = NOTHING,
) -> str:
    """Write messages of one job, or their dead entries, as a segment, and return the segment's key.

    Args:
        job: the job of the messages. If the job has no source, the `lineage` of a piece is the message's id.
        first: when the first message was pulled; `last` says the same of the last message.
        processing: the costs that the messages carry.
        draining: the cost of collecting these messages.
    """
    stored = [_stored(job, piece) for piece in pieces]
    if job.source:  # messages without lineage stay in the order of arrival
        stored.sort(key=attrgetter("key"))
    steps = max((steps_of(one.key) for one in stored), default=0)
    rows, bodies = [], []
    at = 0
    for one in stored:
        lacks_end = bool(one.body) and one.entries < FLAG and not one.body.endswith(b"\n")
        size = len(one.body) | (FLAG if lacks_end else 0)
        rows.append(row(one.key, words_of(steps), at, one.content, size, one.entries, one.read))
        bodies += [one.body, b"\n"] if lacks_end else [one.body]
        at += len(one.body) + lacks_end
    rows.sort()
    total = max((one.total for one in stored if one.total is not None), default=None)
    times = {"first": first.isoformat(timespec="seconds"), "last": last.isoformat(timespec="seconds")}
    about = {**times, "total": total, "rows": len(rows), "steps": steps, **costs_in_head(processing, draining)}
    head = head_of(job, versions, **about)
    size = len(head) + len(rows) * words_of(steps) * WORD
    key = key_in(folder(topic, job.id), last, size, SEGMENT_SUFFIX)
    store.put(key, head, b"".join(rows), *bodies)
    return key


def head_of(job: JobKey, versions: Iterable[str], **about: Any) -> bytes:
    """Return the first line of an index, which is JSON padded with spaces."""
    head = {"source": job.source, "workflow": job.workflow, "versions": sorted(set(versions)), **about}
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-(len(text) + 1) % WORD) + b"\n"


def costs_in_head(processing: Cost, draining: Cost) -> dict[str, Any]:
    """Return the costs as JSON values for the head of an index; empty if no costs were counted."""
    costs = {"processing": processing, "draining": draining}
    return {name: cost.numbers() for name, cost in costs.items() if cost != NOTHING}


def key_in(prefix: str, when: datetime, size: int, suffix: str) -> str:
    """Return a new key for an index. The name contains the time, so that keys sort by time, and the index's size."""
    return f"{prefix}{when:{_TIME}}-{uuid.uuid4().hex[:12]}-{size}{suffix}"


def time_of(key: str) -> datetime | None:
    """Return when the last message of a segment was pulled, according to the key; None if the key has no time."""
    text = key.rpartition("/")[2].partition("-")[0]
    try:  # `strptime` would import more modules
        return datetime.fromisoformat(f"{text[:-6]}.{text[-6:]}").replace(tzinfo=UTC)
    except ValueError:
        return None


def index_size(key: str) -> int:
    """Return how many bytes an index and its head have. Raises ParcelqError if the key does not say the size."""
    text = key.rpartition(".")[0].rpartition("-")[2]
    if not text.isdecimal() or len(text) > 18:
        raise ParcelqError(f"{key!r} is not a segment: its name does not end in the size of its index")
    return int(text)


def segment_keys(store: Store, topic: str) -> dict[str, list[str]]:
    """Return a dict from the id of each job of a topic to the keys of the job's objects, in the order of writing."""
    found: dict[str, list[str]] = {}
    for key in store.keys(folder(topic)):
        found.setdefault(key.split("/")[2], []).append(key)
    return found


def segments_among(keys: Iterable[str]) -> list[str]:
    """Return only the keys of segments, given the keys of a folder."""
    return [key for key in keys if key.endswith(SEGMENT_SUFFIX)]


def read_notes(data: bytes) -> tuple[str, str, bytes]:
    """Parse what a segment stores for dead entries. Return the reason, the attribute `First`, and the entries."""
    line, _, entry = data.partition(b"\n")
    reason, first = json.loads(line)
    return str(reason), str(first), entry


def _stored(job: JobKey, piece: Piece) -> _Stored:
    if not job.source:
        return _Stored(_key_of_id(piece.lineage), 0, piece.body, piece.entries, UNKNOWN, None)
    lineage = Lineage.parse(piece.lineage)
    note, body, entries = b"", piece.body, piece.entries
    if piece.dead:
        body = note = json.dumps((piece.dead, piece.first), ensure_ascii=False).encode() + b"\n" + piece.body
        entries |= FLAG | (OF_STEP if lineage.outputs else 0)
    read = read_of(lineage)
    return _Stored(key_of(lineage), content_of(lineage, note), body, entries, read, lineage.root.total)


def _key_of_id(message_id: str) -> tuple[int, int]:
    digest = blake2b(message_id.encode(), digest_size=2 * WORD).digest()
    return int.from_bytes(digest[:WORD], "big"), int.from_bytes(digest[WORD:], "big")
