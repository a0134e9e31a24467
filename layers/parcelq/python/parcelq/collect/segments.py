"""Segments: immutable objects in which collected messages of one source lie, sorted, with their index in front.

Nothing else is kept of what was collected: the state of a source is the union of its segments. A segment is there whole
or not at all, and two that hold the same message do no harm.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from parcelq.collect.rows import Row
from parcelq.errors import ParcelqError
from parcelq.lineage.lineage import Lineage
from parcelq.lineage.source import source_id
from parcelq.names import SEGMENTS
from parcelq.store.stores import Store
from parcelq.topics.pieces import Piece


@dataclass(frozen=True, slots=True)
class Index:
    """What a segment holds.

    Attributes:
        key: the segment's key.
        source: the attribute `Source` of all its messages, or `NO_SOURCE`.
        workflows: what the attribute `Workflow` said.
        first: when the first of them was pulled, ISO 8601.
        last: when the last was.
        rows: its messages, in order.
    """

    key: str
    source: str
    workflows: tuple[str, ...]
    first: str
    last: str
    rows: Sequence[Row] = field(repr=False)


def folder(topic: str, source: str | None = None) -> str:
    """The prefix of a topic's segments, or of those of one source in it."""
    return f"{SEGMENTS}{topic}/" + (f"{source_id(source)}/" if source is not None else "")


def write_segment(
    store: Store,
    topic: str,
    source: str,
    pieces: Iterable[Piece],
    workflows: Iterable[str],
    first: datetime,
    last: datetime,
) -> str:
    """Write pieces of one source as a segment and return its key.

    Raises:
        AwsError, OSError: the store refused; nothing is there then.
    """
    ordered = sorted(pieces, key=lambda piece: Lineage.parse(piece.lineage).order) if source else list(pieces)
    rows: list[list[object]] = []
    bodies: list[bytes] = []
    for piece in ordered:
        rows.append([piece.lineage, len(piece.body), piece.entries] + [piece.dead] * bool(piece.dead))
        bodies.append(piece.body)
        if piece.body and not piece.body.endswith(b"\n"):
            bodies.append(b"\n")
            rows[-1][1] = -len(piece.body)  # so that its neighbour is not taken for its continuation
    head = {"source": source, "workflows": sorted(set(workflows)), "first": _text(first), "last": _text(last)}
    index = json.dumps({**head, "rows": rows}, ensure_ascii=False, separators=(",", ":")).encode()
    key = f"{folder(topic, source)}{last:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:12]}-{len(index)}.seg"
    store.put(key, index, *bodies)
    return key


def read_index(store: Store, key: str) -> Index:
    """Read what a segment holds.

    Raises:
        ParcelqError: the object is no segment.
        AwsError, OSError: the store refused.
    """
    try:
        length = int(key.removesuffix(".seg").rpartition("-")[2])
        index = json.loads(store.read(key, 0, length))
        rows = []
        at = length
        for lineage, size, entries, *dead in index["rows"]:
            rows.append((lineage, at, abs(size), entries, dead[0] if dead else ""))
            at += size if size >= 0 else 1 - size
        return Index(key, index["source"], tuple(index["workflows"]), index["first"], index["last"], rows)
    except (ValueError, KeyError, TypeError) as error:
        raise ParcelqError(f"{key!r} is no segment: {error}") from None


def segment_keys(store: Store, topic: str) -> dict[str, list[str]]:
    """Keys of all segments of a topic, by the id of their source, in the order in which they were written."""
    found: dict[str, list[str]] = {}
    for key in store.keys(folder(topic)):
        found.setdefault(key.split("/")[2], []).append(key)
    return found


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
