"""Notes of unfinished results, beside the segments."""

from __future__ import annotations

import json
from typing import Final

from parcelq.errors import NotFoundError
from parcelq.limits import MIB
from parcelq.lineage.source import source_id
from parcelq.names import SEGMENTS
from parcelq.store.store import Begun, Store

_BEGUN_BYTES: Final = MIB
_RESULTS: Final = f"{SEGMENTS}.results/"


def note_begun(store: Store, source: str, plan: str, begun: Begun) -> None:
    """Note which parts of an unfinished result are written; `plan` names exactly what it will be."""
    note = {"plan": plan, "upload": begun.upload, "etags": begun.etags}
    store.put(_begun_key(source), json.dumps(note).encode())


def take_begun(store: Store, source: str, plan: str) -> Begun | None:
    """Take the note of a source's result, so that only one caller continues it. None if there is none of this plan."""
    key = _begun_key(source)
    try:
        note = json.loads(store.read(key, 0, _BEGUN_BYTES))
    except NotFoundError:
        return None
    store.delete([key])
    # guard[return Begun(note["upload"], tuple(note["etags"]))]: an unfinished result goes on only if it will have the
    # same bytes
    return Begun(note["upload"], tuple(note["etags"])) if note["plan"] == plan else None


def _begun_key(source: str) -> str:
    return f"{_RESULTS}{source_id(source)}.json"
