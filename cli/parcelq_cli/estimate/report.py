"""What `parcelq estimate` prints: as text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from parcelq_cli.estimate.costs import Row, total
from parcelq_cli.estimate.distributed_map import MapCosts
from parcelq_cli.estimate.known import Measured
from parcelq_cli.estimate.options import Option, cheapest, warnings
from parcelq_cli.estimate.prices import Prices

_REASON: Final = 200
"""Characters that are shown of it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """All that is told.

    Attributes:
        known: the file and the step.
        options: the ways to set up a stack; one of them is the chosen one.
        maps: the same on a Distributed Map.
        keeping: what it costs to keep file and result for a month.
        idle: what the stack costs in a month in which nothing is processed.
        prices: what everything was reckoned with.
    """

    known: Measured
    options: Sequence[Option]
    maps: Sequence[MapCosts]
    keeping: Sequence[Row]
    idle: Sequence[Row]
    prices: Prices

    @property
    def chosen(self) -> Option:
        """The way that was asked for."""
        return next(one for one in self.options if one.chosen)

    def document(self) -> dict[str, Any]:
        """All of it, for JSON. Durations are in seconds, sizes in bytes, amounts in dollars."""
        best = cheapest(self.options)
        return {
            "file": asdict(self.known),
            "chosen": {**_option(self.chosen), "bill": [asdict(row) for row in self.chosen.rows]},
            "options": [{**_option(one), "cheapest": one is best} for one in self.options],
            "distributed_map": [
                {
                    "children": one.name,
                    "batch": one.batch,
                    "executions": one.children,
                    "usd": total(one.rows) if one.rows else None,
                    "impossible": one.impossible,
                    "bill": [asdict(row) for row in one.rows],
                }
                for one in self.maps
            ],
            "month": {"keeping_usd": total(self.keeping), "idle_stack_usd": total(self.idle)},
            "idle_stack": [asdict(row) for row in self.idle],
            "prices": {
                "region": self.prices.region,
                "of": {
                    name: {"usd": price.usd, "date": price.dated and str(price.dated), "source": price.source}
                    for name, price in self.prices.of.items()
                },
            },
            "warnings": list(warnings(self.chosen, self.known)),
        }

    def text(self) -> str:
        """All of it, for people."""
        known, chosen = self.known, self.chosen
        setup, took = chosen.setup, chosen.duration
        parts = [
            _about(known),
            f"On AWS with parcels of {setup.parcel_size:,}, batches of {setup.batch_size:,}, {setup.memory:,} MB, "
            f"{setup.concurrency:,} processors at a time:\n"
            f"  processed after about {seconds(took.processed)}, "
            f"the result at most {seconds(took.latest)} after the put\n"
            f"  {chosen.work.run.count:,} messages, each run {seconds(took.run)}; "
            f"result about {size(chosen.work.output_bytes)}\n" + _bill(chosen.rows),
            _table(
                ("", "parcel", "batch", "MB", "run", "processed", "cost"),
                [_cells(one, cheapest(self.options)) for one in self.options],
            )
            + "\n* chosen  < cheapest  ! a run does not fit into an invocation",
            "The same on Step Functions Distributed Map, with the same memory:\n"
            + _table(
                ("children", "items each", "executions", "Step Functions", "Lambda", "S3", "cost"), map(_map, self.maps)
            ),
            (
                f"Beside that, a month: {dollars(total(self.keeping))} for keeping file and result, "
                f"{dollars(total(self.idle))} for a stack that does nothing."
            ),
            _prices(self.prices),
        ]
        return "\n\n".join([*parts, *(f"Mind: {one}." for one in warnings(chosen, known))])


def dollars(usd: float) -> str:
    """An amount, with at least two digits that say something."""
    if usd >= 1:
        return f"${usd:,.2f}"
    places = 2
    while usd and usd * 10**places < 10 and places < 9:
        places += 1
    return f"${usd:.{places}f}"


def seconds(value: float) -> str:
    """A duration, as people say it."""
    if value < 10:
        return f"{value:.2g} s" if value >= 0.001 else f"{value * 1e6:.2g} µs"
    if value < 120:
        return f"{value:.0f} s"
    if value < 2 * 3600:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:,.1f} h"


def size(value: float) -> str:
    """Bytes, as people say them."""
    for name, unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= unit:
            return f"{value / unit:,.1f} {name}"
    return f"{value:.0f} bytes"


def _about(known: Measured) -> str:
    counted = "counted" if known.counted else "worked out from the sample"
    reason = " ".join(known.reason.split())[:_REASON]
    failing = f"{known.failing:.2%} of them fail: {reason}" if known.failing else "none of them fails"
    return (
        f"{known.name}: {size(known.size)}, {known.lines:,} lines ({counted})\n"
        f"Step, over {known.sampled:,} lines from all over the file: {seconds(known.wall.fixed)} a run and "
        f"{seconds(known.wall.each)} a line;\n"
        f"  out for one in: {known.out_entries:.3g}, of {known.out_bytes:.3g} bytes; {failing}"
    )


def _bill(rows: Iterable[Row]) -> str:
    by_service: dict[str, float] = {}
    for row in rows:
        by_service[row.service] = by_service.get(row.service, 0.0) + row.usd
    cells = [(f"  {name}", dollars(usd)) for name, usd in by_service.items()]
    return _table(None, [*cells, ("  in all", dollars(sum(by_service.values())))])


def _option(one: Option) -> dict[str, Any]:
    setup = asdict(one.setup)
    took = asdict(one.duration)
    requests = {
        "messages": one.work.run.count,
        "invocations": one.work.invocations,
        "result_bytes": one.work.output_bytes,
    }
    return {**setup, **requests, "seconds": {**took, "latest": one.duration.latest}, "usd": one.usd, "fits": one.fits}


def _cells(one: Option, best: Option | None) -> tuple[str, ...]:
    setup = one.setup
    marks = "*" * one.chosen + "<" * (one is best) + "!" * (not one.fits)
    numbers = (f"{number:,}" for number in (setup.parcel_size, setup.batch_size, setup.memory))
    return (marks, *numbers, seconds(one.duration.run), seconds(one.duration.processed), dollars(one.usd))


def _map(one: MapCosts) -> tuple[str, ...]:
    first = (one.name, f"{one.batch:,}", f"{one.children:,}")
    if one.impossible:
        return (*first, one.impossible)
    shares = (
        dollars(total([row for row in one.rows if row.service == service]))
        for service in ("Step Functions", "Lambda", "S3")
    )
    return (*first, *shares, dollars(total(one.rows)))


def _prices(prices: Prices) -> str:
    days = prices.days
    dated = f", dated {days[0]} to {days[1]}" if days else ""
    return f"List prices of {prices.region}{dated}, no free tier taken off; docs/costs.md tells what is left out."


def _table(head: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Columns, the first to the left and the others to the right."""
    lines = [*([head] if head else []), *rows]
    columns = max(map(len, lines))
    full = [row for row in lines if len(row) == columns]
    widths = [max(len(row[column]) for row in full) for column in range(columns)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in lines
    )
