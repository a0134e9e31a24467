"""Finds the record numbers and line numbers of places in a source. The source is read again for this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from parcelq.limits import MIB
from parcelq.readable import Readable
from parcelq.records.cutting import cut
from parcelq.records.format import Format

_ENTRIES: Final = 100_000
_BYTES: Final = 4 * MIB


class Place(NamedTuple):
    """The number of an entry, and the number of the entry's first line, both from 1."""

    record: int
    line: int


def places(
    stream: Readable, fmt: Format, starts: Iterable[int], *, start: int = 0, record: int = 1, line: int = 1
) -> dict[int, Place]:
    """Return the numbers of the entries that start at the offsets `starts`, except after the stream's end.

    `stream` has the entries without a header, and is read only as far as needed. Its first byte is at the offset
    `start` of the source, and belongs to the entry `record` and to the line `line`.
    """
    wanted = sorted(set(starts), reverse=True)
    found: dict[int, Place] = {}
    if not wanted:
        return found
    for parcel in cut(stream, fmt, _ENTRIES, _BYTES, start=start, record=record, line=line, strict=False):
        at, entries, lines = 0, 0, 0
        while wanted and wanted[-1] < parcel.end:
            offset = wanted.pop()
            if (here := offset - parcel.start) > at:
                entries += fmt.count(parcel.data[at:here])
                lines += parcel.data.count(b"\n", at, here)
                at = here
            found[offset] = Place(parcel.record + entries, parcel.line + lines)
        if not wanted:
            break
    return found
