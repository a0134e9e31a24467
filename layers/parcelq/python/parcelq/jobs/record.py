"""The record of a job, the object `jobs/<id>.json`: what the job runs, and how much of the job is done.

Each change is a pure function from one job record to the next. A write succeeds only if the job's record has not
changed since it was read. The job's record outlives all messages of the job, so the record decides what to do with late
messages. The index runs are not in the job's record but in `runs.json` beside the segments, because index runs and
segments are deleted together.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final, NamedTuple

from parcelq.errors import NotFoundError, ParcelqError
from parcelq.jobs.limits import NO_LIMITS, Limits
from parcelq.lineage.source import job_id
from parcelq.names import JOBS
from parcelq.store.store import Store
from parcelq.topics.cost import NOTHING, Cost

SCHEMA: Final = 1
"""The version of the schema of job records. Job records of later versions are refused."""
MOST_HOLES: Final = 1_000
"""The most holes (missing ranges of the source) that a job's record lists."""


class State(StrEnum):
    """The state of a job.

    `UPLOADING` until all of the job's source is published, then `RUNNING`. `FINISHING` while the result is being
    written. `FINISHED` when the result exists; dead entries are missing in the result. `STOPPED` if parts of the source
    will never be processed.
    """

    UPLOADING = "uploading"
    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"
    STOPPED = "stopped"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        """Whether the job has ended, so that no more checks of the job are due."""
        return self in {State.FINISHED, State.STOPPED, State.CANCELLED}


class JobRecord(NamedTuple):
    """The record of a job. Times are seconds since the epoch; a time is 0 if the event has not happened yet.

    Attributes:
        workflow: the workflow's name; empty for the built-in step.
        versions: versions of the workflow with which the job began or was redriven.
        topic: name of the topic on which the source's records are published; empty if unknown.
        look: number of the look (check of the job) that is already published or will be published next, due at `due`.
        changed: when this job record was written.
        moved: when a check of the job last found progress.
        segments: how many segments the job had at its last check.
        still: how many checks in a row found that the job made no progress and all topics of the stack were empty.
        uploaded: whether all of the source is published.
        generation: how many times the job continued after its end.
        redriven: whether dead entries may have run again since the job last finished.
        redriven_after: key of the newest segment at the last redrive; empty if unknown, or if entries of an earlier
            redrive might still have been running.
        left_dead: how many dead messages did not run again in the last redrive.
        total: how many bytes the source has; None if not known yet.
        covered: how many bytes of the source have collected results.
        dead: how many entries failed for good, in `dead_messages` messages.
        dead_bytes: how many bytes of the source are in messages with dead entries.
        missing: how many bytes of the source are known to be neither covered nor dead.
        holes: the first of all `hole_count` ranges of missing bytes.
        rate: how many bytes of the source were recently done per second.
        time_left: in how many seconds the source will be done at this rate; None if unknown.
        result: key of the result; empty while the result does not exist.
        halted: whether the job's messages must not run, because the job was cancelled or stopped.
        reported: whether the report of a stopped or halted job is written.
        resumed: when the first look was taken after the job last continued; 0 until then.
        entries: how many entries of the source are known to be processed successfully.
        reason: why one of the dead entries failed.
        map: the states of equal parts of the source, one letter per part; see `collect.source_map`.
        suspicion: why processors think that the step is broken; empty if they do not. The next look stops the job,
            unless it finds that a run has succeeded.
        healings: how many times missing records of the source were published again.
        cost: what the looks at the job have cost so far, without draining; the report has the total cost of the job.
        bytes: how many bytes the source and its result have together; 0 while there is no result.
    """

    id: str
    source: str
    workflow: str = ""
    versions: tuple[str, ...] = ()
    topic: str = ""
    state: State = State.UPLOADING
    look: int = 1
    due: float = 0.0
    started: float = 0.0
    changed: float = 0.0
    ended: float = 0.0
    moved: float = 0.0
    segments: int = 0
    still: int = 0
    uploaded: bool = False
    generation: int = 0
    redriven: bool = False
    redriven_after: str = ""
    left_dead: int = 0
    total: int | None = None
    covered: int = 0
    dead: int = 0
    dead_messages: int = 0
    dead_bytes: int = 0
    missing: int = 0
    holes: tuple[tuple[int, int], ...] = ()
    hole_count: int = 0
    rate: float = 0.0
    time_left: float | None = None
    result: str = ""
    problem: str = ""
    limits: Limits = NO_LIMITS
    halted: bool = False
    reported: bool = False
    resumed: float = 0.0
    entries: int = 0
    reason: str = ""
    map: str = ""
    suspicion: str = ""
    healings: int = 0
    cost: Cost = NOTHING
    bytes: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the job is finished and nothing can be added to its result."""
        return self.state is State.FINISHED and not self.has_dead

    @property
    def has_dead(self) -> bool:
        """Whether a message failed for good. If only the header failed, or the source is empty, no entry is dead."""
        return bool(self.dead or self.dead_messages)

    @property
    def is_looked_at(self) -> bool:
        """Whether the topic of looks should contain a look at the job: it has not ended, or its report is missing."""
        return not self.state.is_ended or (self.halted and not self.reported)

    @property
    def why_no_result(self) -> str:
        """Why the job has no result; empty if the job has a result or may still get a result."""
        return self.problem or ("it was cancelled" if self.state is State.CANCELLED else "")

    @property
    def share(self) -> float | None:
        """The share of the source that is processed or dead, from 0 to 1; None if the source's size is unknown."""
        if self.is_whole:
            return 1.0
        return None if self.total is None else self.done / self.total if self.total else 1.0

    @property
    def seconds(self) -> float:
        """How many seconds the job has taken so far, or took until it ended."""
        return (self.ended or self.changed) - self.started

    @property
    def done(self) -> int:
        """How many bytes of the source are covered or dead."""
        return self.covered + self.dead_bytes

    def document(self) -> dict[str, Any]:
        """The job's record as JSON values."""
        used = self.cost
        cost = {"invocations": used.invocations, "seconds": used.ms / 1000, "requests": used.requests}
        members = {"limits": self.limits._asdict(), "cost": {**cost, "spent": used.numbers()}}
        return {"schema": SCHEMA, **self._asdict(), **members}


