"""The record of a job, `jobs/<id>.json`: its facts and its progress.

Each change is a pure function from one record to the next, and each write is conditional on the record that was read.
The record outlives all messages of the job, so it decides what to do with late ones. The index runs are not in it, but
in `runs.json` beside the segments, because they are deleted together.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, NamedTuple

from parcelq.errors import NotFoundError, ParcelqError
from parcelq.jobs.limits import Limits
from parcelq.lineage.source import job_id
from parcelq.names import JOBS
from parcelq.store.store import Store
from parcelq.topics.cost import Cost as Spent

SCHEMA: Final = 1
"""The version of the record's schema. Records of later versions are refused."""
MOST_HOLES: Final = 1_000
"""Most holes that a record lists."""


class State(StrEnum):
    """The state of a job.

    `UPLOADING` until all of its source is published, then `RUNNING`. `FINISHING` while the result is being written.
    `FINISHED` with a result, which may lack dead entries. `STOPPED` if parts of it will never be processed.
    """

    UPLOADING = "uploading"
    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"
    STOPPED = "stopped"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        """Whether no look at the job is due."""
        return self in {State.FINISHED, State.STOPPED, State.CANCELLED}


class Cost(NamedTuple):
    """The cost of looks at a job so far, without draining. The report has the whole cost of a job.

    Attributes:
        bytes: bytes of the source and of its result.
        spent: the cost in detail, as from `parcelq.topics.cost.Cost.numbers`.
    """

    invocations: int = 0
    seconds: float = 0.0
    requests: int = 0
    bytes: int = 0
    spent: tuple[Any, ...] = ()

    @property
    def whole(self) -> Spent:
        """The cost in detail."""
        return Spent.parse(list(self.spent))

    def with_more(self, spent: Spent, size: int) -> Cost:
        """Return the cost plus the resources used since, for a job whose source and result have `size` bytes in
        total.
        """
        whole = self.whole + spent
        return Cost(whole.invocations, whole.ms / 1000, whole.requests, size, tuple(whole.numbers()))


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The record of a job. Times are seconds since the epoch; 0 means not yet.

    Attributes:
        source: the attribute `Source` of its messages.
        workflow: the workflow's name; empty for the built-in step.
        versions: versions of the workflow that it began or was redriven with.
        topic: name of the topic that its records are published on; empty if unknown.
        state: its state.
        look: number of the look that is published or will be published next.
        due: when that look is due.
        started: when the job began.
        changed: when this record was written.
        ended: when the job ended.
        moved: when a look last found progress.
        segments: number of segments at the last look.
        still: number of looks in a row that found no progress and all topics of the stack empty.
        uploaded: whether all of the source is published.
        generation: how often the job continued after it had ended.
        redriven: whether dead entries may have run again since the job last finished.
        redriven_after: key of the newest segment when they were redriven; empty if unknown, or if entries of an earlier
            redrive might still run then.
        left_dead: how many dead messages do not run again since then.
        total: bytes of the source; None if not known yet.
        covered: bytes of it whose results were collected.
        dead: entries that failed for good.
        dead_bytes: bytes of the source in messages with dead entries.
        missing: bytes that are neither covered nor dead, as far as known.
        holes: the first ranges of these bytes.
        hole_count: number of all ranges.
        rate: bytes of the source recently done per second.
        time_left: seconds until all is done at that rate; None if unknown.
        result: key of the result; empty while there is none.
        problem: why the job was stopped; empty if it was not.
        limits: the limits that stop the job.
        halted: whether its messages must not run, because it was cancelled or stopped.
        reported: whether the report of a halted job is written.
        resumed: when it last continued after it had ended.
        entries: successfully processed entries of the source, as far as known.
        reason: why one of the dead entries failed.
        map: the states of equal parts of the source, a letter for each; see `collect.source_map`.
        healings: how often missing records were published again.
        cost: the cost of the looks.
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
    dead_bytes: int = 0
    missing: int = 0
    holes: tuple[tuple[int, int], ...] = ()
    hole_count: int = 0
    rate: float = 0.0
    time_left: float | None = None
    result: str = ""
    problem: str = ""
    limits: Limits = field(default_factory=Limits)
    halted: bool = False
    reported: bool = False
    resumed: float = 0.0
    entries: int = 0
    reason: str = ""
    map: str = ""
    healings: int = 0
    cost: Cost = field(default_factory=Cost)

    @property
    def is_whole(self) -> bool:
        """Whether the job is finished and nothing can be added to its result."""
        return self.state is State.FINISHED and not self.dead

    @property
    def wants_report(self) -> bool:
        """Whether the job was halted and its report is not written yet."""
        return self.halted and not self.reported

    @property
    def is_looked_at(self) -> bool:
        """Whether a look at the job should be in the topic."""
        return self.wants_report or not self.state.is_ended

    @property
    def why_no_result(self) -> str:
        """Why the job has no result; empty if it may still get one."""
        return self.problem or ("it was cancelled" if self.state is State.CANCELLED else "")

    @property
    def share(self) -> float | None:
        """The share of the source that is done or dead, from 0 to 1; None if its size is unknown."""
        if self.is_whole:
            return 1.0
        return None if self.total is None else self.done / self.total if self.total else 1.0

    @property
    def seconds(self) -> float:
        """The job's duration so far, or until it ended."""
        return (self.ended or self.changed) - self.started

    @property
    def done(self) -> int:
        """Bytes of the source that are covered or dead."""
        return self.covered + self.dead_bytes

    def document(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {"schema": SCHEMA, **asdict(self), "limits": self.limits._asdict(), "cost": self.cost._asdict()}


def new_record(source: str, workflow: str, now: float, *, topic: str = "", uploading: bool = True) -> JobRecord:
    """Return the record of a job that begins now, before its first look."""
    state = State.UPLOADING if uploading else State.RUNNING
    job = job_id(source, workflow)
    return JobRecord(job, source, workflow, topic=topic, state=state, due=now, started=now, changed=now, moved=now)


def key_of(job: str) -> str:
    """The key of a job's record."""
    return f"{JOBS}{job}.json"


def read_job(store: Store, job: str) -> tuple[JobRecord, str] | None:
    """Return a job's record and its etag; None if the job has none.

    Raises:
        ParcelqError: the object is not a record, or was written by a later version.
    """
    try:
        data, etag = store.read_with_etag(key_of(job))
    except NotFoundError:
        return None
    return parse_record(data, key_of(job)), etag


def parse_record(data: bytes, key: str) -> JobRecord:
    """Read a record. Raises ParcelqError that names `key` if the text is not a record."""
    try:
        told: dict[str, Any] = json.loads(data)
        if told["schema"] > SCHEMA:
            raise ParcelqError(f"{key!r} has version {told['schema']} of a job's record; this version reads {SCHEMA}")
        known = {name: told[name] for name in _FIELDS if name in told}
        return JobRecord(
            **{
                **known,
                "state": State(known["state"]),
                "versions": tuple(known["versions"]),
                "holes": tuple((start, end) for start, end in known["holes"]),
                "cost": Cost(**known["cost"]),
                "limits": Limits(**known.get("limits", {})),
            }
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ParcelqError(f"{key!r} is not a record of a job: {error}") from None


def write_job(store: Store, record: JobRecord, etag: str | None) -> str:
    """Replace the record of a job that was read, and return the new etag.

    Args:
        etag: etag of the record that it replaces; None if the job has none.

    Raises:
        ConflictError: another process wrote it in the meantime.
    """
    data = json.dumps(record.document(), separators=(",", ":")).encode()
    # guard[return store.put(key_of(record.id), data)]: a job's record is written only if nobody else wrote it in the
    # meantime
    return store.put(key_of(record.id), data, if_match=etag, if_absent=etag is None)


_FIELDS: Final = tuple(one.name for one in fields(JobRecord))
