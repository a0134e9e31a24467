"""Re-parcelling: cutting one message into smaller ones, each with its part of the lineage. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
        failures: how many failed runs the parcels count as having.
    """
    before = 0
    room = MAX_BODY_BYTES - len(work.message.attributes.get(HEADER, ""))
    for parcel in cut_for_messages(BytesIO(work.message.body), work.format, size, room):
        yield part_of(work, parcel.start, parcel.end, parcel.entries, before, failures).message
        before += parcel.entries


def part_of(work: Work, start: int, end: int, entries: int, before: int, failures: int = 0) -> Work:
    """A part of a message as a message of its own.

    Args:
        work: the message.
        start: where the part begins in the body, in bytes.
        end: where it ends.
        entries: how many entries it has.
        before: how many entries of the message come before it.
        failures: how many failed runs it counts as having.
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
    return work._replace(message=message, lineage=lineage, entries=entries, failures=failures)


def moved_on(first: str, records: int, lines: int) -> str | None:
    """The attribute `First` of a message that begins some records and lines later; None if the text is not valid."""
    found = _FIRST.fullmatch(first)
    return f"{found[1]}{int(found[2]) + records},{int(found[3]) + lines}" if found else None
