"""What came of a run: an output with the entries that the step named as bad, or why the run failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from parcelq.errors import StepError
from parcelq.steps.failure import failure_of, size_of_output
from parcelq.steps.find import Step
from parcelq.steps.output import Output
from parcelq.steps.reason import reason_first
from parcelq.steps.rejects import Reject, RejectsError, read_rejects, rejects_in
from parcelq.steps.slot import Came


class Ran(NamedTuple):
    """A run that succeeded.

    Attributes:
        output: what the step wrote. A file is deleted when the run's context is left.
        rejects: the entries that the step named as bad, sorted by entry.
        stderr_tail: the end of what it wrote to stderr, at most 4 KiB.
        stdout_tail: the same of stdout, where that is not its output.
        cpu_seconds: CPU time of its processes, as the kernel counted it; 0 for a process that is kept.
        memory_bytes: the most memory that one of its processes had so far; 0 if the system does not say.
    """

    output: Output
    rejects: tuple[Reject, ...] = ()
    stderr_tail: str = ""
    stdout_tail: str = ""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0

    @property
    def printed(self) -> str:
        """The ends of stdout and of stderr, each with a line end; empty if the step printed nothing."""
        return "".join(f"{text.rstrip()}\n" for text in (self.stdout_tail, self.stderr_tail) if text.strip())

    def whole(self, step: Step) -> Output:
        """Return the output, for a caller that cannot handle rejects.

        Raises:
            StepError: the step rejected an entry; with the first reason.
        """
        if self.rejects:
            first = self.rejects[0]
            raise StepError(step.name, f"rejected entry {first.entry}", exit_code=0, stderr_tail=first.reason)
        return self.output


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of several runs.

    Attributes:
        ran: what it made; None if it failed.
        error: why it failed; None if it did not.
        held: what to close when the output is not needed any more.
    """

    ran: Ran | None
    error: StepError | None = None
    held: ExitStack = field(default_factory=ExitStack, compare=False)

    def made(self) -> Ran:
        """Return what it made. Raises StepError if it failed."""
        if self.error:
            raise self.error
        assert self.ran is not None
        return self.ran


def attempt_of(
    step: Step, came: Came, entries: int | None, limit: float | None, text: Callable[[bytes], str]
) -> Attempt:
    """Judge what came of a run.

    Args:
        step: the step.
        came: what came.
        entries: how many entries it was given; None where the caller does not know.
        limit: seconds that it was allowed; None for any time.
        text: returns what the step said as text that everybody may see.
    """
    try:
        return Attempt(_ran(step, came, entries, limit, text), held=came.held)
    except StepError as error:
        came.held.close()
        return Attempt(None, error)


def _ran(step: Step, came: Came, entries: int | None, limit: float | None, text: Callable[[bytes], str]) -> Ran:
    ended, output = came.ended, came.output
    texts = text(ended.stderr), text(ended.stdout)
    # guard[False]: a step that exits with another code than 0 has failed
    if ended.kind != "done" or ended.code:
        raise failure_of(step, ended, limit, reason_first(texts[0]))
    size = size_of_output(step, output) if isinstance(output, Path) else len(output.read_bytes())
    # guard[False]: an output above the limit fails its run alone
    if size > step.settings.max_output_bytes:
        raise failure_of(step, ended._replace(kind="large"), None, reason_first(texts[0]))
    try:
        if isinstance(came.rejects, Path):
            rejects = read_rejects(came.rejects, entries)
        else:
            rejects = rejects_in(BytesIO(came.rejects), entries) if came.rejects else ()
    except RejectsError as error:
        reason = text(f"named rejects that cannot be: {error}".encode("utf-8", "replace"))
        raise StepError(step.name, reason, exit_code=0) from None
    rejects = tuple(one._replace(reason=text(one.reason.encode("utf-8", "replace"))) for one in rejects)
    return Ran(output, rejects, *texts, ended.cpu_seconds, ended.memory_bytes)
