"""Takes a look at a job (checks the job): merges new segments, decides what to do next, and does this work.

`jobs.changes` decides what to do next, from the job's record and the findings of the look. This module does the work,
then writes the job's record, which says that the work is done, then publishes the next look. Because of this order, a
look may be interrupted at any moment. If a look is taken twice, the same work is at worst repeated.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from parcelq.collect.finish import Finisher
from parcelq.collect.found import found_of
from parcelq.collect.seeing import Seen, SourceState
from parcelq.collect.segments import segments_among
from parcelq.errors import ConflictError, NotFoundError
from parcelq.jobs.changes import QUIET_SECONDS, Next, after, ended, wants_counts, woken
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.look import LATE_SECONDS, Look, LookVerdict, verdict
from parcelq.jobs.record import JobRecord, State, new_record, read_job, write_job
from parcelq.lineage.source import Source
from parcelq.topics.cost import Cost
from parcelq.topics.topic import Topic, publish_all
from parcelq.upload.notes import Note, notes_of, notes_of_whole
from parcelq.upload.ranges import part_tasks

_log = logging.getLogger(__name__)
PARTS_SECONDS: Final = 2.0
"""After how many seconds a job is checked again while parts of the job's result are being written."""
FINISHED: Final = "Parcelq job finished"
STOPPED: Final = "Parcelq job stopped"
"""The `detail-type` of the events that are sent when a job ends."""

Tell = Callable[[str, Mapping[str, Any]], None]


class Taken(NamedTuple):
    """The outcome of a look: after how many seconds its message should be delivered `again` (None: it can be
    acknowledged), and the state of the source, if the look was taken.
    """

    again: float | None = None
    state: SourceState | None = None


