"""Looks: a look is a message that asks to check a job. This module also decides what to do with a received look.

At any time, one look at each running job is published or being taken. The invocation that takes look number n writes
the job's record with number n + 1, publishes look n + 1, and acknowledges look n, in this order. So a look may be lost,
duplicated or late: the job's record says which look is valid.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Final, NamedTuple

from parcelq.errors import MessageError
from parcelq.jobs.record import JobRecord
from parcelq.lineage.source import Source, job_id

FIRST_SECONDS: Final = 1.0
"""How many seconds after the start of a job the first look at the job is due."""
LATE_SECONDS: Final = 30.0
"""A look that is overdue by this many seconds is regarded as lost."""
MOST_DRAINERS: Final = 8
MESSAGES_OF_A_DRAINER: Final = 5_000
"""An invocation drains this many messages of 50,000 bytes in about 6 seconds. More messages need more invocations."""


class Look(NamedTuple):
    """A message that asks to check a job, or only to drain the output topic if `job`, the job's id, is empty.

    Attributes:
        number: number of the look; 0 if messages may have arrived since the job's record was written. If the look only
            drains, the number says how many times in a row the topics were empty.
        source: the attribute `Source` of the job's messages if the job may have no record; else empty.
        workflow: the workflow's name, if `source` is given.
    """

    job: str = ""
    number: int = 0
    source: str = ""
    workflow: str = ""

    @classmethod
    def parse(cls, text: str) -> Look:
        """Read the text of a look. Raises MessageError if the text is not a look."""
        try:
            look = cls(**json.loads(text))
            texts = (look.job, look.source, look.workflow)
            if not all(isinstance(one, str) for one in texts) or type(look.number) is not int or look.number < 0:
                raise ValueError("job, source and workflow must be texts, and number a whole number from 0")
            "".join(texts).encode()  # raises ValueError if a text cannot be part of a key
            if look.source and (Source.parse(look.source) and look.job != job_id(look.source, look.workflow)):
                raise ValueError("job is not the id of that source and workflow")
        except (ValueError, TypeError, RecursionError) as error:
            raise MessageError(f"{text[:200]!r} is not a look: {error}") from None
        return look

    def __str__(self) -> str:
        return json.dumps({name: value for name, value in self._asdict().items() if value}, separators=(",", ":"))


class LookVerdict(Enum):
    """What to do with a look.

    `TAKE` the look. `DROP` the look, because a later look was already taken. `WAIT`, because the next look should
    already be published, and check later whether the next look was taken. `PUBLISH` the look that the job's record
    names, because that look was lost.
    """

    TAKE = auto()
    DROP = auto()
    WAIT = auto()
    PUBLISH = auto()


def verdict(record: JobRecord, number: int, now: float) -> LookVerdict:
    """Return what to do with a received look that has this number, given the job's record."""
    if not record.is_looked_at:  # a look without a number continues an ended job, because more messages arrived
        return LookVerdict.DROP if number or record.is_whole or record.halted else LookVerdict.TAKE
    if number >= record.look:
        return LookVerdict.TAKE
    if number and number < record.look - 1:
        return LookVerdict.DROP
    # The invocation that took the last look wrote the job's record, but may have died before publishing the next look.
    # guard[True]: a look that was lost is published again
    if now < record.due + LATE_SECONDS:
        return LookVerdict.WAIT if number else LookVerdict.DROP
    return LookVerdict.PUBLISH


def more_drainers(messages: int, looks: int) -> int:
    """Return how many more looks should be published that only ask to drain the output topic, which has this many
    messages. The topic of looks has `looks` looks, including delayed looks; each of them drains too.
    """
    return max(0, min(messages // MESSAGES_OF_A_DRAINER, MOST_DRAINERS) - looks)
