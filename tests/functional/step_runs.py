"""Runs a step once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from parcelq.steps.find import Step
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner


@contextmanager
def run_step(
    step: Step, bodies: Iterable[bytes], timeout: float | None = None, *, entries: int | None = None
) -> Iterator[Ran]:
    """Run a step once, like `Runner.run`. The step's processes end with the context."""
    with closing(Runner(step)) as runner, runner.run(bodies, timeout, entries=entries) as ran:
        yield ran
