"""Measures how soon results are complete, with the latencies of AWS added to every request.

For a small file, the time begins with its upload to S3. For a large file, the time begins with the last message that a
processor publishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from parcelq.steps.find import local_step

from benchmarks.data import write_lines
from benchmarks.harness import Bench, Figure, Spread, at_most

if TYPE_CHECKING:
    from parcelq_emulator.pipeline import Pipeline

_LATENCY: Final = {"sqs": 0.02, "s3": 0.03}
"""Maps each service to the seconds by which its requests are delayed."""
_LIMIT: Final = 10.0
"""The target for each file, in seconds."""
_GIVE_UP: Final = 300.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    from parcelq_emulator.options import Options
    from parcelq_emulator.pipeline import running

    lines, many = 1000, bench.size(1_000_000, 50_000)
    file, large = (write_lines(bench.folder / f"{count}.txt", count) for count in (lines, many))
    (bench.folder / "logs").mkdir(exist_ok=True)
    (bench.folder / "scratch").mkdir(exist_ok=True)
    with running(
        Options([local_step("tr a-z A-Z")], latency=_LATENCY), bench.folder / "logs", bench.folder / "scratch"
    ) as pipeline:
        cold, *warm = (_seconds(pipeline, file, f"{number}.txt") for number in range(bench.long_runs + 1))
        yield _figure(
            f"result of {lines:,} lines in an idle stack, 20 ms added for SQS and 30 ms for S3: time",
            warm,
            f"{median(warm):.1f} s; {cold:.1f} s with cold functions",
        )
        whole, after = _seconds_after_the_last_message(pipeline, large, "large.txt")
        yield _figure(
            f"result of {many:,} lines after their last output message, the same latencies: time",
            [after],
            f"{after:.1f} s, of {whole:.1f} s from the put",
        )


def _figure(what: str, taken: list[float], absolute: str) -> Figure:
    spread = Spread.of_ratios(taken, [_LIMIT] * len(taken))
    return Figure(what, f"{_LIMIT:.0f} s", spread, absolute, at_most(1))


def _seconds(pipeline: Pipeline, file: Path, name: str) -> float:
    """Put a file into the inbox, and return how many seconds pass until its result exists."""
    began = time.perf_counter()
    pipeline.put(file, name)
    _wait(lambda: name in pipeline.results.reported())
    return time.perf_counter() - began


def _seconds_after_the_last_message(pipeline: Pipeline, file: Path, name: str) -> tuple[float, float]:
    """Put a file into the inbox. Return the seconds until its result exists, and the seconds since the last message.

    A processor acknowledges a message only after its output is published. So if the processor's topic is empty, all
    messages are processed.
    """
    from parcelq_emulator.pipeline import STACK

    began = time.perf_counter()
    pipeline.put(file, name)
    topics = [pipeline.events_url, *(f"{STACK}-{one}" for one in ("ranges", "step"))]
    _wait(lambda: pipeline.count(topics[-1]) > 0)
    _wait(lambda: not any(map(pipeline.count, topics)))
    last = time.perf_counter()
    _wait(lambda: name in pipeline.results.reported())
    return time.perf_counter() - began, time.perf_counter() - last


def _wait(is_so: Callable[[], bool]) -> None:
    until = time.perf_counter() + _GIVE_UP
    while not is_so():
        if time.perf_counter() > until:
            raise RuntimeError(f"no result came within {_GIVE_UP:.0f} s")
        time.sleep(0.05)
