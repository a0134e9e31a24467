"""Running a step over a group of messages, within the time there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from parcelq.errors import LineageError, StepError
from parcelq.lineage.lineage import Lineage, joined
from parcelq.process.budget import Budget
from parcelq.process.plan import Work
from parcelq.steps.run import Runner


@dataclass(slots=True)
class Run:
    """One run of the step over messages, ended in one of three ways: an output, an error, or no time to begin.

    Attributes:
        group: the messages.
        lineage: what they stand for together; None where they have none.
        output: the file of what the step put out.
        error: how it failed.
        alone: whether its messages failed together, or were cut short: where there is no time now, they run alone then.
        folder: what closes the folder that the output is in.
    """

    group: list[Work]
    lineage: Lineage | None = None
    output: Path | None = None
    error: StepError | None = None
    alone: bool = False
    folder: ExitStack = field(default_factory=ExitStack)

    @property
    def unstarted(self) -> bool:
        """Whether there was no time to begin, or to tell what is wrong."""
        return self.output is None and self.error is None

    @property
    def failed_together(self) -> bool:
        """Whether it failed and does not tell of which of its messages."""
        return self.error is not None and len(self.group) > 1


def run_group(runner: Runner, group: list[Work], budget: Budget, *, alone: bool = False) -> Iterator[Run]:
    """Run messages together, in as few runs as their lineages allow.

    Args:
        runner: runs the step.
        group: the messages.
        budget: the time there is.
        alone: whether it is a single message that failed together with others.
    """
    run = Run(group, _lineage_of(group), alone=alone)
    limit = budget.limit(runner.step.settings.timeout)
    if limit is not None:
        try:
            with budget.running():
                bodies = (one.message.body for one in group)
                run.output = run.folder.enter_context(runner.run(bodies, limit.seconds)).whole(runner.step)
        except StepError as error:
            if limit.short and error.timed_out:
                run.alone = True
            else:
                run.error = error
    yield run


def _lineage_of(group: list[Work]) -> Lineage | None:
    """Return the lineage of messages that touch, in order; None if they have none."""
    lineage = group[0].lineage
    for one in group[1:]:
        if lineage is not None and one.lineage is not None:
            lineage = joined(lineage, one.lineage)
            if lineage is None:
                raise LineageError("messages that do not touch cannot run together")
    return lineage
