"""Running the step over the messages of a plan, within the time there is."""

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
from parcelq.steps.given import Given
from parcelq.steps.run import Ran, Runner

_log = logging.getLogger(__name__)
_WATCHED_TOGETHER: Final = 20
"""Groups that run under one mark; their outputs lie on the disk until it is deleted."""
_HOP_BYTES: Final = MIB
_NO_TIME: Final = "there was no time left to run it"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the step. It ended with an output, with an error, or for a reason that has nothing to do with its
    messages.

    Attributes:
        group: the messages.
        lineage: what they stand for together; None where they have no lineage.
        ran: the output of the step.
        written: the layout of that.
        error: how it failed.
        hindrance: why there is neither.
        seconds: how long the step ran, if it succeeded.
        folder: closes the folder that the output is in.
    """

    group: tuple[Work, ...]
    lineage: Lineage | None
    ran: Ran | None = None
    written: Written = NOTHING_SAID
    error: StepError | None = None
    hindrance: str = ""
    seconds: float = 0.0
    folder: ExitStack = field(default_factory=ExitStack, compare=False)

    @property
    def source(self) -> str:
        """The source of its messages; empty where they have no lineage."""
        return self.group[0].source


class Watch(NamedTuple):
    """Puts marks while it runs messages that may kill the function.

    Attributes:
        marks: where they are put; None where receive counts stand in for them.
        invocation: the id of this invocation.
        end: returns when this invocation is over, in seconds since the epoch.
    """

    marks: Marks | None
    invocation: str
    end: Callable[[], float]

    def put(self, works: Iterable[Work], *, alone: bool) -> tuple[str, ...]:
        """Put a mark, and return what `delete` takes. Raises ParcelqError if the store refuses."""
        if self.marks is None:
            return ()
        return (self.marks.put(list(works), self.invocation, self.end(), alone=alone),)

    def delete(self, keys: tuple[str, ...]) -> None:
        """Delete a mark, because the step has ended."""
        if self.marks is not None:
            self.marks.delete(keys)


OnPrinted = Callable[[str, Sequence[Work], str], None]
"""Is called with the step's name, the messages of a run that succeeded, and what it printed."""


