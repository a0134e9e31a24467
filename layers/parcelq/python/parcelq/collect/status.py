"""The progress of sources, and publishing again what is missing of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

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


class Share(NamedTuple):
    """A part of a source.

    Attributes:
        bytes: how many bytes of it; None if that is not known.
        percent: how much of it; None if that is not known.
        entries: how many entries of it; None if that is not known.
    """

    bytes: int | None
    percent: float | None
    entries: int | None


class Status(NamedTuple):
    """How far a source is that has no whole result yet.

    Attributes:
        source: the attribute `Source`.
        total: bytes of it; None if that is not known yet.
        covered: how much of it has results.
        dead: how much of it failed for good.
        missing: how much of it is neither; not known while `total` is not.
        deaths: what failed, and why; only the first ones if there are many.
        death_count: how much there is.
        holes: byte ranges without any message; those that are certain, and the first where there are many.
        hole_count: how many there are.
        entries_read: entries of it; None if not all of it has been published.
        entries_written: entries of the result so far.
        topic: name of the topic that it was published on; empty if that was not noted.
        problem: why it can never be uploaded; empty if that is not known to be so.
        warnings: what the report will warn of, as far as that is known.
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
        """Whether its name has a text in it, as it is written or percent-encoded."""
        return text in Source.parse(self.source).key or text in self.source

    def document(self, most: int | None = None) -> dict[str, Any]:
        """The status as JSON; a limited number of holes and deaths, with their count."""
        return {
            "source": self.source,
            "name": self.name,
            "topic": self.topic,
            "problem": self.problem,
            "warnings": list(self.warnings),
            "total": self.total,
            "percent": self.covered.percent,
            "covered": self.covered._asdict(),
            "dead": self.dead._asdict(),
            "missing": self.missing._asdict(),
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
    """Yield the status of every source that was uploaded or has collected messages, and that is not whole yet.

    A source whose segments cannot be read is logged, and left out.

    Args:
        store: where the segments are.
        topic: name of the topic that results are collected from. Sources that were uploaded to lead elsewhere are
            left out.

    Raises:
        AwsError, OSError: the store refused.
    """
    # Read before the segments, so that a job that is finished meanwhile does not count as missing.
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
            continue  # it has just been finished
        except ParcelqError as error:
            _log.error("%s", error)
    for source, notes in noted.items():
        if all(_leads_to(note, topic) for note in notes) and not _is_done(store, source):
            yield _status(source, Resolution(None), notes, Collected(store, ()))


def repair(uploader: ObjectUploader, status: Status, topic: Topic) -> int:
    """Publish again only what is missing of a source; returns the number of messages.

    Args:
        uploader: publishes records of objects.
        status: how far the source is.
        topic: the topic that its records go to.

    Raises:
        ParcelqError: it is a file of some machine, or can never be uploaded, or the object is gone or another one by
            now.
        PublishError, AwsError, TopicNotFoundError: not everything was published.
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
    """The object that a source is, from which it can be repaired.

    Raises:
        ParcelqError: it is a file of some machine.
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
    if resolution.total is None and total is not None:  # so no message of the end came
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
    """Entries of a source that are covered, dead and missing; None for numbers that the notes of its uploads do not
    contain."""
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
    """Their sum; None if one of them is not known."""
    known = 0
    for count in counts:
        if count is None:
            return None
        known += count
    return known


def _leads_to(note: Note, topic: str) -> bool:
    """Whether the results of an upload go to a topic, as far as that is known."""
    return note.output is None or topic in {note.output, note.topic}


def _is_done(store: Store, source: str) -> bool:
    """Whether a source has a whole result, or a later put of the same file has one, as the report beside it says.

    What was noted of its uploads is left over then: the note of an upload that was done twice comes late.
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
