"""Compares the predictions of `parcelq estimate` with a simulation of the deployed functions, for jobs up to 1 TB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from parcelq.amounts import dollars
from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.report import seconds

from benchmarks.harness import Bench, Figure, Spread, at_most
from benchmarks.scale import CASES, simulated
from benchmarks.simulation.case import Case

_MOST: Final = 1.2


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    for lines, setup, account in CASES[: bench.size(len(CASES), 3)]:
        one = simulated(lines, setup, Case(account))
        what = f"simulated job of {lines:,} lines, Concurrency {setup.concurrency:,}"
        pairs = (
            ("time to the result", one.job.latest, one.outcome.result, seconds),
            ("cost", usd(one.job), one.usd, dollars),
        )
        for name, ours, theirs, say in pairs:
            ratio = Spread.of([max(ours / theirs, theirs / ours)])
            text = f"{say(ours)} predicted, {say(theirs)} simulated"
            yield Figure(f"`parcelq estimate`, {name}: its error", what, ratio, text, at_most(_MOST))
        if setup.concurrency == 1000:
            processed, writing = one.outcome.processed, one.outcome.writing
            misses = "; ".join(one.misses()) or "no limit is exceeded"
            text = f"{seconds(writing)} beside {seconds(processed)}; {misses}"
            target = at_most(1) if lines > 10**9 else None
            yield Figure(
                f"{what}, writing its result: time", "processing it", Spread.of([writing / processed]), text, target
            )