def log_printed(step: str, works: Sequence[Work], text: str) -> None:
    """Log what a run printed that succeeded."""
    _log.info("step %r printed: %s", step, text.rstrip(), extra=works[0].about)


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs the step.

    Attributes:
        runner: runs it once.
        budget: the time there is.
        watch: puts marks.
        workers: how many runs go on side by side.
        doubts: marks that are void as soon as a run of a message ends, by `Work.place`.
        headers: the headers of outputs.
        on_printed: called with what a successful run printed.
        together: most runs that go to the step at once, one after another.
    """

    runner: Runner
    budget: Budget
    watch: Watch
    workers: int
    doubts: Mapping[str, tuple[str, ...]]
    headers: StageHeaders
    on_printed: OnPrinted = log_printed
    together: int = 1
    _folders: list[ExitStack] = field(default_factory=list, repr=False, compare=False)

    def close(self) -> None:
        """Remove the folders of runs whose output nobody asked for, because publishing was refused."""
        for folder in self._folders:
            folder.close()

    def of(self, plan: Plan) -> Iterator[Run]:
        """Run what is to be run, in the plan's order, and yield each run when it has ended and its mark is deleted."""
        for work in plan.alone:
            yield self._alone(work)
        for groups in batches(plan.watched, _WATCHED_TOGETHER):
            yield from self._watched(groups)
        yield from self._side_by_side(plan.fresh)

    def _alone(self, work: Work) -> Run:
        if self.budget.limit(self.runner.step.settings.timeout) is None:
            return _hindered((work,), _NO_TIME)
        try:
            # guard[keys = ()]: a message that may kill the function runs under a mark of its own
            keys = self.watch.put([work], alone=True)
        except (ParcelqError, OSError) as error:
            return _hindered((work,), f"its mark could not be put: {error}")
        run = self._run((work,))
        self.watch.delete((*keys, *self.doubts.get(work.place, ())))
        return run

    def samples(self, work: Work, samples: Iterable[Work]) -> list[Run]:
        """Run entries of a message one by one, under a mark of the message; those that there is time for."""
        try:
            keys = self.watch.put([work], alone=True)
        except (ParcelqError, OSError):
            return []
        runs = [self._run((one,)) for one in samples]
        self.watch.delete(keys)
        return runs

    def _watched(self, groups: Iterable[tuple[Work, ...]]) -> list[Run]:
        """Run groups under one mark. All of them end before anything is published."""
        groups = list(groups)
        try:
            # guard[keys = ()]: messages that were received before share a mark that names them all
            keys = self.watch.put((work for group in groups for work in group), alone=False)
        except (ParcelqError, OSError) as error:
            return [_hindered(group, f"its mark could not be put: {error}") for group in groups]
        runs = list(self._side_by_side(groups))
        # guard[pass]: a mark is deleted as soon as the step ended, before anything is published
        self.watch.delete(keys)
        return runs

    def _side_by_side(self, groups: Iterable[tuple[Work, ...]]) -> Generator[Run]:
        """Run groups, and then each message alone of those groups that failed."""
        failed: list[tuple[Work, ...]] = []
        with closing(in_flight(self._hop, self._hops(groups), self.workers)) as hops:
            for run in chain.from_iterable(hops):
                # guard[False]: messages that failed together are run alone
                if run.error and len(run.group) > 1:
                    about = run.group[0].about
                    _log.warning("failed together, so each message is run alone: %s", run.error, extra=about)
                    run.folder.close()
                    failed += [(work,) for work in run.group]
                else:
                    yield run
        if failed:
            yield from self._side_by_side(failed)

    def _hops(self, groups: Iterable[tuple[Work, ...]]) -> Sequence[Sequence[tuple[Work, ...]]]:
        """Put groups together that go to the step at once: few bytes, which take little time."""
        most = min(self.together, self.runner.together) if self.together > 1 else 1
        return list(sized_batches(groups, _size_of, most, _HOP_BYTES))

    def _hop(self, groups: Sequence[tuple[Work, ...]]) -> list[Run]:
        """Run groups one after another; those that did not begin with the others begin with the next ones."""
        if len(groups) == 1:
            return [self._run(groups[0])]
        runs: list[Run] = []
        while len(runs) < len(groups):
            runs += self._runs(groups[len(runs) :])
        return runs

    def _runs(self, groups: Sequence[tuple[Work, ...]]) -> list[Run]:
        """Run groups one after another, the first at least."""
        limit = self.budget.limit(self.runner.step.settings.timeout)
        if limit is None:
            return [_hindered(group, _NO_TIME) for group in groups]
        try:
            began = monotonic()
            with self.budget.running():
                attempts = self.runner.run_all([given_of(group) for group in groups], limit.seconds)
            seconds = (monotonic() - began) / max(1, len(attempts))  # each counts with their mean
        except Exception:  # noqa: BLE001 - whatever a run does is that run's failure alone
            _log.exception("runs failed together in a way that no step should be able to cause")
            return [self._run(group) for group in groups]
        runs = []
        for group, attempt in zip(groups, attempts, strict=False):
            self._folders.append(attempt.held)
            runs.append(self._judged(group, limit, attempt.made, attempt.held, seconds))
        return runs

    def _run(self, group: tuple[Work, ...]) -> Run:
        limit = self.budget.limit(self.runner.step.settings.timeout)
        if limit is None:
            return _hindered(group, _NO_TIME)
        folder = ExitStack()
        self._folders.append(folder)

        def ran() -> Ran:
            one = given_of(group)
            run = self.runner.run(one.bodies, limit.seconds, entries=one.entries, fmt=one.format, header=one.header)
            with self.budget.running():
                return folder.enter_context(run)

        return self._judged(group, limit, ran, folder)

    def _judged(
        self, group: tuple[Work, ...], limit: Limit, made: Callable[[], Ran], folder: ExitStack, seconds: float = 0.0
    ) -> Run:
        """Say how a run ended; `made` returns what it made, or raises. Its time is added to `seconds`."""
        run = partial(Run, group, lineage_of(group))
        try:
            began = monotonic()
            ran = made()
            seconds += monotonic() - began
            if ran.printed:
                self.on_printed(self.runner.step.name, group, ran.printed)
            return run(ran=ran, written=self._written(ran, group[0]), seconds=seconds, folder=folder)
        except StepError as error:
            # guard[False]: a run that began late and was cut off says nothing about its messages
            if limit.short and error.timed_out:
                return _hindered(group, "there was too little time left to run it")
            # guard[return run(error=error)]: a machine without room for a run says nothing about its messages
            return _hindered(group, str(error)) if error.no_room else run(error=error)
        except _HeaderUnknownError as error:
            return _hindered(group, str(error))
        # guard[()]: whatever a run does is the failure of that run alone
        except Exception as error:  # noqa: BLE001 - whatever a run does is that run's failure alone
            _log.exception("a run failed in a way that no step should be able to cause", extra=group[0].about)
            return run(error=StepError(self.runner.step.name, f"could not be run: {type(error).__name__}: {error}"))

    def _written(self, ran: Ran, first: Work) -> Written:
        """The layout of an output. Raises StepError where the header is not that of the stage's other outputs."""
        try:
            return self.headers.of(ran.output, first.source, first.format)
        except RecordError as error:
            raise StepError(self.runner.step.name, error.reason, exit_code=0) from None
        except (ParcelqError, OSError) as error:
            raise _HeaderUnknownError(f"the header of its output could not be compared: {error}") from None


class _HeaderUnknownError(Exception):
    """The store does not say what the header of the stage's outputs is."""


def given_of(group: Sequence[Work]) -> Given:
    """What the step is given for messages that run together."""
    first = group[0]
    header = first.message.body if first.is_header else first.header
    bodies = [] if first.is_header else [work.message.body for work in group]
    return Given(bodies, sum(work.entries for work in group), first.format, header)


def _size_of(group: Iterable[Work]) -> int:
    return sum(len(work.message.body) for work in group)


def _hindered(group: tuple[Work, ...], why: str) -> Run:
    return Run(group, None, hindrance=why)
