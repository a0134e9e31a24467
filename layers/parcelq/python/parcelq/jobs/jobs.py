"""Begins jobs and continues ended jobs: writes the job's record, then publishes a look (a message to check the job)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from parcelq.errors import ConflictError, ParcelqError
from parcelq.jobs.changes import ended, woken
from parcelq.jobs.limits import NO_LIMITS, Limits
from parcelq.jobs.look import FIRST_SECONDS, LATE_SECONDS, Look
from parcelq.jobs.record import JobRecord, State, new_record, read_job, write_job
from parcelq.limits import MAX_DELAY_SECONDS
from parcelq.lineage.source import Source, job_id, workflow_name
from parcelq.names import JOBS
from parcelq.store.store import Store
from parcelq.topics.topic import Topic, publish_all

_log = logging.getLogger(__name__)
WAKING_SECONDS: Final = 1
"""By how many seconds a look that wakes a job is delayed, so that a message of the job arrives before the look."""


def wake(looks: Topic, sources: Iterable[tuple[str, str]]) -> None:
    """Publish looks at jobs that may have ended, because more messages with these attributes `Source` and `Workflow`
    will arrive. Pairs without a source are left out. Raises PublishError or AwsError if the looks cannot be published.
    """
    jobs = {(source, workflow_name(version)) for source, version in sources if Source.is_one(source)}
    waking = [Look(job_id(source, workflow), 0, source, workflow) for source, workflow in sorted(jobs)]
    publish_all(looks, waking, WAKING_SECONDS)


class Jobs(NamedTuple):
    """The jobs of a stack. A method that publishes a look raises PublishError if the look was not published."""

    store: Store
    looks: Topic
    now: Callable[[], float] = time.time

    def begin(self, source: str, version: str, topic: str, limits: Limits = NO_LIMITS) -> JobRecord:
        """Begin the job of a source before the source's first message is published; return the job's record.

        If the job has already begun, its record stays unchanged. If the job's first look was not taken yet, the look is
        published again, because the invocation that began the job may have died before publishing the look. `source`
        and `version` are the attributes `Source` and `Workflow` of the job's messages, which are published on `topic`.
        Raises PublishError or AwsError if the look cannot be published, or if the store fails.
        """
        begun = new_record(source, workflow_name(version), self.now())
        versions = (version,) if version else ()
        record, _ = self.recorded(begun._replace(topic=topic, versions=versions, limits=limits))
        if record.look == 1 and not record.state.is_ended:
            self.publish(record)
        return record

    def refuse(self, source: str, workflow: str, reason: str) -> None:
        """Write a job record that says why a source cannot be run. If the job already has a record, write nothing."""
        record = new_record(source, workflow, self.now())
        with suppress(ConflictError):
            write_job(self.store, ended(record, State.STOPPED, self.now(), problem=reason), None)

    def recorded(self, begun: JobRecord) -> tuple[JobRecord, str]:
        """Return a job's record and the record's etag. If the job has no record, write `begun` but publish no look."""
        record = begun._replace(due=begun.due + FIRST_SECONDS)
        try:
            return record, write_job(self.store, record, None)
        except ConflictError:
            found = read_job(self.store, record.id)
            if found is None:  # the record was just deleted
                raise
            return found

    def publish(self, record: JobRecord) -> None:
        """Publish the look that a job's record names, so that the look is delivered when it is due. Raises PublishError
        or AwsError if the look cannot be published.
        """
        delay = math.ceil(max(0.0, min(MAX_DELAY_SECONDS, record.due - self.now())))
        self.send([Look(record.id, record.look)], delay)

    def send(self, looks: Iterable[Look], delay_seconds: int = 0) -> None:
        """Publish looks. Raises PublishError if a look cannot be published."""
        publish_all(self.looks, looks, delay_seconds)

    def overdue(self, since: float) -> Iterator[JobRecord]:
        """Yield the records of jobs whose look was lost. Only job records that changed since `since` are checked."""
        for one in self.store.listing(JOBS):
            if one.modified < since:
                continue
            try:
                found = read_job(self.store, one.key.removeprefix(JOBS).removesuffix(".json"))
            except ParcelqError as error:
                _log.error("%s", error)
                continue
            if found and found[0].is_looked_at and self.now() >= found[0].due + LATE_SECONDS:
                yield found[0]

    def notice(self, source: str, workflow: str) -> float | None:
        """Ensure that a job with new messages has a record and a published look. Return when the next look at the job
        is due; None if the job is complete and does not need its new messages. Raises PublishError or AwsError if the
        look cannot be published, or if the store fails.
        """
        found = read_job(self.store, job_id(source, workflow))
        try:
            record, etag = found or self.recorded(new_record(source, workflow, self.now(), uploading=False))
            if record.is_whole:
                return None
            if record.halted:  # messages that still arrive are stored, but no look is published
                return self.now() + LATE_SECONDS
            if record.state.is_ended:
                record = woken(record, self.now())
                write_job(self.store, record, etag)
            elif found and self.now() < record.due + LATE_SECONDS:
                return record.due
        except ConflictError:  # another process takes a look at the job right now
            return self.now()
        self.publish(record)
        return record.due
