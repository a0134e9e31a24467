"""Measures what the imports of each function cost at a cold start, compared with importing boto3 alone."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks import cold_start
from benchmarks.harness import Bench, Figure, Spread, at_most


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    taken = cold_start.samples(cold_start.ready(), runs=bench.size(25, 3))
    cpu = {name: [seconds for seconds, _ in of_one] for name, of_one in taken.items()}
    boto3 = cpu[cold_start.BOTO3]
    for name in cold_start.FUNCTIONS:
        yield Figure(
            f"cold start of {name}, its imports: CPU",
            "`import boto3`",
            Spread.of_ratios(cpu[name], boto3),
            f"{median(cpu[name]) * 1000:.0f} beside {median(boto3) * 1000:.0f} ms",
            at_most(1.6),
        )
