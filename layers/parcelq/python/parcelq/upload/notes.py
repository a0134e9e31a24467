"""Notes about uploads: objects that say which bytes of a source were published, and how many entries they have."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from parcelq.aws.parallel import in_flight
from parcelq.errors import NotFoundError
from parcelq.limits import MIB
from parcelq.lineage.source import source_id
from parcelq.names import SEGMENTS
from parcelq.store.store import Store
from parcelq.topics.cost import METER, NOTHING, Cost
from parcelq.upload.sources import Uploaded

_log = logging.getLogger(__name__)
_NOTE_BYTES: Final = MIB
_ONE_GO: Final = 100
"""An invocation has time for this many messages, so an upload of no more is not handed over."""
_UPLOADS: Final = f"{SEGMENTS}.uploads/"
_PROBLEM: Final = "problem.json"


class Beginning(NamedTuple):
    """The place where a file begins in a source that consists of several files.

    Attributes:
        name: the name of the file that the user gave.
        start: the offset of the file's first byte in the source.
        record, line: numbers. A record's or line's number in the source minus this is its number in the file.
    """

    name: str
    start: int
    record: int
    line: int


class Note(NamedTuple):
    """The note about an upload of a whole source, or of a range of a source.

    Attributes:
        start, end: the offsets of the first byte that was published, and just after the last one.
        entries: how many entries were published.
        total: how many bytes the whole source has; None if unknown.
        topic: the name of the topic on which the entries were published; empty if unknown.
        output: the name of the topic for the results; empty if `topic` is not a topic of the stack; None if unknown.
        parts, warnings, format, chosen_by, one_stream: see `Uploaded`.
        problem: why the source cannot be uploaded; empty if no reason is known.
        workflow: the attribute `Workflow` of the messages; empty for the built-in step.
        files: the places where the files begin, if the source consists of several files.
        cost: the cost of the upload, from `Cost.numbers`; empty if the cost was not counted.
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
    def counted_ranges(self) -> Iterator[tuple[int, int, int]]:
        """For each part of the upload, in order: its first offset, the offset after it, and its number of entries."""
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
    """Write a note about what was published of a source, beginning with its byte `start`."""
    about = {name: value for name, value in uploaded._asdict().items() if name not in {"messages", "rest"}}
    note = {"source": source, "start": start, **about, "total": total, "topic": topic, "output": output}
    note |= {"workflow": workflow} if workflow else {}
    note |= {"files": files} if files else {}
    note |= {"cost": cost.numbers()} if (cost := METER.take()) != NOTHING else {}
    text = json.dumps(note, separators=(",", ":"))
    store.put(note_key(source, start), text.encode())


def notes_of(store: Store, source: str) -> list[Note]:
    """Return the notes about a source's uploads, in the order of the source's bytes."""
    return _read_all(store, note_keys(store, source))


def notes_of_whole(store: Store, source: str) -> list[Note]:
    """Return the notes about a source that is published as a whole.

    If the first note covers the whole source, only this note is read, and no note about a problem.
    """
    first = _read(store, note_key(source, 0))
    return [first] if first and first.end == first.total else notes_of(store, source)


def note_problem(store: Store, source: str, problem: str, *, topic: str = "", output: str | None = None) -> None:
    """Write a note which says that a source cannot be uploaded, and why."""
    note = {"source": source, "start": 0, "end": 0, "entries": 0, "topic": topic, "output": output, "problem": problem}
    store.put(problem_key(source), json.dumps(note, separators=(",", ":")).encode())


def forget_problem(store: Store, source: str) -> None:
    """Delete the note, if there is one, which says that a source cannot be uploaded. The upload is tried again."""
    if store.stat(problem_key(source)):
        store.delete([problem_key(source)])


def total_of(notes: Iterable[Note]) -> int | None:
    """Return how many bytes a source has, according to the notes about its uploads; None if they do not say so."""
    return next((note.total for note in notes if note.total is not None), None)