class Looker(NamedTuple):
    """Checks the jobs of a stack; each check is a look.

    Attributes:
        topics: the topics on which messages of jobs wait.
        ranges: the topic of the uploader's tasks, used to publish missing records again.
        bucket: the stack's bucket.
        input_topic: name of the topic for the records of a source, if the job's record does not name a topic.
        quiet_seconds: after how many seconds without a message missing records are published again.
        spent: a function that returns the resources that were used since the function's last call.
    """

    jobs: Jobs
    finisher: Finisher
    topics: Sequence[Topic]
    ranges: Topic
    bucket: str
    input_topic: str
    tell: Tell = lambda _kind, _detail: None
    quiet_seconds: float = QUIET_SECONDS
    spent: Callable[[], Cost] = Cost

    def take(self, look: Look) -> Taken:
        """Check a job because a message asks for this check, and publish the message for the next check. If an error is
        raised, the look should be delivered again.
        """
        now = self.jobs.now()
        known = read_job(self.jobs.store, look.job)
        found = known or self._adopt(look)
        if found is None:
            _log.info("job %s has neither a record nor segments, so there is nothing to look at", look.job)
            return Taken()
        record, etag = found
        try:
            match verdict(record, look.number, now) if known else LookVerdict.TAKE:
                case LookVerdict.DROP:
                    # Messages of an ended job that arrived late may have been drained just before this look.
                    keys = [] if record.is_looked_at else self.finisher.keys_of(record.id)
                    return Taken(state=self.look_now(keys) if keys else None)
                case LookVerdict.WAIT:
                    return Taken(again=record.due + LATE_SECONDS - now)
                case LookVerdict.PUBLISH:
                    self.jobs.publish(record)
                    return Taken()
                case LookVerdict.TAKE:
                    if not record.is_looked_at:
                        record = woken(record, now)._replace(look=record.look)
                    return Taken(state=self._look(record, etag))
        except ConflictError:
            _log.info("another process takes a look at job %s at the same time", look.job)
            return Taken(again=LATE_SECONDS)

    def look_now(self, keys: Sequence[str]) -> SourceState | None:
        """Check a job without a message, given the keys in the job's folder. Return None if the job needs no check."""
        job = keys[0].split("/")[2]
        found = read_job(self.jobs.store, job) or self._adopt(Look(job))
        if found is None:
            return None
        record, etag = found
        if record.is_whole:  # a deletion was interrupted, or messages arrived late
            self.finisher.clean(record.source, keys)
            return None
        if not record.is_looked_at:
            if record.halted or len(segments_among(keys)) == record.segments:
                return None
            record = woken(record, self.jobs.now())
        try:
            return self._look(record, etag)
        except ConflictError:
            return None

    def _adopt(self, look: Look) -> tuple[JobRecord, str] | None:
        """Create the missing record of a job; return None if the job's source cannot be determined."""
        source, workflow = look.source, look.workflow
        if not source:
            job = self.finisher.job_of(look.job)
            if job is None:
                return None
            source, workflow = job.source, job.workflow
        if not source:
            return None
        return self.jobs.recorded(new_record(source, workflow, self.jobs.now(), uploading=bool(look.source)))

    def _look(self, record: JobRecord, etag: str) -> SourceState:
        """Check a job, do the work that the findings require, and write the job's record. See `take`."""
        began = self.jobs.now()
        keys = self.finisher.keys_of(record.id)
        if record.state is State.FINISHING and keys and self.finisher.is_waiting(record.source, keys):
            return self._wait(record, etag, began)
        seen, notes, new, following = self._found(record, keys, began)
        state = seen.state if seen else SourceState(record.source, total=new.total, holes=1)
        if following is Next.FINISH and seen is not None:
            if record.state is not State.FINISHING:
                # guard[pass]: a result is completed only by the invocation that wrote that the job is finishing
                etag = write_job(self.jobs.store, new._replace(look=record.look), etag)
            new = new._replace(cost=record.cost + self.spent())
            state = self.finisher.finish(seen, healings=record.healings, notes=notes, looks=new.cost)
            if (state.result and state.report) or state.superseded:
                new = ended(new, State.FINISHED, self.jobs.now(), result=state.result)
            else:
                new = new._replace(due=self.jobs.now() + PARTS_SECONDS)
        elif following is Next.HEAL:
            self._heal(new, seen)
        elif following is Next.STOP:
            self.finisher.reporter.write_stopped(new, keys, Source.parse(new.source).names(self.bucket))
        size = (new.total or 0) + state.report["bytes_written"] if state.report else new.bytes
        new = new._replace(cost=new.cost + self.spent(), bytes=size)
        if new.state.is_ended:
            self.tell(FINISHED if new.state is State.FINISHED else STOPPED, self._detail(new, state.report))
        # guard[pass]: the record names the next look before that is published
        write_job(self.jobs.store, new, etag)
        if new.state.is_ended:
            if seen is not None:
                self.finisher.delete_unneeded(seen, state, notes)
                if new.state is not State.FINISHED:
                    self.finisher.note_nothing_new(seen.keys)
        else:
            # guard[pass]: a look is acknowledged only after the next one is published
            self.jobs.publish(new)
        return state._replace(problem=new.problem)

    def _found(
        self, record: JobRecord, keys: Sequence[str], now: float, *, whole: bool = False
    ) -> tuple[Seen | None, list[Note], JobRecord, Next]:
        """Return the findings of a check of a job, and what to do next. If `whole`, all messages are read."""
        seen = self.finisher.see(keys, whole=whole) if segments_among(keys) else None
        notes = self._notes(record, seen, now)
        empty = self._are_empty(record) if self._wants_counts(record, keys, now) else None
        new, following = after(found_of(record, seen, notes, now, empty=empty), self.quiet_seconds)
        # guard[False]: a large job is read completely before its missing records are published again
        if following is Next.HEAL and seen and seen.collected is None:
            return self._found(record, keys, now, whole=True)
        return seen, notes, new, following

    def _wait(self, record: JobRecord, etag: str, now: float) -> SourceState:
        """Only publish the next look, due soon, because other invocations still write parts of the job's result."""
        new = record._replace(look=record.look + 1, changed=now, due=now + PARTS_SECONDS)
        write_job(self.jobs.store, new, etag)
        self.jobs.publish(new)
        return SourceState(record.source, record.covered, record.total, record.dead, record.hole_count)

    def _notes(self, record: JobRecord, seen: Seen | None, now: float) -> list[Note]:
        """Read the notes of the source's uploads only if they are needed, because a large source has many notes."""
        if seen and seen.is_complete:
            return notes_of_whole(self.jobs.store, record.source)
        if seen is None or self._wants_counts(record, seen.keys, now):
            return notes_of(self.jobs.store, record.source)
        return []

    def _wants_counts(self, record: JobRecord, keys: Sequence[str], now: float) -> bool:
        return wants_counts(record, len(segments_among(keys)), now, self.quiet_seconds)

    def _are_empty(self, record: JobRecord) -> bool:
        names = {topic.name for topic in self.topics}
        if record.topic and record.topic not in names:
            return False  # this stack cannot count messages on other topics, so only waiting can show that none arrive
        return not any(sum(topic.counts()) for topic in self.topics)

    def _heal(self, record: JobRecord, seen: Seen | None) -> None:
        """Publish tasks for the uploader, which publishes the missing records of the source again."""
        topic, total = record.topic or self.input_topic, record.total
        if total is None or Source.parse(record.source).bucket != self.bucket:
            return
        version = record.versions[-1] if record.versions else ""
        holes: Iterable[tuple[int, int]] = record.holes
        if seen and seen.collected:  # the record names only the first holes
            holes = seen.collected.holes(seen.resolution.up_to(total))
        count = publish_all(self.ranges, part_tasks(record.source, topic, holes, total, version))
        _log.warning("%d ranges of %s are missing and are published again", count, record.source)

    def _detail(self, record: JobRecord, report: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the content of the event that a job ended: job record, and report without dead entries and holes."""
        if record.result and report is None:
            try:
                report = json.loads(self.finisher.reporter.read(record.result))
            except (NotFoundError, ValueError):
                _log.warning("the report of %s cannot be read", record.result)
        summary = {name: value for name, value in (report or {}).items() if name not in {"dead", "holes"}}
        document = record.document()
        document["holes"] = document["holes"][:100]
        is_own = record.state is State.FINISHED and summary.get("source") == record.source
        complete = is_own and summary.get("complete") is True
        return {"bucket": self.bucket, "complete": complete, "job": document, "report": summary or None}
