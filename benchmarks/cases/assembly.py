"""Putting a result together from segments in which its pieces lie shuffled, beside copying the same bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from parcelq.assembly import SegmentReader, joined
from parcelq.batching import batches
from parcelq.collect import gather
from parcelq.limits import MIB
from parcelq.segments import Piece, segment_keys, write_segment
from parcelq.store import FolderStore

from benchmarks.data import lines
from benchmarks.harness import MB, Bench, Figure, at_least, side_by_side, speeds

_TOPIC: Final = "topic"
_SOURCE: Final = "s3://bucket/inbox/lines.txt?etag=0&put=0"
_SEGMENT_PIECES: Final = 320
"""Of 50 KB each, they make the 16 MiB at which the downloader closes a segment."""
_BLOCK: Final = 8 * MIB


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    store = FolderStore(bench.folder / "segments")
    size = _write_segments(store, bench.size(40_000, 1_000))
    target = bench.folder / "result"
    pairs = side_by_side(partial(_assemble, store, target), partial(_copy, store, target), bench.long_runs)
    yield Figure(
        f"result of {size / 1e9:.1f} GB from shuffled segments: speed",
        "reading and writing the same bytes",
        pairs.ratio(lambda sample: sample.speed),
        f"{speeds(pairs, MB)} MB/s",
        at_least(0.5),
    )


def _write_segments(store: FolderStore, pieces: int) -> int:
    """Write so many pieces of a thousand lines, in no order at all, and return their bytes."""
    body = lines(1000)
    total = pieces * len(body)
    places = list(range(pieces))
    random.Random(pieces).shuffle(places)
    now = datetime.now(UTC)
    for numbers in batches(places, _SEGMENT_PIECES):
        made = (
            Piece(f"{n * len(body)}-{(n + 1) * len(body)}/{total}>0-{len(body)}/{len(body)}:{n:016x}", body, 1000)
            for n in numbers
        )
        write_segment(store, _TOPIC, _SOURCE, made, [], now, now)
    return total


def _assemble(store: FolderStore, target: Path) -> float:
    """As the downloader does, but into a file."""
    ((_, keys),) = segment_keys(store, _TOPIC).items()
    gathered = gather(store, keys)
    reader = SegmentReader(store, gathered.keys)
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.writelines(joined(map(reader.read, gathered.collector.resolve().extents)))
    return target.stat().st_size


def _copy(store: FolderStore, target: Path) -> float:
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        for folder, _, names in os.walk(store.folder):
            for name in names:
                with (Path(folder) / name).open("rb") as segment:
                    while block := segment.read(_BLOCK):
                        file.write(block)
    return target.stat().st_size
