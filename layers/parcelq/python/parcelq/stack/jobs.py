"""The jobs of a stack, by their records: listing them, their dead entries, cancelling, resuming and redriving."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from parcelq.aws.clients import CONNECTIONS
from parcelq.aws.parallel import in_flight
from parcelq.collect.deaths import Dead, dead_of
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import collected_of
from parcelq.collect.segments import folder, segments_among
from parcelq.errors import AwsError, ConflictError, JobError, NotFoundError, ParcelqError, StoreError
from parcelq.jobs.changes import halted, woken
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.limits import NO_LIMITS
from parcelq.jobs.record import JobRecord, State, read_job, write_job
from parcelq.lineage.source import Source, is_job_id
from parcelq.names import JOBS
from parcelq.result_names import COMPRESSED
from parcelq.store.bucket import BucketStore
from parcelq.store.store import Stored
from parcelq.topics.topic import Topic, publish_all
from parcelq.upload.notes import forget_problem, notes_of
from parcelq.upload.ranges import part_tasks

_log = logging.getLogger(__name__)
_WHOLE_ID: Final = 24
"""Characters of a whole id."""
_TRIES: Final = 20
"""How often a record is changed that somebody else changes at the same moment."""

Range = tuple[int, int]


class StackJobs(NamedTuple):
    """The jobs of a stack. Every method raises AwsError where AWS refuses.

    Attributes:
        looks: returns the topic of looks; asked only when something is changed, as the next one is.
        ranges: returns the topic of the uploader's tasks.
        output_topic: name of the topic that results are collected from.
        input_topic: name of the topic that records go to where a job does not say.
        now: returns the time in seconds since the epoch.
    """

    store: BucketStore
    looks: Callable[[], Topic]
    ranges: Callable[[], Topic]
    output_topic: str
    input_topic: str
    now: Callable[[], float] = time.time

    def all(self, known: dict[str, tuple[str, JobRecord | None]] | None = None) -> list[JobRecord]:
        """Return the records of all jobs, the newest first. The list goes on while records are read, many at a time.

        A record that cannot be read is logged and left out.

        Args:
            known: what an earlier call has read, by keys. What has not changed since is not read again.
        """
        cache = {} if known is None else known

        def read(one: Stored) -> tuple[str, tuple[str, JobRecord | None]]:
            kept = cache.get(one.key)
            return one.key, kept if kept and kept[0] == one.etag else (one.etag, self._read(one.key))

        found = dict(in_flight(read, self.store.listing(JOBS), CONNECTIONS))
        cache.clear()
        cache.update(found)
        return sorted((record for _, record in found.values() if record), key=lambda record: -record.started)

    def find(self, job: str) -> JobRecord:
        """Return the record of a job.

        Args:
            job: its id, or the beginning of that.

        Raises:
            JobError: there is no such job, or several begin so.
        """
        keys = []
        if is_job_id(job):
            keys = [f"{JOBS}{job}.json"] if len(job) == _WHOLE_ID else list(self.store.keys(f"{JOBS}{job}"))
        if len(keys) > 1:
            ids = ", ".join(key.removeprefix(JOBS).removesuffix(".json") for key in keys[:10])
            raise JobError(job, f"{len(keys)} jobs begin so: {ids}")
        record = self._read(keys[0]) if keys else None
        if record is None:
            raise JobError(
                job, f"there is no such job in {self.store.bucket!r}; parcelq jobs --all lists those there are"
            )
        return record

    def collected(self, record: JobRecord) -> Collected | None:
        """Open what was collected of a job; None if that is nothing, or its result is whole."""
        with suppress(NotFoundError):
            return collected_of(self.store, list(self.store.keys(folder(self.output_topic, record.id))))
        return None

    def dead(self, job: str) -> Iterator[Dead]:
        """Yield the entries of a job that failed for good so far, in order; see `find`."""
        record = self.find(job)
        collected = self.collected(record)
        if collected:
            yield from dead_of(collected, notes_of(self.store, record.source))

    def cancel(self, job: str) -> JobRecord:
        """Cancel a job: none of its messages is run any more. What is done stays, and it can be resumed.

        Raises:
            JobError: there is no such job, or it has ended, or its result is being written.
        """

        def cancelled(record: JobRecord) -> JobRecord:
            if record.state.is_ended:
                raise JobError(record.id, f"it is {record.state} already")
            if record.state is State.FINISHING:
                raise JobError(
                    record.id, "all of it is done and its result is being written, so it cannot be cancelled"
                )
            return halted(record, State.CANCELLED, self.now(), "")

        record = self._change(self.find(job).id, cancelled)
        self._jobs.publish(replace(record, due=0))  # so that its report is written at once
        return record

    def resume(self, job: str) -> int:
        """Go on with a job that was stopped or cancelled, without the limits that stopped it.

        Returns:
            How many parts of its source are published again.

        Raises:
            JobError: it goes on already, it lacks nothing, or its source is gone.
        """
        record = self.find(job)
        if record.state is State.FINISHED:
            raise JobError(record.id, "it lacks no part" + "; parcelq redrive runs dead entries" * bool(record.dead))
        if not record.state.is_ended:
            raise JobError(record.id, f"it is {record.state}, so it goes on by itself")
        return self._go_on(record, [])

    def redrive(
        self, job: str, *, version: str = "", topic: str = "", only: Callable[[Dead], bool] | None = None
    ) -> int:
        """Run the dead entries of a job again, and what is missing of one that was stopped.

        Their results take the places of the dead entries. Entries of a message that died in a later step run again
        with all others of that message, from the first step on.

        Args:
            job: its id, or the beginning of that.
            version: the version of its workflow to run, `<name>@<version>`; the one of last time by default.
            topic: name of the topic of that version's first step; the job's by default.
            only: says of a dead entry whether it is run again; all are if it is None.

        Returns:
            How many dead entries are run again.

        Raises:
            JobError: it has no such dead entries, it is still being uploaded, or its source is gone.
        """
        record = self.find(job)
        if record.state in {State.UPLOADING, State.FINISHING}:
            raise JobError(record.id, f"it is {record.state}; redrive it when it runs or has ended")
        dead = list(self.dead(record.id))
        chosen = [one for one in dead if only is None or only(one)]
        if not chosen:
            raise JobError(record.id, "it has no dead entries" if only is None else "it has none of these dead entries")
        self._go_on(record, ranges_of(chosen), version, topic, len(dead) - len(chosen))
        return sum(one.entries for one in chosen)

    @property
    def _jobs(self) -> Jobs:
        return Jobs(self.store, self.looks(), self.now)

    def _read(self, key: str) -> JobRecord | None:
        try:
            found = read_job(self.store, key.removeprefix(JOBS).removesuffix(".json"))
        except (AwsError, StoreError):
            raise
        except ParcelqError as error:  # it is no record
            _log.error("%s", error)
            return None
        return found[0] if found else None

    def _change(self, job: str, change: Callable[[JobRecord], JobRecord]) -> JobRecord:
        """Change a record, which looks change at the same time."""
        for _ in range(_TRIES):
            found = read_job(self.store, job)
            if found is None:
                raise JobError(job, "its record was deleted")
            record = change(found[0])
            with suppress(ConflictError):
                write_job(self.store, record, found[1])
                return record
        raise JobError(job, "others change it all the time; try again")

    def _go_on(
        self, record: JobRecord, dead: Sequence[Range], version: str = "", topic: str = "", left_dead: int = 0
    ) -> int:
        """Let a job go on, and publish parts of its source again: first its record, then its look, then the tasks.

        Returns:
            How many parts.
        """
        size = self._size(record)
        missing = self._missing(record, size) if record.state is not State.FINISHED and record.state.is_ended else []
        total = record.total if record.total is not None else size
        assert total is not None
        forget_problem(self.store, record.source)
        newest = max(segments_among(self.store.keys(folder(self.output_topic, record.id))), default="") if dead else ""

        def going_on(now: JobRecord) -> JobRecord:
            if now.state.is_ended != record.state.is_ended or now.state is State.FINISHING:
                raise JobError(now.id, f"it is {now.state} by now; look at it, and try again")
            versions = tuple(dict.fromkeys([*now.versions, version] if version else now.versions))
            if version:  # the last one is what is healed with
                versions = (*(one for one in versions if one != version), version)
            limits = NO_LIMITS if now.halted else now.limits
            changed = replace(woken(now, self.now()), versions=versions, limits=limits, total=total, reason="")
            changed = replace(changed, redriven=now.redriven or bool(dead), redriven_after=newest, left_dead=left_dead)
            return replace(changed, uploaded=True, topic=topic or now.topic)

        changed = self._change(record.id, going_on)
        self._jobs.publish(changed)
        target, pinned = changed.topic or self.input_topic, changed.versions[-1] if changed.versions else ""
        ranges = [*missing, *dead]
        return publish_all(self.ranges(), part_tasks(record.source, target, ranges, total, pinned))

    def _size(self, record: JobRecord) -> int | None:
        """Bytes of a job's source as it lies there; None if it is compressed.

        Raises:
            JobError: it cannot be read again.
        """
        source = Source.parse(record.source)
        if not record.topic:
            raise JobError(record.id, "it was never begun; put the file again")
        if source.bucket != self.store.bucket:
            raise JobError(record.id, f"{source.uri} is not in the stack's bucket; upload it again")
        with self.store.opened_put(source.key, version=source.version, etag=source.etag) as found:
            if found is None:
                raise JobError(record.id, f"{source.uri} was deleted or replaced since it was put")
            compressed = source.key.lower().endswith(COMPRESSED) or bool(found.encoding)
            size = None if compressed else found.size
        if size is None and record.total is None:
            raise JobError(record.id, "its upload did not end, so nobody knows what is missing; put the file again")
        return size

    def _missing(self, record: JobRecord, size: int | None) -> list[Range]:
        """What is missing of a job that does not run."""
        collected = self.collected(record) or Collected(self.store, ())
        return list(collected.holes(collected.resolve().up_to(record.total if record.total is not None else size)))


def ranges_of(dead: Sequence[Dead]) -> list[Range]:
    """Return the ranges of a source to publish again for dead entries.

    Entries of the source that touch are one range. A message that died in a later step is published as it was.
    """
    found: list[tuple[int, int, bool]] = []
    for one in sorted(dead, key=lambda one: (one.start, -one.end)):
        last = found[-1] if found else None
        if last and one.end <= last[1]:
            continue
        if last and last[1] == one.start and last[2] and one.of_source:
            found[-1] = last[0], one.end, True
        else:
            found.append((one.start, one.end, one.of_source))
    return [(start, end) for start, end, _ in found]
