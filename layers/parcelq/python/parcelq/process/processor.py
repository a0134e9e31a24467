"""Processing: what becomes of messages that were pulled, whether a Lambda got them or a worker elsewhere.

A message is reported as done only after everything that it led to is published and confirmed: the step's output, its
smaller parcels, or its letter on the dead-letter topic. Whatever happens in between, SQS delivers it again, and its
lineage tells then what is there twice.
"""

from __future__ import annotations

import logging
import os
import random
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Final

from parcelq.aws.parallel import in_flight
from parcelq.errors import AwsError, MessageError, ParcelqError, PublishError, StepError
from parcelq.limits import MAX_DELAY_SECONDS
from parcelq.process.budget import Budget
from parcelq.process.dead import letter, reason_of, tombstone, unread_letter
from parcelq.process.output import output_messages
from parcelq.process.plan import Plan, Split, Work, halves, make_plan, without_repeats
from parcelq.process.runs import Run, run_group
from parcelq.records.parcels import cut_for_messages
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
from parcelq.topics.message import (
    ALONE,
    DEAD,
    ENCODING,
    ENTRIES,
    HALVED,
    LINEAGE,
    RECEIVED_BEFORE,
    UNTOLD,
    Message,
    Pulled,
    with_attributes,
)
from parcelq.topics.publish import publish_many
from parcelq.topics.pull import acknowledge, refresh_deadline
from parcelq.upload.files import MAX_BODY_BYTES

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from parcelq.topics.overflow import Overflow

_log = logging.getLogger(__name__)
_FOREVER: Final = float("inf")
_MOST_DOUBLINGS: Final = 16
SPARE_RECEIVES: Final = 3
"""How much oftener than a message is run the stack's topics give it out: once more to run it with nothing beside it,
once to bury it unrun, and once should the function die of something else just then."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where messages come from and go to, each a topic's URL.

    Attributes:
        input: where they were pulled from, and where smaller parcels of them go.
        output: where the step's output goes.
        dead_letter: where a message goes that failed for good.
        tombstones: where it is told that entries are dead: where the results are collected from.
    """

    input: str
    output: str
    dead_letter: str
    tombstones: str


@dataclass(slots=True)
class Outcome:
    """What became of messages.

    Attributes:
        done: to be acknowledged.
        failed: to be delivered again, and why.
        entries: entries that the step ran over with success.
        published: messages that were published.
        split: messages that were re-parcelled.
        dead: messages that went to the dead-letter topic.
        returned: messages that there was no time for; they were published again as they are.
    """

    done: list[Pulled] = field(default_factory=list)
    failed: list[tuple[Pulled, str]] = field(default_factory=list)
    entries: int = 0
    published: int = 0
    split: int = 0
    dead: int = 0
    returned: int = 0


