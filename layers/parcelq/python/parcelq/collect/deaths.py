"""Reads from the segments which entries failed for good, why they failed, and where they are in the source."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from parcelq.collect.assembly import SegmentReader
from parcelq.collect.resolution import Collected
from parcelq.collect.segments import read_notes
from parcelq.escaping import cut
from parcelq.limits import MIB
from parcelq.store.store import joined
from parcelq.upload.notes import Beginning, EntryCounts, Note

MOST_LISTED: Final = 1_000
"""How many dead entries a report lists; a separate file lists all dead entries."""
_PART_BYTES: Final = 8 * MIB
_STEP: Final = " (step "
"""The text that may follow the error in the first line of a reason; see `parcelq.process.dead.reason_of`."""
_QUOTED: Final = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`")
_NUMBER: Final = re.compile(
    r"(?<!with )(?<!code )(?<!signal )(?<!status )(?<!Errno )(?<!, line )(?<![\w.])-?\d[\d.,]*(?<![.,])"
)
_LONGEST_KIND: Final = 160


class Dead(NamedTuple):
    """Entries that failed for good, in a message made from the bytes `[start, end)` of the source.

    Attributes:
        of_source: whether the entries are entries of the source; if False, an earlier step wrote these entries.
        record: number of the first of these entries in the source, from 1; None if unknown.
        records: if an earlier step wrote the entries: numbers of the first and the last record that the first step got
            together; None if unknown, or if it got the only record `record`.
        file: the file that contains the entries, if the source consists of several files and the file is known; else
            empty. If a file is named, all numbers count in that file.
    """

    start: int
    end: int
    entries: int
    reason: str
    of_source: bool = True
    record: int | None = None
    line: int | None = None
    entry: bytes = b""
    file: str = ""
    records: tuple[int, int] | None = None

    @property
    def number(self) -> str:
        """The number of the entry, or the numbers of the records that it may come from, as text; empty if unknown."""
        if self.record is not None:
            return f"{self.record:,}"
        return "" if self.records is None else f"{self.records[0]:,} to {self.records[1]:,}"

    def to_json(self) -> bytes:
        """Return these entries as a line of the list of dead entries."""
        document: dict[str, Any] = {"file": self.file} if self.file else {}
        if self.record is not None:
            document["record"] = self.record
        if self.records is not None:
            document["records"] = self.records
        if self.line is not None:
            document["line"] = self.line
        try:
            document["entry"] = self.entry.decode()
        except UnicodeDecodeError:
            document["entry_base64"] = base64.b64encode(self.entry).decode()
        if self.entries != 1:
            document["entries"] = self.entries
        document["reason"] = self.reason
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def dead_of(collected: Collected, notes: Sequence[Note]) -> Iterator[Dead]:
    """Yield the dead entries of a job in order. Notes of its uploads convert their numbers to numbers in the source."""
    reader = SegmentReader(collected.store, collected.segments, ahead=collected.bodies_ahead)
    numbers = _Numbers(notes, collected.total)
    files = [file for note in notes for file in note.files]
    starts = [file.start for file in files]
    for row in collected.dead():
        reason, first, entry = read_notes(b"".join(reader.read(row.extent)))
        dead = Dead(row.start, row.end, row.entries, reason, row.of_source, entry=entry)
        if row.of_source:
            record, line = numbers.of(first, row.start)
            dead = dead._replace(record=record, line=line)
        elif row.records and row.records[0] == row.records[1]:
            dead = dead._replace(record=row.records[0])
        else:
            dead = dead._replace(records=row.records)
        first_file, last_file = (max(0, bisect_right(starts, at) - 1) for at in (row.start, row.end - 1))
        # If an earlier step got records of several files, its output may come from any of these files.
        yield _in_file(dead, files[first_file]) if files and first_file == last_file else dead


def dead_entries(collected: Collected) -> int | None:
    """Return how many entries of the source are dead; None if messages do not say this.

    If an entry of an earlier step's output died, all source entries from which its message was made count as dead.
    """
    counted, last = 0, (-1, -1)
    for row in collected.dead():
        if row.read is None:
            return None
        if row.of_source or (row.start, row.end) != last:
            counted += row.read
        last = (-1, -1) if row.of_source else (row.start, row.end)
    return counted


def dead_lines(dead: Iterable[Dead]) -> Iterator[bytes]:
    """Return the bytes of the file that lists the dead entries, in blocks."""
    return joined((one.to_json() for one in dead), _PART_BYTES)


def main_line(reason: str) -> str:
    """Return the line of a reason that names the error, without the step's name and the traceback."""
    return reason.partition("\n")[0].partition(_STEP)[0]


def kind_of(reason: str) -> str:
    """Return the kind of a reason. Entries that failed in the same way have the same kind.

    The kind is the reason's main line with quoted parts and numbers replaced by `…`, because quoted parts and numbers
    usually come from the entry: `ValueError: bad SMILES 'CX'` becomes `ValueError: bad SMILES …`. Exit codes, signals
    and line numbers of a program are not replaced.
    """
    return cut(_NUMBER.sub("…", _QUOTED.sub("…", main_line(reason))), _LONGEST_KIND)


def _in_file(dead: Dead, file: Beginning) -> Dead:
    """Return dead entries with the record and line numbers that the entries have in their own file."""
    record = None if dead.record is None else dead.record - file.record
    line = None if dead.line is None else dead.line - file.line
    records = dead.records and (dead.records[0] - file.record, dead.records[1] - file.record)
    return dead._replace(record=record, line=line, records=records, file=file.name)


class _Numbers:
    """Calculates numbers of records and lines in a source. Notes of its uploads say how many entries they published."""

    def __init__(self, notes: Sequence[Note], total: int | None) -> None:
        self._counts = EntryCounts(notes, total)
        self._begins = sorted(note.start for note in notes)

    def of(self, first: str, start: int) -> tuple[int | None, int | None]:
        """Return the record number and the line number of an entry, from the attribute `First` of its message."""
        record, _, line = first.removeprefix("+").partition(",")
        if not (record.isdecimal() and line.isdecimal() and len(first) < 40):
            return None, None
        if not first.startswith("+"):
            return int(record), int(line)
        # The numbers count from the start of a range, so the entries of all ranges before that range are added.
        at = bisect_right(self._begins, start)
        begin = self._begins[at - 1] if at else 0
        if not begin:
            return int(record), int(line)
        before = self._counts.between(0, begin)
        return None if before is None else before + int(record), None
