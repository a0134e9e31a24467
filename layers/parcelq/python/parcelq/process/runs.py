"""Runs the step over the messages of a plan, within the time that the invocation has left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from time import monotonic
from typing import Final, NamedTuple

from parcelq.aws.batching import batches, sized_batches
from parcelq.aws.parallel import in_flight
from parcelq.errors import ParcelqError, RecordError, StepError
from parcelq.limits import MIB
from parcelq.lineage.lineage import Lineage
from parcelq.process.budget import Budget, Limit
from parcelq.process.headers import NOTHING_SAID, StageHeaders, Written
from parcelq.process.marks import Marks
from parcelq.process.plan import Plan, Work, lineage_of
from parcelq.records import Format
from parcelq.steps.data import Given
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.topics.message import Pulled

_log = logging.getLogger(__name__)
_WATCHED_TOGETHER: Final = 20
"""How many groups run under one mark, at most. Their outputs stay on disk until the mark is deleted."""
_HOP_BYTES: Final = MIB
_NO_TIME: Final = "there was no time left to run it"


class Run(NamedTuple):
    """One run of the step. A run ended with an output, with an error, or with a hindrance that its messages did not
    cause.

    Attributes:
        lineage: the joined lineage of the messages; None if they have no lineage.
        hindrance: why the run has neither an output nor an error; empty if it has an output or an error.
        seconds: how long the run took, if the run succeeded.
    """

    group: tuple[Work, ...]
    lineage: Lineage | None
    ran: Ran | None = None
    written: Written = NOTHING_SAID
    error: StepError | None = None
    hindrance: str = ""
    seconds: float = 0.0

    @property
    def source(self) -> str:
        """The source of the run's messages; empty if the messages have no lineage."""
        return self.group[0].source

    @property
    def entries(self) -> int:
        """How many entries the run's messages have."""
        return sum(work.entries for work in self.group)

    @property
    def deliveries(self) -> tuple[Pulled, ...]:
        """The deliveries of the run's messages."""
        return tuple(one for work in self.group for one in work.deliveries)

    def close(self) -> None:
        """Remove the folder that contains the run's output."""
        if self.ran:
            self.ran.held.close()


OnPrinted = Callable[[str, Sequence[Work], str], None]
"""A function that gets the step's name, the messages of a successful run, and the text that the run printed."""


