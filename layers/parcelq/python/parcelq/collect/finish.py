"""Finishing sources: from the segments of a source to its result and the report beside it.

What is known of a source is in its segments and nowhere else, so this can be stopped at any moment and run again, or
twice at once: whoever comes second finds the result there, or writes the same one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from parcelq.aws.parallel import in_flight
from parcelq.collect.assembly import SegmentReader, part_bodies, parts_of
from parcelq.collect.begun import note_begun, take_begun
from parcelq.collect.collector import Collector, Resolution
from parcelq.collect.extents import Extent
from parcelq.collect.report import Entries, Report
from parcelq.collect.results import Begun, Present, ResultWriter, part_bytes
from parcelq.collect.segments import Index, read_index, segment_keys
from parcelq.errors import NotFoundError, ParcelqError
from parcelq.limits import KIB
from parcelq.lineage.source import NO_SOURCE, Source, source_id
from parcelq.names import RESULTS
from parcelq.result_names import REPORT, WITHOUT_LINEAGE
from parcelq.store.stores import BucketStore, Store
from parcelq.topics.message import count_entries
from parcelq.upload.notes import note_keys, uploaded_entries

_log = logging.getLogger(__name__)
_READS_IN_FLIGHT: Final = 8
_REPORT_BYTES: Final = 64 * KIB
"""More than the report of a whole result has, since it names no dead entries."""
_WHOLE: Final = "whole"
# What a result says of itself, in the object's metadata, so that it and the result change together.
_ID: Final = "parcelq-source"
_URI: Final = "parcelq-uri"
_ORDER: Final = "parcelq-order"
_STATE: Final = "parcelq-state"


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a source is.

    Attributes:
        source: the attribute `Source`; empty for messages without lineage; the key of its first segment where nobody
            could read that.
        covered: bytes of it whose results are there.
        total: bytes of it; None if that is not known yet.
        dead: entries that failed for good.
        holes: how many byte ranges are missing.
        result: key of its result; empty while it is not finished.
        superseded: whether a newer put of the same file has its result there already.
        problem: why nobody can tell; empty where all is well.
        looked_at: whether there was time to look at it.
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


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the segments of one source hold.

    Attributes:
        source: the attribute `Source`; `NO_SOURCE` where it is none, whatever it says.
        indexes: of the segments, in the order in which they were written; without their rows, which may be millions.
        collector: what their messages told; nothing where they have no source.
        apart: where the messages lie that can be part of no source, in the order of the segments.
    """

    source: str
    indexes: Sequence[Index]
    collector: Collector
    apart: Sequence[Extent]

    @property
    def keys(self) -> list[str]:
        """The segments' keys."""
        return [index.key for index in self.indexes]

    def extents(self, store: Store, order: Callable[[str], Any]) -> list[Extent]:
        """Where every message lies, each once, in order of what their rows are called.

        Raises:
            ParcelqError, AwsError, OSError: a segment cannot be read.
        """
        extents: dict[str, Extent] = {}
        for number, key in enumerate(self.keys):
            for name, start, length, _, _ in read_index(store, key).rows:
                extents[name] = number, start, length
        return [extents[name] for name in sorted(extents, key=order)]


def gather(store: Store, keys: Sequence[str]) -> Gathered:
    """Read what the segments of one source hold.

    Raises:
        ParcelqError, AwsError, OSError: a segment cannot be read.
    """
    collector = Collector()
    indexes: list[Index] = []
    apart: list[Extent] = []
    ids: set[str] = set()
    for first in range(0, len(keys), _READS_IN_FLIGHT):
        some = keys[first : first + _READS_IN_FLIGHT]
        read = {index.key: index for index in in_flight(lambda key: read_index(store, key), some, _READS_IN_FLIGHT)}
        for key in some:
            index = read[key]
            if Source.is_one(index.source):
                apart += collector.add_all(len(indexes), index.rows)
            else:
                for name, start, length, _, _ in index.rows:
                    # Without a source the name is the message's id. That of a source that is none says nothing.
                    if index.source != NO_SOURCE or name not in ids:
                        ids.add(name)
                        apart.append((len(indexes), start, length))
            indexes.append(replace(index, rows=()))
    source = indexes[0].source
    return Gathered(source if Source.is_one(source) else NO_SOURCE, indexes, collector, apart)


