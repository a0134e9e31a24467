"""Measures how fast bytes are cut into parcels, compared with counting the line ends, which every cut must do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from parcelq.records import LINES, cut_bytes
from parcelq.upload.parcels import MAX_BODY_BYTES

from benchmarks.data import lines
from benchmarks.harness import Bench, Figure, at_least, side_by_side

_PARCEL_SIZE = 1000


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    data = lines(bench.size(5_000_000, 200_000))

    def ours() -> float:
        deque(cut_bytes(data, LINES, _PARCEL_SIZE, MAX_BODY_BYTES), maxlen=0)
        return len(data)

    def theirs() -> float:
        data.count(b"\n")
        return len(data)

    pairs = side_by_side(ours, theirs, bench.runs)
    one, other = (speed / 1e9 for speed in pairs.medians(lambda sample: sample.speed))
    yield Figure(
        "50-byte lines into parcels of 1,000: speed",
        "counting line ends in the same bytes",
        pairs.ratio(lambda sample: sample.speed),
        f"{one:.2f} beside {other:.2f} GB/s",
        at_least(0.4),
    )
