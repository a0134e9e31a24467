"""Cuts parcels that fit into messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from parcelq.aws.text import legal_text
from parcelq.limits import KIB, MAX_MESSAGE_BYTES
from parcelq.readable import Readable
from parcelq.records import Format, Parcel, cut, cut_bytes, fit_messages

ATTRIBUTE_ROOM: Final = 4 * KIB
"""Bytes of a message that are reserved for attributes: those set here, and those that later steps add."""
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES - ATTRIBUTE_ROOM


def cut_for_messages(entries: Readable | bytes, fmt: Format, parcel_size: int, max_bytes: int) -> Iterator[Parcel]:
    """Cut checked entries into parcels that each fit into a message of `max_bytes`.

    A parcel is larger only if it is a single entry that is too large for a message. See `records.cut`.
    """
    if isinstance(entries, bytes):
        parcels = cut_bytes(entries, fmt, parcel_size, max_bytes)
    else:
        parcels = cut(entries, fmt, parcel_size, max_bytes, strict=False)
    return fit_for_messages(parcels, fmt, max_bytes)


def fit_for_messages(parcels: Iterator[Parcel], fmt: Format, max_bytes: int) -> Iterator[Parcel]:
    """Cut parcels again that need base64 and do not fit into a message of `max_bytes` then."""
    return fit_messages(parcels, fmt, max_bytes, _is_text)


def _is_text(data: bytes) -> bool:
    return legal_text(data) is not None
