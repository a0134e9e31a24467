"""Steps of a workflow in a row: the next one gets the output of each in the same invocation, without a topic between.

A message's lineage says how many steps it has passed, so every step of a stage can take its messages from one topic. A
message is done only when everything that it led to is published, through all of the steps. A message that a step cannot
handle now is published on the stage's topic, and is delivered as a message of its own.
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
from parcelq.topics.forwarding import ForwardingTopic
from parcelq.topics.header import Headers
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Published, Topic

_HANDED: Final = "handed over: "
"""Receipts begin with this if their message was never on a topic."""
_TOGETHER: Final = 8
"""Messages that the next step gets at once; their bodies are in memory."""


class StageTopic(ForwardingTopic):
    """The topic of a stage, for messages that lie on it and for those that an earlier step of the stage hands over.

    Those never leave the process. They need no acknowledgement and have no deadline.
    """

    def read(self, pulled: Pulled) -> Message:
        """Return the message that was pulled or handed over."""
        return pulled.message() if _is_handed(pulled) else super().read(pulled)

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages that lie on the topic."""
        return super().acknowledge(_lying(messages))

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """Set the deadline of messages that lie on the topic."""
        return super().refresh_deadline(_lying(messages), timeout)


def _is_handed(pulled: Pulled) -> bool:
    return pulled.receipt_handle.startswith(_HANDED)


def _lying(messages: Iterable[Pulled]) -> list[Pulled]:
    return [one for one in messages if not _is_handed(one)]


class Onward(StageTopic):
    """Where the output of a step goes if the next step is in the same stage.

    Attributes:
        direct: whether the next step runs at once; otherwise everything goes to the topic.
        dead: messages and entries that died in the following steps, so far.
    """

    def __init__(self, topic: Topic, processor: Processor) -> None:
        super().__init__(topic)
        self.direct = False
        self.dead = 0
        self._processor = processor
        self._numbers = count()
        self._invocation = ""
        self._budget: Budget | None = None

    def begin(self, budget: Budget, invocation: str, *, direct: bool) -> None:
        """Begin with messages of an invocation, which has this time."""
        self._budget, self._invocation, self.direct = budget, invocation, direct

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Run the next step over messages. What it cannot do now is published on the topic."""
        if not self.direct or delay_seconds or self._budget is None:
            return super().publish(messages, delay_seconds=delay_seconds)
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
                handed_on = super().publish(left)
                published += handed_on.published
                failed += handed_on.failed
        return Published(published, failed)

    def _pulled(self, message: Message) -> Pulled:
        number = f"{_HANDED}{next(self._numbers)}"
        return Pulled(number, number, 1, message)


class Chain(NamedTuple):
    """The steps of a workflow that one stage runs.

    Attributes:
        processors: the processor of each step of the workflow.
        onward: where the outputs go that a following step of the same stage takes.
    """

    processors: Sequence[Processor]
    onward: Sequence[Onward] = ()

    def handle(self, pulled: Iterable[Pulled], time_left: Callable[[], float], invocation: str) -> Outcome:
        """Run the steps over messages; see `Processor.handle`.

        A message that was received before may have killed a function, in any step. Its outputs are published on the
        topic, so that a following step that kills the function does so in a message of its own.
        """
        budget = Budget(time_left)
        groups: defaultdict[tuple[int, bool], list[Pulled]] = defaultdict(list)
        for one in pulled:
            # guard[is_new = True]: what follows from a message that may have killed a function is a message of its own
            is_new = one.receive_count == 1
            groups[self._step_of(one), is_new].append(one)
        whole = Outcome()
        dead = sum(one.dead for one in self.onward)
        for (number, is_new), messages in sorted(groups.items(), key=lambda group: group[0]):
            for onward in self.onward:
                onward.begin(budget, invocation, direct=is_new)
            whole.add(self.processors[number].handle(messages, time_left, invocation=invocation, budget=budget))
        whole.dead += sum(one.dead for one in self.onward) - dead
        return whole

    def close(self) -> None:
        """End the processes that are kept for warm steps."""
        for processor in self.processors:
            processor.close()

    def _step_of(self, pulled: Pulled) -> int:
        """Number of the step that a message is for: as many as its lineage has passed."""
        return min(pulled.attributes.get(LINEAGE, "").count(">"), len(self.processors) - 1)


def refuse(
    route: Route, rules: Rules, workflow: str, error: ParcelqError, headers: Headers, pulled: Iterable[Pulled]
) -> Outcome:
    """Publish messages as dead letters, with tombstones for them, because there is no program for their workflow.

    The error says why. Nothing is lost by that.
    """
    pulled = list(pulled)
    judge = Judge(rules, Circumstances(workflow, time.time(), workflow), last_stage=True)
    application = Application(route, pulled)
    works, decided = read_messages(route.input, pulled, judge, headers)
    application.apply([*decided, *(judge.given_up(work, error) for work in works)])
    return application.finish(acknowledges=False)
