"""The collector: how many lineages a second it takes, and what memory they need, beside what was asked for.

Each run is in a process of its own (`python -m benchmarks.cases.collector ORDER COUNT`), since memory that Python once
had is not given back.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from parcelq.collect.collector import Collector

from benchmarks.harness import MB, Bench, Figure, Spread, at_least, at_most
from benchmarks.processes import begin_peak, peak_bytes
from benchmarks.tools import own_module, run

_SPEED: Final = 200_000
_ORDERS: Final = {"random": 1000 * MB, "nearly in order": 100 * MB}
"""The orders of arrival, and the bytes that 1,000,000 lineages may take."""
_PIECE: Final = 50_000
_CHUNK: Final = 10_000
_WINDOW: Final = 1_000
"""Messages that arrive nearly in order are out of order by so many at the most."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    count = bench.size(1_000_000, 50_000)
    for order, most_bytes in _ORDERS.items():
        command = own_module("benchmarks.cases.collector", order, str(count))
        runs = [json.loads(run(command)) for _ in range(bench.long_runs)]
        speed = Spread.of(count / one["seconds"] / _SPEED for one in runs)
        yield Figure(
            f"collector, {count:,} lineages, arriving {order}: speed",
            f"{_SPEED:,} a second",
            speed,
            f"{speed.median * _SPEED:,.0f} a CPU second",
            at_least(1),
        )
        memory = Spread.of(one["bytes"] / most_bytes for one in runs)
        yield Figure(
            f"collector, {count:,} lineages, arriving {order}: memory",
            f"{most_bytes // MB:,} MB",
            memory,
            f"{memory.median * most_bytes / MB:,.0f} MB",
            at_most(1),
        )


def collect(order: str, count: int) -> dict[str, float]:
    """Take so many lineages, work out the result, and tell the CPU seconds of that and the bytes it took."""
    numbers = _numbers(order, count)
    collector = Collector()
    before = begin_peak()
    seconds = 0.0
    for at in range(0, count, _CHUNK):
        some = numbers[at : at + _CHUNK]
        rows = [(_lineage(number, count), place * _PIECE, _PIECE, 1000, "") for place, number in enumerate(some)]
        began = time.process_time()
        collector.add_all(at // _CHUNK, rows)
        seconds += time.process_time() - began
    began = time.process_time()
    whole = collector.resolve().whole
    seconds += time.process_time() - began
    if not whole:
        raise AssertionError("all lineages were given, but the collector misses some")
    return {"seconds": seconds, "bytes": peak_bytes("self") - before}


def _numbers(order: str, count: int) -> Sequence[int]:
    choice = random.Random(count)
    if order == "random":
        numbers = array("l", range(count))
        choice.shuffle(numbers)
        return numbers
    return array("l", _nearly_in_order(count, choice))


def _nearly_in_order(count: int, choice: random.Random) -> Iterator[int]:
    """In order of each number and up to `_WINDOW` more.

    Not by sorting all, which would leave memory behind that the collector takes then without being seen to.
    """
    waiting: list[tuple[float, int]] = []
    for number in range(count):
        heapq.heappush(waiting, (number + choice.random() * _WINDOW, number))
        while waiting and waiting[0][0] <= number:  # whatever is still to come comes after it
            yield heapq.heappop(waiting)[1]
    yield from (number for _, number in sorted(waiting))


def _lineage(number: int, count: int) -> str:
    """All that a step made of one message."""
    return f"{number * _PIECE}-{(number + 1) * _PIECE}/{count * _PIECE}>0-{_PIECE}/{_PIECE}:{number:016x}"


if __name__ == "__main__":
    print(json.dumps(collect(sys.argv[1], int(sys.argv[2]))))
