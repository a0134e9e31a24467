"""Shows the progress of sources, and publishes their missing records again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from parcelq.collect.deaths import MOST_LISTED, Dead, dead_entries, dead_of
from parcelq.collect.resolution import WHOLE, Collected, Resolution
from parcelq.collect.runs import indexes_of, read_record
from parcelq.collect.segments import segment_keys, segments_among
from parcelq.errors import InvalidValueError, NotFoundError, ParcelqError
from parcelq.limits import MIB
from parcelq.lineage.source import Source
from parcelq.store.store import Store
from parcelq.topics.topic import Topic
from parcelq.upload.notes import Note, entries_in, noted_sources
from parcelq.upload.objects import ObjectUploader

_log = logging.getLogger(__name__)
_REASON_TOLD: Final = 300


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a source.

    Attributes:
        bytes: bytes of the part; None if unknown.
        percent: its share of the source; None if unknown.
        entries: entries of the part; None if unknown.
    """

    bytes: int | None
    percent: float | None
    entries: int | None


@dataclass(frozen=True, slots=True)
class Status:
    """The progress of a source that has no complete result yet.

    Attributes:
        source: the attribute `Source`.
        total: bytes of it; None if not known yet.
        covered: the part of it that has results.
        dead: the part of it that failed for good.
        missing: the part that is neither; unknown while `total` is.
        deaths: dead entries with their reasons; only the first ones if there are many.
        death_count: number of dead entries.
        holes: byte ranges that are certainly without a message; only the first ones if there are many.
        hole_count: number of holes.
        entries_read: entries of it; None if it was not published completely.
        entries_written: entries of the result so far.
        topic: name of the topic that it was published on; empty if not noted.
        problem: why it can never be uploaded; empty if no such reason is known.
        warnings: the warnings for the report that are known so far.
    """

    source: str
    total: int | None
    covered: Share
    dead: Share
    missing: Share
    deaths: tuple[Dead, ...]
    death_count: int
    holes: tuple[tuple[int, int], ...]
    hole_count: int
    entries_read: int | None
    entries_written: int
    topic: str = ""
    problem: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The source's name."""
        return Source.parse(self.source).name

    def is_called(self, name: str) -> bool:
        """Whether the source has that name."""
        return name == self.name

    def has_in_name(self, text: str) -> bool:
        """Return whether its name contains a text, either plain or percent-encoded."""
        return text in Source.parse(self.source).key or text in self.source

    def document(self, most: int | None = None) -> dict[str, Any]:
        """Return the status as JSON, with a limited number of holes and deaths and their full counts."""
        return {
            "source": self.source,
            "name": self.name,
            "topic": self.topic,
            "problem": self.problem,
            "warnings": list(self.warnings),
            "total": self.total,
            "percent": self.covered.percent,
            "covered": asdict(self.covered),
            "dead": asdict(self.dead),
            "missing": asdict(self.missing),
            "entries_read": self.entries_read,
            "entries_written": self.entries_written,
            "holes": [list(hole) for hole in self.holes[:most]],
            "hole_count": self.hole_count,
            "deaths": [
                {"start": one.start, "end": one.end, "entries": one.entries, "reason": one.reason[:_REASON_TOLD]}
                for one in self.deaths[:most]
            ],
            "death_count": self.death_count,
        }


def statuses(store: Store, topic: str) -> Iterator[Status]:
    """Yield the status of every incomplete source that was uploaded or has collected messages.

    A source whose segments cannot be read is logged, and left out.

    Args:
        store: where the segments are.
        topic: name of the topic that results are collected from. Sources whose results go to another topic are left
            out.

    Raises:
        AwsError, OSError: the store failed.
    """
    # Read before the segments, so that a job that finishes meanwhile does not count as missing.
    noted = noted_sources(store)
    for keys in segment_keys(store, topic).values():
        if not segments_among(keys):
            continue
        try:
            collected = Collected(store, indexes_of(store, keys, read_record(store, keys)))
            if name := collected.job.source:
                notes = noted.pop(name, [])
                yield _status(name, collected.resolve(), notes, collected)
        except NotFoundError:
            continue  # the job has just finished
        except ParcelqError as error:
            _log.error("%s", error)
    for source, notes in noted.items():
        if all(_leads_to(note, topic) for note in notes) and not _is_done(store, source):
            yield _status(source, Resolution(None), notes, Collected(store, ()))


