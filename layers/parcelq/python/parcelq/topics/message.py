"""Messages: what a parcel looks like on the wire, and how it is decoded.

A body is a slice of a file, as it is. Only a slice that SQS would refuse (NUL, invalid UTF-8, …) travels as base64.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from parcelq.aws.text import legal_text
from parcelq.errors import InvalidValueError, MessageError
from parcelq.limits import MAX_ATTRIBUTES
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
BASE64: Final = "base64"

NO_BYTES: Final = "\n"
"""The body of a message that has none (`Entries` is 0, or it is a tombstone), because SQS refuses an empty one."""

_OWN: Final = (
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

    Attributes:
        data_type: the type, as SQS calls it.
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


def count_entries(data: bytes, fmt: Format = LINES) -> int:
    """Count the entries in a slice of a file, whether or not the last one is ended."""
    return fmt.count(data)


def count_told(text: str) -> int | None:
    """An attribute's value as a number; None if it is not a number, or absurdly large."""
    return int(text) if _COUNT.fullmatch(text) else None


@dataclass(frozen=True, slots=True)
class Message:
    r"""A parcel that is to be published: a slice of a file, and what is said about it.

    Attributes:
        body: the entries, each ended by `\n`; the very last of a source may lack it.
        attributes: name to value, without `Encoding`, which follows from the body.
    """

    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """How many entries the body has: the attribute `Entries`, or else counted. Raises MessageError."""
        told = count_told(self.attributes.get(ENTRIES, ""))
        return format_of(self.attributes).count(self.body) if told is None else told

    def wire(self) -> Wire:
        """This message as SQS gets it."""
        if not self.body:
            return Wire(NO_BYTES, {ENTRIES: "0", **self.attributes})
        text = legal_text(self.body)
        # A dead empty line is not a missing body, and neither is a header that is an empty line.
        if text is None or (text == NO_BYTES and (DEAD in self.attributes or self.attributes.get(ENTRIES) == "0")):
            return Wire(base64.b64encode(self.body).decode("ascii"), {**self.attributes, ENCODING: BASE64})
        return Wire(text, self.attributes)


@dataclass(frozen=True, slots=True)
class Wire:
    """A message as it travels: text that SQS takes, and string attributes."""

    text: str
    attributes: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes that SQS counts: the body's, and the name, type and value of every attribute, in UTF-8."""
        text = self.text
        size = len(text) if text.isascii() else len(text.encode())
        return size + attributes_size(self.attributes)

    @property
    def is_pointer(self) -> bool:
        """Whether the text is not the body but tells where in S3 it lies."""
        return SIZE_ELSEWHERE in self.attributes or OLD_SIZE_ELSEWHERE in self.attributes

    @property
    def has_no_body(self) -> bool:
        """Whether the text stands for no bytes at all."""
        return self.text == NO_BYTES and (DEAD in self.attributes or self.attributes.get(ENTRIES) == "0")

    def request(self) -> dict[str, Any]:
        """The members of a SendMessage request that say what is sent."""
        attributes = {name: _typed(name, value) for name, value in self.attributes.items()}
        return {"MessageBody": self.text, "MessageAttributes": attributes}

    def body(self) -> bytes:
        """The bytes that this stands for.

        Raises:
            MessageError: the encoding is unknown, or the text is not in it, or it is only a pointer to S3.
        """
        if self.is_pointer:
            raise MessageError("the body lies in S3, and was not loaded from there")
        if self.has_no_body:
            return b""
        encoding = self.attributes.get(ENCODING)
        if encoding is None:
            return self.text.encode()
        if encoding != BASE64:
            raise MessageError(f"Encoding is {encoding!r}, but must be {BASE64!r} or absent")
        try:
            return base64.b64decode(self.text, validate=True)
        except ValueError as error:
            raise MessageError(f"the body is not the base64 that its Encoding says: {error}") from None


