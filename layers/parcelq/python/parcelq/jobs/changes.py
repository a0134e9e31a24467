"""Pure functions that change a job's record when a look (a check) is taken, or when a job ends, halts or continues."""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Final, NamedTuple

from parcelq.jobs.record import JobRecord, State

SHORTEST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 120.0
"""The shortest and the longest delay of each look after the first; SQS allows at most 900 seconds."""
STILL_SECONDS: Final = 60.0
"""The longest delay of a look while the job makes no progress, in seconds."""
COUNTING_SECONDS: Final = 20.0
"""The messages on the topics are counted if a job made no progress for this many seconds."""
QUIET_SECONDS: Final = 90.0
"""A job is stuck if its topics were empty and none of its messages arrived for this many seconds."""
QUIET_LOOKS: Final = 3
"""A job is regarded as stuck only if its topics were empty this many times in a row, because SQS counts inexactly."""
BUSY_SECONDS: Final = 5_700.0 + 900.0
"""On a busy stack, a job is stuck after this time: the longest deadline of the template's topics, and 15 minutes."""
MOST_HEALINGS: Final = 3
UPLOAD_SECONDS: Final = 86_400.0
"""An upload has failed if no message arrived for this many seconds. Lambda drops an event of S3 after 6 hours."""
SHARE: Final = 4.0
"""The delay of the next look is the remaining time divided by this number."""


class Found(NamedTuple):
    """The findings of a look (a check of a job).

    Attributes:
        before: the job's record before the look.
        record: the same record with the figures that the look found, such as `covered` and `holes`.
        complete: whether every entry is processed or dead.
        empty: whether all topics of the stack were empty; None if the messages were not counted.
        problem: why the source can no longer be uploaded; empty if no such reason is known.
        died_again: whether all redriven entries are done or dead again, according to the collected messages.
    """

    before: JobRecord
    record: JobRecord
    now: float
    complete: bool = False
    empty: bool | None = None
    problem: str = ""
    died_again: bool = False


class Next(Enum):
    """What to do after a check: `LOOK` again, `FINISH` or `STOP` the job, or publish missing records (`HEAL`)."""

    LOOK = auto()
    FINISH = auto()
    HEAL = auto()
    STOP = auto()


def after(found: Found, quiet_seconds: float = QUIET_SECONDS) -> tuple[JobRecord, Next]:
    """Return the job's record after a look, and what to do next. The new job record names the next look. After
    `quiet_seconds` without a message, the job is regarded as stuck.
    """
    record, new = found.before, _seen(found)
    # guard[False]: a job that was cancelled or stopped is neither healed nor finished
    if record.halted:
        kept = new._replace(state=record.state, look=record.look, due=record.due, time_left=None)
        return kept._replace(reported=True), Next.STOP
    is_still = _is_still(new, found.now, quiet_seconds)
    # The report needs the uploader's notes, which are written after publishing. A redriven job may get more messages.
    is_redriven = new.has_dead and new.redriven and not found.died_again
    may_finish = is_still or (new.state is not State.UPLOADING and not is_redriven)
    if found.complete and may_finish and not _exceeded(new._replace(started=found.now, resumed=0.0), found.now):
        return new._replace(state=State.FINISHING), Next.FINISH
    # guard[exceeded = _exceeded(new, found.now) or new.suspicion]: a step with a successful run is not broken
    exceeded = _exceeded(new, found.now) or ("" if new.entries else new.suspicion)
    # After its upload, a job needs the source only if bytes are missing. The source may be deleted before that.
    unreadable = found.problem if is_still or not new.uploaded else ""
    if problem := exceeded or unreadable or _stuck(new, found.now, is_still=is_still):
        return ended(new, State.STOPPED, found.now, problem=problem, halted=bool(exceeded)), Next.STOP
    if is_still and new.uploaded:
        new = new._replace(healings=new.healings + 1, moved=found.now, still=0, state=State.RUNNING)
        return new._replace(due=found.now + SHORTEST_SECONDS), Next.HEAL
    return new, Next.LOOK


def ended(
    record: JobRecord, state: State, now: float, *, result: str = "", problem: str = "", halted: bool = False
) -> JobRecord:
    """Return a job's record after the job ended. `halted` says whether the job's remaining messages must not run."""
    new = record._replace(state=state, ended=now, changed=now, problem=problem, time_left=None)
    redriven = record.redriven and state is not State.FINISHED
    result = result or record.result
    return new._replace(result=result, halted=halted, reported=state is State.STOPPED, redriven=redriven)


