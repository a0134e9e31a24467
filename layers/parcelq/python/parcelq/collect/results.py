"""The metadata of a result describes the result, so that both change together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from parcelq.lineage.source import Source, source_id
from parcelq.store.store import Stored

_ID: Final = "parcelq-source"
_URI: Final = "parcelq-uri"
_ORDER: Final = "parcelq-order"
_STATE: Final = "parcelq-state"


def metadata_of(name: str, state: str) -> dict[str, str]:
    """Return the metadata of a result, given the attribute `Source` and the state of its resolution."""
    source = Source.parse(name)
    return {_ID: source_id(name), _URI: source_id(source.uri), _ORDER: source.order, _STATE: state}


def state_in(present: Stored | None, name: str) -> str:
    """Return the state of an existing result if it is of this source; otherwise empty."""
    if present is None or present.metadata.get(_ID) != source_id(name):
        return ""
    return present.metadata.get(_STATE, "")


def is_newer(present: Stored, source: Source) -> bool:
    """Return whether an existing result is of a later put of the same file."""
    return present.metadata.get(_URI) == source_id(source.uri) and present.metadata.get(_ORDER, "") > source.order


def digest_of(values: Iterable[Any]) -> str:
    """Return a digest of values, by their `repr`, in hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=12)
    for value in values:
        hasher.update(repr(value).encode())
    return hasher.hexdigest()