def repair(uploader: ObjectUploader, status: Status, topic: Topic) -> int:
    """Publish the missing records of a source again, and return the number of messages.

    Args:
        uploader: publishes records of objects.
        status: the progress of the source.
        topic: the topic for its records.

    Raises:
        ParcelqError: it is a file of some machine, can never be uploaded, or its object was deleted or replaced.
        PublishError, AwsError, TopicNotFoundError: not all records were published.
    """
    source = object_of(status)
    if status.problem:
        raise ParcelqError(f"{source.uri} cannot be repaired: {status.problem}")
    published = 0
    for start, end in status.holes:
        uploaded = uploader.upload_part(source, start, end, status.total, topic)
        if uploaded is None:
            raise ParcelqError(f"{source.uri} cannot be repaired: it was deleted or replaced since it was put")
        published += uploaded.messages
    return published


def object_of(status: Status) -> Source:
    """Return the object of a source, from which it can be repaired.

    \n Raises:
        ParcelqError: the source is a file of some machine.
    """
    source = Source.parse(status.source)
    if not source.bucket:
        text = f"{source.uri} cannot be repaired: it is a file of the machine that uploaded it; upload it again"
        raise ParcelqError(text)
    return source


def _status(source: str, resolution: Resolution, notes: Sequence[Note], collected: Collected) -> Status:
    known = (note.total for note in notes if note.total is not None)
    total = next(known, None) if resolution.total is None else resolution.total
    missing, holes, hole_count = resolution.missing, resolution.holes, resolution.hole_count
    if resolution.total is None and total is not None:  # so no message from the end of the source has arrived
        at = resolution.covered + resolution.dead_bytes + missing
        holes, hole_count = (*holes, (at, total)), hole_count + 1
        missing += total - at
    counts = _counts(resolution, notes, total, holes if len(holes) == hole_count else None, collected)
    sizes = resolution.covered, resolution.dead_bytes, None if total is None else missing
    covered, dead, lacking = (
        Share(size, _percent(size, total), count) for size, count in zip(sizes, counts, strict=True)
    )
    return Status(
        source,
        total,
        covered,
        dead,
        lacking,
        tuple(islice(dead_of(collected, notes), MOST_LISTED)) if resolution.has_dead else (),
        resolution.dead_messages,
        holes,
        hole_count,
        None if total is None else entries_in(notes, 0, total, total),
        resolution.entries,
        next((note.topic for note in notes if note.topic), ""),
        next((note.problem for note in notes if note.problem), ""),
        (*resolution.doubts, *dict.fromkeys(warning for note in notes for warning in note.warnings)),
    )


def _counts(
    resolution: Resolution,
    notes: Sequence[Note],
    total: int | None,
    holes: Sequence[tuple[int, int]] | None,
    collected: Collected,
) -> tuple[int | None, int | None, int | None]:
    """Return the numbers of covered, dead and missing entries of a source; None for numbers that the upload notes do
    not contain.
    """
    dead = dead_entries(collected, notes, total) if resolution.has_dead else 0
    if total is None:
        return None if resolution.covered else 0, dead, None
    read = entries_in(notes, 0, total, total)
    missing = None if holes is None else _sum(entries_in(notes, start, end, total) for start, end in holes)
    if read is None or dead is None or missing is None:
        return None if resolution.covered else 0, dead, missing
    return read - dead - missing, dead, missing


def _percent(size: int | None, total: int | None) -> float | None:
    if total is None or size is None:
        return None
    return round(100 * size / total, 2) if total else 0.0


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return their sum; None if one of them is unknown."""
    known = 0
    for count in counts:
        if count is None:
            return None
        known += count
    return known


def _leads_to(note: Note, topic: str) -> bool:
    """Return whether the results of an upload go to a topic, as far as that is known."""
    return note.output is None or topic in {note.output, note.topic}


def _is_done(store: Store, source: str) -> bool:
    """Return whether a source, or a later put of the same file, has a complete result, according to the report beside
    it.

    Notes of its uploads may be left over then, because the note of a repeated upload is written late.
    """
    put = Source.parse(source)
    try:
        report = json.loads(store.read(put.names(put.bucket).report, 0, MIB))
        reported = Source.parse(report["source"])
    except (NotFoundError, ValueError, KeyError, TypeError, InvalidValueError):
        return False
    if str(reported) == source:
        return str(report.get("state")).startswith(WHOLE)
    return reported.uri == put.uri and reported.order > put.order
