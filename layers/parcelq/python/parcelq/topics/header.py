"""Headers on the wire: a message's attribute `Header` is the header in base64, or the key of an object that contains
it.
"""

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
"""The ending of all keys, which no base64 text has."""
_MAX_ATTRIBUTE: Final = KIB
_MOST_READ: Final = 16
"""Number of headers that are cached after they were read from the store."""


def header_of_source(header: bytes, source: str, store: Store | None) -> str:
    """Return the attribute `Header` of a source's messages; a long header is stored as an object.

    Args:
        header: the header; an empty header gives an empty text.
        store: stores long headers; None if there is no store.

    Raises:
        InvalidValueError: the header is too long for an attribute, and there is no store.
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
    """Return the key of the common header of a stage's outputs.

    Args:
        topic: name of the topic for the outputs.
    """
    return f"{HEADERS}{job}/{topic}{_SUFFIX}"


def header_of_stage(header: bytes, key: str) -> str:
    """Return the attribute `Header` of a stage's outputs: the header itself if it is short, or else its key."""
    text = _short_attribute(header)
    return key if text is None else text


def _short_attribute(header: bytes) -> str | None:
    text = base64.b64encode(header).decode("ascii")
    return text if len(text) <= _MAX_ATTRIBUTE else None


@dataclass(frozen=True, slots=True)
class Headers:
    """Reads the attribute `Header`.

    Attributes:
        store: the store of long headers; None if there is no store.
    """

    store: Store | None = None
    _read: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def read(self, text: str) -> bytes:
        """Return the header from an attribute's text; an empty text means no header.

        Raises:
            MessageError: the text is neither base64 nor the key of a header, or the object does not exist.
            AwsError, StoreError, OSError: the store failed.
        """
        if not text.endswith(_SUFFIX):
            try:
                return base64.b64decode(text, validate=True)
            except ValueError:
                raise MessageError(f"Header is {text[:60]!r}, but must be base64 or the key of a header") from None
        if self.store is None or not text.startswith(HEADERS):
            raise MessageError(
                f"Header is {text[:200]!r}, but must be base64, because no store for headers is configured"
            )
        if text not in self._read:
            try:
                header = self.store.read(text)
            except NotFoundError as error:
                raise MessageError(f"the message's header cannot be read: {error}") from None
            while len(self._read) >= _MOST_READ:
                self._read.pop(next(iter(self._read)), None)
            self._read[text] = header
        return self._read[text]
