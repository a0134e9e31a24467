"""Finishes jobs: writes a job's result, report and list of dead entries from the job's segments.

All state of a job is in its segments. So finishing can stop at any moment and run again, or run twice at the same time:
the second run finds the result or writes the same result. Result, report and list of dead entries follow from one
`Resolution`; the result and the report carry the state of this resolution, which is a digest.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.bodies import all_extents
from parcelq.collect.indexes import open_indexes
from parcelq.collect.large import LargeResults
from parcelq.collect.plans import Wanted, digest_of
from parcelq.collect.reporting import Reporter, is_newer, metadata_of, state_in
from parcelq.collect.resolution import WHOLE, Collected, Resolution
from parcelq.collect.runs import FEWEST
from parcelq.collect.seeing import Seen, SourceState, see
from parcelq.collect.segments import JobKey, folder, segment_keys, segments_among
from parcelq.errors import NotFoundError, ParcelqError
from parcelq.lineage.source import NO_SOURCE, Source
from parcelq.names import RESULTS
from parcelq.result_names import WITHOUT_LINEAGE, ResultNames, result_names
from parcelq.store.store import Store, Stored
from parcelq.topics.cost import NOTHING, Cost
from parcelq.topics.header import key_of_stage
from parcelq.upload.notes import Note, keys_of_notes, may_be_more, note_keys, notes_of

_log = logging.getLogger(__name__)
_FINISHED: Final = "finished-"


class Finisher(NamedTuple):
    """Writes results of the jobs of a topic.

    Attributes:
        results: the store for results; None if results are written to `store`.
        bucket: the name of the bucket; empty if the store is not a bucket.
        replaces: whether a job's result replaces any existing result. If False, the result of a newer upload stays, and
            a complete result of the same source stays.
        names: a function that returns the names of a source's result; None if the usual names are used.
        versions: versions of the steps for the report, in addition to the versions that the messages name.
        recipe: the steps, settings and other options of a run on one machine, for the report.
    """

    store: Store
    topic: str
    destination: str = RESULTS
    results: Store | None = None
    bucket: str = ""
    replaces: bool = False
    names: Callable[[Source], ResultNames] | None = None
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = {}
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    large: LargeResults | None = None

    @property
    def out(self) -> Store:
        """The store for results."""
        return self.results or self.store

    @property
    def reporter(self) -> Reporter:
        """Writes the reports."""
        return Reporter(self.out, self.versions, self.recipe)

    def _names(self, source: Source) -> ResultNames:
        if self.names:
            return self.names(source)
        if self.bucket or source.bucket:
            return source.names(self.bucket, self.destination)
        return result_names(source.name, self.destination)

    def finish_all(self, may_go_on: Callable[[], bool] = lambda: True) -> Iterator[SourceState]:
        """Check every job with new segments, and write the results of finished jobs.

        A job that fails is logged and yielded with its problem, and the other jobs continue. Jobs with the fewest
        segments are checked first, so that a long job delays few other jobs. After `may_go_on` returned False, the
        remaining jobs are yielded without a check.
        """
        for keys in self.unfinished():
            if may_go_on():
                yield from self._look(keys)
            else:
                yield SourceState(keys[0], looked_at=False)

    def unfinished(self) -> list[list[str]]:
        """For each job that has new segments, return the list of all keys in the job's folder. See `finish_all`."""
        jobs = [keys for keys in segment_keys(self.store, self.topic).values() if not self._is_done_with(keys)]
        random.shuffle(jobs)
        return sorted(jobs, key=len)

    def finish_job(self, job: str) -> SourceState | None:
        """Check one job, and write the job's result if the job is finished. Return None if the job has no messages."""
        keys = self.keys_of(job)
        return next(iter(self._look(keys)), None) if segments_among(keys) else None

    def finish_without_lineage(self) -> list[SourceState]:
        """Write the messages that cannot be part of a result; see `finish_all`."""
        keys = self.keys_of(JobKey(NO_SOURCE).id)
        return list(self._look(keys)) if keys else []

    def keys_of(self, job: str) -> list[str]:
        """Return the keys in a job's folder, given the job's id."""
        return list(self.store.keys(folder(self.topic, job)))

    def job_of(self, job: str) -> JobKey | None:
        """Return the job with this id, according to the job's segments; None if the job has no segments."""
        segments = segments_among(self.keys_of(job))
        return open_indexes(self.store, segments[:1])[0].job if segments else None

    def see(self, keys: Sequence[str], *, whole: bool = False) -> Seen:
        """Look at a job, given the keys in its folder; see `seeing.see`."""
        return see(self.store, self.topic, keys, self.now(), whole=whole)

    def is_waiting(self, source: str, keys: Sequence[str]) -> bool:
        """Return whether parts of a large result are still being written, so the job must wait; see `LargeResults`."""
        return self.large is not None and self.large.is_waiting(self._names(Source.parse(source)).result, keys)

    def finish(
        self, seen: Seen, *, healings: int = 0, notes: Sequence[Note] | None = None, looks: Cost = NOTHING
    ) -> SourceState:
        """Write the result of a job and its report, if every entry is processed or dead. Return the progress of the
        source.

        If the source has no result and is not superseded, another process wrote meanwhile or parts of a large result
        are missing, and the next look continues. `looks` is the cost of looks at the job so far. `notes` are read if
        None.
        """
        collected, resolution = seen.collected, seen.resolution
        if collected is None:
            return seen.state
        name = seen.source
        source = Source.parse(name)
        key = self._names(source).result
        present = self.out.stat(key)
        # guard[False]: the result of an older put never replaces that of a newer one
        if present and not self.replaces and is_newer(present, source):
            return seen.state._replace(superseded=True)
        state = state_in(present, name)
        # guard[self._is_to_stay(state, resolution)]: segments stay until the report of their result is written
        if self._is_to_stay(state, resolution) and (report := self.reporter.of_state(name, key, state)):
            # These segments arrived late, or were not deleted when the result was written.
            return seen.state._replace(result=key, whole=True, report=report)
        if not resolution.finished:
            return seen.state
        written: int | None = None
        if state != resolution.state:
            written = self._write(seen.keys, collected, resolution, key, present)
            if written is None:
                return seen.state
        if notes is None:
            notes = notes_of(self.store, name)
        created = written if present is None else None
        report = self.reporter.write(collected, resolution, key, healings, notes, looks, created)
        return seen.state._replace(result=key, whole=report is not None and resolution.whole, report=report)

    def delete_unneeded(self, seen: Seen, state: SourceState, notes: Sequence[Note] | None = None) -> None:
        """Delete the objects that a job no longer needs after `finish`, if the job's result and report exist. If a job
        has dead entries, its segments stay, and a note says that these segments contain nothing new.
        """
        # guard[True]: segments stay as long as some of their entries are dead
        if state.whole or state.superseded:
            keys, is_large = seen.keys, self.large is not None and self.large.takes(seen.resolution.size)
            if len(segments_among(keys)) >= FEWEST or len(segments_among(keys)) < len(keys) or is_large:
                keys = self._with_what_is_beside(keys)
            self.clean(state.source, keys, notes)
        elif state.result and state.report:
            if self.large:
                self.large.drop(seen.keys)
            self.note_nothing_new(seen.keys)

    def clean(self, source: str, keys: Sequence[str], notes: Sequence[Note] | None = None) -> None:
        """Delete all objects of a job, given the keys in the job's folder. The segments are deleted last, so that an
        interrupted deletion is repeated later.
        """
        segments = segments_among(keys)
        beside = [key for key in keys if not segments_among([key])]
        known = None if notes is None or may_be_more(notes) else keys_of_notes(source, notes)
        # guard[noted: list[str] = []]: notes of an upload go with its segments
        noted: list[str] = note_keys(self.store, source) if known is None else known
        job = keys[0].split("/")[2]
        if self.large:
            self.large.drop(beside)
        # guard[self.store.delete(segments)]: what lies beside the segments of a job is deleted before them
        self.store.delete([*noted, *beside, key_of_stage(job, self.topic)])
        self.store.delete(segments)

    def _with_what_is_beside(self, keys: Sequence[str]) -> list[str]:
        """Return the keys of segments, and of the objects that now exist beside these segments."""
        place = keys[0].rpartition("/")[0] + "/"
        return [*segments_among(keys), *(key for key in self.store.keys(place) if not segments_among([key]))]

    def _look(self, keys: Sequence[str]) -> Iterator[SourceState]:
        source = keys[0]  # the first key is shown while the source is unknown
        try:
            if not segments_among(keys):  # an invocation was killed while it deleted these objects
                self.store.delete(keys)
                return
            seen = self.see(keys)
            source = seen.source or keys[0]
            if seen.source:
                state = self.finish(seen)
                self.delete_unneeded(seen, state)
                yield state
            elif seen.collected:
                yield from self._write_unplaced(seen.collected)
                self.clean("", self._with_what_is_beside(keys))
        except NotFoundError:
            _log.info("segments of %s were deleted: another process has just finished the job", keys[0])
        except ParcelqError as error:
            _log.error("%s", error, extra={"source": source})
            yield SourceState(source, problem=str(error))

    def _write_unplaced(self, collected: Collected) -> Iterator[SourceState]:
        """Write messages without lineage to files of their own: each segment to one file, which has the segment's name.
        So repeated calls write the same files, even at the same time, and no message is lost if segments are deleted.
        """
        for number, group in groupby(all_extents(collected), lambda extent: extent.segment):
            name = collected.segments[number].rpartition("/")[2].partition(".")[0]
            key = f"{self.destination}{WITHOUT_LINEAGE}/{self.topic}/{name}"
            if self.out.stat(key) is None:
                extents = list(group)
                size = sum(extent.size for extent in extents)
                reader = SegmentReader(collected.store, collected.segments)
                self.out.write(key, parts_of(reader, extents, self.out.part_bytes(size)), {}, None)
                yield SourceState("", size, size, result=key)

    def _write(
        self, keys: Sequence[str], collected: Collected, resolution: Resolution, key: str, present: Stored | None
    ) -> int | None:
        """Write a result, or continue a large result. Return the result's size; None if the result is not complete."""
        metadata = metadata_of(collected.job.source, resolution.state)
        header = self.store.stat(key_of_stage(collected.job.id, self.topic))
        size = resolution.size + (header.size if header else 0)
        segments, extents = collected.with_header(header, collected.extents())
        if self.large and self.large.takes(size):
            etag = present.etag if present else None
            return size if self.large.write(Wanted(key, metadata, etag, size, segments, extents), keys) else None
        part = self.out.part_bytes(size)
        parts = parts_of(SegmentReader(self.store, segments, most=part, ahead=collected.bodies_ahead), extents, part)
        return size if self.out.write(key, parts, metadata, present) else None

    def _is_to_stay(self, state: str, resolution: Resolution) -> bool:
        """Whether the existing result with this `state` stays: it is complete, and equal or not to be replaced."""
        return state.startswith(WHOLE) and (not self.replaces or state == resolution.state)

    def _is_done_with(self, keys: Sequence[str]) -> bool:
        """Return whether a job ended incomplete, and had exactly these segments at its end. No request is sent."""
        return any(key.rpartition("/")[2] == self._finished_name(keys) for key in keys)

    def note_nothing_new(self, keys: Sequence[str]) -> None:
        """Mark a job as ended with exactly these segments, so that `unfinished` leaves the job out."""
        place = keys[0].rpartition("/")[0]
        self.store.put(f"{place}/{self._finished_name(keys)}")
        self.store.delete(key for key in keys if key.rpartition("/")[2].startswith(_FINISHED))

    def _finished_name(self, keys: Sequence[str]) -> str:
        return _FINISHED + digest_of([self.destination, *segments_among(keys)])
