"""Measures looks (checks of a job) that merge lineages: speed, memory, and the bytes read again after the job grew.

Each run has its own process (`python -m benchmarks.cases.collector ORDER COUNT PER_RUN STAGES`), because Python does
not return memory to the system.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Final

from parcelq.collect.finish import Finisher
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import indexes_of, read_record, tidy
from parcelq.collect.segments import JobKey, index_size, segment_keys, segments_among, write_segment
from parcelq.store.folder import FolderStore
from parcelq.topics.pieces import Piece

from benchmarks.harness import MB, Bench, Figure, Spread, at_least, at_most
from benchmarks.processes import begin_peak, peak_bytes
from benchmarks.tools import own_module, run

_SPEED: Final = 200_000
_ORDERS: Final = ("in order", "random")
_PER_RUN: Final = (1, 2, 4)
_STAGES: Final = (1, 2)
_INPUT: Final = 50_000
_OUTPUT: Final = 100
_SEGMENTS: Final = 100
_TOPIC: Final = "topic"
_JOB: Final = JobKey("s3://bucket/inbox/lines.txt?etag=0&put=0")


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    count = bench.size(1_000_000, 40_000)
    for per_run, stages, order in product(_PER_RUN, _STAGES, _ORDERS):
        runs = [_in_a_process(order, count, per_run, stages) for _ in range(bench.long_runs)]
        speed = Spread.of(count / one["seconds"] / _SPEED for one in runs)
        yield Figure(
            f"merging {count:,} lineages {order}, {per_run} messages a run, {stages} stage(s): speed",
            f"{_SPEED:,} a second",
            speed,
            f"{speed.median * _SPEED:,.0f} a CPU second",
            at_least(1),
        )
    for order in _ORDERS:
        small, large = (_in_a_process(order, many, 1, 1) for many in (count, 10 * count))
        memory = Spread.of([large["bytes"] / small["bytes"]])
        yield Figure(
            f"merging {10 * count:,} lineages {order}: memory",
            f"the speed with {count:,} in as many segments",
            memory,
            f"{large['bytes'] / MB:,.0f} MB, compared with {small['bytes'] / MB:,.0f} MB",
            at_most(1.25),
        )
        yield Figure(
            f"a look at a job of {10 * count:,} messages {order} that grew by 1 %: bytes read",
            "2 % of its indexes",
            Spread.of([large["grown"] / 0.02]),
            f"{100 * large['grown']:.2f} %",
            at_most(1),
        )


def collect(folder: Path, order: str, count: int, per_run: int, stages: int) -> dict[str, float]:
    """Write `count` messages into segments, and return the CPU seconds and bytes that looks at the job need."""
    store = _Counting(folder)
    grown = 0.0
    *most, last, rest = _parts_of(order, count)
    for some in most:
        _write(store, some, count, per_run, stages)
    if per_run == stages == 1:
        list(Finisher(store, _TOPIC).finish_all())
        _write(store, last, count, per_run, stages)
        store.read_bytes.clear()
        (state,) = Finisher(store, _TOPIC).finish_all()
        grown = sum(store.read_bytes) / _index_bytes(store)
        if not state.holes:
            raise AssertionError("messages are missing, but no hole was found")
    else:
        _write(store, last, count, per_run, stages)
    _write(store, rest, count, per_run, stages)
    (keys,) = segment_keys(store, _TOPIC).values()
    tidy(store, _TOPIC, keys, datetime.now(UTC))
    (keys,) = segment_keys(store, _TOPIC).values()
    gc.collect()
    begin = begin_peak()
    began = time.process_time()
    collected = Collected(store, indexes_of(store, keys, read_record(store, keys)))
    resolution = collected.resolve()
    seconds = time.process_time() - began
    extents = sum(extent.size for extent in collected.extents())
    peak = peak_bytes("self") - begin
    if not resolution.whole or extents != resolution.size or resolution.size != count * _OUTPUT:
        raise AssertionError("all lineages were added, but some are missing")
    return {"seconds": seconds, "bytes": peak, "grown": grown}


def _index_bytes(store: FolderStore) -> int:
    return sum(index_size(key) for keys in segment_keys(store, _TOPIC).values() for key in segments_among(keys))


@dataclass(frozen=True, slots=True)
class _Counting(FolderStore):
    """A store that counts the bytes that are read."""

    read_bytes: list[int] = field(default_factory=list)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a part of an object."""
        data = FolderStore.read(self, key, start, length)
        self.read_bytes.append(len(data))
        return data


def _write(store: FolderStore, numbers: Sequence[int], count: int, per_run: int, stages: int) -> None:
    """Write a segment with messages that were published after `stages` stages."""
    now = datetime.now(UTC)
    body = b"x" * (_OUTPUT - 1) + b"\n"
    pieces = (Piece(_lineage(number, count, per_run, stages), body, 1) for number in numbers)
    write_segment(store, _TOPIC, _JOB, pieces, [], now, now)


def _parts_of(order: str, count: int) -> Iterator[Sequence[int]]:
    """Yield the numbers of the messages of each segment; a segment has 1 % of all messages."""
    numbers = array("l", range(count))
    if order == "random":
        random.Random(count).shuffle(numbers)
    size = count // _SEGMENTS
    return (numbers[at : at + size] for at in range(0, count, size))


def _lineage(number: int, count: int, per_run: int, stages: int) -> str:
    """Return the lineage of a message if, at every stage, each run of a step writes `per_run` messages."""
    each = per_run**stages
    message = number // each
    total = -(-count // each)
    text = f"{message * _INPUT}-{(message + 1) * _INPUT}/{total * _INPUT}"
    for stage in range(stages - 1, -1, -1):
        run_number, slice_number = divmod(number // per_run**stage, per_run)
        size = _OUTPUT if stage == 0 else _INPUT
        text += f">{slice_number * size}-{(slice_number + 1) * size}/{per_run * size}:{stage + 1:08x}{run_number:08x}"
    return text


def _in_a_process(*arguments: object) -> dict[str, float]:
    found: dict[str, float] = json.loads(run(own_module("benchmarks.cases.collector", *map(str, arguments))))
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(collect(Path(name), sys.argv[1], *map(int, sys.argv[2:]))))
