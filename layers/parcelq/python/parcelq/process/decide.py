"""Decides what to publish about messages that were read or run. Pure functions.

The module `apply` carries decisions out. A message is acknowledged only when SQS has confirmed everything that the
message's decision publishes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from typing import NamedTuple

from parcelq.errors import InvalidValueError, ParcelqError, StepError
from parcelq.lineage.lineage import Span, digest
from parcelq.process.dead import KILLED, Circumstances, dead_letter, reason_of, tombstone
from parcelq.process.output import (
    OutputPart,
    joined_bodies,
    output_messages,
    part_of,
    parts_of,
    parts_of_message,
    pieces_of_part,
)
from parcelq.process.plan import Evidence, Plan, Work
from parcelq.process.rules import Rules
from parcelq.process.runs import Run
from parcelq.topics.attributes import DEAD, ENCODING, ENTRIES, FAILURES, FIRST, FORMAT, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled, with_attributes
from parcelq.topics.pieces import Piece, pack
from parcelq.upload.parcels import MAX_BODY_BYTES

_log = logging.getLogger(__name__)


class Destination(Enum):
    """A topic on which something is published; `Route` has the topic of each destination."""

    FOLLOWING = "following"
    INPUT = "input"
    DEAD_LETTERS = "dead_letters"
    OUTPUT = "output"


class Publication(NamedTuple):
    """A message to publish, which is delivered after `delay_seconds`."""

    target: Destination
    message: Message
    delay_seconds: int = 0


class Decision(NamedTuple):
    """A decision about messages: first the publications are made, then the messages are acknowledged.

    Attributes:
        publications: the messages to publish. The iterable may read a step's output only while it yields the messages.
        entries: how many entries were processed successfully.
        dead: how many entries or messages are dead.
        cut: how many messages are re-parcelled (cut into smaller messages).
        marks: keys of marks that are no longer needed when the decision is carried out.
        run: the run that led to the decision. If the publications can never be made, this run has failed.
    """

    deliveries: tuple[Pulled, ...]
    publications: Iterable[Publication] = ()
    entries: int = 0
    dead: int = 0
    cut: int = 0
    marks: tuple[str, ...] = ()
    run: Run | None = None


class Postponed(NamedTuple):
    """Messages that are delivered again, for a reason that the messages did not cause."""

    deliveries: tuple[Pulled, ...]
    reason: str


class Judge(NamedTuple):
    """Decides which messages Parcelq publishes after it has read or run messages. In the `last_stage`, the step's
    output is published on the output topic.
    """

    rules: Rules
    about: Circumstances
    last_stage: bool

    def unreadable(self, pulled: Pulled, error: ParcelqError) -> Decision:
        """Decide about a message that cannot be read: it is dead, unchanged. Its lineage may still be readable."""
        attributes = {name: value for name, value in pulled.attributes.items() if name not in {ENCODING, FORMAT}}
        work = Work.of(pulled, Message(b"", {**attributes, DEAD: "unread"}))
        return self._dead(work, pulled.as_it_is(), reason_of(error), runs=0)

    def given_up(self, work: Work, error: ParcelqError) -> Decision:
        """Decide about a readable message with a workflow that cannot run: the message is dead."""
        return self._dead(work, work.message, reason_of(error), runs=0)

    def passed_on(self, pulled: Pulled, message: Message) -> Decision:
        """Decide about a tombstone of an earlier stage: the tombstone goes to the output topic."""
        return Decision((pulled,), (Publication(Destination.OUTPUT, message),))

    def header(self, work: Work) -> Decision:
        """Decide about a message that contains only the header of its source: its bytes count as processed without a
        run, because every other message of the source brings the header to the step.
        """
        assert work.lineage is not None
        lineage = work.lineage.child(Span(0, 0, 0), digest(b""), 0)
        attributes = {**self.about.attributes, SOURCE: work.source, LINEAGE: str(lineage), ENTRIES: "0"}
        return Decision(work.deliveries, (Publication(Destination.OUTPUT, Message(b"", attributes)),))

    def without_run(self, plan: Plan, evidence: Evidence) -> Iterator[Decision]:
        """Decide about the messages of a plan that are not run.

        Messages with more entries than a batch are cut into parcels. A run that killed its Lambda function has failed.
        """
        for work in plan.too_large:
            yield self._cut(work, self.rules.batch_size, work.failures)
        for work in plan.put_back:
            yield Decision(work.deliveries, (Publication(Destination.INPUT, work.message),))
        for work in plan.killers:
            _log.warning("%s", KILLED, extra=work.about)
            yield self._failed(work, KILLED, marks=evidence.killed[work.place], killed=True)

    def of_run(self, run: Run) -> Iterator[Decision | Postponed]:
        """Decide after a run: the run's output is published, or its messages have failed or are delivered again."""
        if run.error:
            yield from self.failed(run, run.error)
        elif run.ran is None:
            yield Postponed(run.deliveries, run.hindrance)
        elif run.ran.rejects:
            try:
                yield self._with_rejects(run)
            except InvalidValueError as error:
                yield from self.failed(run, StepError(self.about.step, f"reported invalid rejects: {error}"))
        else:
            yield Decision(run.deliveries, self._outputs(run), entries=run.entries, run=run)

    def failed(self, run: Run, error: StepError) -> Iterator[Decision]:
        """Decide after a run that failed, or whose output can never be published. Messages that ran together run alone
        next.
        """
        if len(run.group) == 1:
            _log.warning("%s", error, extra=run.group[0].about)
            yield self._failed(run.group[0], reason_of(error))
            return
        for work in run.group:
            yield self._again(work, work.failures + 1, delay_seconds=0)

    def refused(self, decision: Decision, reason: str) -> Iterator[Decision]:
        """Decide again after a decision that can never be carried out: its run has failed, or its messages, which could
        not be cut, are dead.
        """
        if decision.run:
            yield from self.failed(decision.run, StepError(self.about.step, reason))
            return
        for one in decision.deliveries:
            yield self.unreadable(one, ParcelqError(reason))._replace(marks=decision.marks)

    def _failed(self, work: Work, reason: str, *, marks: tuple[str, ...] = (), killed: bool = False) -> Decision:
        failures = work.failures + 1
        # guard[False]: a message gets another run after its first failure
        if not self.rules.is_last(work):
            return self._again(work, failures, self.rules.delay(failures), marks)
        # guard[False]: a message that failed for the last time is halved, so that only its bad entries die
        if self.rules.can_be_cut(work):
            return self._cut(work, self.rules.part_size(work, killed=killed), self.rules.max_failures - 1, marks)
        return self._dead(work, work.message, reason, failures, marks)

    def _again(self, work: Work, failures: int, delay_seconds: int, marks: tuple[str, ...] = ()) -> Decision:
        # guard[message = work.message]: a message carries how many of its runs failed
        message = with_attributes(work.message, **{FAILURES: str(failures)})
        return Decision(work.deliveries, (Publication(Destination.INPUT, message, delay_seconds),), marks=marks)

    def _cut(self, work: Work, size: int, failures: int, marks: tuple[str, ...] = ()) -> Decision:
        parts = parts_of_message(work, size, failures)
        return Decision(work.deliveries, (Publication(Destination.INPUT, part) for part in parts), cut=1, marks=marks)

    def _dead(self, work: Work, message: Message, reason: str, runs: int, marks: tuple[str, ...] = ()) -> Decision:
        publications = [Publication(Destination.DEAD_LETTERS, dead_letter(message, reason, self.about, runs))]
        # guard[False]: the output topic gets a tombstone for a dead letter
        if work.lineage:
            publications.append(Publication(Destination.OUTPUT, tombstone(work, reason, self.about)))
        return Decision(work.deliveries, tuple(publications), dead=1, marks=marks)

    def _with_rejects(self, run: Run) -> Decision:
        """Decide after a run that rejected entries: the rejected entries are dead, the other entries are done. Raises
        InvalidValueError if the rejects do not match the input or the output.
        """
        assert run.ran is not None
        first = run.group[0]
        body = joined_bodies([work.message.body for work in run.group])
        message = Message(body, first.message.attributes)
        whole = Work(message, run.deliveries, run.lineage, run.entries, format=first.format)
        parts = [
            (part, part_of(whole, part.start, part.end, part.entries, part.before))
            for part in parts_of(body, first.format, run.ran.rejects, run.ran.output, run.written)
        ]
        dead = [
            Publication(Destination.DEAD_LETTERS, dead_letter(work.message, _reason(part), self.about, 1))
            for part, work in parts
            if part.reason
        ]
        done = sum(part.entries for part, _ in parts if part.output)
        publications = chain(dead, self._around_rejects(run, parts))
        return Decision(run.deliveries, publications, entries=done, dead=len(dead), run=run)

    def _around_rejects(self, run: Run, parts: list[tuple[OutputPart, Work]]) -> Iterator[Publication]:
        """Yield outputs for the good parts of a run's input, and tombstones for the bad parts."""
        again = [work for part, work in parts if not part.reason and part.output is None]
        for good in again:  # the good entries run again if it is unknown which part an output belongs to
            yield from (Publication(Destination.INPUT, one) for one in parts_of_message(good, self.rules.batch_size, 0))
        if run.lineage is None:
            if not again:
                yield from self._outputs(run)
            return
        named = {**self.about.attributes, SOURCE: run.source}
        attributes = {**named, **run.written.attributes}
        if self.last_stage:
            pieces = self._pieces(run, parts, bad=True, good=True)
            yield from (Publication(Destination.OUTPUT, one) for one in pack(attributes, pieces, run.written.room))
            return
        bad = self._pieces(run, parts, bad=True, good=False)
        yield from (Publication(Destination.OUTPUT, one) for one in pack(named, bad, MAX_BODY_BYTES))
        for piece in self._pieces(run, parts, bad=False, good=True):
            message = Message(piece.body, {**attributes, LINEAGE: piece.lineage, ENTRIES: str(piece.entries)})
            yield Publication(Destination.FOLLOWING, message)

    def _pieces(self, run: Run, parts: list[tuple[OutputPart, Work]], *, bad: bool, good: bool) -> Iterator[Piece]:
        assert run.ran is not None
        with run.ran.output.open("rb") as output:
            for part, work in parts:
                if part.reason and bad:
                    message = tombstone(work, _reason(part), self.about)
                    first = message.attributes.get(FIRST, "")
                    yield Piece(str(work.lineage), message.body, 1, message.attributes[DEAD], first)
                elif part.output and good and work.lineage:
                    output.seek(part.output[0])
                    data = output.read(part.output[1] - part.output[0])
                    yield from pieces_of_part(data, run, work.lineage, part.entries, self.rules.parcel_size)

    def _outputs(self, run: Run) -> Iterator[Publication]:
        """Return the output of a run, as messages for the next topic."""
        messages = output_messages(run, self.rules.parcel_size, self.about.attributes)
        return (Publication(Destination.FOLLOWING, one) for one in messages)


def _reason(part: OutputPart) -> str:
    return reason_of(ParcelqError(part.reason))
