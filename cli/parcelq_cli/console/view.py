"""The pages of the console: a list of jobs, and for each job its progress and buttons above its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from parcelq.collect.deaths import Dead, kind_of
from parcelq.collect.page.amounts import amount, duration
from parcelq.collect.page.html import element, text
from parcelq.escaping import one_line

ACTIONS: Final = ("redrive", "resume", "cancel")
"""The actions that are possible on a job."""
_ASKS: Final = {
    "redrive": ("Run failed records again", "Run the failed records again ({dead})?"),
    "resume": ("Resume", "Continue with what is missing?"),
    "cancel": ("Stop", "Stop this job? Finished work is kept, and you can resume it."),
}


@dataclass(frozen=True, slots=True)
class Which:
    """The dead entries to run again; by default all.

    Attributes:
        kind: only those with this kind of reason, as `kind_of` returns it, escaped.
        span: only those in these bytes of the source: the first, and the one just after the last.
    """

    kind: str = ""
    span: tuple[int, int] | None = None


def chosen(which: Which) -> Callable[[Dead], bool] | None:
    """Return a function that says whether a dead entry is selected; None if all are."""
    if which.span:
        return lambda dead: (dead.start, dead.end) == which.span
    if which.kind:
        return lambda dead: one_line(kind_of(dead.reason)) == which.kind
    return None


@dataclass(frozen=True, slots=True)
class JobView:
    """The progress of a job.

    Attributes:
        id: its id.
        title: its title for people.
        state: `running`, `stopped`, `cancelled`, `finished` where only dead entries are left, or `whole`.
        share: the share of the source that is done, from 0 to 1; None if unknown.
        dead: entries that failed.
        rate: entries of the result per second; None if unknown.
        seconds_left: how long the rest takes at that rate; None if unknown.
        actions: the actions that are possible now.
        problem: why it was stopped, or why the last action failed; empty otherwise.
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


class JobsView(Protocol):
    """The jobs that a console shows. Several threads may call its methods."""

    def views(self) -> Sequence[JobView]:
        """Return the progress of all jobs."""

    def main(self, job: str) -> str:
        """Return the main element of a job's page.

        Raises:
            JobError: there is no such job.
        """

    def act(self, job: str, action: str, which: Which) -> str:
        """Begin an action on a job, and return a sentence that confirms it.

        Raises:
            ParcelqError: the action is not possible; the sentence says why.
        """


def listing(views: Sequence[JobView], place: str) -> str:
    """Return the main element of the list of jobs."""
    heads = ("Job", "State", "Done", "Records a second", "Time left", "Failed")
    head = element("tr", *(element("th", text(one), scope="col") for one in heads))
    rows = [element("tr", *(element("td", cell) for cell in _cells(one)), data_job=one.id) for one in views]
    shown = element("table", element("thead", head), element("tbody", *rows))
    nothing = element("p", "All jobs are complete. A job is listed here until all its records are in its result.")
    return element(
        "main",
        element("h1", "Jobs"),
        element("p", text(place), class_="soft"),
        element("div", shown, class_="scroll", id="jobs", tabindex="0", role="region", aria_label="Jobs")
        if views
        else nothing,
    )


def main_of(page: str) -> str:
    """Return the main element of a report's page."""
    start, end = page.find("<main>"), page.rfind("</main>")
    return page[start : end + len("</main>")]


def banner(view: JobView, sentence: str) -> str:
    """Return the part above a job's report: its progress and its buttons.

    Args:
        view: its progress.
        sentence: the verdict.
    """
    parts = [
        element("p", element("strong", f"{text(view.state.capitalize())}."), f" {text(_progress(view, sentence))}")
    ]
    if view.share is not None and view.state == "running":
        parts.append(element("progress", value=f"{view.share:.4f}", max="1", aria_label="How much is done"))
    if view.problem:
        parts.append(element("p", text(view.problem), class_="problem", id="problem"))
    buttons = [_button(action, view) for action in view.actions]
    if buttons:
        parts.append(element("p", *buttons))
    kind = {"running": "running", "whole": "whole", "finished": "dead"}.get(view.state, "missing")
    return element("div", *parts, class_=f"verdict {kind}", id="verdict")


def _button(action: str, view: JobView) -> str:
    label, ask = _ASKS[action]
    question = ask.format(dead=amount(view.dead, "record"))
    return element("button", text(label), type="button", class_="act", data_action=action, data_ask=question)


def _progress(view: JobView, sentence: str) -> str:
    if view.state != "running":
        return sentence
    parts = [] if view.share is None else [f"{view.share:.1%} done"]
    if view.rate is not None:
        parts.append(f"{view.rate:,.0f} records a second")
    if view.seconds_left is not None:
        parts.append(f"about {duration(view.seconds_left)} left")
    if view.dead:
        parts.append(f"{amount(view.dead, 'record')} failed so far")
    return ", ".join(parts) + "." if parts else "The job has just begun."


def _cells(one: JobView) -> list[str]:
    return [
        element("a", text(one.title), href=f"job/{one.id}"),
        text(one.state),
        "unknown" if one.share is None else f"{one.share:.1%}",
        "" if one.rate is None else f"{one.rate:,.0f}",
        "" if one.seconds_left is None else text(duration(one.seconds_left)),
        f"{one.dead:,}",
    ]
