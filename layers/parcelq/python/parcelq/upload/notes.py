"""Notes of uploads, beside the segments: which bytes were published, and how many entries these have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from parcelq.aws.parallel import in_flight
from parcelq.errors import NotFoundError
from parcelq.limits import MIB
from parcelq.lineage.source import source_id
from parcelq.names import SEGMENTS
from parcelq.store.store import Store
from parcelq.topics.cost import METER, NOTHING, Cost
from parcelq.upload.sources import Uploaded

_NOTE_BYTES: Final = MIB
_READS_IN_FLIGHT: Final = 8
_ONE_GO: Final = 100
"""An invocation has time for this many messages, so an upload of no more is not handed over."""
_UPLOADS: Final = f"{SEGMENTS}.uploads/"
_PROBLEM: Final = "problem.json"


class Beginning(NamedTuple):
    """The begin of a file in a source of several files.

    Attributes:
        name: the user's name for the file.
        start: offset of its first byte in the source.
        record: number of the source's records before it; subtract it from a record's number to get the number in the
            file.
        line: difference between a line's number in the source and in the file.
    """

    name: str
    start: int
    record: int
    line: int


class Note(NamedTuple):
    """The note of an upload, of a whole source or of a range of it.

    Attributes:
        source: the attribute `Source`.
        start: first byte that was published.
        end: offset just after the last.
        entries: number of published entries.
        total: bytes of the whole source; None if the upload did not note it.
        topic: name of the topic that they were published on; empty if the upload did not note it.
        output: name of the topic for the results; empty if it is not a topic of the stack; None if unknown.
        parts: bytes and entries of its parts, in order.
        warnings: warnings about its compression.
        format: the record format; empty if the upload did not note it.
        chosen_by: what determined the format: `name` for the source's name, `option`, `stack`, …
        one_stream: why it cannot be cut into ranges; empty if it can.
        problem: why the source cannot be uploaded; empty if no such reason is known.
        workflow: the attribute `Workflow` of the messages; empty for the built-in step.
        files: the begins of its files, if the source consists of several.
        cost: the cost of the upload, from `Cost.numbers`; empty if not counted.
    """

    source: str
    start: int
    end: int
    entries: int
    total: int | None = None
    topic: str = ""
    output: str | None = None
    parts: tuple[tuple[int, int], ...] = ()
    warnings: tuple[str, ...] = ()
    format: str = ""
    chosen_by: str = ""
    one_stream: str = ""
    problem: str = ""
    workflow: str = ""
    files: tuple[Beginning, ...] = ()
    cost: tuple[Any, ...] = ()

    @property
    def spent(self) -> Cost:
        """The cost of the upload."""
        return Cost.parse(list(self.cost))

    @property
    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """First byte, byte after the last, and entries of each part of the upload, in order."""
        at = self.start
        for size, entries in self.parts or ((self.end - self.start, self.entries),):
            yield at, at + size, entries
            at += size


def note_upload(
    store: Store,
    source: str,
    start: int,
    uploaded: Uploaded,
    *,
    total: int | None = None,
    topic: str = "",
    output: str | None = None,
    workflow: str = "",
    files: Sequence[Beginning] = (),
) -> None:
    """Note what was published of a source from its byte `start`; see `Note`."""
    about = {name: value for name, value in uploaded._asdict().items() if name not in {"messages", "rest"}}
    note = {"source": source, "start": start, **about, "total": total, "topic": topic, "output": output}
    note |= {"workflow": workflow} if workflow else {}
    note |= {"files": files} if files else {}
    note |= {"cost": cost.numbers()} if (cost := METER.take()) != NOTHING else {}
    text = json.dumps(note, separators=(",", ":"))
    store.put(note_key(source, start), text.encode())


def notes_of(store: Store, source: str) -> list[Note]:
    """Return the notes of a source's uploads, in the order of the bytes."""
    return _read_all(store, note_keys(store, source))