def is_published(notes: Iterable[Note], total: int) -> bool:
    """Return whether notes say that every byte of a source of `total` bytes was published.

    Notes overlap if an upload was repeated, and the repeated upload handed over at another place.
    """
    at = 0
    for start, end in sorted((note.start, note.end) for note in notes):
        if start > at:
            return False
        at = max(at, end)
    return at == total


class EntryCounts:
    """How many entries are in ranges of a source, according to the notes about its uploads.

    `total` is the source's size in bytes. A note about bytes after the end makes all counts unknown.
    """

    def __init__(self, notes: Iterable[Note], total: int | None) -> None:
        known = list(notes)
        valid = total is not None and all(note.end <= total for note in known)
        parts = sorted(part for note in known for part in note.counted_ranges if part[0] < part[1]) if valid else []
        self._valid = valid
        self._starts = [start for start, _, _ in parts]
        self._ends = list(accumulate((end for _, end, _ in parts), max))
        self._counts = [0, *accumulate(count for _, _, count in parts)]
        touch = (start == end for start, end in zip(self._starts[1:], self._ends, strict=False))
        self._breaks = [0, *accumulate(not one for one in touch)]

    def between(self, start: int, end: int) -> int | None:
        """Return how many entries are in `[start, end)`; None if the notes do not give exactly this number."""
        if start == end:
            return 0 if self._valid else None
        first, after = bisect_left(self._starts, start), bisect_left(self._starts, end)
        if first >= after or self._starts[first] != start or self._ends[after - 1] != end:
            return None
        overlaps = first > 0 and self._ends[first - 1] > start
        whole = not overlaps and self._breaks[first] == self._breaks[after - 1]
        return self._counts[after] - self._counts[first] if whole else None


def noted_sources(store: Store) -> dict[str, list[Note]]:
    """Return a dict from each source to the notes about its uploads, in the order of the source's bytes."""
    found: dict[str, list[Note]] = {}
    for note in _read_all(store, store.keys(_UPLOADS)):
        found.setdefault(note.source, []).append(note)
    return found


def note_keys(store: Store, source: str) -> list[str]:
    """Return the keys of the notes about a source's uploads, in the order of the source's bytes."""
    return list(store.keys(upload_folder(source)))


def may_be_more(notes: Iterable[Note]) -> bool:
    """Return whether a source may have more notes than the given notes. If the upload was large, an earlier try may
    have left the rest to other invocations, although a later try noted the whole source.
    """
    return sum(len(note.parts) for note in notes) > _ONE_GO


def keys_of_notes(source: str, notes: Iterable[Note]) -> list[str]:
    """Return the keys of notes about a source, and the key of the note which says that it cannot be uploaded."""
    return [*(note_key(source, note.start) for note in notes), problem_key(source)]


def upload_folder(source: str) -> str:
    """Return the prefix that the keys of all notes about a source's uploads have."""
    return f"{_UPLOADS}{source_id(source)}/"


def note_key(source: str, start: int) -> str:
    """Return the key of the note about an upload that began at the byte `start` of a source."""
    return f"{upload_folder(source)}{start:020d}.json"


def problem_key(source: str) -> str:
    """Return the key of the note which says that a source cannot be uploaded."""
    return upload_folder(source) + _PROBLEM


def _read_all(store: Store, keys: Iterable[str]) -> list[Note]:
    """Return the notes under some keys, sorted by source and by the source's bytes. Deleted notes are left out."""
    notes = in_flight(lambda key: _read(store, key), keys)
    return sorted((note for note in notes if note), key=lambda note: (note.source, note.start))


def _read(store: Store, key: str) -> Note | None:
    try:
        note = json.loads(store.read(key, 0, _NOTE_BYTES))
    except NotFoundError:
        return None
    except ValueError:  # a crash of a machine can damage a note of a store that is not durable
        _log.warning("%s is not a note of an upload, so it does not count", key)
        return None
    note["parts"] = tuple((size, entries) for size, entries in note.get("parts", ()))
    note["warnings"] = tuple(note.get("warnings", ()))
    note["cost"] = tuple(note.get("cost", ()))
    note["files"] = tuple(Beginning(*one) for one in note.get("files", ()))
    return Note(**note)
