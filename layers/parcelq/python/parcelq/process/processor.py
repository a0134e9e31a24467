"""Processes messages, on Lambda or by a worker, in the order: read, plan, run, decide, apply.

A message is done only when SQS has confirmed the publication of the message's output, parts or dead letter. If the
process dies before the confirmation, the message is delivered again, and lineage shows which outputs are duplicates.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, starmap
from math import inf
from typing import TYPE_CHECKING

from parcelq.errors import ParcelqError
from parcelq.limits import MAX_DEADLINE_SECONDS
from parcelq.process.apply import Application, Outcome, Route
from parcelq.process.budget import Budget
from parcelq.process.dead import Circumstances
from parcelq.process.decide import Decision, Judge, Postponed
from parcelq.process.headers import StageHeaders
from parcelq.process.marks import Marks, receives_as_evidence
from parcelq.process.plan import Evidence, Plan, Work, make_plan
from parcelq.process.read import read_messages
from parcelq.process.rules import Rules
from parcelq.process.runs import OnPrinted, Runs, log_printed
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
from parcelq.store.store import Store
from parcelq.topics.deadlines import DEADLINE_MARGIN, back_off, set_deadlines
from parcelq.topics.header import Headers
from parcelq.topics.message import Pulled

if TYPE_CHECKING:
    from parcelq.process.broken import FirstFailures

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Processor:
    """Runs a step over messages.

    Attributes:
        store: the store that contains headers and marks. Without a store, receive counts replace marks, and the caller
            keeps the messages locked and acknowledges the messages.
        marks: whether to write marks, if there is a store. On a single machine, a run that kills the process ends the
            job, so no marks are needed.
        first: finds out whether the step fails on every input, so that its job must stop; None if no job is stopped.
        together: how many short runs, at most, are passed to the step together to run one after another.
        outputs: the name under which the header of the outputs is stored; by default the name of the following topic.
        on_printed: a function that is called with the text that a successful run printed; by default the text is
            logged.
    """

    route: Route
    step: Step
    rules: Rules = field(default_factory=Rules)
    store: Store | None = None
    marks: bool = True
    first: FirstFailures | None = None
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    together: int = 1
    now: Callable[[], float] = time.time
    outputs: str = ""
    on_printed: OnPrinted = log_printed

    def __post_init__(self) -> None:
        self._runner = Runner(self.step)
        self._marks = Marks(self.store, self.route.input.name) if self.store and self.marks else None
        self._headers = Headers(self.store)
        outputs = self.outputs or self.route.following.name
        workflow, body_bytes = self.step.workflow_id, self.rules.body_bytes
        self._stage_headers = StageHeaders(self.step.settings, outputs, workflow, self.store, body_bytes)

    def handle(
        self,
        pulled: Iterable[Pulled],
        time_left: Callable[[], float] = lambda: inf,
        *,
        invocation: str = "",
        acknowledges: bool = False,
        budget: Budget | None = None,
    ) -> Outcome:
        """Run the step over messages, and publish the outputs.

        Args:
            time_left: a function that returns the seconds until the answer must be sent.
            acknowledges: whether to acknowledge messages that are done. On Lambda, the answer of the Lambda function
                acknowledges these messages.
            budget: the time of the invocation, if the invocation began before these messages arrived.
        """
        budget = budget or Budget(time_left)  # before all other work, so that a run that begins late counts as late
        pulled = list(pulled)
        if self._marks:
            # guard[pass]: messages stay locked for as long as the invocation may take
            set_deadlines(self.route.input, pulled, time_left() + DEADLINE_MARGIN)
        about = Circumstances(self.step.name, self.now(), self.step.workflow_id)
        judge = Judge(self.rules, about, self.route.is_last_stage)
        application = Application(self.route, pulled, counts=self.rules.counts)
        works, decided = read_messages(self.route.input, pulled, judge, self._headers)
        evidence, works, unknown = self._evidence(works)
        plan = make_plan(works, evidence, self.rules.batch_size, joins=self.rules.joins)
        name = invocation or (uuid.uuid4().hex if self._marks else "")
        side_by_side = Runs(
            self._runner,
            budget,
            self._marks,
            name,
            lambda: self.now() + min(time_left(), MAX_DEADLINE_SECONDS),
            self.workers,
            evidence.doubts,
            self._stage_headers,
            self.on_printed,
            self.together,
        )
        with closing(side_by_side) as runs:
            refused = application.apply(chain(decided, unknown, judge.without_run(plan, evidence)))
            if plan.alone:
                application.acknowledge_early()
            refused += application.apply(self._decided(plan, runs, judge))
            application.apply(chain.from_iterable(starmap(judge.refused, refused)))
        outcome = application.finish(acknowledges=acknowledges)
        if self._marks:
            self._marks.delete(outcome.marks)
        return outcome

    def _decided(self, plan: Plan, runs: Runs, judge: Judge) -> Iterator[Decision | Postponed]:
        """Yield the decisions about messages after their runs. The messages of a job that must stop are postponed."""
        suspicious = []
        for run in runs.of(plan):
            if self.first and self.first.is_suspicious(run):
                suspicious.append(run)  # decided after all other runs, which may show that the step works
            else:
                yield from judge.of_run(run)
        for run in suspicious:
            # guard[False]: a step that fails whatever it is given stops its job
            if self.first and (reason := self.first.stops(run, runs.samples)):
                yield Postponed(run.deliveries, reason)
            else:
                yield from judge.of_run(run)

    @property
    def wanted(self) -> int:
        """How many messages `handle` should get at a time, estimated from the durations of the latest runs."""
        return min(self.together, self._runner.together)

    def prepare(self) -> None:
        """Start the processes for a run on this thread before messages arrive."""
        self._runner.prepare()

    def back_off(self, failed: Sequence[Pulled]) -> None:
        """See the function `back_off`."""
        back_off(self.route.input, failed, self.rules.back_off_seconds)

    def abort(self) -> None:
        """End the runs of `handle` on other threads. Their messages are delivered again."""
        self._runner.abort()

    def close(self) -> None:
        """End the processes of a warm step. Call this only after the last call of `handle`."""
        self._runner.close()

    def _evidence(self, works: list[Work]) -> tuple[Evidence, list[Work], list[Postponed]]:
        """Return what marks show about earlier runs of messages, the messages that can run now, and the messages that
        must wait. Without marks, messages that were received before wait, because they may have killed a Lambda
        function.
        """
        if self._marks is None:
            return receives_as_evidence(works, self.rules), works, []
        try:
            return self._marks.evidence(works, self.now(), self.rules), works, []
        except (ParcelqError, OSError) as error:
            reason = f"marks cannot be read: {error}"
            # guard[new = works]: where marks cannot be read, messages that were received before are not run
            new = [work for work in works if work.receive_count == 1]
            return Evidence(), new, [Postponed(work.deliveries, reason) for work in works if work.receive_count > 1]
