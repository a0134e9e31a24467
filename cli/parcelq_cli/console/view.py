"""What the console knows of jobs and does with them, whether they are on this machine or on a stack."""

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
"""What can be done with a job, and what is said when it begins."""


@dataclass(frozen=True, slots=True)
class Which:
    """The dead entries to run again; by default all.

    Attributes:
        kind: only those with this kind of reason, as `kind_of` returns it, escaped.
        span: only those in these bytes of the source: the first, and the one just after the last.
    """

    kind: str = ""
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """The progress of a job, as a console shows it.

    Attributes:
        id: its id.
        title: its name for people.
        state: `running`, `stopped`, `cancelled`, `finished` where only dead entries are left, or `whole`.
        share: how much of the source is done, from 0 to 1; None if unknown.
        dead: entries that failed.
        rate: entries of the result a second; None if unknown.
        seconds_left: the time that the rest takes at that rate; None if unknown.
        actions: the actions that are possible now.
        problem: why it was stopped, or why the last action failed; empty if neither happened.
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
        """Return the page beside the whole result of a job; empty if somebody deleted it."""

    def drawn(self, job: str) -> tuple[Report, Figures] | None:
        """Return the report of a job that is not whole, and its figures; None if it has no results yet."""

    def redrive(self, job: str, only: Callable[[Dead], bool] | None) -> None:
        """Run dead entries again: those that `only` says, or all."""

    def resume(self, job: str) -> None:
        """Continue with the missing records."""

    def cancel(self, job: str) -> None:
        """Stop it."""

    def close(self) -> None:
        """End what ends with the console."""


def act(jobs: Jobs, job: str, action: str, which: Which) -> str:
    """Begin an action on a job, and return a sentence that confirms it.

    Raises:
        ParcelqError: the action is not possible; the sentence says why.
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
    """Return what to tell people of an error: its sentence, or what the system refused to do with which file."""
    if isinstance(error, ParcelqError):
        return str(error)
    return f"{error.filename or 'this machine'}: {error.strerror or error}"


def _chosen(which: Which) -> Callable[[Dead], bool] | None:
    """Return a function that says whether a dead entry is selected; None if all are."""
    if which.span:
        return lambda dead: (dead.start, dead.end) == which.span
    if which.kind:
        return lambda dead: one_line(kind_of(dead.reason)) == which.kind
    return None
