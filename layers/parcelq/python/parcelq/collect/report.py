"""Creates the report that is stored beside a result, from the collected messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from parcelq.collect.bill import Bill
from parcelq.collect.deaths import MOST_LISTED, Dead, dead_entries, dead_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.lineage.source import Source
from parcelq.topics.cost import NOTHING, Cost
from parcelq.upload.notes import EntryCounts, Note


class Entries(NamedTuple):
    """How many entries of a source are done, dead and missing. `read` is the sum of these three numbers.

    If an entry of an earlier step's output died, all source entries of its message count as dead. `read` is None if the
    notes do not say how many entries were published. `dead` is None if the notes do not say how many entries a message
    with dead entries had. `done` is None if `read`, `dead` or `missing` is None, unless nothing is done at all.
    """

    read: int | None
    done: int | None
    dead: int | None
    missing: int | None
    written: int


class FilePart(NamedTuple):
    """One of several files that form a source: the name that the user gave, and how many bytes and entries it has."""

    file: str
    bytes: int
    entries: int


class Report(NamedTuple):
    """The report about a source's result. The attributes `source`, `version`, `format` and `files` describe the upload.

    Attributes:
        version: identifies the upload of the object: the object's version id if any, else the event's sequencer.
        state: a digest of everything that determines the result; the result's metadata contains the same digest.
        format: the source's record format; empty if the notes of the upload do not say.
        format_chosen_by: what determined the format: `name` for the source's name, `option`, `stack`, …; empty if
            unknown.
        one_stream: why the source could not be cut into ranges; empty if the source could be cut.
        doubts: reasons why the result may differ from what one run over the whole source would write; see `yields`.
        warnings: warnings for the user: `doubts`, and oddities of the source's content and compression.
        workflows: the versions of workflows that messages name; on one machine also the versions of the steps.
        dead: the dead entries with their reasons; only the first dead entries if there are many.
        dead_list: the place of the list of all dead entries; empty if no entries are dead.
        holes: byte ranges of the source that are missing.
        duplicates: how many messages were dropped as duplicates.
        complete: whether every entry went through a successful run, the outputs of these runs are in the result, and
            there are no doubts.
        recipe: the steps, settings and other options of a run on one machine; empty on AWS.
        cost: the cost of the job, and the durations of runs; see `bill`.
        problem: why the job was stopped or cancelled; empty if the job ended with its result.
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
    recipe: Mapping[str, Any] = {}
    cost: Mapping[str, Any] = {}
    problem: str = ""

    def to_json(self) -> bytes:
        """Return the JSON that is stored beside the result."""
        members = self._asdict()
        members["entries"] = self.entries._asdict()
        members["files"] = [one._asdict() for one in self.files]
        members["dead"] = [
            {"start": one.start, "end": one.end, "entries": one.entries, "reason": one.reason} for one in self.dead
        ]
        for name in ("files", "problem"):
            if not members[name]:
                del members[name]
        return json.dumps(members, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def report_of(
    source: str,
    collected: Collected,
    resolution: Resolution,
    notes: Sequence[Note],
    result: str,
    *,
    written: int = 0,
    dead_list: str = "",
    listed: int = MOST_LISTED,
    healings: int = 0,
    looks: Cost = NOTHING,
) -> Report:
    """Create the report of a result, which may be unfinished.

    Args:
        collected: the collected messages of the job; may be empty.
        dead_list: the place of the list of all dead entries; empty if no entries are dead.
        listed: how many dead entries the report lists at most.
        looks: the cost of looks at the job so far.
    """
    put, indexes = Source.parse(source), collected.indexes
    return Report(
        source=source,
        version=put.version or put.put,
        result=result,
        state=resolution.state,
        format=next((note.format for note in notes if note.format), ""),
        format_chosen_by=next((note.chosen_by for note in notes if note.chosen_by), ""),
        one_stream=next((note.one_stream for note in notes if note.one_stream), ""),
        doubts=resolution.doubts,
        warnings=(*resolution.doubts, *dict.fromkeys(warning for note in notes for warning in note.warnings)),
        workflows=tuple(sorted({version for index in indexes for version in index.versions})),
        entries=_entries(collected, resolution, notes),
        bytes_read=resolution.total,
        bytes_written=written,
        dead=tuple(islice(dead_of(collected, notes), listed)) if resolution.has_dead else (),
        dead_list=dead_list,
        holes=resolution.holes,
        duplicates=resolution.duplicates,
        healings=healings,
        first=min((index.first for index in indexes), default=""),
        last=max((index.last for index in indexes), default=""),
        complete=resolution.whole and not resolution.doubts,
        files=file_parts(notes),
        cost=Bill.of(indexes, notes, looks).document(),
    )


def _entries(collected: Collected, resolution: Resolution, notes: Sequence[Note]) -> Entries:
    total = resolution.total
    counts = EntryCounts(notes, total)
    read = counts.between(0, total or 0)
    dead = dead_entries(collected) if resolution.has_dead else 0
    missing: int | None = None
    if total is not None and len(resolution.holes) == resolution.hole_count:
        lost = [counts.between(start, end) for start, end in resolution.holes]
        missing = None if None in lost else sum(filter(None, lost))
    if read is None or dead is None or missing is None:
        done = None if resolution.covered else 0
    else:
        done = read - dead - missing
    return Entries(read, done, dead, missing, resolution.entries)


def file_parts(notes: Sequence[Note]) -> tuple[FilePart, ...]:
    """Return the files that form a source, according to the source's notes; empty if the source is a single file."""
    files = [file for note in notes for file in note.files]
    if not files:
        return ()
    ends = [*((file.start, file.record) for file in files[1:]), (notes[-1].end, sum(note.entries for note in notes))]
    return tuple(
        FilePart(file.name, end - file.start, entries - file.record)
        for file, (end, entries) in zip(files, ends, strict=True)
    )
