"""A map of a source: the records of the source are divided into parts of equal size, each with its state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from parcelq.collect.resolution import Collected, Resolution

CELLS: Final = 240
"""How many parts a map has; fewer if the source has fewer bytes."""
LINE_CELLS: Final = 60
"""How many parts a map has if the map is printed as one line."""
KINDS: Final = {"=": "done", "x": "dead", ".": "missing", "?": "both"}
"""Maps a letter in the map of a job's record to the state of a part."""
_LETTERS: Final = {kind: letter for letter, kind in KINDS.items()}
_HOLES: Final = 3
"""How many missing ranges are listed per part."""


class Cell(NamedTuple):
    """A part of a source, in which `dead` failed entries begin. `holes` are the first ranges missing in it."""

    start: int
    end: int
    dead_bytes: int = 0
    missing_bytes: int = 0
    dead: int = 0
    holes: tuple[tuple[int, int], ...] = ()

    @property
    def kind(self) -> str:
        """The state of the part: `done`, `dead`, `missing`, or `both` if some bytes are dead and some are missing."""
        if self.missing_bytes:
            return "both" if self.dead or self.dead_bytes else "missing"
        return "dead" if self.dead or self.dead_bytes else "done"

    @property
    def bad_share(self) -> float:
        """The share of the part's bytes that are dead or missing, from 0 to 1."""
        return min(1.0, (self.dead_bytes + self.missing_bytes) / max(1, self.end - self.start))


class SourceMap:
    """Collects the states of the parts of a source: of its bytes `[start, total)`, which come after the header."""

    def __init__(self, total: int, cells: int = CELLS, start: int = 0) -> None:
        size = max(0, total - start)
        count = max(1, min(cells, size))
        self._edges = [start + number * size // count for number in range(count + 1)]
        self._dead_bytes = [0] * count
        self._missing_bytes = [0] * count
        self._dead = [0] * count
        self._holes: list[list[tuple[int, int]]] = [[] for _ in range(count)]

    def add_dead(self, start: int, end: int, entries: int) -> range:
        """Add failed entries from bytes `[start, end)`. Return the numbers of the parts that overlap these bytes."""
        touched = self._touched(start, end)
        self._dead[touched.start] += entries
        for number, size in self._shares(start, end):
            self._dead_bytes[number] += size
        return touched

    def add_missing(self, start: int, end: int) -> None:
        """Add a range of bytes that has no result."""
        for number, size in self._shares(start, end):
            self._missing_bytes[number] += size
            if len(self._holes[number]) < _HOLES:
                self._holes[number].append((start, end))

    def cells(self) -> tuple[Cell, ...]:
        """Return the parts of the map, in order."""
        return tuple(
            Cell(
                self._edges[number],
                self._edges[number + 1],
                # Messages may overlap, for example if dead entries of a later step come from the same bytes.
                min(self._dead_bytes[number], self._edges[number + 1] - self._edges[number]),
                self._missing_bytes[number],
                self._dead[number],
                tuple(self._holes[number]),
            )
            for number in range(len(self._dead))
        )

    def _touched(self, start: int, end: int) -> range:
        last = len(self._dead) - 1
        first = max(0, min(last, bisect_right(self._edges, start) - 1))
        return range(first, max(first, min(last, bisect_right(self._edges, end - 1) - 1)) + 1)

    def _shares(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the number of each part that overlaps a range, and how many bytes of the range are in the part."""
        for number in self._touched(start, end):
            size = min(end, self._edges[number + 1]) - max(start, self._edges[number])
            if size > 0:
                yield number, size


def line_of(cells: Iterable[Cell]) -> str:
    """Return the map as a text with one letter per part; see `KINDS`."""
    return "".join(_LETTERS[cell.kind] for cell in cells)


def missing_of(collected: Collected, resolution: Resolution, cells: int = CELLS) -> SourceMap:
    """Return the map of a job without dead entries. If the source's size is unknown, see `Resolution.up_to`."""
    total = resolution.total or 0
    drawn = SourceMap(total, cells, min(total, collected.header_bytes()))
    for start, end in collected.holes(resolution):
        drawn.add_missing(start, end)
    return drawn


def source_map_of(collected: Collected, resolution: Resolution, cells: int = CELLS) -> tuple[Cell, ...]:
    """Return the map of a job with dead entries, without reading the texts of dead entries; see `missing_of`."""
    drawn = missing_of(collected, resolution, cells)
    if resolution.has_dead:
        for row in collected.dead():
            drawn.add_dead(row.start, row.end, row.entries)
    return drawn.cells()
