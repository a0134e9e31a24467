"""Runs consecutive steps of a workflow in one invocation: each step gets the output of the step before directly,
without a topic between the two steps.

A message's lineage shows how many steps the message has passed, so all steps of a stage can share one topic. A message
is done only when its outputs from all of these steps are published. If a step cannot process a message now, the message
is published on the stage's topic and delivered later.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final, NamedTuple

from parcelq.aws.batching import batches
from parcelq.errors import ParcelqError
from parcelq.process.apply import Application, Outcome, Route
from parcelq.process.budget import Budget
from parcelq.process.dead import Circumstances
from parcelq.process.decide import Judge
from parcelq.process.processor import Processor
from parcelq.process.read import read_messages
from parcelq.process.rules import Rules
from parcelq.topics.attributes import LINEAGE
from parcelq.topics.header import Headers
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Published, Publisher

_TOGETHER: Final = 8
"""How many messages the next step gets at a time, at most, because their bodies are in memory."""


class Onward:
    """A `Publisher` that receives the output of a step if the next step is in the same stage.

    If it is `direct`, the next step is run at once; otherwise all messages are published on the topic. `dead` is the
    number of messages and entries that have died in the following steps.
    """

    def __init__(self, topic: Publisher, processor: Processor) -> None:
        self.name = topic.name
        self.direct = False
        self.dead = 0
        self._topic = topic
        self._processor = processor
        self._numbers = count()
        self._invocation = ""
        self._budget: Budget | None = None

    def begin(self, budget: Budget, invocation: str, *, direct: bool) -> None:
        """Prepare for the messages of an invocation, which has the time `budget`."""
        self._budget, self._invocation, self.direct, self.dead = budget, invocation, direct, 0

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Run the next step over messages. Messages that the step cannot process now are published on the topic."""
        if not self.direct or delay_seconds or self._budget is None:
            return self._topic.publish(messages, delay_seconds=delay_seconds)
        published = 0
        failed: list[FailedMessage] = []
        for group in batches(messages, _TOGETHER):
            handed = [self._pulled(message) for message in group]
            outcome = self._processor.handle(
                handed, self._budget.time_left, invocation=self._invocation, budget=self._budget
            )
            self.dead += outcome.dead
            published += len(outcome.done)
            left = [one.message() for one, _ in outcome.failed]
            if left:
                # guard[published += len(left)]: what a following step cannot do now comes back on the stage's topic
                handed_on = self._topic.publish(left)
                published += handed_on.published
                failed += handed_on.failed
        return Published(published, failed)

    def _pulled(self, message: Message) -> Pulled:
        number = f"handed over: {next(self._numbers)}"
        return Pulled(number, number, 1, message)  # the content shows that the message was never on the topic


class Chain(NamedTuple):
    """The steps of a workflow that one stage runs."""

    processors: Sequence[Processor]
    onward: Sequence[Onward] = ()

    def handle(self, pulled: Iterable[Pulled], time_left: Callable[[], float], invocation: str) -> Outcome:
        """Run the steps over messages; see `Processor.handle`.

        If a message was received before, it may have killed a Lambda function in any step. So the outputs of such a
        message are published on the topic. After that, a following step can kill the Lambda function only while the
        step processes another message.
        """
        budget = Budget(time_left)
        groups: defaultdict[tuple[int, bool], list[Pulled]] = defaultdict(list)
        for one in pulled:
            # guard[is_new = True]: what follows from a message that may have killed a function is a message of its own
            is_new = one.receive_count == 1
            groups[self._step_of(one), is_new].append(one)
        whole = Outcome()
        for (number, is_new), messages in sorted(groups.items(), key=lambda group: group[0]):
            for onward in self.onward:
                onward.begin(budget, invocation, direct=is_new)
            whole.add(self.processors[number].handle(messages, time_left, invocation=invocation, budget=budget))
            whole.dead += sum(one.dead for one in self.onward)
        return whole

    def close(self) -> None:
        """End the processes of warm steps (steps with processes that are kept between runs)."""
        for processor in self.processors:
            processor.close()

    def _step_of(self, pulled: Pulled) -> int:
        """Return the number of the step that processes a message: the number of steps in the message's lineage."""
        return min(pulled.attributes.get(LINEAGE, "").count(">"), len(self.processors) - 1)


def refuse(
    route: Route, rules: Rules, workflow: str, error: ParcelqError, headers: Headers, pulled: Iterable[Pulled]
) -> Outcome:
    """Publish messages as dead letters and tombstones, because their workflow cannot run for the reason `error`."""
    pulled = list(pulled)
    judge = Judge(rules, Circumstances(workflow, time.time(), workflow), last_stage=True)
    application = Application(route, pulled)
    works, decided = read_messages(route.input, pulled, judge, headers)
    application.apply([*decided, *(judge.given_up(work, error) for work in works)])
    return application.finish(acknowledges=False)
