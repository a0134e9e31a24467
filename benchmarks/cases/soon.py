"""How soon the result of a file is there in an idle stack, with the latencies of AWS added to every request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from parcelq.steps.find import local_step

from benchmarks.data import write_lines
from benchmarks.harness import Bench, Figure, Spread, at_most

_LATENCY: Final = {"sqs": 0.02, "s3": 0.03}
"""Seconds that each request takes longer than on this machine."""
_LIMIT: Final = 10.0
"""Seconds from the put to the result that are to be reached."""
_GIVE_UP: Final = 300.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    from parcelq_emulator.options import Options
    from parcelq_emulator.pipeline import running

    lines = 1000
    file = write_lines(bench.folder / "lines.txt", lines)
    (bench.folder / "logs").mkdir(exist_ok=True)
    (bench.folder / "scratch").mkdir(exist_ok=True)
    with running(
        Options([local_step("tr a-z A-Z")], latency=_LATENCY), bench.folder / "logs", bench.folder / "scratch"
    ) as pipeline:
        taken = []
        for number in range(bench.long_runs + 1):
            name = f"{number}.txt"
            began = time.perf_counter()
            pipeline.put(Path(file), name)
            while name not in pipeline.results.reported():
                if time.perf_counter() - began > _GIVE_UP:
                    raise RuntimeError(f"no result within {_GIVE_UP:.0f} s")
                time.sleep(0.05)
            taken.append(time.perf_counter() - began)
    cold, *warm = taken
    yield Figure(
        f"result of {lines:,} lines in an idle stack, 20 ms more for SQS and 30 ms for S3: time",
        f"{_LIMIT:.0f} s",
        Spread.of_ratios(warm, [_LIMIT] * len(warm)),
        f"{median(warm):.1f} s; {cold:.1f} s with cold functions",
        at_most(1),
    )
