"""Re-parcelling: cuts a message into smaller ones, each with its part of the lineage. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Final

from parcelq.process.plan import Work
from parcelq.topics.attributes import ENTRIES, FAILURES, FIRST, HEADER, LINEAGE
from parcelq.topics.message import Message, with_attributes
from parcelq.upload.parcels import MAX_BODY_BYTES, cut_for_messages

_FIRST: Final = re.compile(r"(\+?)([0-9]{1,18}),([0-9]{1,18})")


def parts_of_message(work: Work, size: int, failures: int) -> Iterator[Message]:
    """Cut a message into parcels.

    Args:
        work: the message.
        size: most entries of each parcel.
        failures: number of failed runs that the parcels start with.
    """
    before = 0
    room = MAX_BODY_BYTES - len(work.message.attributes.get(HEADER, ""))
    for parcel in cut_for_messages(BytesIO(work.message.body), work.format, size, room):
        yield part_of(work, parcel.start, parcel.end, parcel.entries, before, failures).message
        before += parcel.entries


def part_of(work: Work, start: int, end: int, entries: int, before: int, failures: int = 0) -> Work:
    """Return a part of a message as a message of its own.

    Args:
        work: the message.
        start: offset of the part in the body.
        end: offset just after the part.
        entries: its number of entries.
        before: number of the message's entries before it.
        failures: number of failed runs that it starts with.
    """
    body = work.message.body
    lineage = work.lineage.cut(start, end) if work.lineage else None
    first = work.message.attributes.get(FIRST)
    if first is not None:
        first = moved_on(first, before, body.count(b"\n", 0, start))
    own = {
        LINEAGE: str(lineage) if lineage else None,
        ENTRIES: str(entries),
        FIRST: first,
        FAILURES: str(failures) if failures else None,
    }
    message = with_attributes(Message(body[start:end], work.message.attributes), **own)
    return replace(work, message=message, lineage=lineage, entries=entries, failures=failures)


def moved_on(first: str, records: int, lines: int) -> str | None:
    """Return the attribute `First` of a part that begins some records and lines later; None if the text is invalid."""
    found = _FIRST.fullmatch(first)
    return f"{found[1]}{int(found[2]) + records},{int(found[3]) + lines}" if found else None
