"""Shows the progress of sources, and publishes missing records of sources again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from parcelq.collect.report import Report, report_of
from parcelq.collect.resolution import WHOLE, Collected, Resolution
from parcelq.collect.runs import read_collected
from parcelq.collect.segments import JobKey, segment_keys
from parcelq.errors import InvalidValueError, NotFoundError, ParcelqError
from parcelq.limits import MIB
from parcelq.lineage.source import Source, workflow_name
from parcelq.store.store import Store
from parcelq.topics.topic import Topic
from parcelq.upload.notes import Note, noted_sources, total_of
from parcelq.upload.objects import ObjectUploader

_log = logging.getLogger(__name__)
_REASON_TOLD: Final = 300


class Share(NamedTuple):
    """The size of a part of a source, in bytes, in percent of the source, and in entries."""

    bytes: int | None
    percent: float | None
    entries: int | None


class Status(NamedTuple):
    """The progress of a source that has no complete result yet.

    Attributes:
        topic: name of the topic on which the source was published; empty if the notes do not say.
        problem: why the source can never be uploaded; empty if no such reason is known.
    """

    report: Report
    resolution: Resolution
    collected: Collected
    topic: str = ""
    problem: str = ""

    @property
    def source(self) -> str:
        """The attribute `Source`."""
        return self.report.source

    @property
    def total(self) -> int | None:
        """How many bytes the source has; None if not known yet."""
        return self.resolution.total

    @property
    def name(self) -> str:
        """The source's name for users."""
        return Source.parse(self.source).name

    def has_in_name(self, text: str) -> bool:
        """Return whether the source's name contains a text, either plain or percent-encoded."""
        return text in Source.parse(self.source).key or text in self.source

    @property
    def shares(self) -> dict[str, Share]:
        """The parts of the source that have results (`covered`), failed for good (`dead`), and are `missing`."""
        entries, found = self.report.entries, self.resolution
        missing = None if self.total is None else found.missing
        sizes = {"covered": found.covered, "dead": found.dead_bytes, "missing": missing}
        counts = dict(zip(sizes, (entries.done, entries.dead, entries.missing), strict=True))
        return {name: Share(size, _percent(size, self.total), counts[name]) for name, size in sizes.items()}

    def document(self, most: int | None = None) -> dict[str, Any]:
        """Return the status as JSON values, with a limited number of holes and dead entries, but with full counts."""
        shares = self.shares
        return {
            "source": self.source,
            "name": self.name,
            "topic": self.topic,
            "problem": self.problem,
            "warnings": list(self.report.warnings),
            "total": self.total,
            "percent": shares["covered"].percent,
            **{name: share._asdict() for name, share in shares.items()},
            "entries_read": self.report.entries.read,
            "entries_written": self.report.entries.written,
            "holes": [list(hole) for hole in self.report.holes[:most]],
            "hole_count": self.resolution.hole_count,
            "deaths": [
                {"start": one.start, "end": one.end, "entries": one.entries, "reason": one.reason[:_REASON_TOLD]}
                for one in self.report.dead[:most]
            ],
            "death_count": self.resolution.dead_messages,
        }


def statuses(store: Store, topic: str) -> Iterator[Status]:
    """Yield the status of every incomplete source that was uploaded or has collected messages, and whose results are
    collected from this topic. A source is logged and left out if its segments cannot be read.
    """
    # Notes are read before the segments, so that a job that finishes meanwhile is not reported as missing.
    noted = noted_sources(store)
    unread: set[str] = set()

    def status_of(collected: Collected | None) -> Status | None:
        name = collected.job.source if collected else ""
        return _status(name, noted.get(name, []), collected) if collected and name else None

    for job, keys in segment_keys(store, topic).items():
        try:
            status = read_collected(store, topic, job, status_of, keys)
        except ParcelqError as error:
            _log.error("%s", error)
            unread.add(job)
            continue
        if status:
            noted.pop(status.source, None)
            yield status
    for source, notes in noted.items():
        # Messages that cannot be read are not reported as missing.
        is_read = unread.isdisjoint(JobKey(source, workflow_name(note.workflow)).id for note in notes)
        if is_read and all(_leads_to(note, topic) for note in notes) and not _is_done(store, source):
            yield _status(source, notes, Collected(store, ()))


def repair(uploader: ObjectUploader, status: Status, topic: Topic) -> int:
    """Publish the missing records of a source again, and return how many messages were published.

    Raises:
        ParcelqError: the source is a local file, can never be uploaded, or its object was deleted or replaced.
        PublishError, AwsError, TopicNotFoundError, StoreError: not all records were published.
    """
    source = object_of(status)
    if status.problem:
        raise ParcelqError(f"{source.uri} cannot be repaired: {status.problem}")
    published = 0
    for start, end in status.collected.holes(status.resolution):
        uploaded = uploader.upload_part(source, start, end, status.total, topic)
        if uploaded is None:
            raise ParcelqError(f"{source.uri} cannot be repaired: it was deleted or replaced after it was put")
        published += uploaded.messages
    return published


def object_of(status: Status) -> Source:
    """Return the object of a source, to be published again. Raises ParcelqError if the source is a local file."""
    source = Source.parse(status.source)
    if not source.bucket:
        text = f"{source.uri} cannot be repaired: it is a file of the machine that uploaded it; upload it again"
        raise ParcelqError(text)
    return source


def _status(source: str, notes: Sequence[Note], collected: Collected) -> Status:
    resolution = collected.resolve().up_to(total_of(notes))
    report = report_of(source, collected, resolution, notes, "")
    topic = next((note.topic for note in notes if note.topic), "")
    return Status(report, resolution, collected, topic, next((note.problem for note in notes if note.problem), ""))


def _percent(size: int | None, total: int | None) -> float | None:
    if total is None or size is None:
        return None
    return round(100 * size / total, 2) if total else 0.0


def _leads_to(note: Note, topic: str) -> bool:
    """Return whether the results of an upload are published on a topic; also True if the notes do not name a topic."""
    return note.output is None or topic in {note.output, note.topic}


def _is_done(store: Store, source: str) -> bool:
    """Return whether, according to a report, a source or a later upload of the same file has a complete result. Even
    then there may be notes, because a repeated upload writes its note late.
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