def halted(record: JobRecord, state: State, now: float, problem: str) -> JobRecord:
    """Return a job's record after a user halts the job. The next check of the job writes the report."""
    return ended(record, state, now, problem=problem, halted=True)._replace(reported=False)


def woken(record: JobRecord, now: float) -> JobRecord:
    """Return the record of an ended job that continues because new messages arrived; its next look is due at once.

    The messages may be dead entries that run again. So the job ends only when no more messages arrive. `now` may come
    from a clock that is wrong, so the next look sets `resumed` and `moved`.
    """
    return record._replace(
        state=State.RUNNING,
        generation=record.generation + 1,
        look=record.look + 1,
        due=now,
        changed=now,
        moved=now,
        ended=0.0,
        still=0,
        problem="",
        halted=False,
        suspicion="",
        reported=False,
        redriven=True,
        redriven_after="",
        resumed=0.0,
    )


def wants_counts(record: JobRecord, segments: int, now: float, quiet_seconds: float = QUIET_SECONDS) -> bool:
    """Return whether a check of a job that found this many segments should count the messages on the topics."""
    return segments == record.segments and now - record.moved >= min(COUNTING_SECONDS, quiet_seconds / 2)


def _seen(found: Found) -> JobRecord:
    """Return the job's record with the figures and the rate that a check found, and with the next check."""
    record, new, now = found.before, found.record, found.now
    has_moved = new.segments != record.segments
    has_resumed = record.generation > 0 and not record.resumed
    moved = now if has_moved or has_resumed else min(record.moved, now)  # the clock of another machine may be ahead
    new = new._replace(resumed=now if has_resumed else record.resumed)
    lately = max(0, new.done - record.done) / max(0.001, now - record.changed)
    rate = (record.rate + lately) / 2 if record.rate else lately
    left = max(0, new.total - new.done) / rate if new.total is not None and rate else None
    delay = _delay(now - moved, left if has_moved else None, now - record.started)
    return new._replace(
        state=State.RUNNING if new.uploaded or record.state is State.FINISHING else record.state,
        look=record.look + 1,
        due=min(now + delay, _limit(new)),
        changed=now,
        moved=moved,
        still=record.still + 1 if found.empty and not has_moved else 0,
        rate=rate,
        time_left=left,
    )


def _stuck(record: JobRecord, now: float, *, is_still: bool) -> str:
    """Return why a job can never continue; empty if the job may continue."""
    if is_still and record.uploaded and record.healings >= MOST_HEALINGS:
        return f"{record.missing} bytes of it are missing after {record.healings} healings"
    if is_still and not record.uploaded and now - record.moved >= UPLOAD_SECONDS:
        return "its upload never ended"
    return ""


def _limit(record: JobRecord) -> float:
    """Return when a job exceeds its time limit, in seconds since the epoch; infinite if the job has no time limit."""
    most = record.limits.max_seconds
    return math.inf if most is None else max(record.started, record.resumed) + most + SHORTEST_SECONDS


def _exceeded(record: JobRecord, now: float) -> str:
    """Return a sentence about the limit that a job exceeds; empty if the job exceeds no limit.

    Of two counts of processed entries, the larger is used. One adds up the reported entries, but not every run reports
    them. The other estimates from bytes, because a message that died in a later step may contain several entries.
    """
    by_bytes = record.dead * record.done / record.dead_bytes if record.dead_bytes else 0.0
    seen = max(record.dead + record.entries, by_bytes)
    return record.limits.exceeded(record.dead, seen, now - max(record.started, record.resumed), record.reason)


def _delay(quiet: float, left: float | None, age: float) -> float:
    """Return how many seconds to wait until the next check of the job: a fraction of the job's remaining time, or of
    the time since the last progress if the last look found none.

    The remaining time of a young job is a guess: after its first seconds, perhaps only a header is done. So a delay
    that depends on the remaining time is at most half of the job's age.
    """
    if left is not None:
        return min(LONGEST_SECONDS, max(SHORTEST_SECONDS, min(left / SHARE, age / 2)))
    return min(STILL_SECONDS, max(SHORTEST_SECONDS, quiet / 2))


def _is_still(record: JobRecord, now: float, quiet_seconds: float) -> bool:
    quiet = now - record.moved
    return (quiet >= quiet_seconds and record.still >= QUIET_LOOKS) or quiet >= max(BUSY_SECONDS, quiet_seconds)
