"""Looks: the messages that keep a job moving, and what is to be done with one.

A running job always has one look in the topic. The invocation that takes look number n writes the record with number n
+ 1, then publishes that look, then acknowledges look n. So a look may be lost, duplicated or late: the record says
which one is valid.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Final, NamedTuple

from parcelq.errors import MessageError
from parcelq.jobs.record import JobRecord
from parcelq.lineage.source import Source, job_id

FIRST_SECONDS: Final = 1.0
"""Delay of the first look."""
LATE_SECONDS: Final = 30.0
"""A look that is overdue by this many seconds counts as lost."""
MOST_DRAINERS: Final = 8
MESSAGES_OF_A_DRAINER: Final = 5_000
"""For each of this many messages on the output topic, one more invocation drains it, up to a limit. One invocation
drains this many messages of 50,000 bytes in about 6 seconds.
"""


class Look(NamedTuple):
    """A message on the topic of looks.

    Attributes:
        job: the job's id; empty if the look only drains the output topic.
        number: number of the look; 0 if the job may have new messages that its record does not know. For a look that
            only drains, how many times in a row the topics were empty.
        source: the attribute `Source` if the job may have no record; else empty.
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
            if look.source and (Source.parse(look.source) and look.job != job_id(look.source, look.workflow)):
                raise ValueError("job is not the id of that source and workflow")
        except (ValueError, TypeError, RecursionError) as error:
            raise MessageError(f"{text[:200]!r} is not a look: {error}") from None
        return look

    def __str__(self) -> str:
        told = {"job": self.job, "number": self.number, "source": self.source, "workflow": self.workflow}
        return json.dumps({name: value for name, value in told.items() if value}, separators=(",", ":"))


class LookVerdict(Enum):
    """What to do with a look.

    `TAKE` it. `DROP` it, because a later one was already taken. `WAIT`, because the next one should already be
    published; check later whether it was taken. `PUBLISH` the look that the record names, because it was lost.
    """

    TAKE = auto()
    DROP = auto()
    WAIT = auto()
    PUBLISH = auto()


def verdict(record: JobRecord, number: int, now: float) -> LookVerdict:
    """Return the action for the look with a number, given the job's record."""
    if not record.is_looked_at:
        return LookVerdict.DROP
    if number >= record.look:
        return LookVerdict.TAKE
    if number and number < record.look - 1:
        return LookVerdict.DROP
    # The invocation that took the look before wrote the record, and may have died before it published the next look.
    # guard[True]: a look that was lost is published again
    if now < record.due + LATE_SECONDS:
        return LookVerdict.WAIT if number else LookVerdict.DROP
    return LookVerdict.PUBLISH


def more_drainers(messages: int, looks: int) -> int:
    """Return how many looks that only drain should be published.

    Args:
        messages: messages on the output topic.
        looks: messages on the topic of looks, including delayed ones; each of them drains too.
    """
    return max(0, min(messages // MESSAGES_OF_A_DRAINER, MOST_DRAINERS) - looks)
