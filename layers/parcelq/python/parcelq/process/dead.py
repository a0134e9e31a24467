"""What is said of a message that failed for good: a letter with the reason, and a tombstone. Pure.

The letter goes to the dead-letter topic and can be sent back from there. The tombstone goes to where results are
collected, so that a source is known to be finished but for these entries.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.process.plan import Work
from parcelq.steps.reason import escaped, shortened
from parcelq.topics.message import (
    ALONE,
    DEAD,
    ENTRIES,
    HALVED,
    LINEAGE,
    RECEIVED_BEFORE,
    SOURCE,
    WORKFLOW,
    Message,
    Pulled,
    with_attributes,
)

REASON: Final = "Reason"
STEP: Final = "Step"
FAILED_AT: Final = "FailedAt"
RECEIVED: Final = "ReceiveCount"
ABOUT_DEATH: Final = (REASON, STEP, FAILED_AT, RECEIVED)
"""The attributes that a letter has and the message that it was had not."""

_REASON_BYTES: Final = 1024


def reason_of(error: ParcelqError) -> str:
    """Why a message failed, as an attribute's value: the middle of a long one is left out, and its first line stays."""
    return " ".join(shortened(escaped(str(error)), _REASON_BYTES).split())


def letter(work: Work, reason: str, step: str, when: datetime, workflow: str = "") -> Message:
    """The message as it goes to the dead-letter topic."""
    return _letter(work.message, work.pulled, reason, step, when, workflow)


def unread_letter(pulled: Pulled, reason: str, step: str, when: datetime, workflow: str = "") -> Message:
    """The same for a message that cannot be read: as it came."""
    return _letter(pulled.as_it_is(), pulled, reason, step, when, workflow)


def tombstone(work: Work, reason: str, step: str) -> Message:
    """What tells that a message's entries are dead. It has no bytes, and `Entries` says how many died.

    Only for a message with lineage.
    """
    place = {SOURCE: work.source, LINEAGE: str(work.lineage), ENTRIES: str(work.entries)}
    return Message(b"", {**place, DEAD: reason, STEP: step})


def _letter(message: Message, pulled: Pulled, reason: str, step: str, when: datetime, workflow: str) -> Message:
    about = {
        REASON: reason,
        STEP: step,
        FAILED_AT: when.isoformat(timespec="seconds"),
        RECEIVED: str(pulled.receive_count),
    }
    if workflow:
        about[WORKFLOW] = workflow
    return with_attributes(message, **{HALVED: None, ALONE: None, RECEIVED_BEFORE: None}, **about)
