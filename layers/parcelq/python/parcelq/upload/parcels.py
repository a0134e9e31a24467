"""Parcels that fit into messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from parcelq.aws.text import is_legal
from parcelq.limits import KIB, MAX_MESSAGE_BYTES
from parcelq.readable import Readable
from parcelq.records import Format, Parcel, cut, cut_bytes, fit_messages

ATTRIBUTE_ROOM: Final = 4 * KIB
"""Bytes of a message that its attributes may take: those that it gets here, and what later steps add to them."""
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES - ATTRIBUTE_ROOM


def cut_for_messages(entries: Readable | bytes, fmt: Format, parcel_size: int, max_bytes: int) -> Iterator[Parcel]:
    """Cut entries that were checked before into parcels that each fit into a message of `max_bytes`.

    Only an entry that alone is too large for a message makes a larger parcel. See `records.cut`.
    """
    if isinstance(entries, bytes):
        parcels = cut_bytes(entries, fmt, parcel_size, max_bytes)
    else:
        parcels = cut(entries, fmt, parcel_size, max_bytes, strict=False)
    return fit_for_messages(parcels, fmt, max_bytes)


def fit_for_messages(parcels: Iterator[Parcel], fmt: Format, max_bytes: int) -> Iterator[Parcel]:
    """Cut those parcels again that do not fit into a message of `max_bytes` as base64, where they need that."""
    return fit_messages(parcels, fmt, max_bytes, is_legal)
