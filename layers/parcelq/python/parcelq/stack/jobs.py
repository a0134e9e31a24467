"""The jobs of a stack: lists jobs and dead entries from the jobs' records, and cancels, resumes and redrives jobs."""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from parcelq.aws.clients import CONNECTIONS
from parcelq.aws.parallel import in_flight
from parcelq.collect.deaths import Dead, dead_of
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import Read, read_collected
from parcelq.collect.segments import folder, segments_among
from parcelq.errors import AwsError, ConflictError, JobError, ParcelqError, StoreError
from parcelq.jobs.changes import halted, woken
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.limits import NO_LIMITS
from parcelq.jobs.record import JobRecord, State, key_of, read_job, write_job
from parcelq.lineage.source import Source, is_job_id
from parcelq.names import JOBS
from parcelq.result_names import COMPRESSED
from parcelq.store.bucket import BucketStore
from parcelq.store.store import Stored
from parcelq.topics.topic import Topic, publish_all
from parcelq.upload.notes import forget_problem, notes_of, total_of
from parcelq.upload.ranges import part_tasks

_log = logging.getLogger(__name__)
_WHOLE_ID: Final = 24
"""How many characters a complete job id has."""
_TRIES: Final = 20
"""How often a change of a job's record is tried again if another process changes the record at the same time."""

Range = tuple[int, int]


