"""Measures how fast a result is assembled from segments with outputs in random order, compared with a plain copy."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from parcelq.aws.batching import batches
from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import indexes_of, tidy
from parcelq.collect.segments import JobKey, segment_keys, write_segment
from parcelq.limits import MIB
from parcelq.store.folder import FolderStore
from parcelq.topics.pieces import Piece

from benchmarks.data import lines
from benchmarks.harness import MB, Bench, Figure, at_least, side_by_side, speeds

_TOPIC: Final = "topic"
_JOB: Final = JobKey("s3://bucket/inbox/lines.txt?etag=0&put=0")
_SEGMENT_PIECES: Final = 320
"""How many pieces of 50 KB a segment has. These are 16 MiB, the size at which the downloader closes a segment."""
_BLOCK: Final = 8 * MIB


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    store = FolderStore(bench.folder / "segments")
    pieces = bench.size(40_000, 1_000)
    _write_segments(store, pieces)
    result, copy = bench.folder / "result", bench.folder / "copy"
    expected = {result: _digest(_piece_bodies(range(pieces))), copy: _digest(_segment_blocks(store))}
    pairs = side_by_side(
        partial(_assemble, store, result),
        partial(_copy, store, copy),
        bench.long_runs,
        after=partial(_check, expected),
    )
    yield Figure(
        f"result of {pairs.ours[0].amount / 1e9:.1f} GB from shuffled segments: speed",
        "reading and writing the same bytes",
        pairs.ratio(lambda sample: sample.speed),
        f"{speeds(pairs, MB)} MB/s",
        at_least(0.5),
    )


def _piece_bodies(numbers: Iterable[int]) -> Iterator[bytes]:
    """Yield bodies of a thousand lines. All bodies have the same length, and no two bodies are equal."""
    body = lines(1000)
    for number in numbers:
        told = b"%012d" % number
        yield told + body[len(told) :]


def _write_segments(store: FolderStore, pieces: int) -> None:
    """Write segments that contain `pieces` outputs in random order."""
    size = len(lines(1000))
    total = pieces * size
    places = list(range(pieces))
    random.Random(pieces).shuffle(places)
    now = datetime.now(UTC)
    for numbers in batches(places, _SEGMENT_PIECES):
        made = (
            Piece(f"{n * size}-{(n + 1) * size}/{total}>0-{size}/{size}:{n:016x}", body, 1000)
            for n, body in zip(numbers, _piece_bodies(numbers), strict=True)
        )
        write_segment(store, _TOPIC, _JOB, made, [], now, now)


def _digest(blocks: Iterable[bytes]) -> tuple[int, bytes]:
    """Return the size and the checksum of the expected result."""
    size = 0
    hasher = hashlib.sha256()
    for block in blocks:
        size += len(block)
        hasher.update(block)
    return size, hasher.digest()


def _check(expected: Mapping[Path, tuple[int, bytes]]) -> None:
    """Check the file that a run has just written, and delete the file, so that the next run begins without it."""
    for path, wanted in expected.items():
        if path.exists():
            if _digest(_blocks(path)) != wanted:
                raise AssertionError(f"the {path.name} differs from the expected bytes")
            path.unlink()


def _assemble(store: FolderStore, target: Path) -> float:
    """Assemble the result as the downloader does, but write it into a file."""
    ((_, keys),) = segment_keys(store, _TOPIC).items()
    record = tidy(store, _TOPIC, keys, datetime.now(UTC))
    collected = Collected(store, indexes_of(store, keys, record))
    if not collected.resolve().whole:
        raise AssertionError("all pieces are there, but the result is not complete")
    with target.open("wb") as file:
        file.writelines(parts_of(SegmentReader(store, collected.segments), collected.extents(), _BLOCK))
    return target.stat().st_size


def _copy(store: FolderStore, target: Path) -> float:
    with target.open("wb") as file:
        file.writelines(_segment_blocks(store))
    return target.stat().st_size


def _segment_blocks(store: FolderStore) -> Iterator[bytes]:
    for folder, _, names in os.walk(store.folder):
        for name in names:
            yield from _blocks(Path(folder) / name)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
