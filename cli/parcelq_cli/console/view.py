"""The interface between the console and its jobs, which are on this machine or on a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from parcelq.collect.deaths import Dead, kind_of
from parcelq.collect.page.figures import Figures
from parcelq.collect.report import Report
from parcelq.errors import JobError, ParcelqError
from parcelq.escaping import one_line

ACTIONS: Final = {
    "redrive": "Failed records run again.",
    "resume": "The job continues with what is missing.",
    "cancel": "The job stops; finished work is kept.",
}
"""Maps each action on a job to the sentence that the console shows when the action begins."""


@dataclass(frozen=True, slots=True)
class Which:
    """Selects the dead entries that run again; by default all dead entries.

    Attributes:
        kind: selects only entries for whose reason `kind_of` returns this text, after escaping; empty for all reasons.
        span: selects only the dead entries that cover exactly these bytes of the source, from the first number to
            before the second; None for all entries. If given, `kind` is ignored.
    """

    kind: str = ""
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """The progress of a job, with the values that a console shows.

    Attributes:
        id: the job's id.
        title: the job's name for people.
        state: `running`, `stopped`, `cancelled`, `finished` if only dead entries are left, or `whole` if the result is
            complete.
        share: how much of the source is done, from 0 to 1; None if unknown.
        dead: how many entries failed for good.
        rate: how many entries per second the result gains; None if unknown.
        seconds_left: how many seconds the remaining work takes at this rate; None if unknown.
        actions: the names of the actions that are possible now.
        problem: why the job was stopped, or why the last action on the job failed; empty if neither happened.
    """

    id: str
    title: str
    state: str
    share: float | None
    dead: int
    rate: float | None = None
    seconds_left: float | None = None
    actions: tuple[str, ...] = ()
    problem: str = ""


class Jobs(Protocol):
    """The jobs that a console shows. All methods may be called from several threads, and raise ParcelqError."""

    def views(self) -> Sequence[JobView]:
        """Return the progress of all jobs."""

    def view(self, job: str) -> JobView:
        """Return the progress of a job. Raises JobError if there is no such job."""

    def written(self, job: str) -> str:
        """Return the report's page beside the complete result of a job; empty if somebody deleted the page."""

    def drawn(self, job: str) -> tuple[Report, Figures] | None:
        """Return the report of a job that is not complete, and the report's figures; None if the job has no outputs
        yet.
        """

    def redrive(self, job: str, only: Callable[[Dead], bool] | None) -> None:
        """Run a job's dead entries again: the entries for which `only` returns true, or all."""

    def resume(self, job: str) -> None:
        """Run the missing records of a job."""

    def cancel(self, job: str) -> None:
        """Stop a job."""

    def close(self) -> None:
        """End all work that must end with the console."""


def act(jobs: Jobs, job: str, action: str, which: Which) -> str:
    """Begin an action on a job, and return a sentence that confirms it.

    Raises:
        ParcelqError: if the action is not possible; the error message says why.
    """
    view = jobs.view(job)
    if action not in view.actions:
        raise JobError(job, f"it is {view.state}, so this action is not possible now")
    if action == "redrive":
        jobs.redrive(view.id, _chosen(which))
    elif action == "resume":
        jobs.resume(view.id)
    else:
        jobs.cancel(view.id)
    return ACTIONS[action]


def sentence_of(error: ParcelqError | OSError) -> str:
    """Return the sentence that tells people about an error. For an OSError, it names the file and the reason."""
    if isinstance(error, ParcelqError):
        return str(error)
    return f"{error.filename or 'this machine'}: {error.strerror or error}"


def _chosen(which: Which) -> Callable[[Dead], bool] | None:
    """Return a function that says whether a dead entry is selected; None if all entries are selected."""
    if which.span:
        return lambda dead: (dead.start, dead.end) == which.span
    if which.kind:
        return lambda dead: one_line(kind_of(dead.reason)) == which.kind
    return None
