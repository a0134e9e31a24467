"""Carries out decisions: publishes messages first, and acknowledges the processed messages after that.

No other part of the processing of messages publishes or acknowledges messages.
"""

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
from parcelq.topics.cost import COST, METER, NOTHING, Cost
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Publisher, Topic

_log = logging.getLogger(__name__)
_TRAVEL: Final = 2
"""How many attributes a message may get when it is sent."""


class Route(NamedTuple):
    """The topics that a step reads from and publishes on.

    `input` also gets parts of messages, `following` gets the step's output and may be the output topic, and `output` is
    the topic from which results are collected, which also gets tombstones.
    """

    input: Topic
    following: Publisher
    dead_letters: Publisher
    output: Publisher

    def topic(self, target: Destination) -> Publisher:
        """Return the topic that a destination refers to."""
        topic: Publisher = getattr(self, target.value)
        return topic

    @property
    def is_last_stage(self) -> bool:
        """Whether the step's output is collected as the result; otherwise another step processes the output."""
        return self.following.name == self.output.name


@dataclass(slots=True)
class Outcome:
    """What happened to messages that were processed.

    Attributes:
        done: the messages from which everything that follows (outputs, parts, dead letters) is published.
        ended: the messages in `done` that led to outputs or dead letters, not to parts or to a message for another run.
        failed: messages that will be delivered again, each with the reason.
        cut: how many messages were re-parcelled (cut into smaller messages).
        dead: how many messages, or entries that a step rejected, went to the dead-letter topic.
        marks: the keys of marks that are no longer needed, so that the caller can delete these marks.
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
        """Add the outcome of other messages to this outcome."""
        for name in self.__slots__:
            value = getattr(self, name)
            value += getattr(other, name)
            setattr(self, name, value)


def _cost_of(decision: Decision) -> Cost:
    """Return the costs that a decision's messages carry, plus the cost of the decision's run."""
    carried = (one.attributes[COST] for one in decision.deliveries if COST in one.attributes)
    run = Cost.of_run(decision.run.seconds) if decision.run else NOTHING
    return sum(map(Cost.parse, carried), run)


def _with_cost(publication: Publication, cost: Cost) -> tuple[Message, Cost]:
    """Return a message with its cost, and the part of the cost that it does not carry. Only outputs carry costs."""
    message = publication.message
    attributes = {name: value for name, value in message.attributes.items() if name != COST}
    is_output = publication.target in {Destination.FOLLOWING, Destination.OUTPUT}
    if is_output and len(attributes) < MAX_ATTRIBUTES - _TRAVEL:
        cost += METER.take()
        if cost != NOTHING:
            return replace(message, attributes={**attributes, COST: str(cost)}), NOTHING
    return (message if len(attributes) == len(message.attributes) else replace(message, attributes=attributes)), cost


class Application:
    """Publishes the messages of decisions, and records which `pulled` messages are done; the others have failed."""

    def __init__(self, route: Route, pulled: Iterable[Pulled], *, counts: bool = False) -> None:
        self._route = route
        self._counts = counts
        self._open = {one.receipt_handle: one for one in pulled}
        self._reasons: dict[str, str] = {}
        # Failed publications, and errors in outputs or parts that cannot be read, by the id() of the decision. A
        # decision exists as long as `apply` runs.
        self._lost: dict[int, FailedMessage] = {}
        self._unreadable: dict[int, Exception] = {}
        self._acknowledged: set[str] = set()
        self.outcome = Outcome()

    def apply(self, decisions: Iterable[Decision | Postponed]) -> list[tuple[Decision, str]]:
        """Publish the messages of decisions, with as few requests as possible: the output of a run when the run ends,
        and all other messages, which are small, after the last run.

        Returns the decisions with an output or parts that cannot be read or that SQS refused twice, with the reasons;
        see `Judge.refused`.
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
                METER.add(cost)  # the next output carries the cost that no message of this decision carries

        with closing(outputs()) as stream:
            self._publish(self._route.following, stream, 0)
        for (target, delay_seconds), messages in others.items():
            whole = (one for one in messages if id(one[0]) not in self._unreadable)
            self._publish(self._route.topic(target), whole, delay_seconds)
        refused = [one for decision in applied if (one := self._record(decision))]
        self._lost.clear()
        self._unreadable.clear()
        return refused

    def acknowledge(self) -> None:
        """Acknowledge the messages that are done so far. Raises AwsError or TopicNotFoundError if the topic refuses."""
        new = [one for one in self.outcome.done if one.receipt_handle not in self._acknowledged]
        if new:
            kept = {one.receipt_handle for one in self._route.input.acknowledge(new)}
            # guard[self._acknowledged.update(one.receipt_handle for one in new)]: a worker counts a message as done
            # only if its acknowledgement is confirmed
            self._acknowledged.update(one.receipt_handle for one in new if one.receipt_handle not in kept)

    def acknowledge_early(self) -> None:
        """Acknowledge messages that are done, because the next run may kill the function. Failures are logged."""
        try:
            # guard[pass]: what is done is acknowledged before a run that may kill the function
            self.acknowledge()
        except ParcelqError as error:
            _log.warning("messages that are done could not be acknowledged early: %s", error)

    def finish(self, *, acknowledges: bool) -> Outcome:
        """Return the outcome of all messages. If `acknowledges`, messages are done only if they can be acknowledged."""
        if acknowledges:
            self.acknowledge()
            lost = [one for one in self.outcome.done if one.receipt_handle not in self._acknowledged]
            self.outcome.done = [one for one in self.outcome.done if one.receipt_handle in self._acknowledged]
            self._open.update((one.receipt_handle, one) for one in lost)
            self._give_up(lost, "the message was not acknowledged")
        self.outcome.failed = [
            (one, self._reasons.get(handle, "there was no time left for it")) for handle, one in self._open.items()
        ]
        return self.outcome

    def _publications(self, decision: Decision) -> Iterator[Publication]:
        """Return the publications of a decision. An output, or parts, that cannot be read affect only this decision."""
        try:
            yield from decision.publications
        # guard[()]: an output that cannot be read fails its message alone
        except (ParcelqError, OSError, MemoryError) as error:
            self._unreadable[id(decision)] = error
        finally:
            if decision.run:
                decision.run.close()

    def _publish(self, topic: Publisher, owned: Iterable[tuple[Decision, Message]], delay_seconds: int) -> None:
        """Publish messages of decisions, and record the decisions with messages that were not published. If the topic
        refuses a whole request, no message counts as published, because nobody knows which ones are.
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
        for one in failed:  # this list keeps the message, so no later object can have the same id()
            # guard[pass]: what a topic lists as failed does not count as published
            self._lost.setdefault(id(owners[id(one.message)]), one)

    def _record(self, decision: Decision) -> tuple[Decision, str] | None:
        """Record that a decision is carried out, if all of its messages were published. Return a decision that can
        never be carried out, with the reason.
        """
        lost, unreadable = self._lost.get(id(decision)), self._unreadable.get(id(decision))
        what = "output" if decision.run else "parts" if decision.cut else ""
        # guard[False]: a message whose parts cannot be read is not done
        if unreadable:
            reason = f"its {what} cannot be read: {unreadable}"
            if decision.run or isinstance(unreadable, ParcelqError):
                return decision, reason
            self._give_up(decision.deliveries, reason)
            _log.warning("%s", reason)
            return None
        # guard[True]: messages are done only when everything that they led to is confirmed as published
        if lost is None:
            done = [one for one in decision.deliveries if self._open.pop(one.receipt_handle, None)]
            ended = done if decision.entries or decision.dead else []
            marks = list(decision.marks)
            self.outcome.add(Outcome(done, ended, [], decision.entries, 0, decision.cut, decision.dead, marks))
        # guard[False]: an output that can never be published is a failed run
        elif lost.sender_fault and what and all(one.receive_count > 1 for one in decision.deliveries):
            return decision, f"its {what} cannot be published: {lost.reason or lost.code}"
        else:
            self._give_up(decision.deliveries, lost.reason or lost.code)
        return None

    def _give_up(self, deliveries: Iterable[Pulled], reason: str) -> None:
        self._reasons.update((one.receipt_handle, reason) for one in deliveries)
