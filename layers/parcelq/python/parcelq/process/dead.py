"""Creates the two messages about entries that failed for good: a dead letter with the reason, and a tombstone. Pure
functions.

The dead letter goes to the dead-letter topic and can be redriven from there. The tombstone goes to the output topic, so
that the job can finish without these entries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from parcelq.errors import ParcelqError, StepError
from parcelq.limits import KIB
from parcelq.process.plan import Work
from parcelq.steps.reason import TRACEBACK, escaped, shortened
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURE, FAILURES, FIRST, FORMAT, LINEAGE, REASON, SOURCE, WORKFLOW
from parcelq.topics.message import Message, with_attributes
from parcelq.topics.pieces import MAX_DEAD_BYTES

KILLED: Final = "the function died while it ran this message alone; it may have run out of memory"
"""The reason in a dead letter if the function died while it ran the message of the dead letter."""
NO_REASON: Final = "SQS moved the message here without a reason"
"""The text that replaces a missing reason: SQS moved the message because it was received too often."""
_REASON_BYTES: Final = KIB


class Circumstances(NamedTuple):
    """Facts about a failure, except its reason. `workflow` is empty if there is none."""

    step: str
    when: float
    workflow: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """The attribute `Workflow` of the dead letter; empty if there is no workflow."""
        return {WORKFLOW: self.workflow} if self.workflow else {}

    def failure(self, runs: int, first: str = "") -> str:
        """Return the attribute `Failure`: JSON with `step`, `when` (ISO 8601, UTC), `runs`, and perhaps `first`."""
        when = datetime.fromtimestamp(self.when, UTC).isoformat(timespec="seconds")
        return json.dumps({"step": self.step, "when": when, "runs": runs, **({"first": first} if first else {})})


def reason_of(error: ParcelqError) -> str:
    """Return why a message failed, as the value of an attribute, at most 1,024 bytes long.

    The reason begins with the line that names the error: the exception of a Python step, or the last line that another
    step wrote to stderr. The other lines follow. If the reason is too long, its middle or the top of the traceback is
    left out.
    """
    lines = filter(None, map(_legal, _main_line(error)))
    return shortened("\n".join(lines), _REASON_BYTES - 1).replace("\n", ": ")


def full_reason_of(error: StepError) -> str:
    """Return why a step failed, as lines: first the error, then all of its stderr that was kept."""
    return f"{_main_line(error)[0]}\n{tail}" if (tail := error.stderr_tail.strip()) else str(error)


def dead_letter(message: Message, reason: str, about: Circumstances, runs: int) -> Message:
    """Return the dead letter for a message. If the message cannot be read, it is given as it was pulled."""
    failure = about.failure(runs, message.attributes.get(FIRST, ""))
    return with_attributes(
        message, **{FAILURES: None, FIRST: None, REASON: reason, FAILURE: failure, **about.attributes}
    )


def failure_of(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return the members of a dead letter's attribute `Failure`; empty if the dead letter has no such attribute."""
    try:
        failure = json.loads(attributes.get(FAILURE, "{}"))
    except (ValueError, RecursionError):
        return {}
    return failure if isinstance(failure, dict) else {}


def tombstone(work: Work, reason: str, about: Circumstances) -> Message:
    """Return the message that says that the entries of a message are dead. It contains small entries."""
    body = work.message.body if len(work.message.body) <= MAX_DEAD_BYTES else b""
    attributes = {SOURCE: work.source, LINEAGE: str(work.lineage), ENTRIES: str(work.entries), DEAD: reason}
    kept = {name: value for name in (FIRST, FORMAT) if (value := work.message.attributes.get(name))}
    return Message(body, {**attributes, **kept, **about.attributes})


def _main_line(error: ParcelqError) -> tuple[str, str]:
    """Return the line that names an error, and the other lines. For a Python step, this is the first line of its
    stderr, because the exception was moved before its traceback.
    """
    if not isinstance(error, StepError) or not error.stderr_tail.strip():
        line, _, rest = str(error).partition("\n")
        return line, rest
    lines = [line for line in error.stderr_tail.splitlines() if line.strip()]
    main = 0 if any(line.startswith(TRACEBACK) for line in lines) else len(lines) - 1
    rest = "\n".join(lines[:main] + lines[main + 1 :])
    return f"{lines[main]} (step {error.step!r} {error.reason})", rest


def _legal(text: str) -> str:
    """Return a text as one line that SQS accepts; only characters that SQS refuses are escaped."""
    return " ".join(escaped(text).split())
