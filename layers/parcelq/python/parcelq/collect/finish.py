"""Finishing jobs: from the segments of a job to its result, the report beside it and the list of dead entries.

All state of a job is in its segments. So this can be stopped at any moment and run again, or run twice at once: the
second run finds the result, or writes the same one. Result, report and list follow from one resolution, whose state the
result and the report name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any, Final, cast

from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.begun import note_begun, take_begun
from parcelq.collect.report import MOST_LISTED, dead_lines, dead_of, report_of
from parcelq.collect.resolution import WHOLE, Collected, Extent, Resolution, all_extents
from parcelq.collect.runs import LARGE, MUCH, Looked, Record, indexes_of, name_of, tidy, write_record
from parcelq.collect.segments import Job, folder, open_indexes, segment_keys, segments_among
from parcelq.errors import ConflictError, NotFoundError, ParcelqError
from parcelq.limits import MIB
from parcelq.lineage.source import NO_SOURCE, Source, source_id
from parcelq.names import RESULTS
from parcelq.result_names import DEAD, PAGE, REPORT, WITHOUT_LINEAGE, ResultNames, result_names
from parcelq.store.store import Begun, Store, Stored, part_bytes
from parcelq.topics.header import key_of_stage
from parcelq.upload.notes import Note, note_keys, notes_of

_log = logging.getLogger(__name__)
_REPORT_BYTES: Final = 4 * MIB
"""The most bytes that are read of a report; no report has more."""
_FINISHED: Final = "finished-"
# Facts about a result in the object's metadata, so that they change together with the result.
_ID: Final = "parcelq-source"
_URI: Final = "parcelq-uri"
_ORDER: Final = "parcelq-order"
_STATE: Final = "parcelq-state"


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a source is.

    Attributes:
        source: the attribute `Source`; empty for messages without lineage; the key of its first segment if that could
            not be read.
        covered: bytes of it that have results.
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


@dataclass(frozen=True, slots=True)
class Seen:
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


@dataclass(frozen=True, slots=True)
class Finisher:
    """Writes results of the jobs of a topic.

    Attributes:
        store: where the segments are.
        topic: name of the topic that was drained.
        destination: the prefix of the results' keys.
        results: where the results go, if that is another store.
        bucket: the bucket that this is; empty where it is none.
        replaces: whether a job's result replaces any that is there. Otherwise that of a newer put stays, and so does
            one of the same source from which nothing is missing.
        names: works out the names of a source's result; None for the usual names.
        versions: of the steps that ran, for the report, beside those that the messages name.
        now: returns the time of day.
        recipe: steps, settings and other options of a run on one machine, for the report.
    """

    store: Store
    topic: str
    destination: str = RESULTS
    results: Store | None = None
    bucket: str = ""
    replaces: bool = False
    names: Callable[[Source], ResultNames] | None = None
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def out(self) -> Store:
        """Where results go."""
        return self.results or self.store

    def _names(self, source: Source) -> ResultNames:
        if self.names:
            return self.names(source)
        if self.bucket or source.bucket:
            return source.names(self.bucket, self.destination)
        return result_names(source.name, self.destination)

    def finish_all(self, may_go_on: Callable[[], bool] = lambda: True) -> Iterator[SourceState]:
        """Look at every job that has something new, and write what is finished.

        A job that cannot be finished is logged and yielded with its problem; the others continue. Jobs with the fewest
        segments come first, so that a long job delays few others. Jobs with equally many come in any order.

        Args:
            may_go_on: asked before each job; those left are for the next time, and yielded as not looked at.

        Raises:
            AwsError, StoreError, OSError: the segments cannot be listed.
        """
        for keys in self.unfinished():
            if may_go_on():
                yield from self._look(keys, may_go_on)
            else:
                yield SourceState(keys[0], 0, None, 0, 0, looked_at=False)

    def unfinished(self) -> list[list[str]]:
        """The keys of every job that has something new; see `finish_all`."""
        jobs = [keys for keys in segment_keys(self.store, self.topic).values() if not self._is_done_with(keys)]
        random.shuffle(jobs)
        return sorted(jobs, key=len)

    def finish_job(self, job: Job) -> SourceState | None:
        """Look at one job, and write its result if it is finished; None if it has no messages."""
        keys = self.keys_of(job)
        return next(iter(self._look(keys, lambda: True)), None) if segments_among(keys) else None

    def finish_without_lineage(self) -> list[SourceState]:
        """Write the messages that cannot be part of a result, if there are any; see `finish_all`."""
        keys = self.keys_of(Job(NO_SOURCE))
        return list(self._look(keys, lambda: True)) if keys else []

    def keys_of(self, job: Job) -> list[str]:
        """The keys in a job's folder."""
        return list(self.store.keys(folder(self.topic, job.id)))

    def job_of(self, job_id: str) -> Job | None:
        """The job whose messages are in the folder of an id; None if there are none."""
        segments = segments_among(self.store.keys(folder(self.topic, job_id)))
        return open_indexes(self.store, segments[:1])[0].job if segments else None

    def read_report(self, result: str) -> bytes:
        """Read the report beside a result. Raises NotFoundError if there is none."""
        return self.out.read(result + REPORT, 0, _REPORT_BYTES)

    def see(self, keys: Sequence[str]) -> Seen:
        """Look at a job, given the keys in its folder, among them some of segments.

        Raises:
            NotFoundError: segments are gone, since somebody else has just finished the job.
            ParcelqError: a segment or the record of index runs cannot be read.
        """
        record = tidy(self.store, self.topic, keys, self.now())
        if unchanged := self._unchanged(record, keys):
            return unchanged
        collected = Collected(self.store, indexes_of(self.store, keys, record))
        resolution = collected.resolve() if collected.job.source else Resolution(None)
        state = _state(collected.job.source, resolution)
        seen = Seen(keys, state, resolution.missing, resolution.holes, resolution.dead_bytes, collected, resolution)
        if collected.job.source and not resolution.finished and collected.count >= LARGE:
            self._note_looked(collected, resolution, record)
        return seen

    def finish(
        self,
        seen: Seen,
        may_go_on: Callable[[], bool] = lambda: True,
        *,
        healings: int = 0,
        notes: Sequence[Note] | None = None,
    ) -> SourceState:
        """Write the result of a job and its report, if every entry has a result or is dead.

        Args:
            seen: what `see` returned.
            may_go_on: asked between the parts of a large result.
            healings: how often what was missing was published again; for the report.
            notes: what is noted of the source's uploads, where the caller has read that.

        Returns:
            How far the job is. Without a result, and not superseded, somebody else wrote meanwhile or there was no time
            for all of it: the next look goes on.
        """
        collected, resolution = seen.collected, seen.resolution
        if collected is None or resolution is None:
            return seen.state
        name = seen.state.source
        source = Source.parse(name)
        key = self._names(source).result
        present = self.out.stat(key)
        # guard[False]: the result of an older put never replaces that of a newer one
        if present and not self.replaces and _is_newer(present, source):
            return replace(seen.state, superseded=True)
        state = _says(present, name)
        # guard[self._is_to_stay(state, resolution)]: segments stay until the report of their result is written
        if self._is_to_stay(state, resolution) and (report := self._reported(name, key, state)):
            # These segments came late, or were left over when it was written.
            return replace(seen.state, result=key, whole=True, report=report)
        if not resolution.finished:
            return seen.state
        if state != resolution.state and not self._write(collected, resolution, key, present, may_go_on):
            return seen.state
        if notes is None:
            notes = notes_of(self.store, name)
        report = self._write_report(collected, resolution, key, healings, notes)
        return replace(seen.state, result=key, whole=report is not None and resolution.whole, report=report)

    def settle(self, seen: Seen, state: SourceState) -> None:
        """Delete what a job does not need any more after `finish`, if its result and report are there.

        Segments of a job with dead entries stay, with a note that there is nothing new in them.
        """
        # guard[True]: segments stay as long as some of their entries are dead
        if state.whole or state.superseded:
            self.clean(state.source, seen.keys)
        elif state.result and state.report:
            self.note_nothing_new(seen.keys)

    def clean(self, source: str, keys: Sequence[str]) -> None:
        """Delete all that was kept of a job, given the keys in its folder, the segments last.

        As long as there are any, this is done again.
        """
        segments = segments_among(keys)
        place = keys[0].rpartition("/")[0] + "/"
        beside = [key for key in self.store.keys(place) if not segments_among([key])]
        # guard[notes: list[str] = []]: notes of an upload go with its segments
        notes: list[str] = note_keys(self.store, source)
        job = place.split("/")[2]
        # guard[self.store.delete(segments)]: what lies beside the segments of a job is deleted before them
        self.store.delete([*notes, *beside, key_of_stage(job, self.topic)])
        self.store.delete(segments)

    def _look(self, keys: Sequence[str], may_go_on: Callable[[], bool]) -> Iterator[SourceState]:
        source = keys[0]  # as long as its name is not known
        try:
            if not segments_among(keys):  # left over by an invocation that was killed while it deleted them
                self.store.delete(keys)
                return
            seen = self.see(keys)
            source = seen.state.source or keys[0]
            if seen.state.source:
                state = self.finish(seen, may_go_on)
                self.settle(seen, state)
                yield state
            elif seen.collected:
                yield from self._write_without_lineage(seen.collected)
                self.clean("", keys)
        except NotFoundError:
            _log.info("segments of %s are gone: someone else has just finished it", keys[0])
        except ParcelqError as error:
            _log.error("%s", error, extra={"source": source})
            yield SourceState(source, 0, None, 0, 0, problem=str(error))

    def _unchanged(self, record: Record, keys: Sequence[str]) -> Seen | None:
        """The state of a large job that cannot be finished by what came since the last look at all of it; else None.

        What is new must have to do with at least as many bytes of the source as were missing. So nearly every look at a
        job reads only what is new.
        """
        looked = record.looked
        if looked is None or not looked.missing:
            return None
        new = [key for key in segments_among(keys) if name_of(key) not in looked.segments]
        collected = Collected(self.store, open_indexes(self.store, new or segments_among(keys)[:1]))
        is_much = len(new) > 0 and collected.count * MUCH > looked.count
        if is_much or (new and collected.total != looked.total) or (new and collected.touched() >= looked.missing):
            return None
        state = SourceState(collected.job.source, looked.covered, looked.total, looked.dead, looked.holes)
        return Seen(keys, state, looked.missing)

    def _note_looked(self, collected: Collected, resolution: Resolution, record: Record) -> None:
        """Store what a look at all messages of a large job found."""
        names = frozenset(map(name_of, collected.segments))
        found = resolution.total, resolution.covered, resolution.missing, resolution.hole_count, resolution.dead
        looked = Looked(names, collected.count, *found)
        try:
            write_record(self.store, self.topic, collected.job, replace(record, looked=looked))
        except (ConflictError, NotFoundError):
            _log.info("someone else looks at %s at the same time", collected.job.source)

    def _write(
        self,
        collected: Collected,
        resolution: Resolution,
        key: str,
        present: Stored | None,
        may_go_on: Callable[[], bool],
    ) -> bool:
        name = collected.job.source
        source = Source.parse(name)
        metadata = {
            _ID: source_id(name),
            _URI: source_id(source.uri),
            _ORDER: source.order,
            _STATE: resolution.state,
        }
        header = self.store.stat(self._header_key(collected.job))
        whole = resolution.size + (header.size if header else 0)
        size = part_bytes(whole)
        # A small result is written in one go. A large one may be continued only if its bytes are exactly the same.
        plan = _digest([*metadata.values(), whole, size]) if whole > size else ""
        keys, _ = collected.with_header(header, iter(()))
        reader = SegmentReader(self.store, keys)
        written = self.out.write(
            key,
            lambda done: parts_of(reader, collected.with_header(header, collected.extents())[1], size, done),
            metadata,
            present,
            begun=take_begun(self.store, name, plan) if plan else None,
            may_go_on=may_go_on,
        )
        if isinstance(written, Begun):
            note_begun(self.store, name, plan, written)
            return False
        return written

    def _write_report(
        self, collected: Collected, resolution: Resolution, key: str, healings: int, notes: Sequence[Note]
    ) -> Mapping[str, Any] | None:
        """Write list, page and report, unless another result is there by now: those are for others to write.

        The report comes last, since a job counts as reported when it is there.

        Returns:
            The report; None if it is not written.
        """
        # The modules that draw a page are imported only where a job ends.
        from parcelq.collect.page.figures import figures_of
        from parcelq.collect.page.render import report_page

        name = collected.job.source
        figures = figures_of(collected, resolution, notes)
        dead_key = key + DEAD if resolution.has_dead else ""
        dead = tuple(islice(dead_of(collected, notes), MOST_LISTED)) if resolution.has_dead else ()
        while True:
            seen, seen_dead, seen_page = (self.out.stat(key + ending) for ending in (REPORT, DEAD, PAGE))
            written = self.out.stat(key)
            # guard[False]: report and result follow from one resolution
            if written is None or _says(written, name) != resolution.state:
                return None
            report = report_of(collected, resolution, notes, key, written.size, dead, dead_key)
            report = replace(
                report, workflows=(*report.workflows, *self.versions), recipe=self.recipe, healings=healings
            )
            # Each is written only if nobody wrote it since the result was seen to be this one; else look again.
            if dead_key and not self.out.write(
                dead_key, lambda _: dead_lines(dead_of(collected, notes)), {}, seen_dead
            ):
                continue
            page = report_page(report, figures)
            # guard[self.out.put(key + PAGE, page)]: a page is written only if nobody else wrote one in the meantime
            if not self.out.write(key + PAGE, lambda _: iter((page,)), {}, seen_page):  # noqa: B023
                continue
            # guard[self.out.put(key + REPORT, report.to_json())]: a report is written only if nobody else wrote one in
            # the meantime
            text = report.to_json()
            if self.out.write(key + REPORT, lambda _: iter((text,)), {}, seen):  # noqa: B023
                if seen_dead and not dead_key:
                    self.out.delete([key + DEAD])
                return cast("dict[str, Any]", json.loads(text))

    def _is_to_stay(self, state: str, resolution: Resolution) -> bool:
        """Whether a result of the same source that is there, in a state, is whole and not to be written again."""
        return state.startswith(WHOLE) and (not self.replaces or state == resolution.state)

    def _reported(self, source: str, key: str, state: str) -> Mapping[str, Any] | None:
        """The report of a whole result, if it exists; by now only the report may say how many entries were read."""
        try:
            report: dict[str, Any] = json.loads(self.out.read(key + REPORT, 0, _REPORT_BYTES))
            return report if (report.get("source"), report.get("state")) == (source, state) else None
        except (ValueError, AttributeError, NotFoundError):
            return None

    def _write_without_lineage(self, collected: Collected) -> Iterator[SourceState]:
        """Write messages that cannot be part of a result to files of their own, none of them twice.

        There is one for each segment, called like it: so doing this at the same time, or once more when others
        have come, writes the same again, and loses none when the segments are deleted.
        """
        for number, extents in groupby(all_extents(collected), lambda extent: extent.segment):
            name = collected.segments[number].rpartition("/")[2].partition(".")[0]
            key = f"{self.destination}{WITHOUT_LINEAGE}/{self.topic}/{name}"
            if self.out.stat(key) is None:
                yield self._write_extents(collected, list(extents), key)

    def _write_extents(self, collected: Collected, extents: Sequence[Extent], key: str) -> SourceState:
        reader = SegmentReader(self.store, collected.segments)
        size = sum(extent.size for extent in extents)
        self.out.write(key, lambda done: parts_of(reader, extents, part_bytes(size), done), {}, None)
        return SourceState("", size, size, 0, 0, key)

    def _is_done_with(self, keys: Sequence[str]) -> bool:
        """Whether a job ended with just these segments, though some of it is dead or missing; so it costs nothing."""
        return any(key.rpartition("/")[2] == self._finished_name(keys) for key in keys)

    def note_nothing_new(self, keys: Sequence[str]) -> None:
        """Note that a job ended with just these segments, so that `unfinished` leaves it out."""
        place = keys[0].rpartition("/")[0]
        self.store.put(f"{place}/{self._finished_name(keys)}")
        self.store.delete(key for key in keys if key.rpartition("/")[2].startswith(_FINISHED))

    def _finished_name(self, keys: Sequence[str]) -> str:
        return _FINISHED + _digest([self.destination, *segments_among(keys)])

    def _header_key(self, job: Job) -> str:
        """Key of the header that the outputs of a job's last step begin with, if they have any."""
        return key_of_stage(job.id, self.topic)


def _says(present: Stored | None, source: str) -> str:
    """What a result that is there says of its state, if it is this source's; nothing otherwise."""
    if present is None or present.metadata.get(_ID) != source_id(source):
        return ""
    return present.metadata.get(_STATE, "")


def _is_newer(present: Stored, source: Source) -> bool:
    """Whether a result that is there is of a later put of the same file."""
    return present.metadata.get(_URI) == source_id(source.uri) and present.metadata.get(_ORDER, "") > source.order


def _digest(values: Iterable[Any]) -> str:
    hasher = hashlib.blake2b(digest_size=12)
    for value in values:
        hasher.update(repr(value).encode())
    return hasher.hexdigest()


def _state(source: str, resolution: Resolution) -> SourceState:
    return SourceState(source, resolution.covered, resolution.total, resolution.dead, resolution.hole_count)
