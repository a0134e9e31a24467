"""The attributes of messages: their names, their types, and their sizes."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final, Self

from parcelq.errors import InvalidValueError, MessageError
from parcelq.records import LINES, Format, parse

SOURCE: Final = "Source"
"""The put of the file that the entries came from."""
LINEAGE: Final = "Lineage"
"""The lineage: which bytes of the source the message was made from."""
ENTRIES: Final = "Entries"
"""Number of entries in the body; on a tombstone, the number of dead entries."""
ENCODING: Final = "Encoding"
"""The encoding of the body: `base64`."""
WORKFLOW: Final = "Workflow"
"""The workflow's name and version, or the workflow id of the built-in step."""
DEAD: Final = "Dead"
"""On tombstones: why the entries failed for good."""
FAILURES: Final = "Failures"
"""Number of failed runs of the message."""
FIRST: Final = "First"
"""Record and line number of the message's first entry, from 1; with `+`, counted from the start of its range."""
FORMAT: Final = "Format"
"""The record format of the body, if it is not lines."""
HEADER: Final = "Header"
"""The header of the body's records, in base64, or the key of an object that contains it."""
REASON: Final = "Reason"
"""On dead letters: why the message failed."""
FAILURE: Final = "Failure"
"""On dead letters: JSON with the step, the time of the failure, the number of failed runs, and the number of the first
entry.
"""
SIZE_ELSEWHERE: Final = "ExtendedPayloadSize"
"""Says that the body is a pointer to S3, as in the Amazon SQS Extended Client Library; the value is its size there in
bytes.
"""
OLD_SIZE_ELSEWHERE: Final = "SQSLargePayloadSize"
"""The same attribute in older versions of that library."""
OWN: Final = (
    SOURCE,
    LINEAGE,
    ENTRIES,
    ENCODING,
    SIZE_ELSEWHERE,
    WORKFLOW,
    FORMAT,
    HEADER,
    FIRST,
    FAILURES,
    REASON,
    FAILURE,
)
"""Parcelq's attributes. No message has more than ten of them: dead letters have neither `First` nor `Failures`, and
only they have the last two.
"""
_STRING: Final = "String"
_NUMBER: Final = "Number"
_BINARY: Final = "Binary"
_NUMBERS: Final = frozenset({ENTRIES, SIZE_ELSEWHERE, FAILURES})
_COUNT: Final = re.compile("[0-9]{1,18}")


class TypedValue(str):
    """An attribute's value with a type that Parcelq does not use, such as `Number.float` or `Binary`.

    It is text like any other value; for a binary value, its base64. If published again, it keeps its type and its
    bytes.
    """

    __slots__ = ("data_type",)
    data_type: str

    def __new__(cls, value: str, data_type: str = "String") -> Self:
        """Create a value; if its type begins with `Binary`, from base64."""
        made = super().__new__(cls, value)
        made.data_type = data_type
        return made

    @property
    def is_binary(self) -> bool:
        """Whether the value is bytes."""
        return self.data_type.startswith(_BINARY)

    @property
    def data(self) -> bytes:
        """The bytes of a binary value."""
        return base64.b64decode(self)


def format_of(attributes: Mapping[str, str]) -> Format:
    """Return the record format that attributes name; lines by default.

    Raises:
        MessageError: `Format` is invalid.
    """
    text = attributes.get(FORMAT)
    if text is None:
        return LINES
    try:
        return parse(text)
    except InvalidValueError as error:
        raise MessageError(f"the message's record format cannot be read: {error}") from None


def count_told(text: str) -> int | None:
    """Return an attribute's value as a number; None if it is not a number or is too large."""
    return int(text) if _COUNT.fullmatch(text) else None


def attributes_size(attributes: Mapping[str, str]) -> int:
    """Return the bytes that SQS counts for attributes: their names, types and values, in UTF-8."""
    size = 0
    for name, value in attributes.items():
        size += len(name) if name.isascii() else len(name.encode())
        if isinstance(value, TypedValue):
            size += len(value.data_type) + (len(value.data) if value.is_binary else len(value.encode()))
        else:
            size += len(_NUMBER if name in _NUMBERS else _STRING)
            size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return size


def typed(name: str, value: str) -> dict[str, Any]:
    """Return an attribute in the form of a SendMessage request."""
    if not isinstance(value, TypedValue):
        return {"DataType": _NUMBER if name in _NUMBERS else _STRING, "StringValue": value}
    if value.is_binary:
        return {"DataType": value.data_type, "BinaryValue": value.data}
    return {"DataType": value.data_type, "StringValue": str(value)}


def received(name: str, data_type: str | None, text: str | None, data: bytes | str | None) -> str:
    """Return an attribute's value from a received message: ReceiveMessage has bytes, a Lambda event has base64."""
    if data is not None and (text is None or (data_type or "").startswith(_BINARY)):
        return TypedValue(data if isinstance(data, str) else base64.b64encode(data).decode(), data_type or _BINARY)
    if data_type in {None, _NUMBER if name in _NUMBERS else _STRING}:
        return text or ""
    return TypedValue(text or "", data_type or _STRING)
