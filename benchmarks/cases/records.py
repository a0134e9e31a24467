"""Measures how fast each record format is cut into parcels, compared with counting line ends in the same bytes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from io import BytesIO
from typing import Final

from parcelq.records import BLOCK_BYTES, cut, flips, parse
from parcelq.upload.parcels import MAX_BODY_BYTES

from benchmarks.data import lines
from benchmarks.harness import Bench, Figure, Sample, at_least, side_by_side

_PARCEL_SIZE: Final = 1000
_KINDS: Final = 2000
"""How many different records the data has; these records are repeated."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    size = bench.size(200_000_000, 10_000_000)
    choice = random.Random(12)
    for what, text, block, target in (
        ("50-byte lines", "lines", lines(_KINDS), 0.4),
        ("CSV of 50-byte lines without quotes", "csv header=0", lines(_KINDS).replace(b"[", b","), 0.3),
        ("CSV with 10 quotes in 66 bytes", "csv header=0", _csv(choice, 5, 0), 0.08),
        (
            "CSV with 10 quotes in 68 bytes, a line end inside every second record",
            "csv header=0",
            _csv(choice, 5, 2),
            0.08,
        ),
        ("FASTA with 380 bytes a record", "fasta", _fasta(choice), 0.2),
        ("FASTQ with 150 letters a read", "fastq", _fastq(choice), None),
        ("SDF with 1,500 bytes a record", "sdf", _sdf(choice), 0.2),
    ):
        fmt, data = parse(text), block * (size // len(block))

        def ours() -> float:
            deque(cut(BytesIO(data), fmt, _PARCEL_SIZE, MAX_BODY_BYTES), maxlen=0)  # noqa: B023
            return len(data)  # noqa: B023

        def scanned() -> float:
            flips(BytesIO(data), fmt)  # noqa: B023
            return len(data)  # noqa: B023

        def theirs() -> float:
            for at in range(0, len(data), BLOCK_BYTES):  # noqa: B023
                data.count(b"\n", at, at + BLOCK_BYTES)  # noqa: B023
            return len(data)  # noqa: B023

        for name, mine, wanted in (("into parcels of 1,000", ours, target), ("scan of a range", scanned, None)):
            if mine is scanned and not fmt.two_phases:
                continue
            pairs = side_by_side(mine, theirs, bench.runs)
            one, other = (speed / 1e9 for speed in pairs.medians(_speed))
            yield Figure(
                f"{what}, {name}: speed",
                "counting line ends in the same bytes",
                pairs.ratio(_speed),
                f"{one:.2f} beside {other:.2f} GB/s of CPU time",
                None if wanted is None else at_least(wanted),
            )


def _speed(sample: Sample) -> float:
    """Return the bytes per second of CPU time, on which other work of the machine has little effect."""
    return sample.amount / sample.cpu


def _word(choice: random.Random) -> bytes:
    return bytes(choice.choices(b"abcdefghijklmnopqrstuvwxyz 0123456789", k=choice.randint(4, 16)))


def _csv(choice: random.Random, fields: int, every: int) -> bytes:
    rows = []
    for number in range(_KINDS):
        row = [_word(choice) for _ in range(fields)]
        if every and number % every == 0:
            row[-1] = row[-1] + b"\n" + _word(choice)[:4]
        rows.append(b",".join(b'"' + field + b'"' for field in row) + b"\n")
    return b"".join(rows)


def _fasta(choice: random.Random) -> bytes:
    sequence = b"ACDEFGHIKLMNPQRSTVWY" * 3 + b"\n"
    return b"".join(b">p%d sample\n" % number + sequence * choice.randint(2, 10) for number in range(_KINDS))


def _fastq(choice: random.Random) -> bytes:
    made = []
    for number in range(_KINDS):
        size = choice.randint(100, 200)
        quality = bytes(choice.choices(b"@+#5IJ", k=size))
        made.append(b"@r%d\n%s\n+\n%s\n" % (number, bytes(choice.choices(b"ACGT", k=size)), quality))
    return b"".join(made)


def _sdf(choice: random.Random) -> bytes:
    atom = b"    0.0000    1.0000    2.0000 C   0  0\n"
    head, tail = b"m%d\n  made\n\n", b"M  END\n>  <ID>\n%d\n\n$$$$\n"
    return b"".join(head % n + atom * choice.randint(20, 50) + tail % n for n in range(_KINDS))
