"""What is published about entries that failed for good: a dead letter with the reason, and a tombstone. Pure.

The dead letter goes to the dead-letter topic and can be redriven from there. The tombstone goes to the output topic,
so that the source is known to be finished except for these entries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from parcelq.errors import ParcelqError, StepError
from parcelq.limits import KIB
from parcelq.process.plan import Work
from parcelq.steps.reason import CUT, TRACEBACK, escaped
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURE, FAILURES, FIRST, FORMAT, LINEAGE, REASON, SOURCE, WORKFLOW
from parcelq.topics.message import Message, with_attributes
from parcelq.topics.pieces import MAX_DEAD_BYTES

KILLED: Final = "the function died while it ran this message alone; it may have run out of memory"
"""The reason of a message that killed the function that ran it."""
NO_REASON: Final = "SQS moved it here without a reason"
"""What is shown for a dead letter without a reason: it was received more often than its topic allows."""
_REASON_BYTES: Final = KIB


class Circumstances(NamedTuple):
    """Facts about a failure, beside its reason.

    Attributes:
        step: the step's name.
        when: when it failed, in seconds since the epoch.
        workflow: the workflow that failed; empty for none.
    """

    step: str
    when: float
    workflow: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """The attribute `Workflow`, if there is one."""
        return {WORKFLOW: self.workflow} if self.workflow else {}

    def failure(self, runs: int, first: str = "") -> str:
        """The attribute `Failure`: JSON with `step`, `when` (ISO 8601, UTC), `runs`, and `first` where it is known."""
        when = datetime.fromtimestamp(self.when, UTC).isoformat(timespec="seconds")
        return json.dumps({"step": self.step, "when": when, "runs": runs, **({"first": first} if first else {})})


def reason_of(error: ParcelqError) -> str:
    """Why a message failed, as an attribute's value of at most 1,024 bytes.

    It begins with the line that says what went wrong: the exception of a Python step, or the last line that any other
    step wrote to stderr. The rest follows. A long reason loses its middle or the top of the traceback.
    """
    if isinstance(error, StepError) and error.stderr_tail.strip():
        line, rest = _main_line(error.stderr_tail)
        return _shortened(f"{line} (step {error.step!r} {error.reason})", rest)
    line, _, rest = str(error).partition("\n")
    return _shortened(line, rest)


def full_reason_of(error: StepError) -> str:
    """Why a step failed, in lines: first what went wrong, then all that is known of what it wrote to stderr."""
    tail = error.stderr_tail.strip()
    if not tail:
        return str(error)
    line, _ = _main_line(tail)
    return f"{line} (step {error.step!r} {error.reason})\n{tail}"


def dead_letter(message: Message, reason: str, about: Circumstances, runs: int) -> Message:
    """The message as it goes to the dead-letter topic.

    Args:
        reason: why it failed, as `reason_of` returns it.
        runs: how many runs of it failed.
    """
    failure = about.failure(runs, message.attributes.get(FIRST, ""))
    return with_attributes(
        message, **{FAILURES: None, FIRST: None, REASON: reason, FAILURE: failure, **about.attributes}
    )


def failure_of(attributes: Mapping[str, str]) -> dict[str, Any]:
    """The members of a dead letter's attribute `Failure`; none where it has no such attribute."""
    try:
        failure = json.loads(attributes.get(FAILURE, "{}"))
    except (ValueError, RecursionError):
        return {}
    return failure if isinstance(failure, dict) else {}


def tombstone(work: Work, reason: str, about: Circumstances) -> Message:
    """What says that the entries of a message with lineage are dead; it carries them if they are small enough."""
    body = work.message.body if len(work.message.body) <= MAX_DEAD_BYTES else b""
    attributes = {SOURCE: work.source, LINEAGE: str(work.lineage), ENTRIES: str(work.entries), DEAD: reason}
    kept = {name: value for name in (FIRST, FORMAT) if (value := work.message.attributes.get(name))}
    return Message(body, {**attributes, **kept, **about.attributes})


def _main_line(stderr: str) -> tuple[str, str]:
    """The line of a step's stderr that says what went wrong, and the other lines.

    Of a Python step that is the first line, since the exception was put before its traceback.
    """
    lines = [line for line in stderr.splitlines() if line.strip()]
    main = 0 if any(line.startswith(TRACEBACK) for line in lines) else len(lines) - 1
    return lines[main], "\n".join(lines[:main] + lines[main + 1 :])


def _shortened(line: str, rest: str) -> str:
    """Both texts on one line, short enough for an attribute: all of the first if possible, and then the end of the
    second."""
    first = _legal(line)
    if len(first) > _REASON_BYTES:
        half = (_REASON_BYTES - len(CUT.encode())) // 2
        return _decoded(first[:half]) + CUT + _decoded(first[-half:])
    second = _legal(rest)
    room = _REASON_BYTES - len(first) - len(b": ")
    if len(second) > room:
        room -= len(CUT.encode())
        second = (CUT.lstrip().encode() + second[-room:]) if room > 0 else b""
    return _decoded(first) + (f": {_decoded(second)}" if second else "")


def _legal(text: str) -> bytes:
    """Text on one line that SQS takes: only the characters that it refuses are escaped."""
    return " ".join(escaped(text).split()).encode()


def _decoded(data: bytes) -> str:
    """Text of bytes that may be cut within a character."""
    return data.decode("utf-8", "ignore")
