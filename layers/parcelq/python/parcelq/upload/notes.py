"""Notes of uploads, beside the segments: how many entries were published, and up to where."""

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
_UPLOADS: Final = f"{SEGMENTS}.uploads/"
_PROBLEM: Final = "problem.json"


class Beginning(NamedTuple):
    """Where a file begins in a source that is made of several files.

    Attributes:
        name: what the user calls the file.
        start: its first byte, in the source.
        record: how many records of the source come before it; a record's number in the file is smaller by that.
        line: the difference between a line's number in the source and in the file.
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
        end: just after the last.
        entries: how many were published.
        total: bytes of the whole source; None if the upload did not tell.
        topic: name of the topic that they were published on; empty if the upload did not tell.
        output: name of the topic that the results come to, empty if that is not a topic of the stack; None if unknown.
        parts: bytes and entries of its parts, in order.
        warnings: what the program of its compression would warn of.
        format: the record format; empty where the upload did not say.
        chosen_by: what chose that: `name` for the source's name, `option`, `stack`, …
        one_stream: why it cannot be cut into ranges, however large it is; empty if it can.
        problem: why the source cannot be uploaded; empty if that is not known to fail.
        workflow: the attribute `Workflow` of the messages; empty for the built-in step.
        files: where its files begin, if the source is made of several.
        cost: what the upload cost, as `Cost.numbers` has it; empty if nobody counted.
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
        """What the upload cost."""
        return Cost.parse(list(self.cost))

    @property
    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """First byte, byte after the last, and entries of each stretch of it, in order."""
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
    """Note what was published of a source from its byte `start` on; see `Note`."""
    about = {name: value for name, value in uploaded._asdict().items() if name not in {"messages", "rest"}}
    note = {"source": source, "start": start, **about, "total": total, "topic": topic, "output": output}
    note |= {"workflow": workflow} if workflow else {}
    note |= {"files": files} if files else {}
    note |= {"cost": cost.numbers()} if (cost := METER.take()) != NOTHING else {}
    text = json.dumps(note, separators=(",", ":"))
    store.put(note_key(source, start), text.encode())


def notes_of(store: Store, source: str) -> list[Note]:
    """The notes of a source's uploads, in the order of the bytes."""
    return _read_all(store, note_keys(store, source))


def notes_of_whole(store: Store, source: str) -> list[Note]:
    """The same for a source that is published as a whole: a single note, in one request, if that covers all of it.

    A note that the source cannot be uploaded is left out then.
    """
    first = _read(store, note_key(source, 0))
    return [first] if first and first.end == first.total else notes_of(store, source)


def note_problem(store: Store, source: str, problem: str, *, topic: str = "", output: str | None = None) -> None:
    """Note that a source cannot be uploaded, and why; see `Note`."""
    note = {"source": source, "start": 0, "end": 0, "entries": 0, "topic": topic, "output": output, "problem": problem}
    store.put(problem_key(source), json.dumps(note, separators=(",", ":")).encode())


def forget_problem(store: Store, source: str) -> None:
    """Delete the note that a source cannot be uploaded, if there is one: somebody tries it again."""
    if store.stat(problem_key(source)):
        store.delete([problem_key(source)])


def noted_problems(store: Store) -> dict[str, str]:
    """The sources that can never be uploaded, and why, by the attribute `Source`."""
    keys = (key for key in store.keys(_UPLOADS) if key.endswith(_PROBLEM))
    return {note.source: note.problem for note in _read_all(store, keys)}


def entries_in(notes: Iterable[Note], start: int, end: int, total: int) -> int | None:
    """How many entries there are in `[start, end)` of a source; None if its notes do not say exactly that.

    Args:
        total: bytes of the source: what is noted beyond does not fit it.
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
    """The notes of all uploads, by source, in the order of the bytes."""
    found: dict[str, list[Note]] = {}
    for note in _read_all(store, store.keys(_UPLOADS)):
        found.setdefault(note.source, []).append(note)
    return found


def note_keys(store: Store, source: str) -> list[str]:
    """Keys under which the uploads of a source are noted, in the order of their bytes."""
    return list(store.keys(upload_folder(source)))


def keys_of_notes(source: str, notes: Iterable[Note]) -> list[str]:
    """The keys of some notes of a source, and the one of the note that it cannot be uploaded."""
    return [*(note_key(source, note.start) for note in notes), problem_key(source)]


def upload_folder(source: str) -> str:
    """The prefix of the notes of a source's uploads."""
    return f"{_UPLOADS}{source_id(source)}/"


def note_key(source: str, start: int) -> str:
    """The key of the note of what was published of a source from a byte on."""
    return f"{upload_folder(source)}{start:020d}.json"


def problem_key(source: str) -> str:
    """The key of the note that a source cannot be uploaded."""
    return upload_folder(source) + _PROBLEM


def _read_all(store: Store, keys: Iterable[str]) -> list[Note]:
    """The notes under some keys, by source and in the order of the bytes, without those that were deleted."""
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