@dataclass(frozen=True, slots=True)
class _Unpublished:
    """That something was not published.

    Attributes:
        reason: why.
        for_good: whether what was to be published is at fault, so that it never can be.
    """

    reason: str
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Processor:
    """Runs a step over messages.

    Attributes:
        sqs: a boto3 SQS client.
        route: the topics.
        step: the step.
        batch_size: how many entries the step should get at a time.
        parcel_size: most entries of a message that is published.
        max_receive_count: how often a message is run. Where the input topic gives it out oftener than that, what the
            function did not survive is done again.
        halving: whether a message that comes for the last time is split rather than run again.
        back_off_seconds: how soon a message that failed comes again, about; twice as long at every further time.
        overflow: where bodies lie, and go, that are too large for a message.
        workers: how many runs of the step go on together.
        now: tells the time of day.
    """

    sqs: SQSClient
    route: Route
    step: Step
    batch_size: int = 1000
    parcel_size: int = 1000
    max_receive_count: int = 2
    halving: bool = True
    back_off_seconds: float = 5
    overflow: Overflow | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _runner: Runner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_runner", Runner(self.step))

    def handle(self, pulled: Iterable[Pulled], time_left: Callable[[], float] = lambda: _FOREVER) -> Outcome:
        """Do with messages what is to be done with them, and make the failed ones visible again soon.

        Args:
            pulled: messages of the input topic, locked for longer than this may take.
            time_left: tells the seconds until the answer must be given.

        Returns:
            Which are to be acknowledged and which are not; one bad message never fails the others.
        """
        budget = Budget(time_left)
        outcome = Outcome()
        work, repeats = without_repeats(self._read(pulled, outcome))
        plan = make_plan(work, self.batch_size, self.max_receive_count, halving=self.halving)
        self._split(plan.splits, outcome)
        self._bury_lost(plan.lost, outcome)
        groups = self._isolate(plan, outcome) if plan.suspects else plan.groups
        self._announce_last_runs(groups, outcome)
        self._run(groups, budget, outcome)
        _settle_repeats(repeats, outcome)
        self._back_off([one for one, _ in outcome.failed])
        return outcome

    def close(self) -> None:
        """End the processes that are kept for a warm step; after the last `handle`."""
        self._runner.close()

    def _read(self, pulled: Iterable[Pulled], outcome: Outcome) -> Iterator[Work]:
        """Read messages. Those that nobody can read are buried at once; a tombstone is passed on to its place."""
        for one in pulled:
            try:
                message = (self.overflow.load(one) if self.overflow else one).message()
            except ParcelqError as error:
                refused = isinstance(error, AwsError) and not error.server_fault and self._is_last(one)
                if isinstance(error, MessageError) or refused:
                    self._give_up_unread(one, reason_of(error), outcome)
                else:
                    outcome.failed.append((one, str(error)))
            else:
                if DEAD in message.attributes:
                    self._attempt(outcome, one, lambda message=message: self._publish(self.route.tombstones, [message]))  # type: ignore[misc]
                else:
                    yield Work.of(one, message)

    def _split(self, splits: Sequence[Split], outcome: Outcome) -> None:
        """Re-parcel messages, all of them in as few requests as possible."""
        if not splits:
            return
        owned = ((one, message) for one in splits for message in re_parcel(one))
        failed = self._publish_for(self.route.input, owned, outcome)
        for one in splits:
            if lost := failed(one):
                outcome.failed.append((one.work.pulled, lost.reason))
            else:
                outcome.done.append(one.work.pulled)
                outcome.split += 1

    def _bury_lost(self, lost: Sequence[Work], outcome: Outcome) -> None:
        """Give up what the function did not survive, not even with nothing beside it."""
        for one in lost:
            _log.warning("%s", UNTOLD, extra=one.about)
            self._give_up(one, UNTOLD, outcome)

    def _isolate(self, plan: Plan, outcome: Outcome) -> list[list[Work]]:
        """Give back everything but one suspect before that runs, for good: should the function die of it, it is alone.

        The other suspects are marked as such, so that each gets an invocation of its own.
        """
        suspect, *others = plan.suspects
        marks = {ALONE: "1", RECEIVED_BEFORE: None}
        marked = [(one, with_attributes(one.message, **marks)) for one in others]
        rest = [(one, one.pulled.again(one.message)) for group in plan.groups for one in group]
        self._return([*marked, *rest], outcome)
        try:
            left = acknowledge(self.sqs, self.route.input, outcome.done)
        except ParcelqError as error:
            _log.warning("what was settled before a last run could not be acknowledged: %s", error)
        else:
            if left:
                _log.warning("%d messages that were settled before a last run were not acknowledged", len(left))
        return [[suspect]]

    def _announce_last_runs(self, groups: Sequence[Sequence[Work]], outcome: Outcome) -> None:
        """Tell the death of what runs for the last time before it runs.

        Should the function die of it, SQS moves it to the dead-letter topic and nobody is left to tell. Should it
        succeed, its result takes the tombstone's place.
        """
        last = [one for group in groups for one in group if self._is_last(one.pulled) and one.pulled.receive_count > 1]
        ahead = [tombstone(one, UNTOLD, self.step.name) for one in last if one.lineage]
        try:
            outcome.published += self._publish(self.route.tombstones, ahead)
        except ParcelqError as error:
            _log.warning("tombstones could not be published ahead: %s", error)

    def _run(self, groups: Sequence[list[Work]], budget: Budget, outcome: Outcome) -> None:
        """Run the step over groups of messages, several at a time, and publish what it puts out as it comes.

        Then over each message alone of those that failed together, so that only the bad ones fail.
        """
        runs: list[Run] = []

        def runs_of(group: list[Work], *, alone: bool) -> list[Run]:
            ended = list(run_group(self._runner, group, budget, alone=alone))
            runs.extend(ended)
            return ended

        def outputs() -> Generator[tuple[Run, Message]]:
            waiting, alone = groups, False
            while waiting:
                with closing(in_flight(partial(runs_of, alone=alone), waiting, self.workers)) as all_ended:
                    waiting, alone = [], True
                    for run in chain.from_iterable(all_ended):
                        yield from ((run, message) for message in self._outputs_of(run))
                        if run.failed_together:
                            _log.warning(
                                "failed together, so each is run alone: %s", run.error, extra=run.group[0].about
                            )
                            waiting += [[one] for one in run.group]

        if not groups:
            return
        try:
            with closing(outputs()) as messages:
                failed = self._publish_for(self.route.output, messages, outcome)
        finally:
            for run in runs:  # where publishing was refused, not all outputs were asked for
                run.folder.close()
        told = [run for run in runs if not run.failed_together]
        for run in told:
            self._settle(run, failed(run), outcome)
        unstarted = [run for run in told if run.unstarted and not failed(run)]
        self._return([(one, _given_back(one, run)) for run in unstarted for one in run.group], outcome)
        if refused := failed(None):  # then not all of the groups may have had their turn
            ended = {one.pulled.receipt_handle for run in told for one in run.group}
            left = [one.pulled for group in groups for one in group if one.pulled.receipt_handle not in ended]
            outcome.failed += [(one, refused.reason) for one in left]

    def _outputs_of(self, run: Run) -> Iterator[Message]:
        """What a run put out. Where that cannot be told, this run has failed, and no other."""
        with run.folder:
            if run.output is None:
                return
            source, workflow = run.group[0].source, self.step.workflow_id
            try:
                yield from output_messages(run.output, run.lineage, source, self.parcel_size, workflow)
            except (ParcelqError, OSError) as error:
                run.output, run.error = None, StepError(self.step.name, f"put out what cannot be passed on: {error}")

    def _settle(self, run: Run, unpublished: _Unpublished | None, outcome: Outcome) -> None:
        """Decide what a run means for its messages."""
        pulled = [one.pulled for one in run.group]
        if unpublished and unpublished.for_good and len(pulled) == 1:
            error = StepError(self.step.name, f"put out what cannot be published: {unpublished.reason}")
            self._step_failed(run.group[0], error, outcome)
        elif unpublished:
            outcome.failed += [(one, unpublished.reason) for one in pulled]
        elif run.output:
            outcome.done += pulled
            outcome.entries += sum(one.entries for one in run.group)
        elif run.error:
            self._step_failed(run.group[0], run.error, outcome)

    def _return(self, given: Sequence[tuple[Work, Message]], outcome: Outcome) -> None:
        """Publish messages again, so that waiting for time costs them no receive."""
        failed = self._publish_for(self.route.input, given, outcome)
        for one, _ in given:
            if lost := failed(one):
                outcome.failed.append((one.pulled, lost.reason))
            else:
                outcome.done.append(one.pulled)
                outcome.returned += 1

    def _step_failed(self, work: Work, error: StepError, outcome: Outcome) -> None:
        _log.warning("%s", error, extra=work.about)
        # What there was no room for gets its last chance with nothing beside it; see `make_plan`.
        innocent = error.no_room and work.pulled.receive_count <= self.max_receive_count
        if innocent or not self._is_last(work.pulled):
            outcome.failed.append((work.pulled, str(error)))
        elif self.halving and work.entries > 1:
            self._split([halves(work, self.batch_size)], outcome)
        else:
            self._give_up(work, reason_of(error), outcome)

    def _give_up(self, work: Work, reason: str, outcome: Outcome) -> None:
        dead = letter(work, reason, self.step.name, self.now(), self.step.workflow_id)
        self._bury_as(dead, work, reason, outcome)

    def _give_up_unread(self, pulled: Pulled, reason: str, outcome: Outcome) -> None:
        """Give up a message that nobody can read; what it stands for may be told all the same."""
        attributes = {name: value for name, value in pulled.attributes.items() if name != ENCODING}
        work = Work.of(pulled, Message(b"", {**attributes, DEAD: reason}))
        dead = unread_letter(pulled, reason, self.step.name, self.now(), self.step.workflow_id)
        self._bury_as(dead, work, reason, outcome)

    def _bury_as(self, dead: Message, work: Work, reason: str, outcome: Outcome) -> None:
        stone = tombstone(work, reason, self.step.name) if work.lineage else None
        if self._attempt(outcome, work.pulled, lambda: self._bury(dead, stone)):
            outcome.dead += 1

    def _is_last(self, pulled: Pulled) -> bool:
        return pulled.receive_count >= self.max_receive_count

    def _bury(self, dead: Message, stone: Message | None) -> int:
        published = self._publish(self.route.dead_letter, [dead])
        return published + (self._publish(self.route.tombstones, [stone]) if stone else 0)

    def _attempt(self, outcome: Outcome, pulled: Pulled, publish: Callable[[], int]) -> bool:
        """Publish what settles a message; where that cannot be done, the message is not settled."""
        try:
            outcome.published += publish()
        except ParcelqError as error:
            outcome.failed.append((pulled, str(error)))
            return False
        outcome.done.append(pulled)
        return True

    def _publish(self, topic_url: str, messages: Sequence[Message]) -> int:
        published, failed = publish_many(self.sqs, topic_url, messages, overflow=self.overflow)
        if failed:
            raise PublishError(topic_url, [one.reason for one in failed])
        return published

    def _publish_for(
        self, topic_url: str, owned: Iterable[tuple[object, Message]], outcome: Outcome
    ) -> Callable[[object], _Unpublished | None]:
        """Publish messages that belong to something, and return what tells of an owner whether any of its were not.

        If SQS refused whole requests, nobody knows what it took before, so none of any owner were, nor of None.
        """
        owners: dict[int, object] = {}

        def messages() -> Iterator[Message]:
            for owner, message in owned:
                owners[id(message)] = owner
                yield message

        try:
            published, failed = publish_many(self.sqs, topic_url, messages(), overflow=self.overflow)
        except ParcelqError as error:
            refused = _Unpublished(str(error))
            return lambda _owner: refused
        outcome.published += published
        # A failed message is held here, so no other can have had its id.
        lost = {id(owners[id(one.message)]): _Unpublished(one.reason or one.code, one.sender_fault) for one in failed}
        return lambda owner: lost.get(id(owner))

    def _back_off(self, failed: Sequence[Pulled]) -> None:
        """Make failed messages visible again after seconds, the longer the oftener they failed."""
        by_doublings: defaultdict[int, list[Pulled]] = defaultdict(list)
        for one in failed:
            by_doublings[min(one.receive_count - 1, _MOST_DOUBLINGS)].append(one)
        for doublings, messages in by_doublings.items():
            seconds = self.back_off_seconds * 2**doublings * random.uniform(0.5, 1.5)  # nosec B311 # no secret
            try:
                lost = refresh_deadline(self.sqs, self.route.input, messages, int(min(seconds, MAX_DELAY_SECONDS)))
            except ParcelqError as error:  # they become visible later then
                _log.warning("back-off could not be set: %s", error)
            else:
                if lost:
                    _log.warning("back-off could not be set for %d of %d messages", len(lost), len(messages))


