"""The interface between the console and its jobs, which are on this machine or on a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

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


Selected: TypeAlias = Callable[[Dead], bool] | None
"""Says which dead entries run again; None selects all."""


@dataclass(frozen=True, slots=True)
class JobView:
    """The progress of a job, with the values that a console shows.

    Attributes:
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


class ShownJobs(Protocol):
    """The jobs that a console shows. All methods may be called from several threads, and raise ParcelqError."""

    def views(self) -> Sequence[JobView]:
        """Return the progress of all jobs."""

    def view(self, job: str) -> JobView:
        """Return the progress of a job. Raises JobError if there is no such job."""

    def written(self, job: str) -> str:
        """Return the report's page beside the complete result of a job; empty if somebody deleted the page."""

    def drawn(self, job: str) -> tuple[Report, Figures] | None:
        """Return the report of an incomplete job, and the report's figures; None if the job has no outputs yet."""

    def redrive(self, job: str, only: Selected) -> None:
        """Run a job's dead entries again."""

    def resume(self, job: str) -> None:
        """Run the missing records of a job."""

    def cancel(self, job: str) -> None:
        """Stop a job."""

    def close(self) -> None:
        """End all work that must end with the console."""


def act(jobs: ShownJobs, job: str, action: str, only: Selected = None) -> str:
    """Begin an action on a job, and return a sentence that confirms it. Raises ParcelqError if it is not possible."""
    view = jobs.view(job)
    if action not in view.actions:
        raise JobError(job, f"it is {view.state}, so this action is not possible now")
    if action == "redrive":
        jobs.redrive(view.id, only)
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


def selected(kind: str = "", span: tuple[int, int] | None = None) -> Selected:
    """Select the dead entries that cover exactly the bytes `[start, end)` of the source, or the entries for whose
    reason `kind_of` returns the text `kind` after escaping. Without a span and a kind, select all entries.
    """
    if span:
        return lambda dead: (dead.start, dead.end) == span
    if kind:
        return lambda dead: one_line(kind_of(dead.reason)) == kind
    return None
