"""Calculates what looks at a job cost, more exactly than `parcelq estimate`: merging, requests and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from parcelq.collect.assembly import CACHE_BYTES
from parcelq.collect.drain import PULLED_BYTES, RECEIVERS, SEGMENT_BYTES
from parcelq.collect.merge import ROWS_HELD
from parcelq.collect.rows import WORD, words_of
from parcelq.collect.runs import FEWEST, LARGE, MUCH, of_one_size
from parcelq.store.store import part_bytes
from parcelq_cli.estimate.collecting import Result
from parcelq_cli.estimate.facts import BYTES_PER_SECOND, LISTED, MERGED, RESOLVED, S3_SECONDS

from benchmarks.simulation.case import Requests

BASE: Final = 90_000_000
"""How many bytes of memory Python takes with boto3, Powertools and the project's modules."""
_ROW: Final = 160
"""How many bytes of memory a row takes as a Python bytes object."""
_KEY: Final = 250
"""How many bytes of memory a segment's key and its index data take."""
_ROW_BYTES: Final = words_of(0) * WORD
_READS_IN_FLIGHT: Final = 8
"""How many indexes are open at the same time."""
DRAINING_BYTES: Final = BASE + RECEIVERS * (SEGMENT_BYTES + 2 * PULLED_BYTES)
"""The memory of an invocation that drains: its receivers' segments, and the last messages pulled, as text and decoded.
"""


@dataclass(slots=True)
class Indexes:
    """The segments of a job, and the job's index runs, which are merged by the rules of `collect.runs`.

    Attributes:
        requests: how many requests to S3 were sent.
        segments: how many segments there are.
        rows: how many rows all segments have.
        memory: the most bytes of memory that a look needs.
    """

    requests: Requests
    segments: int = 0
    rows: int = 0
    memory: float = BASE
    _loose: list[int] = field(default_factory=list)
    _runs: list[int] = field(default_factory=list)
    _looked: int = 0

    def add(self, rows: int, segments: int) -> None:
        """Add `segments` new segments with `rows` rows in total."""
        self._loose += [rows // segments + (number < rows % segments) for number in range(segments)]
        self.segments += segments
        self.rows += rows
        self.requests.puts += segments

    def look(self, *, complete: bool) -> float:
        """Return how many seconds a look (a check of the job) takes. The look lists all segments, merges new segments
        and finds holes.

        Args:
            complete: whether no message is missing, so that the look reads all rows.
        """
        listings = ceil((self.segments + 1) / LISTED)
        self.requests.puts += listings
        seconds = listings * S3_SECONDS + sum(self._tidy())
        self.memory = max(self.memory, BASE + self.segments * _KEY + 2 * ROWS_HELD * _ROW)
        new = self.rows - self._looked
        if self.rows < LARGE or complete or new * MUCH > self._looked:
            self._looked = self.rows
            return seconds + self.read(self.rows, len(self._runs) + len(self._loose), RESOLVED)
        return seconds + self.read(new, len(self._loose), RESOLVED)

    def read(self, rows: float, indexes: int, speed: float) -> float:
        """Return the seconds for reading and merging `rows` rows from `indexes` indexes at `speed` rows per second."""
        windows = indexes + rows / max(32, ROWS_HELD / max(1, indexes))
        self.requests.gets += windows
        moved = rows * _ROW_BYTES / BYTES_PER_SECOND
        return max(windows * S3_SECONDS / _READS_IN_FLIGHT, moved) + rows / speed

    def _tidy(self) -> Iterator[float]:
        """Merge index runs as `runs.tidy` does, and yield how many seconds each merge takes."""
        if self.segments < FEWEST:
            return
        while len(self._loose) >= FEWEST:
            some, self._loose = self._loose[:FEWEST], self._loose[FEWEST:]
            yield self._merge(some)
        while numbers := of_one_size(self._runs):
            some = [self._runs[number] for number in numbers]
            self._runs = [rows for number, rows in enumerate(self._runs) if number not in numbers]
            yield self._merge(some)

    def _merge(self, some: list[int]) -> float:
        rows = sum(some)
        self._runs.append(rows)
        written = rows * _ROW_BYTES
        self.requests.puts += 1 + written // part_bytes(written)
        return self.read(rows, len(some), MERGED) + S3_SECONDS + written / BYTES_PER_SECOND


def memory_of(result: Result) -> float:
    """Return how many bytes of memory an invocation takes that writes parts of a result: for the windows of its
    segments and for the parts.
    """
    return BASE + result.side_by_side * (CACHE_BYTES + result.part)