def postpone(sqs: SQSClient, topic_url: str, pulled: Sequence[Pulled]) -> list[Pulled]:
    """Publish messages again as they are, to be had in 15 minutes, and acknowledge them; that costs them no receive.

    For when nothing is wrong with them, but with who should process them.

    Returns:
        Those that are still there as they were.

    Raises:
        AwsError, TopicNotFoundError: SQS refused.
    """
    again = [one.again(one.as_it_is()) for one in pulled]
    _, failed = publish_many(sqs, topic_url, again, delay_seconds=MAX_DELAY_SECONDS)
    refused = {id(one.message) for one in failed}
    sent = [one for one, message in zip(pulled, again, strict=True) if id(message) not in refused]
    kept = [one for one, message in zip(pulled, again, strict=True) if id(message) in refused]
    return kept + acknowledge(sqs, topic_url, sent)


def re_parcel(split: Split) -> Iterator[Message]:
    """Cut a message into smaller ones, each with its part of the lineage."""
    work = split.work
    halved = str(split.halved) if split.halved else work.message.attributes.get(HALVED)
    for parcel in cut_for_messages(BytesIO(work.message.body), split.size, MAX_BODY_BYTES):
        lineage = str(work.lineage.cut(parcel.start, parcel.end)) if work.lineage else None
        part = Message(parcel.data, work.message.attributes)
        own = {LINEAGE: lineage, ENTRIES: str(parcel.entries), HALVED: halved, RECEIVED_BEFORE: None}
        yield with_attributes(part, **own)


def _given_back(work: Work, run: Run) -> Message:
    """A message as it is published again because there was no time for it."""
    halved = work.message.attributes.get(HALVED, "0")
    message = with_attributes(work.message, **{HALVED: halved}) if run.alone else work.message
    return work.pulled.again(message)


def _settle_repeats(repeats: dict[str, list[Pulled]], outcome: Outcome) -> None:
    done = [twin for one in outcome.done for twin in repeats.get(one.receipt_handle, [])]
    failed = [(twin, reason) for one, reason in outcome.failed for twin in repeats.get(one.receipt_handle, [])]
    outcome.done += done
    outcome.failed += failed