def notes_of_whole(store: Store, source: str) -> list[Note]:
    """Return the notes of a source that is published as a whole: if the first note covers all of it, one request is
    enough.

    Then a note that the source cannot be uploaded is not read.
    """
    first = _read(store, note_key(source, 0))
    return [first] if first and first.end == first.total else notes_of(store, source)


def note_problem(store: Store, source: str, problem: str, *, topic: str = "", output: str | None = None) -> None:
    """Note that a source cannot be uploaded, and why; see `Note`."""
    note = {"source": source, "start": 0, "end": 0, "entries": 0, "topic": topic, "output": output, "problem": problem}
    store.put(problem_key(source), json.dumps(note, separators=(",", ":")).encode())


def forget_problem(store: Store, source: str) -> None:
    """Delete the note that a source cannot be uploaded, if there is one, because the upload is tried again."""
    if store.stat(problem_key(source)):
        store.delete([problem_key(source)])


def noted_problems(store: Store) -> dict[str, str]:
    """Return the sources that can never be uploaded, with the reasons, by the attribute `Source`."""
    keys = (key for key in store.keys(_UPLOADS) if key.endswith(_PROBLEM))
    return {note.source: note.problem for note in _read_all(store, keys)}


def entries_in(notes: Iterable[Note], start: int, end: int, total: int) -> int | None:
    """Return the number of entries in `[start, end)` of a source; None if its notes do not give exactly this number.

    Args:
        total: bytes of the source; a note of bytes beyond it is invalid.
    """
    at, entries = start, 0
    for note in notes:
        if note.end > total:
            return None
        for first, last, count in note.stretches:
            if first < end and last > at:
                if first != at or last > end:
                    return None
                at, entries = last, entries + count
    return entries if at == end else None


def noted_sources(store: Store) -> dict[str, list[Note]]:
    """Return the notes of all uploads by source, in the order of the bytes."""
    found: dict[str, list[Note]] = {}
    for note in _read_all(store, store.keys(_UPLOADS)):
        found.setdefault(note.source, []).append(note)
    return found


def note_keys(store: Store, source: str) -> list[str]:
    """Return the keys of the notes of a source's uploads, in the order of their bytes."""
    return list(store.keys(upload_folder(source)))


def may_be_more(notes: Iterable[Note]) -> bool:
    """Return whether a source may have notes besides these: if its upload was large, an earlier try may have handed
    over the rest, while a later one noted the whole.
    """
    return sum(len(note.parts) for note in notes) > _ONE_GO


def keys_of_notes(source: str, notes: Iterable[Note]) -> list[str]:
    """The keys of some notes of a source, and the key of the note that it cannot be uploaded."""
    return [*(note_key(source, note.start) for note in notes), problem_key(source)]


def upload_folder(source: str) -> str:
    """Return the prefix of the notes of a source's uploads."""
    return f"{_UPLOADS}{source_id(source)}/"


def note_key(source: str, start: int) -> str:
    """The key of the note about an upload that began at a byte of a source."""
    return f"{upload_folder(source)}{start:020d}.json"


def problem_key(source: str) -> str:
    """The key of the note that a source cannot be uploaded."""
    return upload_folder(source) + _PROBLEM


def _read_all(store: Store, keys: Iterable[str]) -> list[Note]:
    """Return the notes under some keys by source, in the order of the bytes, without deleted ones."""
    notes = in_flight(lambda key: _read(store, key), keys, _READS_IN_FLIGHT)
    return sorted((note for note in notes if note), key=lambda note: (note.source, note.start))


def _read(store: Store, key: str) -> Note | None:
    try:
        note = json.loads(store.read(key, 0, _NOTE_BYTES))
    except NotFoundError:
        return None
    note["parts"] = tuple((size, entries) for size, entries in note.get("parts", ()))
    note["warnings"] = tuple(note.get("warnings", ()))
    note["cost"] = tuple(note.get("cost", ()))
    note["files"] = tuple(Beginning(*one) for one in note.get("files", ()))
    return Note(**note)
