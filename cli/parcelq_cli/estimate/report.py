"""What `parcelq estimate` prints: as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from parcelq.collect.page.amounts import dollars

from parcelq_cli.estimate.arithmetic import Row, total
from parcelq_cli.estimate.bill import bill, keeping, usd
from parcelq_cli.estimate.model import Job
from parcelq_cli.estimate.options import cheapest, warnings
from parcelq_cli.estimate.stack import idle


def document(every: Sequence[Job]) -> dict[str, Any]:
    """The whole estimate, for JSON. Durations are in seconds, sizes in bytes, amounts in dollars."""
    job, best = _chosen(every), cheapest(every)
    nothing = idle(job.stack, job.prices)
    return {
        "file": asdict(job.known),
        "chosen": {**_job(job), "bill": [asdict(row) for row in bill(job)]},
        "options": [{**_job(one), "cheapest": one is best} for one in every],
        "month": {"keeping_usd": total(keeping(job)), "idle_stack_usd": total(nothing)},
        "idle_stack": [asdict(row) for row in nothing],
        "prices": {"region": job.prices.region, "of": {name: one.document() for name, one in job.prices.of.items()}},
        "warnings": list(warnings(job)),
    }


def text(every: Sequence[Job]) -> str:
    """The whole estimate, as text."""
    job, best = _chosen(every), cheapest(every)
    known, setup, nothing = job.known, job.setup, idle(job.stack, job.prices)
    counted = "counted" if known.counted else "worked out from the sample"
    reason = " ".join(known.reason.split())[:200]
    failing = f"{known.failing:.2%} of them fail: {reason}" if known.failing else "none of them fails"
    days = job.prices.days
    dated = f", dated {days[0]} to {days[1]}" if days else ""
    about = (
        f"{known.name}: {size(known.stored)}, {known.records:,} records of {known.format} ({counted})\n"
        f"Step, over {known.sampled:,} of them: {seconds(known.wall.fixed)} a run and "
        f"{seconds(known.wall.each)} a record;\n"
        f"  out for one in: {known.out_entries:.3g}, of {known.out_bytes:.3g} bytes; {failing}"
    )
    on_aws = (
        f"On AWS with parcels of {setup.parcel_size:,}, batches of {setup.batch_size:,}, {setup.memory:,} MB, "
        f"{setup.concurrency:,} processors at a time:\n"
        f"  processed after about {seconds(job.processed)}, "
        f"the result at most {seconds(job.latest)} after the put\n"
        f"  {job.runs:,} messages, each run {seconds(job.run)}; result about {size(job.output_bytes)}\n"
    )
    setups = table([("", "parcel", "batch", "MB", "run", "processed", "cost"), *(_cells(one, best) for one in every)])
    month = (
        f"Beside that, a month: {dollars(total(keeping(job)))} for keeping file and result, and for an idle stack:\n"
    )
    prices = f"List prices of {job.prices.region}{dated}, no free tier taken off; docs/costs.md says what is left out."
    notes = [f"Mind: {one}." for one in warnings(job)]
    legend = "* chosen  < cheapest  ! a run does not fit into an invocation"
    costs, idle_costs = _by_service(bill(job)), _by_service(nothing)
    return "\n\n".join([about, on_aws + costs, f"{setups}\n{legend}", month + idle_costs, prices, *notes])


def seconds(value: float) -> str:
    """A duration, as people say it."""
    if value < 10:
        return f"{value:.2g} s" if value >= 0.001 else f"{value * 1e6:.2g} µs"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 2 * 3600 else f"{value / 3600:,.1f} h"


def size(value: float) -> str:
    """Bytes, as people say them."""
    for name, unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= unit:
            return f"{value / unit:,.1f} {name}"
    return f"{value:.0f} bytes"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns, the first to the left and the others to the right."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def _chosen(every: Sequence[Job]) -> Job:
    return next(one for one in every if one.chosen)


def _by_service(rows: Sequence[Row]) -> str:
    services = dict.fromkeys(row.service for row in rows)
    cells = [(f"  {name}", dollars(total([row for row in rows if row.service == name]))) for name in services]
    return table([*cells, ("  in all", dollars(total(rows)))])


def _cells(job: Job, best: Job | None) -> tuple[str, ...]:
    marks = "*" * job.chosen + "<" * (job is best) + "!" * (not job.fits)
    numbers = (f"{number:,}" for number in (job.setup.parcel_size, job.setup.batch_size, job.setup.memory))
    return (marks, *numbers, seconds(job.run), seconds(job.processed), dollars(usd(job)))


def _job(job: Job) -> dict[str, Any]:
    took = {
        name: getattr(job, name) for name in ("run", "invocation", "upload", "processed", "assembly", "busy", "latest")
    }
    return {
        **asdict(job.setup),
        "messages": job.runs,
        "invocations": job.invocations,
        "result_bytes": job.output_bytes,
        "seconds": took,
        "usd": usd(job),
        "fits": job.fits,
    }
