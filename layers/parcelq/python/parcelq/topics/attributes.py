"""The attributes of messages: their names, their types, and the bytes that they take."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final, Self

from parcelq.errors import InvalidValueError, MessageError
from parcelq.records import LINES, Format, parse

SOURCE: Final = "Source"
"""The put that the entries came from."""
LINEAGE: Final = "Lineage"
"""Which bytes of the source the message stands for."""
ENTRIES: Final = "Entries"
"""How many entries the body has; on a tombstone, how many are dead."""
ENCODING: Final = "Encoding"
"""How to decode the body: `base64`."""
WORKFLOW: Final = "Workflow"
"""The workflow's name and version, or the workflow id of the built-in step."""
DEAD: Final = "Dead"
"""On tombstones: why the entries failed for good."""
FAILURES: Final = "Failures"
"""How many runs of the message failed."""
FIRST: Final = "First"
"""Record and line number of the message's first entry, from 1; with `+`, counted from the start of its range."""
FORMAT: Final = "Format"
"""The record format of the body, if it is not lines."""
HEADER: Final = "Header"
"""The header of the body's records, in base64, or the key of an object that has it."""
REASON: Final = "Reason"
"""On dead letters: why the message failed."""
FAILURE: Final = "Failure"
"""On dead letters: JSON with the step, when it failed, how many runs did, and the number of the first entry."""
SIZE_ELSEWHERE: Final = "ExtendedPayloadSize"
"""The body is a pointer to S3, as in the Amazon SQS Extended Client Library; its size there in bytes."""
OLD_SIZE_ELSEWHERE: Final = "SQSLargePayloadSize"
"""The same, from older versions of that library."""
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
only they have the last two."""
_STRING: Final = "String"
_NUMBER: Final = "Number"
_BINARY: Final = "Binary"
_NUMBERS: Final = frozenset({ENTRIES, SIZE_ELSEWHERE, FAILURES})
_COUNT: Final = re.compile("[0-9]{1,18}")


class TypedValue(str):
    """An attribute's value of another type than Parcelq gives to it, such as `Number.float` or `Binary`.

    It is text like any other value: of a binary one the base64. Published again, it keeps its type and its bytes.
    """

    __slots__ = ("data_type",)
    data_type: str

    def __new__(cls, value: str, data_type: str = "String") -> Self:
        """Create a value; of a type that begins with `Binary` from base64."""
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
    """Return the record format that attributes name; lines where they name none.

    Raises:
        MessageError: `Format` is no format.
    """
    text = attributes.get(FORMAT)
    if text is None:
        return LINES
    try:
        return parse(text)
    except InvalidValueError as error:
        raise MessageError(f"the message's record format cannot be read: {error}") from None


def count_told(text: str) -> int | None:
    """An attribute's value as a number; None if it is not a number, or absurdly large."""
    return int(text) if _COUNT.fullmatch(text) else None


def attributes_size(attributes: Mapping[str, str]) -> int:
    """Bytes that SQS counts for attributes: their names, types and values, in UTF-8."""
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
    """An attribute as a SendMessage request has it."""
    if not isinstance(value, TypedValue):
        return {"DataType": _NUMBER if name in _NUMBERS else _STRING, "StringValue": value}
    if value.is_binary:
        return {"DataType": value.data_type, "BinaryValue": value.data}
    return {"DataType": value.data_type, "StringValue": str(value)}


def received(name: str, data_type: str | None, text: str | None, data: bytes | str | None) -> str:
    """An attribute's value as it came: from ReceiveMessage with bytes as they are, from a Lambda event with base64."""
    if data is not None and (text is None or (data_type or "").startswith(_BINARY)):
        return TypedValue(data if isinstance(data, str) else base64.b64encode(data).decode(), data_type or _BINARY)
    if data_type in {None, _NUMBER if name in _NUMBERS else _STRING}:
        return text or ""
    return TypedValue(text or "", data_type or _STRING)
