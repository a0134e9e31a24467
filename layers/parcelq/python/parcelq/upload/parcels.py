"""Parcels that fit into messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from parcelq.aws.text import legal_text
from parcelq.limits import KIB, MAX_MESSAGE_BYTES
from parcelq.records import Format, Parcel, Readable, cut, fit_messages

ATTRIBUTE_ROOM: Final = 4 * KIB
"""Bytes of a message that its attributes may take: those that it gets here, and what later steps add to them."""
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES - ATTRIBUTE_ROOM


def cut_for_messages(
    stream: Readable,
    fmt: Format,
    parcel_size: int,
    max_bytes: int,
    *,
    start: int = 0,
    line: int = 1,
    counted_from: int = 0,
    strict: bool = False,
) -> Iterator[Parcel]:
    """Cut a stream into parcels that each fit into a message of `max_bytes`, as base64 where that is needed.

    Only an entry that alone is too large for a message makes a larger parcel. See `records.cut`.
    """
    parcels = cut(stream, fmt, parcel_size, max_bytes, start=start, line=line, counted_from=counted_from, strict=strict)
    return fit_messages(parcels, fmt, max_bytes, is_text)


def is_text(data: bytes) -> bool:
    """Whether bytes may travel in a message as they are."""
    return legal_text(data) is not None
