"""Calculates what a page shows in addition to the report: the map, dead entries by reason, and the rate over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from parcelq.collect.deaths import Dead, dead_of, kind_of, main_line
from parcelq.collect.page.rates import Rate, begin_of, entries_of_segments, rate_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.segments import time_of
from parcelq.collect.source_map import Cell, SourceMap, missing_of
from parcelq.escaping import cut, one_line
from parcelq.upload.notes import Note

MOST_GROUPS: Final = 40
"""How many groups of reasons are shown at most; the largest groups are shown."""
_MOST_KINDS: Final = 1_000
"""How many kinds of reasons are counted separately; entries of all later kinds are counted together."""
_PER_CELL: Final = 6
"""How many dead entries are listed per part of the map."""
_EXAMPLES: Final = 5
"""How many dead entries are listed per reason."""
_ENTRY_CHARACTERS: Final = 200
_REASON_CHARACTERS: Final = 300
_FILE_CHARACTERS: Final = 100


class Listed(NamedTuple):
    """A dead entry as a page lists it, with texts that are escaped and short.

    Attributes:
        file: the file that contains the entry, if the source consists of several files; else empty. If a file is named,
            all numbers count in that file.
        record: the entry's number in the source, from 1; None if unknown.
        number: the number of the entry, or of the records that it may come from, as text; empty if unknown.
        entry_bytes: how many bytes the entry has; 0 if the entry was not kept.
    """

    start: int
    end: int
    entries: int
    file: str
    record: int | None
    number: str
    line: int | None
    entry: str
    entry_bytes: int
    reason: str

    @classmethod
    def of(cls, dead: Dead) -> Listed:
        """Shorten a dead entry and escape its texts."""
        text = dead.entry[: 4 * _ENTRY_CHARACTERS].decode("utf-8", "surrogateescape").removesuffix("\n")
        return cls(
            dead.start,
            dead.end,
            dead.entries,
            cut(one_line(dead.file), _FILE_CHARACTERS),
            dead.record,
            dead.number,
            dead.line,
            cut(one_line(text), _ENTRY_CHARACTERS),
            len(dead.entry),
            cut(one_line(dead.reason[: 4 * _REASON_CHARACTERS]), _REASON_CHARACTERS),
        )

    def shortened(self, characters: int) -> Listed:
        """Return the same entry with texts of at most `characters` characters."""
        return self._replace(entry=cut(self.entry, characters), reason=cut(self.reason, characters))


class Group(NamedTuple):
    """Dead entries of a job that failed in the same way.

    Attributes:
        kind: the common part of the entries' reasons, escaped; see `kind_of`.
        reason: the line that names the error. If parts of the line differ between the entries, these parts are `…`.
        first: the place of the first entry: its number, after the file's name if the source consists of several files.
        last: the place of the last entry.
        examples: numbers of the first entries of the group, as indexes in `Figures.listed`.
    """

    kind: str
    reason: str
    entries: int
    first: str
    last: str
    examples: tuple[int, ...]


class Figures(NamedTuple):
    """What a page shows in addition to the report.

    Attributes:
        listed: dead entries that the page lists.
        in_cell: for each part of the map, the indexes of its entries in `listed`.
        groups: dead entries by reason, the largest group first.
        other_kinds: the least number of kinds of reasons that exist in addition to `groups`.
        other_entries: how many entries failed for reasons of these additional kinds.
        rate: how many entries were collected over time; None if the job was too short or had too few segments.
    """

    cells: tuple[Cell, ...]
    listed: tuple[Listed, ...] = ()
    in_cell: tuple[tuple[int, ...], ...] = ()
    groups: tuple[Group, ...] = ()
    other_kinds: int = 0
    other_entries: int = 0
    rate: Rate | None = None


def figures_of(collected: Collected, resolution: Resolution, notes: Sequence[Note]) -> Figures:
    """Calculate the figures of a job from its segments."""
    dead = dead_of(collected, notes) if resolution.has_dead else ()
    counts = zip(map(time_of, collected.segments), entries_of_segments(collected), strict=True)
    return figures_from(missing_of(collected, resolution), dead, rate_of(counts, begin_of(collected)))


def figures_from(source_map: SourceMap, dead: Iterable[Dead], rate: Rate | None) -> Figures:
    """Calculate the figures of a source from a map with missing ranges only, and from the dead entries."""
    deaths = _Deaths(source_map)
    for one in dead:
        deaths.add(one)
    return deaths.figures(rate)


def _place(dead: Dead) -> str:
    number = dead.number or "unknown"
    return f"{cut(one_line(dead.file), _FILE_CHARACTERS)}, {number}" if dead.file else number


@dataclass(slots=True)
class _Kind:
    """The counts and examples of a kind of reason, while dead entries are counted."""

    line: str
    first: str
    last: str = ""
    entries: int = 0
    is_one_line: bool = True
    examples: list[int] = field(default_factory=list)


class _Deaths:
    """Counts dead entries by place and by reason. Keeps few of them, so memory does not grow with their number."""

    def __init__(self, source_map: SourceMap) -> None:
        self._map = source_map
        self._kinds: dict[str, _Kind] = {}
        self._others = 0
        self._listed: list[Listed] = []
        self._in_cell: dict[int, list[int]] = {}

    def add(self, dead: Dead) -> None:
        """Count entries that failed."""
        cells = self._map.add_dead(dead.start, dead.end, dead.entries)
        name = kind_of(dead.reason)
        kind = self._kinds.get(name)
        if kind is None and len(self._kinds) < _MOST_KINDS:
            kind = self._kinds[name] = _Kind(main_line(dead.reason), _place(dead))
        if kind is None:
            self._others += dead.entries
        else:
            kind.entries += dead.entries
            kind.last = _place(dead)
            kind.is_one_line &= main_line(dead.reason) == kind.line
        room = [self._in_cell.setdefault(number, []) for number in cells]
        room = [some for some in room if len(some) < _PER_CELL]
        if kind is not None and len(kind.examples) < _EXAMPLES:
            room.append(kind.examples)
        if room:
            for some in room:
                some.append(len(self._listed))
            self._listed.append(Listed.of(dead))

    def figures(self, rate: Rate | None) -> Figures:
        """Return the figures of all entries that were added."""
        kinds = sorted(self._kinds.items(), key=lambda one: -one[1].entries)
        shown, left = kinds[:MOST_GROUPS], kinds[MOST_GROUPS:]
        cells = self._map.cells()
        return Figures(
            cells,
            tuple(self._listed),
            tuple(tuple(self._in_cell.get(number, ())) for number in range(len(cells))),
            tuple(
                Group(
                    one_line(name),
                    cut(one_line(kind.line if kind.is_one_line else name), _REASON_CHARACTERS),
                    kind.entries,
                    kind.first,
                    kind.last,
                    tuple(kind.examples),
                )
                for name, kind in shown
            ),
            len(left) + bool(self._others),
            sum(kind.entries for _, kind in left) + self._others,
            rate,
        )
