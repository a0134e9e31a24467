"""The web page of `parcelq estimate --html`. Its charts show cost and duration over the parcel size, as a line for each
memory size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from parcelq.collect.page.amounts import dollars, size
from parcelq.collect.page.document import document
from parcelq.collect.page.html import element, table, text

from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.lines import Line, Point, lines
from parcelq_cli.estimate.model import Estimate
from parcelq_cli.estimate.report import seconds
from parcelq_cli.estimate.setups import cheapest, grid, warnings

_PARCELS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
_MEMORIES: Final = (512, 1024, VCPU_MB, 2 * VCPU_MB, 4 * VCPU_MB)
_LEAST: Final = 1e-9
"""The number that replaces zero on a logarithmic axis."""
_TIME: Final = "Time until all records are processed"


def page(job: Estimate, *, batches_follow: bool) -> bytes:
    """Return a page that compares the setup of a job with other setups. For `batches_follow`, see `setups.grid`."""
    known, setup = job.known, job.setup
    parcels = {min(one, max(1, known.records)) for one in (*_PARCELS, setup.parcel_size)}
    rows = grid(job, parcels, _MEMORIES, batches_follow=batches_follow)
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
    mind = [element("li", text(one)) for one in warnings(job)]
    drawn = (
        element("section", element("h2", head), _chart(job, rows, value, say, f"{label}, by parcel size and memory"))
        for head, label, value, say in charts
    )
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


def _chart(
    chosen: Estimate,
    rows: Sequence[Sequence[Estimate]],
    value: Callable[[Estimate], float],
    say: Callable[[float], str],
    label: str,
) -> str:
    def point(job: Estimate) -> Point:
        about = f"parcels of {job.setup.parcel_size:,}, {job.setup.memory:,} MB: {say(value(job))}"
        y, ringed = max(_LEAST, value(job)), job.setup == chosen.setup
        return Point(job.setup.parcel_size, y, about, hollow=not job.fits, ringed=ringed)

    drawn = [Line(f"{line[0].setup.memory:,} MB", list(map(point, line))) for line in zip(*rows, strict=True)]
    return lines(drawn, lambda x: f"{x:,.0f}", say, label, "records in a parcel")


def _numbers(rows: Sequence[Sequence[Estimate]]) -> str:
    def cell(job: Estimate) -> str:
        return text(f"{dollars(usd(job))}, {seconds(job.processed)}" + " (does not fit)" * (not job.fits))

    heads = ["Parcel", *(f"{one.setup.memory:,} MB" for one in rows[0])]
    cells = [[f"{row[0].setup.parcel_size:,}", *map(cell, row)] for row in rows]
    return table("numbers", "The numbers", heads, cells, texts=())
