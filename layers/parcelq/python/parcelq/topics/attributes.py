"""The attributes of messages: names, types and sizes of attributes."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final, Self

from parcelq.errors import InvalidValueError, MessageError
from parcelq.records import LINES, Format, parse

SOURCE: Final = "Source"
"""Names the file that the message's entries came from, and the put (the upload to S3) of that file."""
LINEAGE: Final = "Lineage"
"""The message's lineage: which bytes of the source the message was made from."""
ENTRIES: Final = "Entries"
"""How many entries the message's body has, or how many dead entries a tombstone reports."""
ENCODING: Final = "Encoding"
"""The encoding of the message's body: always `base64`; absent if the body is text."""
WORKFLOW: Final = "Workflow"
"""The name and version of the message's workflow, or the workflow id of the built-in step."""
DEAD: Final = "Dead"
"""Only on tombstones: the reason why the entries failed for good."""
FAILURES: Final = "Failures"
"""How many runs of a step over the message have failed."""
FIRST: Final = "First"
"""The record and line number of the message's first entry, from 1; a `+` means: counted from the start of its range."""
FORMAT: Final = "Format"
"""The record format of the message's body; absent if the records are lines."""
HEADER: Final = "Header"
"""The header of the body's records, in base64, or the key of an object that contains it."""
REASON: Final = "Reason"
"""Only on dead letters: the reason why the message failed."""
FAILURE: Final = "Failure"
"""Only on dead letters: JSON with the step, the time of the failure, the number of failed runs, and the number of the
first entry.
"""
SIZE_ELSEWHERE: Final = "ExtendedPayloadSize"
"""Says that the body is a pointer to S3, as in the Amazon SQS Extended Client Library. The value is the size in bytes
of the real body in S3.
"""
OLD_SIZE_ELSEWHERE: Final = "SQSLargePayloadSize"
"""The name of `SIZE_ELSEWHERE` in older versions of that library."""
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
"""The names of Parcelq's attributes. No message has more than ten of them: dead letters have neither `First` nor
`Failures`, and only dead letters have `Reason` and `Failure`.
"""
_STRING: Final = "String"
_NUMBER: Final = "Number"
_BINARY: Final = "Binary"
_NUMBERS: Final = frozenset({ENTRIES, SIZE_ELSEWHERE, FAILURES})
_COUNT: Final = re.compile("[0-9]{1,18}")


class TypedValue(str):
    """An attribute's value with another type than Parcelq gives this attribute, such as `Number.float` or `Binary`.

    This object is text like any other value; for a binary value, the text is base64. If a message with the value is
    published again, the value keeps its type and its bytes.
    """

    __slots__ = ("data_type",)
    data_type: str

    def __new__(cls, value: str, data_type: str = "String") -> Self:
        """Create a value from text, or from base64 if the type begins with `Binary`."""
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
    """Return the record format of a message, by default lines. Raises MessageError if the attribute `Format` is
    invalid.
    """
    text = attributes.get(FORMAT)
    if text is None:
        return LINES
    try:
        return parse(text)
    except InvalidValueError as error:
        raise MessageError(f"the message's record format cannot be read: {error}") from None


def parse_count(text: str) -> int | None:
    """Return an attribute's value as a number; None if it is not a number or is too large."""
    return int(text) if _COUNT.fullmatch(text) else None


def attributes_size(attributes: Mapping[str, str]) -> int:
    """Return the size of attributes as SQS counts it: the bytes of all names, types and values in UTF-8."""
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
    """Return an attribute's value from a received message. ReceiveMessage gives binary data as bytes, and Lambda as
    base64.
    """
    if data is not None and (text is None or (data_type or "").startswith(_BINARY)):
        return TypedValue(data if isinstance(data, str) else base64.b64encode(data).decode(), data_type or _BINARY)
    if data_type in {None, _NUMBER if name in _NUMBERS else _STRING}:
        return text or ""
    return TypedValue(text or "", data_type or _STRING)