def log_printed(step: str, works: Sequence[Work], text: str) -> None:
    """Log the text that a successful run printed."""
    _log.info("step %r printed: %s", step, text.rstrip(), extra=works[0].about)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs the step over groups of messages.

    Attributes:
        marks: the marks that show which messages may kill the Lambda function; None if receive counts replace marks.
        doubts: maps a message's `Work.place` to the marks that become invalid when a run of the message ends.
        together: how many runs, at most, are passed to the step together to run one after another.
    """

    runner: Runner
    budget: Budget
    marks: Marks | None
    invocation: str
    end: Callable[[], float]
    workers: int
    doubts: Mapping[str, tuple[str, ...]]
    headers: StageHeaders
    on_printed: OnPrinted = log_printed
    together: int = 1
    _held: list[ExitStack] = field(default_factory=list, repr=False, compare=False)

    def close(self) -> None:
        """Remove the folders of runs with outputs that were not used because publishing was refused."""
        for held in self._held:
            held.close()

    def of(self, plan: Plan) -> Iterator[Run]:
        """Run messages in the plan's order. Yield each run when the run has ended and its mark is deleted."""
        for work in plan.alone:
            yield from self._marked([(work,)], alone=True)
        for groups in batches(plan.watched, _WATCHED_TOGETHER):
            yield from self._marked(groups, alone=False)
        yield from self._side_by_side(plan.fresh)

    def samples(self, work: Work, samples: Iterable[Work]) -> list[Run]:
        """Run entries of a message one by one, under a mark of the message, until no time is left."""
        try:
            keys = self._mark([work], alone=True)
        except (ParcelqError, OSError):
            return []
        runs = [run for one in samples for run in self._runs([(one,)])]
        self._unmark(keys)
        return runs

    def _marked(self, groups: Sequence[tuple[Work, ...]], *, alone: bool) -> list[Run]:
        """Run groups under one mark. All runs end before anything is published."""
        works = [work for group in groups for work in group]
        if self.budget.limit(self.runner.step.settings.timeout) is None:
            return [_hindered(group, _NO_TIME) for group in groups]
        try:
            # guard[keys = []]: messages that were received before, or may kill the function, run under a mark
            keys = self._mark(works, alone=alone)
        except (ParcelqError, OSError) as error:
            return [_hindered(group, f"its mark could not be written: {error}") for group in groups]
        runs = list(self._side_by_side(groups))
        # guard[pass]: a mark is deleted as soon as the step ended, before anything is published
        self._unmark([*keys, *(key for work in works for key in self.doubts.get(work.place, ()))])
        return runs

    def _mark(self, works: Sequence[Work], *, alone: bool) -> list[str]:
        return [self.marks.put(works, self.invocation, self.end(), alone=alone)] if self.marks else []

    def _unmark(self, keys: Sequence[str]) -> None:
        if self.marks:
            self.marks.delete(keys)

    def _side_by_side(self, groups: Iterable[tuple[Work, ...]]) -> Generator[Run]:
        """Run groups. If a group fails, run each message of the group alone."""
        failed: list[tuple[Work, ...]] = []
        with closing(in_flight(self._hop, self._hops(groups), self.workers)) as hops:
            for run in chain.from_iterable(hops):
                # guard[False]: messages that failed together are run alone
                if run.error and len(run.group) > 1:
                    about = run.group[0].about
                    _log.warning("a group failed, so each message is run alone: %s", run.error, extra=about)
                    failed += [(work,) for work in run.group]
                else:
                    yield run
        if failed:
            yield from self._side_by_side(failed)

    def _hops(self, groups: Iterable[tuple[Work, ...]]) -> Sequence[Sequence[tuple[Work, ...]]]:
        """Put groups with few bytes into lists, because such groups take little time. All groups of a list are passed
        to the step together.
        """
        most = min(self.together, self.runner.together) if self.together > 1 else 1
        return list(sized_batches(groups, _size_of, most, _HOP_BYTES))

    def _hop(self, groups: Sequence[tuple[Work, ...]]) -> list[Run]:
        """Run groups one after another. Groups that did not begin in a request to the step are in the next request."""
        runs: list[Run] = []
        while len(runs) < len(groups):
            runs += self._runs(groups[len(runs) :])
        return runs

    def _runs(self, groups: Sequence[tuple[Work, ...]]) -> list[Run]:
        """Run groups one after another in one request. Return the runs that began, at least that of the first group."""
        limit = self.budget.limit(self.runner.step.settings.timeout)
        if limit is None:
            return [_hindered(group, _NO_TIME) for group in groups]
        try:
            began = monotonic()
            with self.budget.running():
                came = self.runner.run_all([given_of(group) for group in groups], limit.seconds)
            seconds = (monotonic() - began) / len(came)  # each run gets the mean duration of all runs
        # guard[()]: whatever a run does is the failure of that run alone
        except Exception as error:  # noqa: BLE001 - an error in a run fails only this run
            if len(groups) > 1:
                _log.warning(
                    "groups could not run together, so each runs alone", exc_info=True, extra=groups[0][0].about
                )
                return [run for group in groups for run in self._runs([group])]
            came, seconds = [self._impossible(groups[0], error)], 0.0
        return [self._judged(group, limit, one, seconds) for group, one in zip(groups, came, strict=False)]

    def _judged(self, group: tuple[Work, ...], limit: Limit, came: Ran | StepError, seconds: float) -> Run:
        """Return the `Run` that describes how a run ended."""
        run = partial(Run, group, lineage_of(group))
        error = came
        if isinstance(came, Ran):
            self._held.append(came.held)
            try:
                if came.printed:
                    self.on_printed(self.runner.step.name, group, came.printed)
                given = b"" if group[0].is_header else group[0].header
                drops_it = partial(self._drops_header, group[0].format, given)
                written = self.headers.of(came.output, group[0].source, group[0].format, given, drops_it)
                return run(ran=came, written=written, seconds=seconds)
            except RecordError as wrong:
                error = StepError(self.runner.step.name, wrong.reason, exit_code=0)
            except (ParcelqError, OSError) as unknown:
                return _hindered(group, f"the header of its output could not be compared: {unknown}")
            except Exception as other:  # noqa: BLE001 - an error in a run fails only this run
                error = self._impossible(group, other)
        assert isinstance(error, StepError)
        # guard[False]: a run that began late and was cut off says nothing about its messages
        if limit.short and error.timed_out:
            return _hindered(group, "there was too little time left to run it")
        # guard[return run(error=error)]: a machine without room for a run says nothing about its messages
        return _hindered(group, str(error)) if error.no_room else run(error=error)

    def _drops_header(self, fmt: Format, header: bytes) -> bool:
        """Return whether the step writes nothing for a header without records. Raises StepError if there is no time or
        no room to find out.
        """
        limit = self.budget.limit(self.runner.step.settings.timeout)
        if limit is None:
            raise StepError(self.runner.step.name, _NO_TIME)
        try:
            with self.budget.running():
                return drops_header(self.runner, fmt, header, limit.seconds)
        except StepError as error:
            if error.no_room or (limit.short and error.timed_out):
                raise
            return False  # this run says nothing about the header

    def _impossible(self, group: tuple[Work, ...], error: Exception) -> StepError:
        _log.exception("a run failed in a way that no step should be able to cause", extra=group[0].about)
        return StepError(self.runner.step.name, f"could not be run: {type(error).__name__}: {error}")


def drops_header(runner: Runner, fmt: Format, header: bytes, timeout: float | None = None) -> bool:
    """Run the step over a header without records, and return whether it writes nothing. Raises StepError if the run
    fails.
    """
    with runner.run([], entries=0, fmt=fmt, header=header, timeout=timeout) as ran, ran.output.open("rb") as output:
        return not output.read(1)


def given_of(group: Sequence[Work]) -> Given:
    """Return the input of the step that consists of messages that run together."""
    first = group[0]
    header = first.message.body if first.is_header else first.header
    bodies = [] if first.is_header else [work.message.body for work in group]
    return Given(bodies, sum(work.entries for work in group), first.format, header)


def _size_of(group: Iterable[Work]) -> int:
    return sum(len(work.message.body) for work in group)


def _hindered(group: tuple[Work, ...], why: str) -> Run:
    return Run(group, None, hindrance=why)
