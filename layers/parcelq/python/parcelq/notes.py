"""Notes beside the segments: of uploads, how many entries were published and up to where; of results, what is begun."""

from __future__ import annotations

import json
from typing import Final

from parcelq.limits import KIB, MIB
from parcelq.names import SEGMENTS
from parcelq.results import Begun
from parcelq.segments import source_id
from parcelq.store import Store
from parcelq.transfer import Uploaded

_NOTE_BYTES: Final = 64 * KIB
_BEGUN_BYTES: Final = MIB
_UPLOADS: Final = f"{SEGMENTS}.uploads/"
_RESULTS: Final = f"{SEGMENTS}.results/"


def note_upload(store: Store, source: str, start: int, uploaded: Uploaded) -> None:
    """Note what was published of a source from its byte `start` on."""
    note = {"source": source, "start": start, **uploaded._asdict()}
    store.put(f"{_UPLOADS}{source_id(source)}/{start:020d}.json", json.dumps(note).encode())


def uploaded_entries(store: Store, source: str, total: int) -> int | None:
    """How many entries of a source were published, as its uploads noted; None if not all of it was noted.

    Args:
        store: where that is noted.
        source: the attribute `Source`.
        total: bytes of the source.
    """
    at = entries = 0
    for key in note_keys(store, source):
        note = json.loads(store.read(key, 0, _NOTE_BYTES))
        if note["start"] != at:
            return None
        at, entries = note["end"], entries + note["entries"]
    return entries if at == total else None


def noted_sources(store: Store) -> dict[str, int]:
    """Sources whose uploads are noted, and where those end: at the source's end, once all of it is published."""
    ends: dict[str, int] = {}
    for key in store.keys(_UPLOADS):
        note = json.loads(store.read(key, 0, _NOTE_BYTES))
        ends[note["source"]] = max(note["end"], ends.get(note["source"], 0))
    return ends


def note_keys(store: Store, source: str) -> list[str]:
    """Keys under which the uploads of a source are noted, in the order of their bytes."""
    return store.keys(f"{_UPLOADS}{source_id(source)}/")


def note_begun(store: Store, source: str, plan: str, begun: Begun) -> None:
    """Note what is there of a result that is not written to the end; `plan` names just what it is to be."""
    note = {"plan": plan, "upload": begun.upload, "etags": begun.etags}
    store.put(_begun_key(source), json.dumps(note).encode())


def take_begun(store: Store, source: str, plan: str) -> Begun | None:
    """Take what is noted of a source's result: it is for one to go on with. None if that is not of this plan."""
    key = _begun_key(source)
    if not store.keys(key):
        return None
    note = json.loads(store.read(key, 0, _BEGUN_BYTES))
    store.delete([key])
    return Begun(note["upload"], tuple(note["etags"])) if note["plan"] == plan else None


def _begun_key(source: str) -> str:
    return f"{_RESULTS}{source_id(source)}.json"
