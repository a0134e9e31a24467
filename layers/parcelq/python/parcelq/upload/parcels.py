"""Cuts parcels that fit into messages, and describes the layout of a source: its record format and its header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Self

from parcelq.aws.text import is_legal
from parcelq.limits import KIB, MAX_MESSAGE_BYTES
from parcelq.readable import Readable
from parcelq.records import LINES, Format, Parcel, cut, cut_bytes, fit_messages
from parcelq.topics.attributes import FIRST, FORMAT, HEADER, WORKFLOW

ATTRIBUTE_ROOM: Final = 4 * KIB
"""How many bytes of a message are reserved for attributes: those set here, and attributes that later steps add."""
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES - ATTRIBUTE_ROOM


class Layout(NamedTuple):
    """The layout of a source, or of a part of a source.

    Attributes:
        header: the header to publish before the entries; empty if there is none to publish.
        attribute: the attribute `Header` of messages with entries; empty if the source has no header.
        line: the number of the first entry's first line, if the layout is about the first entries of the source; None
            if records and lines are counted from the start of a range.
        numbered: whether messages carry the numbers of their first record and line.
        workflow: the attribute `Workflow`; empty for the built-in step.
    """

    format: Format = LINES
    header: bytes = b""
    attribute: str = ""
    line: int | None = 1
    numbered: bool = True
    workflow: str = ""

    @classmethod
    def of_source(cls, fmt: Format, header: bytes, attribute: str, workflow: str = "") -> Self:
        """Return the layout of a whole source that begins with `header`."""
        return cls(fmt, header, attribute, 1 + header.count(b"\n"), workflow=workflow)

    @property
    def room(self) -> int:
        """How many bytes the body of a message with entries may have, at most."""
        return MAX_BODY_BYTES - len(self.attribute)

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that all messages with entries get."""
        header = {HEADER: self.attribute} if self.attribute else {}
        return {**self.attributes_of_header, **header}

    @property
    def attributes_of_header(self) -> Mapping[str, str]:
        """The attributes that the message with the header as its body gets."""
        workflow = {WORKFLOW: self.workflow} if self.workflow else {}
        return workflow if self.format == LINES else {**workflow, FORMAT: str(self.format)}

    def header_parcel(self, start: int) -> Iterator[Parcel]:
        """Yield the header as a parcel without entries, if the header must be published."""
        if self.header:
            yield Parcel(start, self.header, 0)

    def first(self, parcel: Parcel) -> dict[str, str]:
        """Return the attribute `First` of the message that contains a parcel."""
        sign = "+" if self.line is None else ""
        return {FIRST: f"{sign}{parcel.record},{parcel.line}"} if self.numbered else {}


LINES_ONLY: Final = Layout()


def cut_for_messages(entries: Readable | bytes, fmt: Format, parcel_size: int, max_bytes: int) -> Iterator[Parcel]:
    """Cut checked entries into parcels that each fit into a message of `max_bytes`.

    A parcel is larger only if it consists of a single entry that is too large for a message. See `records.cut`.
    """
    if isinstance(entries, bytes):
        parcels = cut_bytes(entries, fmt, parcel_size, max_bytes)
    else:
        parcels = cut(entries, fmt, parcel_size, max_bytes, strict=False)
    return fit_messages(parcels, fmt, max_bytes, is_legal)
