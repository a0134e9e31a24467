"""What a cold start of each function imports, beside importing boto3 alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks import cold_start
from benchmarks.harness import Bench, Figure, MissingToolError, Spread, at_most

_RUNS: Final = 5
"""Imports of each, of which one ratio comes."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    python = cold_start.interpreter()
    if python is None:
        raise MissingToolError(f"{cold_start.RUNTIME} is missing, the functions' runtime")
    if not cold_start.BUILD.is_dir():
        raise MissingToolError("what the functions are built of is missing; make build")
    rounds = [cold_start.measure(python, runs=_RUNS) for _ in range(bench.long_runs)]
    for name in cold_start.FUNCTIONS:
        ratio = Spread.of(one[name].time_ratio for one in rounds)
        ours, boto3 = (Spread.of(one[key].seconds * 1000 for one in rounds).median for key in (name, cold_start.BOTO3))
        absolute = f"{ours:.0f} beside {boto3:.0f} ms"
        yield Figure(f"cold start of {name}, its imports: CPU", "`import boto3`", ratio, absolute, at_most(1.6))
