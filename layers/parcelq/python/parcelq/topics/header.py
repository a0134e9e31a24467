"""Headers in messages: the attribute `Header` is a header in base64, or the key of an object with the header."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final

from parcelq.errors import InvalidValueError, MessageError, NotFoundError
from parcelq.limits import KIB
from parcelq.lineage.source import source_id
from parcelq.names import HEADERS
from parcelq.store.store import Store

_SUFFIX: Final = ".header"
"""The ending of the keys of all header objects; no base64 text ends so."""
_MAX_ATTRIBUTE: Final = KIB
_MOST_READ: Final = 16
"""How many headers are cached after they were read from the store."""


def header_of_source(header: bytes, source: str, store: Store | None) -> str:
    """Return the attribute `Header` for the messages of a source, and store a long header as an object. Raises
    InvalidValueError if the header is too long for an attribute, and there is no store.
    """
    text = _short_attribute(header)
    if text is not None:
        return text
    if store is None:
        most = _MAX_ATTRIBUTE // 4 * 3
        raise InvalidValueError("bucket", None, f"given, because the header has {len(header)} bytes, more than {most}")
    key = f"{HEADERS}{source_id(source)}/source{_SUFFIX}"
    store.put(key, header)
    return key


def key_of_stage(job: str, topic: str) -> str:
    """Return the key of the object with the header of all outputs that a stage publishes on a topic."""
    return f"{HEADERS}{job}/{topic}{_SUFFIX}"


def header_of_stage(header: bytes, key: str) -> str:
    """Return the attribute `Header` for a stage's outputs: a short header itself, or the key of a long header."""
    text = _short_attribute(header)
    return key if text is None else text


def _short_attribute(header: bytes) -> str | None:
    text = base64.b64encode(header).decode("ascii")
    return text if len(text) <= _MAX_ATTRIBUTE else None


@dataclass(frozen=True, slots=True)
class Headers:
    """Reads the header that a message's attribute `Header` contains or points to."""

    store: Store | None = None
    _read: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def read(self, text: str) -> bytes:
        """Return the header that an attribute `Header` contains or points to; empty if the attribute is.

        Raises MessageError if the attribute is neither base64 nor the key of a header, or the object does not exist.
        """
        if not text.endswith(_SUFFIX):
            try:
                return base64.b64decode(text, validate=True)
            except ValueError:
                raise MessageError(f"Header is {text[:60]!r}, but must be base64 or the key of a header") from None
        if self.store is None or not text.startswith(HEADERS):
            wanted = f"or a key under {HEADERS}" if self.store else "because no store for headers is configured"
            raise MessageError(f"Header is {text[:200]!r}, but must be base64, {wanted}")
        if text not in self._read:
            try:
                header = self.store.read(text)
            except NotFoundError as error:
                raise MessageError(f"the message's header cannot be read: {error}") from None
            while len(self._read) >= _MOST_READ:
                self._read.pop(next(iter(self._read)), None)
            self._read[text] = header
        return self._read[text]
