"""Draining the output topic by as many invocations as it needs, and looks for the jobs whose messages come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from parcelq.collect.drain import Drained, Drainer
from parcelq.collect.looks import Looker
from parcelq.collect.seeing import SourceState
from parcelq.jobs.look import MESSAGES_OF_A_DRAINER, Look, more_drainers
from parcelq.topics.topic import Topic

DRAIN_SHARE: Final = 0.6
"""The share of an invocation's time for draining; the rest is for writing results."""
LOOK_DRAIN_SECONDS: Final = 10.0
"""A look drains for so long at most, so that what it finds is not late; further looks go on from there."""
LOCKED_SECONDS: Final = 60
"""Seconds that looks stay locked; renewed after half of it, so looks of a dead function are delivered again soon."""
DRAIN_PAUSE: Final = 10
VAIN_DRAIN_PAUSE: Final = 30
VAIN_DRAINS: Final = 3
"""Seconds between looks that only drain, and how many in a row must find nothing before they end, because SQS's counts
lag."""


@dataclass(frozen=True, slots=True)
class Draining:
    """What an invocation that takes looks does first.

    Attributes:
        looker: takes the looks.
        output: the topic that results are collected from.
        looks: the topic of looks.
        due: when the next look at a job is due, for jobs that this instance knows of.
    """

    looker: Looker
    output: Topic
    looks: Topic
    due: dict[str, float] = field(default_factory=dict)

    def take_turn(self, looks: Sequence[Look], time_left: Callable[[], float]) -> tuple[Drained, list[SourceState]]:
        """Drain the output topic, and ensure that others drain what is left and look at what came.

        Args:
            looks: the looks that the invocation took.
            time_left: returns its seconds left.

        Returns:
            What was drained, and the results of messages without lineage.
        """
        whole = time_left()
        until = whole - min(LOOK_DRAIN_SECONDS, whole * DRAIN_SHARE)
        self._ask_for_others()
        drained = Drainer(self.output, self.looker.jobs.store).drain(0, lambda: time_left() - until)
        self._go_on(drained, [look.number for look in looks if not look.job])
        return drained, self._notice(drained, [look.job for look in looks if look.job])

    def _ask_for_others(self) -> None:
        """Have more invocations drain the output topic if it has more messages than one drains within seconds."""
        messages = self.output.counts().visible
        if messages >= MESSAGES_OF_A_DRAINER:
            looks = self.looks.counts()
            self.looker.jobs.send(Look() for _ in range(more_drainers(messages, looks.visible + looks.delayed)))

    def _go_on(self, drained: Drained, numbers: Sequence[int]) -> None:
        """Have another invocation drain the output topic while it has messages.

        Args:
            drained: what this one drained.
            numbers: of the looks that it took which do nothing but drain. One follows them until nothing has been on
                any topic a few times in a row: somebody sent it who published messages without beginning a job.
        """
        send = self.looker.jobs.send
        if not drained.exhausted:
            send([Look()])
        elif numbers and (drained.messages or any(sum(topic.counts()) for topic in self.looker.topics)):
            send([Look()], DRAIN_PAUSE)
        elif numbers and min(numbers) < VAIN_DRAINS:
            send([Look(number=min(numbers) + 1)], VAIN_DRAIN_PAUSE)

    def _notice(self, drained: Drained, besides: Sequence[str]) -> list[SourceState]:
        """Ensure that every job with new messages has a look; messages without lineage are written at once."""
        jobs, written = self.looker.jobs, []
        for job in drained.jobs:
            if not job.source:
                written += self.looker.finisher.finish_without_lineage()
            # guard[False]: a job with new messages gets a look
            elif job.id not in besides and self.due.get(job.id, 0) < jobs.now():
                due = jobs.notice(job.source, job.workflow)
                if due is None:
                    self.looker.take(Look(job.id))
                else:
                    self.due[job.id] = due
        return written
