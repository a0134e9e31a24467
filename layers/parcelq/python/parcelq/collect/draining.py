"""Drains the output topic with as many invocations as needed, and schedules a check (a look) of each drained job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from parcelq.collect.drain import Drained, Drainer
from parcelq.collect.looks import Looker
from parcelq.collect.seeing import SourceState
from parcelq.errors import ParcelqError
from parcelq.jobs.look import MESSAGES_OF_A_DRAINER, Look, more_drainers
from parcelq.topics.topic import Topic

_log = logging.getLogger(__name__)
DRAIN_SHARE: Final = 0.6
"""The share of an invocation's time that is used for draining. The remaining time is used for writing results."""
LOOK_DRAIN_SECONDS: Final = 10.0
"""An invocation that received a look drains at most this long, so that the check is not late; others continue."""
LOCKED_SECONDS: Final = 60
"""Received looks are hidden for this time, which a living invocation renews. If it dies, they are delivered soon."""
DRAIN_PAUSE: Final = 10
VAIN_DRAIN_PAUSE: Final = 30
VAIN_DRAINS: Final = 3
"""Seconds between looks that only drain, and how many in a row must find empty topics, because SQS counts late."""


@dataclass(frozen=True, slots=True)
class Draining:
    """Drains the output topic. Every invocation that takes looks (scheduled checks of jobs) does this first. `due` maps
    the id of a known job to the time when the next look at the job is due.
    """

    looker: Looker
    output: Topic
    looks: Topic
    due: dict[str, float] = field(default_factory=dict)

    def take_turn(self, looks: Sequence[Look], time_left: Callable[[], float]) -> tuple[Drained, list[SourceState]]:
        """Drain the output topic, and return the outcome and the results of messages without lineage. If needed,
        publish looks, so that other invocations drain the remaining messages and check the drained jobs.
        """
        whole = time_left()
        until = whole - min(LOOK_DRAIN_SECONDS, whole * DRAIN_SHARE)
        self._ask_for_others()
        drained = Drainer(self.output, self.looker.jobs.store).drain(0, lambda: time_left() - until)
        self._go_on(drained, [look.number for look in looks if not look.job])
        return drained, self._notice(drained, [look.job for look in looks if look.job])

    def _ask_for_others(self) -> None:
        """Start more invocations that drain the output topic, if one invocation would need too long."""
        messages = self.output.counts().visible
        if messages >= MESSAGES_OF_A_DRAINER:
            looks = self.looks.counts()
            self.looker.jobs.send(Look() for _ in range(more_drainers(messages, looks.visible + looks.delayed)))

    def _go_on(self, drained: Drained, numbers: Sequence[int]) -> None:
        """Start another invocation if the output topic still has messages.

        A program that publishes messages without a job sends a look that only drains. Each such look (`numbers` are
        those of the received ones) is followed by another until all topics were empty a few times in a row.
        """
        send = self.looker.jobs.send
        if not drained.exhausted:
            send([Look()])
        elif numbers and (drained.messages or any(sum(topic.counts()) for topic in self.looker.topics)):
            send([Look()], DRAIN_PAUSE)
        elif numbers and min(numbers) < VAIN_DRAINS:
            send([Look(number=min(numbers) + 1)], VAIN_DRAIN_PAUSE)

    def _notice(self, drained: Drained, besides: Sequence[str]) -> list[SourceState]:
        """Ensure that every job with new messages has a published look; write messages without lineage at once."""
        jobs, written = self.looker.jobs, []
        for job in drained.jobs:
            if not job.source:
                written += self.looker.finisher.finish_without_lineage()
            # guard[False]: a job with new messages gets a look
            elif job.id not in besides and self.due.get(job.id, 0) < jobs.now():
                try:
                    due = jobs.notice(job.source, job.workflow)
                    if due is None:
                        self.looker.take(Look(job.id))
                    else:
                        self.due[job.id] = due
                # guard[(LookupError,)]: a job whose record cannot be read does not hold up other jobs
                except (ParcelqError, OSError) as error:
                    _log.error("%s", error, extra={"source": job.source})
        return written