@dataclass(frozen=True, slots=True)
class Finisher:
    """Writes results of the sources of a topic.

    Attributes:
        store: where the segments lie.
        writer: where the results go.
        topic: name of the topic that was drained.
        destination: the prefix of the results' keys.
    """

    store: Store
    writer: ResultWriter
    topic: str
    destination: str = RESULTS

    def finish_all(self, may_go_on: Callable[[], bool] = lambda: True) -> Iterator[SourceState]:
        """Look at every source of which there are segments, and write what is finished.

        A source with which that cannot be done is told as a problem, and logged; it is in the way of no other. Those
        with the fewest segments come first, so that one that takes long is in the way of few.

        Args:
            may_go_on: asked before each source; those left are for the next time, and told as not looked at.

        Raises:
            AwsError, OSError: the segments cannot be listed.
        """
        for keys in sorted(segment_keys(self.store, self.topic).values(), key=len):
            source = keys[0]  # for as long as nobody knows what it is called
            if not may_go_on():
                yield SourceState(source, 0, None, 0, 0, looked_at=False)
                continue
            try:
                gathered = gather(self.store, keys)
                source = gathered.indexes[0].source or keys[0]
                yield from self._write_apart(gathered)
                if gathered.source == NO_SOURCE:
                    self.store.delete(gathered.keys)
                else:
                    yield self._finish(gathered, may_go_on)
            except ParcelqError as error:
                if isinstance(error, NotFoundError):
                    _log.info("segments of %s are gone: someone else has just finished it", keys[0])
                else:
                    _log.error("%s", error, extra={"source": source})
                    yield SourceState(source, 0, None, 0, 0, problem=str(error))

    def _finish(self, gathered: Gathered, may_go_on: Callable[[], bool] = lambda: True) -> SourceState:
        resolution = gathered.collector.resolve()
        source = Source.parse(gathered.source)
        key = source.names(self.writer.bucket, self.destination).result
        present = self.writer.look(key)
        if present and _is_newer(present, source):
            self._clean(gathered)
            return _state(gathered.source, resolution, superseded=True)
        if (
            _says(present, gathered.source) == _WHOLE
        ):  # so these segments are late, or left from the time it was written
            if resolution.whole and not self._is_reported(gathered.source, key):
                self._report(gathered, resolution, key)
            self._clean(gathered)
            return _state(gathered.source, resolution, result=key)
        if not resolution.finished:
            return _state(gathered.source, resolution)
        if _says(present, gathered.source) != _fingerprint(resolution) and not self._write(
            gathered, resolution, key, present, may_go_on
        ):
            # Somebody else wrote meanwhile, or there was no time for all of it: the next look will tell, or go on.
            return _state(gathered.source, resolution)
        self._report(gathered, resolution, key)
        if resolution.whole:
            self._clean(gathered)
        return _state(gathered.source, resolution, result=key)

    def _write(
        self,
        gathered: Gathered,
        resolution: Resolution,
        key: str,
        present: Present | None,
        may_go_on: Callable[[], bool],
    ) -> bool:
        source = Source.parse(gathered.source)
        metadata = {
            _ID: source_id(gathered.source),
            _URI: source_id(source.uri),
            _ORDER: source.order,
            _STATE: _fingerprint(resolution),
        }
        extents = resolution.extents
        parts = parts_of(extents, part_bytes(_size(resolution)))
        # One that is small is begun and ended at once. Whoever goes on with another must mean the very same bytes.
        plan = _digest([*gathered.keys, *metadata.values(), parts, *extents]) if len(parts) > 1 else ""
        reader = SegmentReader(self.store, gathered.keys)
        written = self.writer.write(
            key,
            lambda done: part_bodies(reader, extents, parts[done:]),
            metadata,
            present,
            begun=take_begun(self.store, gathered.source, plan) if plan else None,
            may_go_on=may_go_on,
        )
        if isinstance(written, Begun):
            note_begun(self.store, gathered.source, plan, written)
            return False
        return written

    def _report(self, gathered: Gathered, resolution: Resolution, key: str) -> None:
        """Write the report, unless another result is there by now: its report is for those to write who wrote it."""
        total = resolution.total or 0
        source = Source.parse(gathered.source)
        read = uploaded_entries(self.store, gathered.source, total)
        dead = self._dead_entries(source, resolution)
        done = None if read is None or dead is None else read - dead
        while True:
            seen, written = self.writer.look(key + REPORT), self.writer.look(key)
            if written is None or _says(written, gathered.source) != _fingerprint(resolution):
                return
            report = Report(
                source=gathered.source,
                version=source.version or source.put,
                result=key,
                workflows=tuple(sorted({name for index in gathered.indexes for name in index.workflows})),
                entries=Entries(read, done, dead, 0, resolution.entries),
                bytes_read=total,
                # With the line ends that were put between pieces that lacked them.
                bytes_written=written.size,
                dead=resolution.dead,
                holes=resolution.holes,
                duplicates=gathered.collector.duplicates,
                first=min(index.first for index in gathered.indexes),
                last=max(index.last for index in gathered.indexes),
                complete=resolution.whole,
            )
            if self.writer.write(key + REPORT, lambda _: iter((report.to_json(),)), {}, seen):  # noqa: B023
                return

    def _dead_entries(self, source: Source, resolution: Resolution) -> int | None:
        """Entries of the source that are dead; None where they would have to be counted in it, and it is not there."""
        counted = sum(one.entries for one in resolution.dead if one.of_source)
        others = {(one.start, one.end) for one in resolution.dead if not one.of_source}
        if not others:
            return counted
        bucket = BucketStore(self.writer.s3, self.writer.bucket)
        there = self.writer.look(source.key) if source.bucket == bucket.bucket else None
        if (
            there is None or there.etag.strip('"') != source.etag or there.size != resolution.total
        ):  # or it is compressed
            return None
        return counted + sum(count_entries(bucket.read(source.key, start, end - start)) for start, end in others)

    def _is_reported(self, source: str, key: str) -> bool:
        """Whether the report of a whole result is there; by now it may be all that knows how many entries were read."""
        try:
            report = json.loads(self.store.read(key + REPORT, 0, _REPORT_BYTES))
        except (ValueError, NotFoundError):
            return False
        return (report.get("source"), report.get("complete")) == (source, True)

    def _write_apart(self, gathered: Gathered) -> Iterator[SourceState]:
        """Write messages that can be part of no source to files of their own.

        There is one for each segment, called like it: so whoever does this at the same time, or once more when others
        have come, writes the same again, and loses none when the segments are deleted.
        """
        for number, extents in groupby(gathered.apart, lambda extent: extent[0]):
            name = gathered.keys[number].rpartition("/")[2].removesuffix(".seg")
            key = f"{self.destination}{WITHOUT_LINEAGE}/{self.topic}/{name}"
            if self.writer.look(key) is None:
                yield self._write_apart_to(key, gathered, list(extents))

    def _write_apart_to(self, key: str, gathered: Gathered, extents: Sequence[Extent]) -> SourceState:
        reader = SegmentReader(self.store, gathered.keys)
        size = sum(length for _, _, length in extents)
        parts = parts_of(extents, part_bytes(size))
        self.writer.write(key, lambda done: part_bodies(reader, extents, parts[done:]), {}, None)
        if source := gathered.indexes[0].source:
            wrong = "lineage" if gathered.source else "source"
            text = "%d messages have a %s that cannot be right, so they are in no result, but in %s"
            _log.error(text, len(extents), wrong, key, extra={"source": source})
        return SourceState(NO_SOURCE, size, size, 0, 0, key)

    def _clean(self, gathered: Gathered) -> None:
        """Remove what is not needed any more: of a whole result, or of one that a newer put has overtaken.

        The segments last: as long as there are any, this is done again.
        """
        self.store.delete(note_keys(self.store, gathered.source))
        self.store.delete(gathered.keys)


