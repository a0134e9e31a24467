"""Running a step over a group of messages: together, or each alone where that fails, within the time there is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from parcelq.budget import Budget
from parcelq.errors import LineageError, StepError
from parcelq.lineage import Lineage, together
from parcelq.plan import Work
from parcelq.warm import Runner

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """One run of the step over messages, ended in one of three ways: an output, an error, or no time to begin.

    Attributes:
        group: the messages.
        lineage: what they stand for together; None where they have none.
        output: the file of what the step put out.
        error: how it failed.
        folder: what closes the folder that the output is in.
    """

    group: list[Work]
    lineage: Lineage | None = None
    output: Path | None = None
    error: StepError | None = None
    folder: ExitStack = field(default_factory=ExitStack)

    @property
    def unstarted(self) -> bool:
        """Whether there was no time to begin, or to tell what is wrong."""
        return self.output is None and self.error is None


def run_group(runner: Runner, group: list[Work], budget: Budget) -> Iterator[Run]:
    """Run messages together; if that fails, each alone, so that only the bad ones fail."""
    try:
        lineage = together(one.lineage for one in group if one.lineage) if group[0].lineage else None
    except LineageError:  # their lineage would be too long, or they are of different runs
        middle = len(group) // 2
        for part in (group[:middle], group[middle:]):
            yield from run_group(runner, part, budget)
        return
    limit = budget.limit(runner.step.settings.timeout)
    if limit is None:
        yield Run(group)
        return
    run = Run(group, lineage)
    try:
        with budget.running():
            bodies = (one.message.body for one in group)
            run.output = run.folder.enter_context(runner.run(bodies, limit.seconds))
    except StepError as error:
        if len(group) > 1:
            _log.warning("failed together, so each is run alone: %s", error, extra=group[0].about)
            for one in group:
                yield from run_group(runner, [one], budget)
            return
        if not (limit.short and error.timed_out):
            run.error = error
    yield run