def new_record(source: str, workflow: str, now: float, *, uploading: bool = True) -> JobRecord:
    """Return the record of a job that begins now and was not checked yet."""
    state = State.UPLOADING if uploading else State.RUNNING
    job = job_id(source, workflow)
    return JobRecord(job, source, workflow, state=state, due=now, started=now, changed=now, moved=now)


def key_of(job: str) -> str:
    """The key of the object that is a job's record."""
    return f"{JOBS}{job}.json"


def read_job(store: Store, job: str) -> tuple[JobRecord, str] | None:
    """Return a job's record and its etag; None if the job has no record. Raises ParcelqError if it cannot be read."""
    try:
        data, etag = store.read_with_etag(key_of(job))
    except NotFoundError:
        return None
    return parse_record(data, key_of(job)), etag


def parse_record(data: bytes, key: str) -> JobRecord:
    """Parse a job's record. Raises ParcelqError that names `key` if the text is not a job's record."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document["schema"] > SCHEMA:
            raise ParcelqError(
                f"{key!r} has version {document['schema']} of a job's record; this version reads {SCHEMA}"
            )
        known = {name: document[name] for name in _FIELDS if name in document}
        return JobRecord(
            **{
                **known,
                "state": State(known["state"]),
                "versions": tuple(known["versions"]),
                "holes": tuple((start, end) for start, end in known["holes"]),
                "cost": Cost.parse(known["cost"].get("spent")),
                "limits": Limits(**known.get("limits", {})),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ParcelqError(f"{key!r} is not a record of a job: {error}") from None


def write_job(store: Store, record: JobRecord, etag: str | None) -> str:
    """Replace a job's record that had this `etag` (None: the job had no record), and return the new record's etag.
    Raises ConflictError if another process wrote the job's record in the meantime.
    """
    data = json.dumps(record.document(), separators=(",", ":")).encode()
    # guard[return store.put(key_of(record.id), data)]: a job's record is written only if nobody else wrote it in the
    # meantime
    return store.put(key_of(record.id), data, if_match=etag, if_absent=etag is None)


_FIELDS: Final = JobRecord._fields
