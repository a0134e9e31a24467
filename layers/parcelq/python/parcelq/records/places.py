"""Finds record and line numbers of places in a source that is read again."""

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
    """The number of an entry, and the number of its first line, both from 1."""

    record: int
    line: int


def places(
    stream: Readable, fmt: Format, starts: Iterable[int], *, start: int = 0, record: int = 1, line: int = 1
) -> dict[int, Place]:
    """Number the entries that start at these offsets; offsets after the stream's end are left out.

    Args:
        stream: the entries, without a header; it is read only as far as needed.
        fmt: the record format.
        starts: offsets of entries.
        start: offset of the stream's first byte.
        record: number of its first entry.
        line: number of its first line.
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