class StackJobs(NamedTuple):
    """The jobs of a stack. Every method raises AwsError if AWS refuses a request.

    Attributes:
        looks: a function that returns the topic of looks (messages that ask to check a job).
        ranges: a function that returns the topic of the uploader's tasks; like `looks`, called only to change a job.
        input_topic: name of the topic for the records of a source, if the job does not name a topic.
    """

    store: BucketStore
    looks: Callable[[], Topic]
    ranges: Callable[[], Topic]
    output_topic: str
    input_topic: str
    now: Callable[[], float] = time.time

    def all(self, known: dict[str, tuple[str, JobRecord | None]] | None = None) -> list[JobRecord]:
        """Return the records of all jobs, the newest job first. A job's record that cannot be read is logged and left
        out.

        `known` maps the key of a job's record to the etag and the record that an earlier call read. Job records with
        the same etag are not read again.
        """
        cache = {} if known is None else known

        def read(one: Stored) -> tuple[str, tuple[str, JobRecord | None]]:
            kept = cache.get(one.key)
            return one.key, kept if kept and kept[0] == one.etag else (one.etag, self.read_listed(one.key))

        found = dict(in_flight(read, self.store.listing(JOBS), CONNECTIONS))
        cache.clear()
        cache.update(found)
        return sorted((record for _, record in found.values() if record), key=lambda record: -record.started)

    def find(self, job: str) -> JobRecord:
        """Return the job whose id begins with `job`. Raises JobError if there is no such job, or several."""
        keys = []
        if is_job_id(job):
            keys = [key_of(job)] if len(job) == _WHOLE_ID else list(self.store.keys(f"{JOBS}{job}"))
        if len(keys) > 1:
            ids = ", ".join(key.removeprefix(JOBS).removesuffix(".json") for key in keys[:10])
            raise JobError(job, f"{len(keys)} jobs have ids that begin so: {ids}")
        record = self.read_listed(keys[0]) if keys else None
        if record is None:
            raise JobError(job, f"there is no such job in {self.store.bucket!r}; parcelq jobs --all lists all jobs")
        return record

    def read(self, record: JobRecord, read: Callable[[Collected | None], Read]) -> Read:
        """Call `read` with the collected messages of a job, or None; see `read_collected`. Return the call's result."""
        return read_collected(self.store, self.output_topic, record.id, read)

    def dead(self, job: str) -> Iterator[Dead]:
        """Yield the entries of a job that are dead so far, in the order of the source. See `find` about `job`."""
        record = self.find(job)
        if collected := self.read(record, lambda collected: collected):
            yield from dead_of(collected, notes_of(self.store, record.source))

    def cancel(self, job: str) -> JobRecord:
        """Cancel a job, so that no more of its messages run. Collected results are kept, and the job can be resumed.
        Raises JobError if the job does not exist, has ended, or its result is being written.
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
        self._jobs.publish(record._replace(due=0))  # the look writes the report at once
        return record

    def resume(self, job: str) -> int:
        """Continue a stopped or cancelled job, and return how many ranges of the job's source are published again.

        If a user or a limit halted the job, the job continues without limits. Raises JobError if the job is running or
        complete, or the job's source was deleted.
        """
        record = self.find(job)
        if record.state is State.FINISHED:
            raise JobError(
                record.id, "no part of it is missing" + "; parcelq redrive runs dead entries" * record.has_dead
            )
        if not record.state.is_ended:
            raise JobError(record.id, f"it is {record.state}, so it continues without being resumed")
        return self._go_on(record, [])

    def redrive(
        self, job: str, *, version: str = "", topic: str = "", only: Callable[[Dead], bool] | None = None
    ) -> int:
        """Run the dead entries of a job again, and the missing parts of a stopped job. Return how many dead entries run
        again. Raises JobError if the job has no such entries, its source is still being uploaded, or its source was
        deleted.

        The outputs of these entries are inserted at the places of the dead entries. If a message died in a later step,
        all entries of the message run again, from the first step on.

        Args:
            version: the version of the job's workflow to run, `<name>@<version>`; by default the job's last version.
            topic: name of the topic of that version's first step; by default the job's topic.
            only: a function that returns whether a dead entry runs again; None if all dead entries run again.
        """
        record = self.find(job)
        if record.state in {State.UPLOADING, State.FINISHING}:
            raise JobError(record.id, f"it is {record.state}; redrive it when it runs or has ended")
        notes = notes_of(self.store, record.source)
        dead = self.read(record, lambda collected: list(dead_of(collected, notes)) if collected else [])
        chosen = [one for one in dead if only is None or only(one)]
        if not chosen:
            raise JobError(
                record.id, "it has no dead entries" if only is None else "the chosen entries are no longer dead"
            )
        ranges = ranges_of(chosen)
        self._go_on(record, ranges, version, topic, _left(dead, ranges))
        return sum(one.entries for one in chosen)

    @property
    def _jobs(self) -> Jobs:
        return Jobs(self.store, self.looks(), self.now)

    def read_listed(self, key: str) -> JobRecord | None:
        """Return the job's record with this key; None if it was deleted, or is not the record of a job."""
        try:
            found = read_job(self.store, key.removeprefix(JOBS).removesuffix(".json"))
        except (AwsError, StoreError):
            raise
        except ParcelqError as error:  # the object is not a job's record
            _log.error("%s", error)
            return None
        return found[0] if found else None

    def _change(self, job: str, change: Callable[[JobRecord], JobRecord]) -> JobRecord:
        """Change a job's record. If a check of the job changes the record at the same time, try again."""
        for _ in range(_TRIES):
            found = read_job(self.store, job)
            if found is None:
                raise JobError(job, "its record was deleted")
            record = change(found[0])
            with suppress(ConflictError):
                write_job(self.store, record, found[1])
                return record
        raise JobError(job, "it changes continually; try again")

    def _go_on(
        self, record: JobRecord, dead: Sequence[Range], version: str = "", topic: str = "", left_dead: int = 0
    ) -> int:
        """Continue a job, and publish ranges of its source again: write the record, publish a look, then publish tasks.
        Return how many ranges are published again.
        """
        total = self._total(record)
        missing = self._missing(record, total) if record.state is not State.FINISHED and record.state.is_ended else []
        forget_problem(self.store, record.source)
        newest = max(segments_among(self.store.keys(folder(self.output_topic, record.id))), default="") if dead else ""

        def going_on(now: JobRecord) -> JobRecord:
            if now.state.is_ended != record.state.is_ended or now.state is State.FINISHING:
                raise JobError(now.id, f"it is now {now.state}; check it, and try again")
            # Missing records of the source are published again with the last version.
            versions = (*(one for one in now.versions if one != version), *filter(None, [version]))
            limits = NO_LIMITS if now.halted else now.limits
            changed = woken(now, self.now())._replace(versions=versions, limits=limits, total=total, reason="")
            # If entries of an earlier redrive may still run, the job ends only after no messages arrived for a while.
            after = "" if now.redriven else newest
            changed = changed._replace(redriven=now.redriven or bool(dead), redriven_after=after, left_dead=left_dead)
            return changed._replace(uploaded=True, topic=topic or now.topic)

        changed = self._change(record.id, going_on)
        self._jobs.publish(changed)
        target, pinned = changed.topic or self.input_topic, changed.versions[-1] if changed.versions else ""
        ranges = [*missing, *dead]
        return publish_all(self.ranges(), part_tasks(record.source, target, ranges, total, pinned))

    def _total(self, record: JobRecord) -> int:
        """Return how many bytes a job's source has. Raises JobError if the source cannot be read again, or if it is
        compressed and its upload has not ended.
        """
        source = Source.parse(record.source)
        if not record.topic:
            raise JobError(record.id, "it was never begun; put the file again")
        if source.bucket != self.store.bucket:
            raise JobError(record.id, f"{source.uri} is not in the stack's bucket; upload it again")
        with self.store.opened_put(source.key, version=source.version, etag=source.etag) as found:
            if found is None:
                raise JobError(record.id, f"{source.uri} was deleted or replaced after it was put")
            compressed = source.key.lower().endswith(COMPRESSED) or bool(found.encoding)
        if record.total is not None:
            return record.total
        # The upload of a compressed source continues after its job was halted, when no look reads the notes any more.
        total = total_of(notes_of(self.store, record.source)) if compressed else found.size
        if total is None:
            raise JobError(
                record.id,
                "its upload has not ended, so it is unknown what is missing; try again later, or put the file again",
            )
        return total

    def _missing(self, record: JobRecord, total: int) -> list[Range]:
        """Return the missing ranges of the source of a job that does not run."""

        def missing(found: Collected | None) -> list[Range]:
            collected = found or Collected(self.store, ())
            return list(collected.holes(collected.resolve().up_to(total)))

        return self.read(record, missing)


def ranges_of(dead: Sequence[Dead]) -> list[Range]:
    """Return the ranges of a source that must be published again so that dead entries run again: a joined range of
    adjacent entries of the source, and the complete range of each message that died in a later step.
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


def _left(dead: Sequence[Dead], ranges: Sequence[Range]) -> int:
    """Count the dead messages outside ranges of `ranges_of`. Messages inside run again, even if not chosen."""
    # Both the starts and the ends of the ranges increase, so the last range that begins before an entry decides.
    last = (bisect_right(ranges, one.start, key=lambda found: found[0]) - 1 for one in dead)
    return sum(at < 0 or ranges[at][1] < one.end for at, one in zip(last, dead, strict=True))