def _says(present: Present | None, source: str) -> str:
    """What a result that is there says of its state, if it is this source's; nothing otherwise."""
    if present is None or present.metadata.get(_ID) != source_id(source):
        return ""
    return present.metadata.get(_STATE, "")


def _is_newer(present: Present, source: Source) -> bool:
    """Whether a result that is there is of a later put of the same file."""
    return present.metadata.get(_URI) == source_id(source.uri) and present.metadata.get(_ORDER, "") > source.order


def _fingerprint(resolution: Resolution) -> str:
    """Tells one state of a result from another: which entries are dead."""
    if resolution.whole:
        return _WHOLE
    return "dead-" + _digest((one.start, one.end, one.entries) for one in resolution.dead)


def _digest(values: Iterable[object]) -> str:
    hasher = hashlib.blake2b(digest_size=12)
    for value in values:
        hasher.update(repr(value).encode())
    return hasher.hexdigest()


def _size(resolution: Resolution) -> int:
    return sum(length for _, _, length in resolution.extents)


def _state(source: str, resolution: Resolution, *, result: str = "", superseded: bool = False) -> SourceState:
    dead = sum(one.entries for one in resolution.dead)
    return SourceState(source, resolution.covered, resolution.total, dead, len(resolution.holes), result, superseded)
