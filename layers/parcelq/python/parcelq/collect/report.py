"""The report beside a result, and the list of its dead entries."""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from parcelq.collect.assembly import SegmentReader
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.segments import read_notes
from parcelq.limits import MIB
from parcelq.lineage.source import Source
from parcelq.upload.notes import Beginning, Note, entries_in

MOST_LISTED: Final = 1_000
"""Dead entries that a report lists; the list of dead entries has all."""
_PART_BYTES: Final = 8 * MIB


@dataclass(frozen=True, slots=True)
class Dead:
    """Entries that failed for good.

    Attributes:
        start: first byte, in the source, of the message that they came in.
        end: just after its last byte.
        entries: how many they are.
        reason: why they failed.
        of_source: whether they are entries of the source, and not of the output of an earlier step.
        record: number of the first of them in the source, from 1; None if unknown.
        line: number of its first line, from 1; None if unknown.
        entry: the entries themselves; empty where they were too large to be kept.
        file: the file that they are in, if the source is made of several and it is known which; `record` and `line`
            count in that file then.
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

    def to_json(self) -> bytes:
        """As a line of the list of dead entries."""
        told: dict[str, Any] = {"file": self.file} if self.file else {}
        if self.record is not None:
            told["record"] = self.record
        if self.line is not None:
            told["line"] = self.line
        try:
            told["entry"] = self.entry.decode()
        except UnicodeDecodeError:
            told["entry_base64"] = base64.b64encode(self.entry).decode()
        if self.entries != 1:
            told["entries"] = self.entries
        told["reason"] = self.reason
        return json.dumps(told, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a source and of its result: `read` is `done`, `dead` and `missing` together.

    Where an entry of what an earlier step made died, all entries of the source count as dead of whose message it was
    made. `read` is None if nobody noted how many entries were published, `dead` where the notes do not say how many
    entries such a message had, and `done` where either is.
    """

    read: int | None
    done: int | None
    dead: int | None
    missing: int | None
    written: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """One of several files that are one source together: what the user calls it, its bytes, and its entries."""

    file: str
    bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a source's result.

    Attributes:
        source: the attribute `Source`.
        version: which put of the object it is: its version id if it has one, else the event's sequencer.
        result: where the result is.
        state: a digest of all that the result was made of; the result's metadata has the same.
        format: the source's record format; empty if its upload did not say.
        format_chosen_by: what chose that: `name` for the source's name, `option`, `stack`, …; empty if not known.
        one_stream: why the source could not be cut into ranges, however large it is; empty if it could.
        warnings: what the user should look at: `doubts`, and what was odd about the source's compression.
        doubts: what makes it doubtful that the result is what the step writes for the whole source; see `yields`.
        workflows: what the steps were given as workflow; on one machine also the versions of the steps.
        entries: of the source, and of the result.
        bytes_read: bytes of the source.
        bytes_written: bytes of the result.
        dead: what failed for good, and why; only the first ones if there are many.
        dead_list: where the list of all dead entries is; empty if there are none.
        holes: byte ranges of the source that are missing; none in a result that is finished.
        duplicates: messages that were dropped because they were there already.
        healings: how often what was missing was published again.
        first: when the first message was collected.
        last: when the last was.
        complete: whether every entry went through a run that succeeded, what these wrote is in the result, and there
            are no doubts.
        files: the files that the source is made of, with the bytes and entries of each; none where it is one file.
        recipe: how a run on one machine was made: its steps, settings and other options; empty on AWS.
    """

    source: str
    version: str
    result: str
    state: str
    format: str
    format_chosen_by: str
    one_stream: str
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]
    workflows: tuple[str, ...]
    entries: Entries
    bytes_read: int | None
    bytes_written: int
    dead: tuple[Dead, ...]
    dead_list: str
    holes: tuple[tuple[int, int], ...]
    duplicates: int
    healings: int
    first: str
    last: str
    complete: bool
    files: tuple[FilePart, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """As it is stored beside the result."""
        members = asdict(self)
        members["dead"] = [
            {"start": one.start, "end": one.end, "entries": one.entries, "reason": one.reason} for one in self.dead
        ]
        if not self.files:
            del members["files"]
        return json.dumps(members, indent=2, ensure_ascii=False).encode() + b"\n"


def report_of(
    collected: Collected,
    resolution: Resolution,
    notes: Sequence[Note],
    result: str,
    bytes_written: int,
    dead: tuple[Dead, ...],
    dead_list: str,
) -> Report:
    """Make the report of a result, also of one that is not finished.

    Args:
        collected: the messages.
        resolution: what they make.
        notes: what is noted of the source's uploads.
        result: where the result is.
        bytes_written: its bytes.
        dead: what failed, only the first ones if there are many.
        dead_list: where the list of all dead entries is; empty if there are none.

    Raises:
        ParcelqError, AwsError, OSError: a segment cannot be read.
    """
    source = Source.parse(collected.job.source)
    return Report(
        source=str(source),
        version=source.version or source.put,
        result=result,
        state=resolution.state,
        format=next((note.format for note in notes if note.format), ""),
        format_chosen_by=next((note.chosen_by for note in notes if note.chosen_by), ""),
        one_stream=next((note.one_stream for note in notes if note.one_stream), ""),
        doubts=resolution.doubts,
        warnings=(*resolution.doubts, *dict.fromkeys(warning for note in notes for warning in note.warnings)),
        workflows=tuple(sorted({version for index in collected.indexes for version in index.versions})),
        entries=_entries(collected, resolution, notes),
        bytes_read=resolution.total,
        bytes_written=bytes_written,
        dead=dead,
        dead_list=dead_list,
        holes=resolution.holes,
        duplicates=resolution.duplicates,
        healings=0,
        first=min(index.first for index in collected.indexes),
        last=max(index.last for index in collected.indexes),
        complete=resolution.whole and not resolution.doubts,
        files=file_parts(notes),
    )


def _entries(collected: Collected, resolution: Resolution, notes: Sequence[Note]) -> Entries:
    total = resolution.total
    read = None if total is None else entries_in(notes, 0, total, total)
    dead = dead_entries(collected, notes, total)
    if resolution.finished:
        missing: int | None = 0
    elif total is None or len(resolution.holes) < resolution.hole_count:
        missing = None
    else:
        counts = [entries_in(notes, start, end, total) for start, end in resolution.holes]
        missing = None if None in counts else sum(filter(None, counts))
    done = None if read is None or dead is None or missing is None else read - dead - missing
    return Entries(read, done, dead, missing, resolution.entries)


def dead_of(collected: Collected, notes: Sequence[Note]) -> Iterator[Dead]:
    """Yield the dead entries, in order, with their reasons, all from the segments.

    Args:
        collected: the messages.
        notes: what is noted of the source's uploads, by which numbers within a range become numbers in the source.

    Raises:
        ParcelqError, AwsError, OSError: a segment cannot be read.
    """
    reader = SegmentReader(collected.store, collected.segments)
    files = [file for note in notes for file in note.files]
    starts = [file.start for file in files]
    for row in collected.dead():
        reason, first, entry = read_notes(b"".join(reader.read(row.extent)))
        record, line = _numbers(first, row.start, notes, collected.total) if row.of_source else (None, None)
        dead = Dead(row.start, row.end, row.entries, reason, row.of_source, record, line, entry)
        first_file, last_file = (max(0, bisect_right(starts, at) - 1) for at in (row.start, row.end - 1))
        # The output of an earlier step for records of several files may come from any of these files.
        yield _in_file(dead, files[first_file]) if files and first_file == last_file else dead


def file_parts(notes: Sequence[Note]) -> tuple[FilePart, ...]:
    """The files that a source is made of, as its notes say; none where it is one file."""
    files = [file for note in notes for file in note.files]
    if not files:
        return ()
    ends = [*((file.start, file.record) for file in files[1:]), (notes[-1].end, sum(note.entries for note in notes))]
    return tuple(
        FilePart(file.name, end - file.start, entries - file.record)
        for file, (end, entries) in zip(files, ends, strict=True)
    )


def dead_entries(collected: Collected, notes: Sequence[Note], total: int | None) -> int | None:
    """Count the entries of the source that are dead; None where the notes do not say how many a message had.

    Where an entry of what an earlier step made died, all entries of the source count of whose message it was made.
    """
    counted, last = 0, (-1, -1)
    for row in collected.dead():
        if row.of_source:
            counted += row.entries
        elif (row.start, row.end) != last:
            last = row.start, row.end
            entries = None if total is None else entries_in(notes, row.start, row.end, total)
            if entries is None:
                return None
            counted += entries
    return counted


def dead_lines(dead: Iterable[Dead]) -> Iterator[bytes]:
    """Yield the list of dead entries in parts."""
    held: list[bytes] = []
    size = 0
    for one in dead:
        held.append(one.to_json())
        size += len(held[-1])
        if size >= _PART_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _in_file(dead: Dead, file: Beginning) -> Dead:
    """Dead entries with the numbers that they have in their own file."""
    record = None if dead.record is None else dead.record - file.record
    line = None if dead.line is None else dead.line - file.line
    return replace(dead, record=record, line=line, file=file.name)


def _numbers(first: str, start: int, notes: Sequence[Note], total: int | None) -> tuple[int | None, int | None]:
    """Record and line number in the source, from what the attribute `First` said."""
    record, _, line = first.removeprefix("+").partition(",")
    if not (record.isdecimal() and line.isdecimal() and len(first) < 40):
        return None, None
    if not first.startswith("+"):
        return int(record), int(line)
    # Counted from the start of its range: the entries of the ranges before it are to be added.
    begin = max((note.start for note in notes if note.start <= start), default=0)
    if not begin:
        return int(record), int(line)
    before = None if total is None else entries_in(notes, 0, begin, total)
    return None if before is None else before + int(record), None
