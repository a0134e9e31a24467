"""Carries out decisions: the only module of `process` that publishes and acknowledges, in this order."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from parcelq.errors import ParcelqError
from parcelq.limits import MAX_ATTRIBUTES
from parcelq.process.decide import Decision, Destination, Postponed, Publication
from parcelq.process.runs import Run
from parcelq.topics.cost import COST, METER, NOTHING, Cost
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Publisher, Topic

_log = logging.getLogger(__name__)
_TRAVEL: Final = 2
"""Attributes that a message may get when it is sent."""


class Route(NamedTuple):
    """The topics of a step.

    Attributes:
        input: the topic of its messages; parts of messages are published here too.
        following: the topic for its output: the next stage's topic, or the output topic.
        dead_letters: the topic for messages that failed for good.
        output: the topic that results are collected from, and the topic for tombstones.
    """

    input: Topic
    following: Topic
    dead_letters: Publisher
    output: Topic

    def topic(self, target: Destination) -> Publisher:
        """Return the topic of a target."""
        topic: Publisher = getattr(self, target.value)
        return topic

    @property
    def is_last_stage(self) -> bool:
        """Whether the step's output is collected; otherwise another step processes it."""
        return self.following.name == self.output.name


@dataclass(slots=True)
class Outcome:
    """The outcome of messages.

    Attributes:
        done: messages whose outputs are all published.
        ended: those done messages that gave outputs or dead letters, and not parts or a message for another run.
        failed: messages that are delivered again, with the reasons.
        entries: successfully processed entries.
        published: messages that were published.
        cut: messages that were re-parcelled.
        dead: messages, or entries that a step rejected, that went to the dead-letter topic.
        marks: keys of marks that are no longer needed.
    """

    done: list[Pulled] = field(default_factory=list)
    ended: list[Pulled] = field(default_factory=list)
    failed: list[tuple[Pulled, str]] = field(default_factory=list)
    entries: int = 0
    published: int = 0
    cut: int = 0
    dead: int = 0
    marks: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add the outcome of other messages."""
        for name in self.__slots__:
            value = getattr(self, name)
            value += getattr(other, name)
            setattr(self, name, value)


def _cost_of(decision: Decision) -> Cost:
    """The costs for the messages of a decision, and its run."""
    carried = (one.attributes[COST] for one in decision.deliveries if COST in one.attributes)
    run = Cost.of_run(decision.run.seconds) if decision.run else NOTHING
    return sum(map(Cost.parse, carried), run)


def _with_cost(publication: Publication, cost: Cost) -> tuple[Message, Cost]:
    """Return the message with its cost, and the cost that it does not carry: only outputs carry costs."""
    message = publication.message
    attributes = {name: value for name, value in message.attributes.items() if name != COST}
    is_output = publication.target in {Destination.FOLLOWING, Destination.OUTPUT}
    if is_output and len(attributes) < MAX_ATTRIBUTES - _TRAVEL:
        cost += METER.take()
        if cost != NOTHING:
            return replace(message, attributes={**attributes, COST: str(cost)}), NOTHING
    return (message if len(attributes) == len(message.attributes) else replace(message, attributes=attributes)), cost


class Application:
    """Publishes the messages of decisions, and knows which messages are done after that.

    Args:
        pulled: all messages of this invocation. Every message that is not done counts as failed.
        counts: whether messages carry their cost.
    """

    def __init__(self, route: Route, pulled: Iterable[Pulled], *, counts: bool = False) -> None:
        self._route = route
        self._counts = counts
        self._open = {one.receipt_handle: one for one in pulled}
        self._reasons: dict[str, str] = {}
        # Failed publications, and reasons why outputs cannot be read, by the id() of the decision, which exists as long
        # as `apply` runs.
        self._lost: dict[int, FailedMessage] = {}
        self._unreadable: dict[int, str] = {}
        self._acknowledged: set[str] = set()
        self.outcome = Outcome()

    def apply(self, decisions: Iterable[Decision | Postponed]) -> list[tuple[Run, str]]:
        """Publish the messages of decisions, with as few requests as possible.

        The output of a run is published when the run ends. Everything else is small, and is published after the last
        run.

        Returns:
            Runs whose output cannot be read, or was refused twice by SQS, with the reasons; they count as failed.
        """
        applied: list[Decision] = []
        others: defaultdict[tuple[Destination, int], list[tuple[Decision, Message]]] = defaultdict(list)

        def outputs() -> Generator[tuple[Decision, Message]]:
            for decision in decisions:
                if isinstance(decision, Postponed):
                    self._give_up(decision.deliveries, decision.reason)
                    continue
                applied.append(decision)
                cost = _cost_of(decision) if self._counts else NOTHING
                for one in self._publications(decision):
                    message = one.message
                    if self._counts:
                        message, cost = _with_cost(one, cost)
                    if one.target is Destination.FOLLOWING:
                        yield decision, message
                    else:
                        others[one.target, one.delay_seconds].append((decision, message))
                METER.add(cost)  # if it was not published, the next output carries it

        with closing(outputs()) as stream:
            self._publish(self._route.following, stream, 0)
        for (target, delay_seconds), messages in others.items():
            self._publish(self._route.topic(target), messages, delay_seconds)
        refused = [one for decision in applied if (one := self._settle(decision))]
        self._lost.clear()
        self._unreadable.clear()
        return refused

    def acknowledge(self) -> None:
        """Acknowledge the messages done so far.

        Raises:
            AwsError, TopicNotFoundError: the topic refuses to delete messages.
        """
        new = [one for one in self.outcome.done if one.receipt_handle not in self._acknowledged]
        if new:
            kept = {one.receipt_handle for one in self._route.input.acknowledge(new)}
            # guard[self._acknowledged.update(one.receipt_handle for one in new)]: a worker counts a message as done
            # only if its acknowledgement is confirmed
            self._acknowledged.update(one.receipt_handle for one in new if one.receipt_handle not in kept)

    def acknowledge_early(self) -> None:
        """Acknowledge messages that are done before a run that may kill the function; failures are only logged."""
        try:
            # guard[pass]: what is done is acknowledged before a run that may kill the function
            self.acknowledge()
        except ParcelqError as error:
            _log.warning("messages that are done could not be acknowledged early: %s", error)

    def finish(self, *, acknowledges: bool) -> Outcome:
        """Return the outcome of all messages.

        Args:
            acknowledges: whether to acknowledge messages that are done; a message whose acknowledgement fails has
                failed.
        """
        if acknowledges:
            self.acknowledge()
            lost = [one for one in self.outcome.done if one.receipt_handle not in self._acknowledged]
            self.outcome.done = [one for one in self.outcome.done if one.receipt_handle in self._acknowledged]
            self._open.update((one.receipt_handle, one) for one in lost)
            self._give_up(lost, "it was not acknowledged")
        self.outcome.failed = [
            (one, self._reasons.get(handle, "there was no time left for it")) for handle, one in self._open.items()
        ]
        return self.outcome

    def _publications(self, decision: Decision) -> Iterator[Publication]:
        """Return the publications of a decision. If the step's output cannot be read, only that run has failed."""
        try:
            yield from decision.publications
        # guard[()]: an output that cannot be read fails its message alone
        except (ParcelqError, OSError, MemoryError) as error:
            self._unreadable[id(decision)] = f"its output cannot be read: {error}"
        finally:
            if decision.run:
                decision.run.close()

    def _publish(self, topic: Publisher, owned: Iterable[tuple[Decision, Message]], delay_seconds: int) -> None:
        """Publish messages of decisions, and note the decisions that were not completely published.

        If the topic refuses whole requests, it is unknown which messages it accepted before, so none of them count.
        """
        owners: dict[int, Decision] = {}

        def messages() -> Iterator[Message]:
            for owner, message in owned:
                owners[id(message)] = owner
                yield message

        try:
            published, failed = topic.publish(messages(), delay_seconds=delay_seconds)
        except ParcelqError as error:
            refused = FailedMessage(Message(b""), type(error).__name__, str(error), sender_fault=False)
            # guard[pass]: if a topic refuses a whole request, none of its messages count as published
            self._lost.update((id(owner), refused) for owner in owners.values())
            self._reasons.update((handle, str(error)) for handle in self._open if handle not in self._reasons)
            return
        self.outcome.published += published
        for one in failed:  # this list keeps it alive, so no later object can have its id
            # guard[pass]: what a topic lists as failed does not count as published
            self._lost.setdefault(id(owners[id(one.message)]), one)

    def _settle(self, decision: Decision) -> tuple[Run, str] | None:
        """Note that a decision is carried out, if it is."""
        lost, unreadable = self._lost.get(id(decision)), self._unreadable.get(id(decision))
        if unreadable and decision.run:
            return decision.run, unreadable
        # guard[True]: messages are done only when everything that they led to is confirmed as published
        if lost is None:
            done = [one for one in decision.deliveries if self._open.pop(one.receipt_handle, None)]
            ended = done if decision.entries or decision.dead else []
            marks = list(decision.marks)
            self.outcome.add(Outcome(done, ended, [], decision.entries, 0, decision.cut, decision.dead, marks))
        # guard[False]: an output that can never be published is a failed run
        elif lost.sender_fault and decision.run and all(one.receive_count > 1 for one in decision.deliveries):
            return decision.run, f"its output cannot be published: {lost.reason or lost.code}"
        else:
            self._give_up(decision.deliveries, lost.reason or lost.code)
        return None

    def _give_up(self, deliveries: Iterable[Pulled], reason: str) -> None:
        self._reasons.update((one.receipt_handle, reason) for one in deliveries)
