"""The web page of `parcelq estimate --html`: cost and duration over the parcel size, one line for each memory size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil, floor, log10
from typing import Final

from parcelq.amounts import dollars, size
from parcelq.collect.page.charts import chart_text
from parcelq.collect.page.document import document
from parcelq.collect.page.html import element, table, text

from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.model import Estimate
from parcelq_cli.estimate.report import seconds
from parcelq_cli.estimate.setups import cheapest, grid, warnings

_PARCELS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
_MEMORIES: Final = (512, 1024, VCPU_MB, 2 * VCPU_MB, 4 * VCPU_MB)
_LEAST: Final = 1e-9
"""The number that replaces zero on a logarithmic axis."""
_TIME: Final = "Time until all records are processed"
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 70, 490, 14, 258
"""The width of a chart, and the edges of the area between its axes."""
_NAME_HEIGHT: Final = 14


def page(job: Estimate) -> bytes:
    """Return a page that compares the setup of a job with other setups."""
    known, setup = job.known, job.setup
    parcels = {min(one, max(1, known.records)) for one in (*_PARCELS, setup.parcel_size)}
    rows = grid(job, parcels, _MEMORIES)
    best = cheapest(one for row in rows for one in row)
    about = (
        f"{size(known.size)}, {known.records:,} records. Each line is a memory size of the processor. "
        "Hollow points: a run does not fit into an invocation. The ring marks the setup that you chose."
    )
    advice = "No setup fits: choose a smaller batch size or a longer timeout."
    if best:
        advice = (
            f"Cheapest of these: parcels of {best.setup.parcel_size:,} with {best.setup.memory:,} MB, "
            f"{dollars(usd(best))}, all processed {seconds(best.processed)} after the put. Your setup: parcels of "
            f"{setup.parcel_size:,} with {setup.memory:,} MB, {dollars(usd(job))}, {seconds(job.processed)}."
        )
    charts = (("Cost", "Cost of the file", usd, dollars), (_TIME, _TIME, lambda one: one.processed, seconds))
    drawn = (
        element("section", element("h2", head), _chart(job, rows, value, say, f"{label}, by parcel size and memory"))
        for head, label, value, say in charts
    )
    mind = [element("li", text(one)) for one in warnings(job)]
    return document(
        f"Estimate for {known.name}",
        element(
            "main",
            element("h1", text(f"Estimate for {known.name}")),
            element("p", text(about), class_="soft"),
            element("div", element("p", text(advice)), class_="verdict"),
            element("div", element("ul", *mind), class_="warnings") if mind else "",
            element("div", *drawn, class_="charts"),
            element("h2", "The numbers"),
            _numbers(rows),
            element("p", text(f"List prices of {job.prices.region}, without the free tier."), class_="soft"),
        ),
    )


def _numbers(rows: Sequence[Sequence[Estimate]]) -> str:
    def cell(job: Estimate) -> str:
        return text(f"{dollars(usd(job))}, {seconds(job.processed)}" + " (does not fit)" * (not job.fits))

    heads = ["Parcel", *(f"{one.setup.memory:,} MB" for one in rows[0])]
    cells = [[f"{row[0].setup.parcel_size:,}", *map(cell, row)] for row in rows]
    return table("numbers", "The numbers", heads, cells, texts=())


def _chart(
    chosen: Estimate,
    rows: Sequence[Sequence[Estimate]],
    value: Callable[[Estimate], float],
    say: Callable[[float], str],
    label: str,
) -> str:
    """Draw a value over the parcel size on logarithmic axes. The memory size of each line is written at its end."""
    x_ticks = _ticks([row[0].setup.parcel_size for row in rows])
    y_ticks = _ticks([max(_LEAST, value(job)) for row in rows for job in row])

    def x_at(x: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * _share(x, x_ticks)

    def y_at(y: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * _share(max(_LEAST, y), y_ticks)

    content = [element("path", d=f"M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}", class_="axis")]
    for tick in y_ticks:
        content.append(element("path", d=f"M{_LEFT} {y_at(tick):.1f}H{_RIGHT}", class_="grid"))
        content.append(chart_text(_LEFT - 6, y_at(tick) + 4, say(tick), "end"))
    content += [chart_text(x_at(tick), _BOTTOM + 18, f"{tick:,.0f}", "middle") for tick in x_ticks]
    content.append(chart_text((_LEFT + _RIGHT) / 2, _BOTTOM + 36, "records in a parcel", "middle"))
    names = _spread([y_at(value(job)) for job in rows[-1]])
    for number, (line, name) in enumerate(zip(zip(*rows, strict=True), names, strict=True)):
        places = [(x_at(job.setup.parcel_size), y_at(value(job))) for job in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        content.append(element("path", d=f"M{path}", class_=f"series s{number}"))
        for job, (x, y) in zip(line, places, strict=True):
            hollow = "" if job.fits else " hollow"
            dot = element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.5", class_=f"dot{hollow} s{number}")
            ring = element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="8", class_="ring")
            about = f"parcels of {job.setup.parcel_size:,}, {job.setup.memory:,} MB: {say(value(job))}"
            content.append(element("g", dot, ring * (job.setup == chosen.setup), element("title", text(about))))
        content.append(chart_text(places[-1][0] + 10, name + 4, f"{line[0].setup.memory:,} MB", "start"))
    return element("svg", *content, viewBox=f"0 0 {_WIDTH} 300", role="img", aria_label=label, class_="chart")


def _ticks(values: Sequence[float]) -> list[float]:
    """Return labels for a logarithmic axis (1, 2, 5, 10, …, or only powers of ten), between which all values are."""
    some = list(_steps(min(values), max(values), (1, 2, 5)))
    return some if len(some) <= 7 else list(_steps(min(values), max(values), (1,)))


def _steps(low: float, high: float, of: Sequence[int]) -> Iterator[float]:
    every = [one * 10.0**power for power in range(floor(log10(low)) - 1, ceil(log10(high)) + 2) for one in of]
    first = max(number for number, one in enumerate(every) if one <= low * 1.000001)
    last = min(number for number, one in enumerate(every) if one >= high * 0.999999)
    yield from every[first : max(last, first + 1) + 1]


def _share(value: float, ticks: Sequence[float]) -> float:
    return (log10(value) - log10(ticks[0])) / (log10(ticks[-1]) - log10(ticks[0]))


def _spread(places: Sequence[float]) -> list[float]:
    """Move the names of lines up and down so that no names overlap and no name is below the chart."""
    moved, lowest = list(places), _BOTTOM - 6.0
    order = sorted(range(len(places)), key=places.__getitem__)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + _NAME_HEIGHT)
    for number in reversed(order):
        moved[number] = min(moved[number], lowest)
        lowest = moved[number] - _NAME_HEIGHT
    return moved
