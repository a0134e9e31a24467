"""What `parcelq estimate --html` draws: cost and duration over parcel size, a line for each memory size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from parcelq.collect.page.amounts import dollars
from parcelq.collect.page.charts import Line, Point, lines
from parcelq.collect.page.document import document
from parcelq.collect.page.html import element, table, text

from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.model import Job
from parcelq_cli.estimate.options import cheapest, warnings
from parcelq_cli.estimate.report import seconds, size

_PARCELS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
_MEMORIES: Final = (512, 1024, VCPU_MB, 2 * VCPU_MB, 4 * VCPU_MB)
_LEAST: Final = 1e-9
"""Replaces zero on a logarithmic axis."""


def write_page(path: Path, every: Sequence[Job], *, batches_follow: bool) -> None:
    """Write the page.

    Args:
        path: the file, which is replaced.
        every: the job on the setups that are compared, the chosen one among them.
        batches_follow: whether the batch size is always the parcel size.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(page(next(one for one in every if one.chosen), batches_follow=batches_follow))


def page(chosen: Job, *, batches_follow: bool) -> bytes:
    """Draw a job on many setups beside the chosen one."""
    grid = setups(chosen, batches_follow=batches_follow)
    best = cheapest([job for row in grid for job in row])
    known = chosen.known
    about = (
        f"{size(known.size)}, {known.records:,} records. Each line is a memory size of the processor. "
        "Hollow points: a run does not fit into an invocation. The ring marks the setup that you chose."
    )
    advice = "No setup fits: choose a smaller batch size or a longer timeout."
    if best:
        setup = best.setup
        advice = (
            f"Cheapest of these: parcels of {setup.parcel_size:,} with {setup.memory:,} MB, {dollars(usd(best))}, "
            f"all processed {seconds(best.processed)} after the put. Your setup: parcels of "
            f"{chosen.setup.parcel_size:,} with {chosen.setup.memory:,} MB, {dollars(usd(chosen))}, "
            f"{seconds(chosen.processed)}."
        )
    cost = _chart(grid, usd, dollars, "Cost of the file by parcel size and memory")
    took = _chart(grid, lambda job: job.processed, seconds, "Time until all is processed, by parcel size and memory")
    mind = [element("li", text(one)) for one in warnings(chosen)]
    return document(
        f"Estimate for {known.name}",
        element(
            "main",
            element("h1", text(f"Estimate for {known.name}")),
            element("p", text(about), class_="soft"),
            element("div", element("p", text(advice)), class_="verdict"),
            element("div", element("ul", *mind), class_="warnings") if mind else "",
            element(
                "div",
                element("section", element("h2", "Cost"), cost),
                element("section", element("h2", "Time until all is processed"), took),
                class_="charts",
            ),
            element("h2", "The numbers"),
            _numbers(grid),
            element("p", text(f"List prices of {chosen.prices.region}, without the free tier."), class_="soft"),
        ),
    )


def setups(chosen: Job, *, batches_follow: bool) -> list[list[Job]]:
    """The job on a grid of setups: a row for each memory size, from small to large parcels; the chosen one in it."""
    setup = chosen.setup
    most = max(1, chosen.known.records)
    parcels = sorted({min(one, most) for one in (*_PARCELS, setup.parcel_size)} | {setup.parcel_size})
    grid = []
    for memory in sorted({*_MEMORIES, setup.memory}):
        row = []
        for parcel in parcels:
            batch = parcel if batches_follow else setup.batch_size
            other = replace(setup, parcel_size=parcel, batch_size=batch, memory=memory)
            row.append(replace(chosen, setup=other, chosen=other == setup))
        grid.append(row)
    return grid


def _chart(
    grid: Sequence[Sequence[Job]], value: Callable[[Job], float], say: Callable[[float], str], label: str
) -> str:
    drawn = [
        Line(
            f"{row[0].setup.memory:,} MB",
            [
                Point(
                    job.setup.parcel_size,
                    max(_LEAST, value(job)),
                    f"parcels of {job.setup.parcel_size:,}, {job.setup.memory:,} MB: {say(value(job))}",
                    hollow=not job.fits,
                    ringed=job.chosen,
                )
                for job in row
            ],
        )
        for row in grid
    ]
    return lines(drawn, lambda x: f"{x:,.0f}", say, label, "records in a parcel")


def _numbers(grid: Sequence[Sequence[Job]]) -> str:
    heads = ["Parcel", *(f"{row[0].setup.memory:,} MB" for row in grid)]
    rows = []
    for column in zip(*grid, strict=True):
        cells = (
            f"{dollars(usd(job))}, {seconds(job.processed)}" + ("" if job.fits else " (does not fit)") for job in column
        )
        rows.append([f"{column[0].setup.parcel_size:,}", *map(text, cells)])
    return table("numbers", "The numbers", heads, rows, texts=())
