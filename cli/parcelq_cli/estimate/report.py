"""Writes the output of `parcelq estimate` as text or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from parcelq.amounts import amount, dollars, size

from parcelq_cli.estimate.bill import Row, bill, idle, keeping, total, usd
from parcelq_cli.estimate.model import Estimate
from parcelq_cli.estimate.setups import cheapest, warnings

_GAP: Final = "\n\n"


def document(job: Estimate, every: Sequence[Estimate]) -> dict[str, Any]:
    """Return the estimate of a job and of other setups as JSON values. Units are seconds, bytes and dollars."""
    best, nothing = cheapest(every), idle(job.stack, job.prices)
    return {
        "file": asdict(job.known),
        "chosen": {**_job(job), "bill": [row._asdict() for row in bill(job)]},
        "options": [{**_job(one), "cheapest": one is best} for one in every],
        "month": {"keeping_usd": total(keeping(job)), "idle_stack_usd": total(nothing)},
        "idle_stack": [row._asdict() for row in nothing],
        "prices": {"region": job.prices.region, "of": {name: one.document() for name, one in job.prices.of.items()}},
        "warnings": list(warnings(job)),
    }


def _job(job: Estimate) -> dict[str, Any]:
    times = "run", "invocation", "upload", "processed", "assembly", "busy", "latest"
    return {
        **asdict(job.setup),
        "batch_size": job.setup.batch,
        "messages": job.runs,
        "invocations": job.invocations,
        "result_bytes": job.output_bytes,
        "seconds": {name: getattr(job, name) for name in times},
        "usd": usd(job),
        "fits": job.fits,
    }


def text(job: Estimate, every: Sequence[Estimate]) -> str:
    """Return the estimate of a job and a comparison with other setups as text."""
    known, setup, best, days = job.known, job.setup, cheapest(every), job.prices.days
    counted = "counted" if known.counted else "worked out from the sample"
    reason = " ".join(known.reason.split())[:200]
    failing = f"{known.failing:.2%} of the records fail: {reason}" if known.failing else "none of the records fails"
    dated = f", dated {days[0]} to {days[1]}" if days else ""
    heads = ("", "parcel", "batch", "MB", "run", "processed", "cost")
    sizes = f"parcels of {setup.parcel_size:,}, batches of {setup.batch:,}, {setup.memory:,} MB"
    return f"""\
{known.name}: {size(known.stored)}, {amount(known.records, "record")} of {known.format} ({counted})
Step, over {known.sampled:,} of them: {seconds(known.wall.fixed)} a run and {seconds(known.wall.each)} a record;
  output for one record: {known.out_entries:.3g} records, {known.out_bytes:.3g} bytes; {failing}

On AWS with {sizes}, {setup.concurrency:,} processors at a time:
  processed after about {seconds(job.processed)}, the result at most {seconds(job.latest)} after the put
  {job.runs:,} messages, each run {seconds(job.run)}; result about {size(job.output_bytes)}
{_by_service(bill(job))}

{_table([heads, *(_cells(one, job, best) for one in every)])}
* chosen  < cheapest  ! a run does not fit into an invocation

In addition, per month: {dollars(total(keeping(job)))} for storing file and result, and for an idle stack:
{_by_service(idle(job.stack, job.prices))}

List prices of {job.prices.region}{dated}, without the free tier; docs/costs.md says what is left out.\
{"".join(f"{_GAP}Mind: {one}." for one in warnings(job))}"""


def seconds(value: float) -> str:
    """Return a duration with two significant digits: `130 µs`, `0.28 s`, `14 min`, `1.9 h`."""
    if value < 10:
        return f"{value:.2g} s" if value >= 0.001 else f"{value * 1e6:.0f} µs"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 2 * 3600 else f"{value / 3600:,.1f} h"


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Return a table as text: the first column is left-aligned, all other columns are right-aligned."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def _by_service(rows: Sequence[Row]) -> str:
    services = dict.fromkeys(row.service for row in rows)
    cells = [(f"  {name}", dollars(total([row for row in rows if row.service == name]))) for name in services]
    return _table([*cells, ("  in all", dollars(total(rows)))])


def _cells(one: Estimate, chosen: Estimate, best: Estimate | None) -> tuple[str, ...]:
    marks = "*" * (one.setup == chosen.setup) + "<" * (one is best) + "!" * (not one.fits)
    numbers = (f"{number:,}" for number in (one.setup.parcel_size, one.setup.batch, one.setup.memory))
    return (marks, *numbers, seconds(one.run), seconds(one.processed), dollars(usd(one)))