@dataclass(frozen=True, slots=True)
class Pulled:
    """A message that was pulled and is locked until its acknowledgement deadline.

    Attributes:
        message_id: SQS's name for it; the same at every delivery.
        receipt_handle: what acknowledges this delivery of it.
        receive_count: how often it was pulled so far, this time included, and before it was published again.
        content: what was pulled: as it travelled, or the message itself where it never left this process.
        sent: when it was published, in seconds of the epoch; 0 if that is not known.
    """

    message_id: str
    receipt_handle: str
    receive_count: int
    content: Wire | Message
    sent: float = 0.0

    @classmethod
    def from_sqs(cls, raw: Mapping[str, Any]) -> Pulled:
        """From a message of ReceiveMessage's reply."""
        attributes = {
            name: _value(name, value.get("DataType"), value.get("StringValue"), value.get("BinaryValue"))
            for name, value in raw.get("MessageAttributes", {}).items()
        }
        told = raw.get("Attributes", {})
        count = int(told.get("ApproximateReceiveCount", 1))
        sent = int(told.get("SentTimestamp", 0)) / 1000
        return cls(raw["MessageId"], raw["ReceiptHandle"], count, Wire(raw["Body"], attributes), sent)

    @classmethod
    def from_lambda(cls, record: Mapping[str, Any]) -> Pulled:
        """From a record of the event that an SQS event source mapping gives to a Lambda."""
        attributes = {
            name: _value(name, value.get("dataType"), value.get("stringValue"), value.get("binaryValue"))
            for name, value in record.get("messageAttributes", {}).items()
        }
        told = record.get("attributes", {})
        count = int(told.get("ApproximateReceiveCount", 1))
        sent = int(told.get("SentTimestamp", 0)) / 1000
        return cls(record["messageId"], record["receiptHandle"], count, Wire(record["body"], attributes), sent)

    @property
    def attributes(self) -> Mapping[str, str]:
        """The message's attributes, as they were sent."""
        return self.content.attributes

    @property
    def wire(self) -> Wire:
        """What was pulled, as it travels over SQS."""
        return self.content.wire() if isinstance(self.content, Message) else self.content

    @property
    def size(self) -> int:
        """Bytes of memory that the body and the attributes take, about."""
        body = self.content.body if isinstance(self.content, Message) else self.content.text
        return len(body) + attributes_size(self.content.attributes)

    def receipt(self) -> Pulled:
        """The same without its content: enough to acknowledge it and to refresh its deadline."""
        return replace(self, content=_NOTHING)

    def message(self) -> Message:
        """What was published, decoded.

        Raises:
            MessageError: the body cannot be decoded.
        """
        if isinstance(self.content, Message):
            return self.content
        attributes = {name: value for name, value in self.attributes.items() if name != ENCODING}
        return Message(self.content.body(), attributes)

    def as_it_is(self) -> Message:
        """The message without decoding its body; publishing it again gives the same message."""
        if isinstance(self.content, Message):
            return self.content
        return Message(b"" if self.content.has_no_body else self.content.text.encode(), self.attributes)


_NOTHING: Final = Wire("", {})


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


def _typed(name: str, value: str) -> dict[str, Any]:
    if not isinstance(value, TypedValue):
        return {"DataType": _NUMBER if name in _NUMBERS else _STRING, "StringValue": value}
    if value.is_binary:
        return {"DataType": value.data_type, "BinaryValue": value.data}
    return {"DataType": value.data_type, "StringValue": str(value)}


def _value(name: str, data_type: str | None, text: str | None, data: bytes | str | None) -> str:
    """An attribute's value as it came: from ReceiveMessage with bytes as they are, from a Lambda event with base64."""
    if data is not None and (text is None or (data_type or "").startswith(_BINARY)):
        return TypedValue(data if isinstance(data, str) else base64.b64encode(data).decode(), data_type or _BINARY)
    if data_type in {None, _NUMBER if name in _NUMBERS else _STRING}:
        return text or ""
    return TypedValue(text or "", data_type or _STRING)


def with_attributes(message: Message, **changed: str | None) -> Message:
    """A copy with these attributes set, or removed if the value is None.

    If SQS would refuse that many attributes, those that are not Parcelq's are dropped, with room for those that
    publishing may add.
    """
    kept = {name: value for name, value in message.attributes.items() if name not in changed}
    added = {name: value for name, value in changed.items() if value is not None}
    own: dict[str, str] = {name: kept[name] for name in _OWN if name in kept}
    travel = {ENCODING, SIZE_ELSEWHERE} - own.keys()
    room = max(0, MAX_ATTRIBUTES - len(own) - len(added) - len(travel))
    # guard[foreign = [name for name in kept if name not in own]]: attributes of others give way where a message has no
    # room for all
    foreign = [name for name in kept if name not in own][:room]
    return replace(message, attributes={**own, **{name: kept[name] for name in foreign}, **added})
