"""The pages of the console: a list of jobs, and a page per job with its progress, buttons and report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from parcelq.amounts import amount, duration
from parcelq.collect.page.html import element, table, text
from parcelq.collect.page.render import content
from parcelq.collect.page.verdict import verdict
from parcelq.errors import JobError, NotFoundError

from parcelq_cli.console.view import JobView, ShownJobs

_ASKS: Final = {
    "redrive": ("Run failed records again", "Run the failed records again ({dead})?"),
    "resume": ("Resume", "Continue with what is missing?"),
    "cancel": ("Stop", "Stop this job? Finished work is kept, and you can resume it."),
}
_TRIES: Final = 5
"""How often reading a job is tried, because the job may change at the same moment."""


def listing(views: Sequence[JobView], place: str) -> str:
    """Return the main element of the list of jobs."""
    heads = ["Job", "State", "Done", "Records a second", "Time left", "Failed records"]
    shown = table("jobs", "Jobs", heads, map(_cells, views), texts=(0, 1))
    nothing = element("p", "All jobs are complete. A job is listed here until all its records are in its result.")
    title, soft = element("h1", "Jobs"), element("p", text(place), class_="soft")
    return element("main", title, soft, shown if views else nothing)


def job_page(jobs: ShownJobs, job: str) -> str:
    """Return the main element of a job's page. Raises ParcelqError if there is no such job or it cannot be read."""
    for _ in range(_TRIES):
        view = jobs.view(job)
        if view.state == "whole":
            page = jobs.written(view.id)
            start, end = page.find("<main>"), page.rfind("</main>")
            return page[start : end + len("</main>")] or _bare(
                view, "Its result is complete, but its report was deleted."
            )
        try:
            drawn = jobs.drawn(view.id)
        except NotFoundError:  # the job's segments were merged, or the job has just become complete
            continue
        if drawn is None:
            return _bare(view, "It has no results yet.")
        report, figures = drawn
        banner = _banner(view, verdict(report).sentence)
        return content(report, figures, banner, redrivable="redrive" in view.actions)
    raise JobError(job, "it changes at this moment; look again")


def _bare(view: JobView, sentence: str) -> str:
    return element("main", element("h1", text(view.title)), _banner(view, sentence))


def _banner(view: JobView, sentence: str) -> str:
    """Return the HTML above a job's report, which shows the buttons and the job's progress or final state."""
    words = _progress(view) if view.state == "running" else sentence
    parts = [element("p", element("strong", f"{text(view.state.capitalize())}."), f" {text(words)}")]
    if view.share is not None and view.state == "running":
        parts.append(_bar(view.share))
    if view.problem:
        parts.append(element("p", text(view.problem), class_="problem", id="problem"))
    buttons = [_button(action, view) for action in view.actions]
    if buttons:
        parts.append(element("p", *buttons))
    kind = {"running": "running", "whole": "whole", "finished": "dead"}.get(view.state, "missing")
    return element("div", *parts, class_=f"verdict {kind}", id="verdict")


def _button(action: str, view: JobView) -> str:
    label, ask = _ASKS[action]
    question = ask.format(dead=amount(view.dead, "record") if view.dead else "the header")
    return element("button", text(label), type="button", class_="act", data_action=action, data_ask=question)


def _progress(view: JobView) -> str:
    parts = [] if view.share is None else [f"{view.share:.1%} done"]
    if view.rate is not None:
        parts.append(f"{view.rate:,.0f} records a second")
    if view.seconds_left is not None:
        parts.append(f"about {duration(view.seconds_left)} left")
    if view.dead:
        parts.append(f"{amount(view.dead, 'record')} failed so far")
    return ", ".join(parts) + "." if parts else "The job has just begun."


def _bar(share: float) -> str:
    return element("progress", value=f"{share:.4f}", max="1", aria_label="How much is done")


def _cells(one: JobView) -> list[str]:
    return [
        element("a", text(one.title), href=f"job/{one.id}") + element("small", one.id, class_="mono"),
        text(one.state),
        "unknown" if one.share is None else _bar(one.share) + element("span", f"{one.share:.1%}"),
        "" if one.rate is None else f"{one.rate:,.0f}",
        "" if one.seconds_left is None else text(duration(one.seconds_left)),
        f"{one.dead:,}",
    ]
