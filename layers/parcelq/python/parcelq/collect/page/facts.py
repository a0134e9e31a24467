"""The sections of a page with charts and facts about a job."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from parcelq.amounts import amount, dollars, duration
from parcelq.collect.page.charts import bars
from parcelq.collect.page.html import element, section, table, text
from parcelq.collect.page.rates import Rate
from parcelq.collect.report import Report
from parcelq.escaping import cut

LONG: Final = 500
"""How many characters the page shows at most of a text that occurs only once on the page."""
_ROOT: Final = 2**0.5


def rate_chart(rate: Rate) -> str:
    """Return the section with a chart of the records collected per second, over time."""
    each = [entries / rate.seconds for entries in rate.entries]
    labels = [
        f"{duration(number * rate.seconds)} to {duration((number + 1) * rate.seconds)}: {value:,.0f} records a second"
        for number, value in enumerate(each)
    ]
    whole = rate.seconds * len(each)
    mean = sum(rate.entries) / whole
    summary = f"{mean:,.0f} records a second on average over {duration(whole)}, at most {max(each):,.0f}"
    edges = [duration(number * rate.seconds) for number in range(len(each) + 1)]
    chart = bars(each, labels, edges, f"{max(each):,.0f}/s", f"Rate over time: {summary}")
    words = "Records of the result that were collected in each second, since the first came."
    return section("Rate over time", chart, words=f"{summary}. {words}", id="rate")


def run_durations(report: Report) -> str:
    """Return the section with a histogram of how long runs took; an empty text if no durations are known."""
    runs = report.cost.get("runs") or {}
    counts = runs.get("durations") or []
    if not counts:
        return ""
    begins = [0.0, *(end for end, _ in counts)]
    if len(counts) > 1:  # the range of each bar is the square root of two times as wide as the range before
        begins[0] = max(0.0, counts[0][0] - (counts[1][0] - counts[0][0]) / _ROOT)
    labels = [
        f"{duration(begin)} to {duration(end)}: {amount(count, 'run')}"
        for begin, (end, count) in zip(begins, counts, strict=False)
    ]
    most = max(count for _, count in counts)
    mean = runs["seconds"] / runs["count"]
    summary = f"{amount(runs['count'], 'run')} took {duration(mean)} on average, {duration(runs['seconds'])} together"
    edges = [duration(begins[0]), *(duration(end) for end, _ in counts)]
    chart = bars([count for _, count in counts], labels, edges, f"{most:,}", f"Durations of runs: {summary}")
    words = "In a run, a step gets a batch of records. Bars count the runs that succeeded; two bars for each doubling."
    return section("Durations of runs", chart, words=f"{summary}. {words}", id="durations")


def costs(report: Report) -> str:
    """Return the section with the cost of the job; an empty text if the cost is unknown."""
    usd = report.cost.get("usd")
    if not usd:
        return ""
    rows = []
    for name in ("uploader", "processors", "downloader"):
        one = report.cost[name]
        numbers = (
            f"{one['invocations']:,}",
            duration(one["seconds"]),
            f"{one['gb_seconds']:,.1f}",
            f"{one['requests']:,}",
        )
        rows.append([text(name), *map(text, numbers)])
    words = (
        f"About {dollars(usd['total'])} at the list prices of {usd['region']}: Lambda {dollars(usd['lambda'])}, "
        f"SQS {dollars(usd['sqs'])}, S3 {dollars(usd['s3'])}."
    )
    heads = ["Function", "Invocations", "Time", "GB-seconds", "Requests"]
    return section("Cost", table("costs", "Cost of each function", heads, rows), words=words, id="cost")


def facts(report: Report) -> str:
    """Return the section with the steps, settings and files of the job."""
    facts = [
        ("Source", report.source),
        ("Version of the source", report.version),
        ("Result", report.result),
        ("Format", _format(report)),
        ("Read as one stream", report.one_stream),
        ("Files", f"{len(report.files):,}, as one" if report.files else ""),
        ("Workflow and versions", ", ".join(report.workflows) or "none was named"),
        ("Steps", _steps(report)),
        ("Options", _options(report)),
        ("First result collected", _time(report.first)),
        ("Last result collected", _time(report.last)),
        ("Between them", _between(report.first, report.last)),
        ("Repeated messages dropped", f"{report.duplicates:,}"),
        ("Digest of the state", report.state),
    ]
    shown = (element("dt", text(name)) + element("dd", text(cut(value, LONG))) for name, value in facts if value)
    return section("About this job", element("dl", *shown, class_="facts", id="facts"))


def _steps(report: Report) -> str:
    """Return the steps of a run on one machine, each with its settings file."""
    steps, settings = report.recipe.get("steps", ()), report.recipe.get("settings", ())
    files = [*settings, *[""] * len(steps)]
    return ", then ".join(
        f"{step} with {file}" if file else str(step) for step, file in zip(steps, files, strict=False)
    )


def _options(report: Report) -> str:
    """Return the options of a run on one machine that are not shown elsewhere; empty if there are no such options."""
    others = {name: value for name, value in report.recipe.items() if name not in {"steps", "settings"}}
    texts = {name: " ".join(map(str, one)) if isinstance(one, list | tuple) else one for name, one in others.items()}
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in texts.items())


def _format(report: Report) -> str:
    if not report.format:
        return "unknown: the upload did not say"
    return f"{report.format} (chosen by {report.format_chosen_by})" if report.format_chosen_by else report.format


def _time(iso: str) -> str:
    try:
        return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S %Z}"
    except ValueError:
        return iso


def _between(first: str, last: str) -> str:
    try:
        return duration((datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())
    except ValueError:
        return ""
