"""Messages: encodes parcels for SQS, and decodes them.

A message's body is an unchanged slice of a file, or the slice in base64 if SQS would refuse the slice as text.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from parcelq.aws.replies import incomplete
from parcelq.aws.text import legal_text
from parcelq.errors import InvalidValueError, MessageError
from parcelq.limits import MAX_ATTRIBUTES
from parcelq.topics.attributes import (
    DEAD,
    ENCODING,
    ENTRIES,
    OLD_SIZE_ELSEWHERE,
    OWN,
    SIZE_ELSEWHERE,
    attributes_size,
    format_of,
    parse_count,
    received,
    typed,
)

BASE64: Final = "base64"

NO_BYTES: Final = "\n"
"""The body on the wire if a message has an empty body (`Entries` is 0, or a tombstone). SQS refuses empty bodies."""


@dataclass(frozen=True, slots=True)
class Message:
    r"""A message to publish: a slice of a file, with attributes that describe it.

    Attributes:
        body: the entries, each ended by `\n`; only the last entry of a source may lack the `\n`.
        attributes: maps the names of attributes to their values, without the attribute `Encoding`, which follows from
            the body.
    """

    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """The number of entries, by `Entries` or counted. Raises MessageError if the attribute `Format` is invalid."""
        count = parse_count(self.attributes.get(ENTRIES, ""))
        return format_of(self.attributes).count(self.body) if count is None else count

    def wire(self) -> Wire:
        """The encoded message for SQS."""
        if not self.body:
            return Wire(NO_BYTES, {ENTRIES: "0", **self.attributes})
        text = legal_text(self.body)
        # A body that is a dead empty line, or a header that is an empty line, is not a missing body.
        if text is None or (text == NO_BYTES and (DEAD in self.attributes or self.attributes.get(ENTRIES) == "0")):
            return Wire(base64.b64encode(self.body).decode("ascii"), {**self.attributes, ENCODING: BASE64})
        return Wire(text, self.attributes)


class Wire(NamedTuple):
    """An encoded message: text that SQS accepts, and string attributes."""

    text: str
    attributes: Mapping[str, str]

    @property
    def size(self) -> int:
        """The message's size as SQS counts it: the body, and the name, type and value of every attribute, in UTF-8."""
        text = self.text
        size = len(text) if text.isascii() else len(text.encode())
        return size + attributes_size(self.attributes)

    @property
    def is_pointer(self) -> bool:
        """Whether the text is a pointer to the body in S3."""
        return SIZE_ELSEWHERE in self.attributes or OLD_SIZE_ELSEWHERE in self.attributes

    @property
    def has_no_body(self) -> bool:
        """Whether the text represents an empty body."""
        return self.text == NO_BYTES and (DEAD in self.attributes or self.attributes.get(ENTRIES) == "0")

    def request(self) -> dict[str, Any]:
        """The members of a SendMessage request that contain the body and the attributes."""
        attributes = {name: typed(name, value) for name, value in self.attributes.items()}
        return {"MessageBody": self.text, "MessageAttributes": attributes}

    def body(self) -> bytes:
        """Return the decoded body. Raises MessageError if it cannot be decoded, or if the text is a pointer to S3."""
        if self.is_pointer:
            raise MessageError("the body is in S3, and was not loaded from there")
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
            raise MessageError(f"the body is not base64, although its Encoding says so: {error}") from None


class Pulled(NamedTuple):
    """A message that was pulled and is locked until its acknowledgement deadline.

    Attributes:
        message_id: the id that SQS gave the message, which is the same in every delivery.
        receive_count: how often the message was pulled, including this time. If a message is published again, the count
            begins anew.
        content: the encoded message, or the `Message` itself if the message never left this process.
        sent: when the message was published, in seconds since the epoch; 0 if unknown.
    """

    message_id: str
    receipt_handle: str
    receive_count: int
    content: Wire | Message
    sent: float = 0.0

    @classmethod
    def from_sqs(cls, raw: Mapping[str, Any]) -> Pulled:
        """Create a pulled message from a message of ReceiveMessage's reply."""
        attributes = {
            name: received(name, value.get("DataType"), value.get("StringValue"), value.get("BinaryValue"))
            for name, value in raw.get("MessageAttributes", {}).items()
        }
        system = raw.get("Attributes", {})
        count = parse_count(system.get("ApproximateReceiveCount", "1"))
        sent = parse_count(system.get("SentTimestamp", "0"))
        if count is None or sent is None:
            raise incomplete("ReceiveMessage", f"the attributes of a message are not numbers: {system!r}")
        return cls(raw["MessageId"], raw["ReceiptHandle"], count, Wire(raw["Body"], attributes), sent / 1000)

    @classmethod
    def from_lambda(cls, record: Mapping[str, Any]) -> Pulled:
        """Create a pulled message from an item of an SQS event, in which all names of members begin in lower case.
        Raises InvalidValueError if the item is not a message.
        """
        try:
            attributes = {name: _capitalised(value) for name, value in record.get("messageAttributes", {}).items()}
            return cls.from_sqs({**_capitalised(record), "MessageAttributes": attributes})
        except (AttributeError, KeyError, TypeError) as error:
            wanted = f"a message as SQS sends it to a function ({type(error).__name__}: {error})"
            raise InvalidValueError("record of the event", str(record)[:300], wanted) from None

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that the sender of the message set."""
        return self.content.attributes

    @property
    def wire(self) -> Wire:
        """The encoded message."""
        return self.content.wire() if isinstance(self.content, Message) else self.content

    @property
    def size(self) -> int:
        """The approximate bytes of memory that the body and the attributes take."""
        body = self.content.body if isinstance(self.content, Message) else self.content.text
        return len(body) + attributes_size(self.content.attributes)

    def receipt(self) -> Pulled:
        """Return a copy without content, which suffices to acknowledge the message and to renew its deadline."""
        return self._replace(content=_NOTHING)

    def message(self) -> Message:
        """Return the decoded message. Raises MessageError if the body cannot be decoded."""
        if isinstance(self.content, Message):
            return self.content
        attributes = {name: value for name, value in self.attributes.items() if name != ENCODING}
        return Message(self.content.body(), attributes)

    def as_it_is(self) -> Message:
        """The message with its encoded body; publishing this message again gives the same message."""
        if isinstance(self.content, Message):
            return self.content
        return Message(b"" if self.content.has_no_body else self.content.text.encode(), self.attributes)


_NOTHING: Final = Wire("", {})


def _capitalised(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name[0].upper() + name[1:]: value for name, value in members.items()}


def with_attributes(message: Message, **changed: str | None) -> Message:
    """Return a copy of a message with some attributes changed; None removes an attribute.

    Attributes of others are dropped if SQS does not allow so many. Publishing may add attributes, so some room is left.
    """
    kept = {name: value for name, value in message.attributes.items() if name not in changed}
    added = {name: value for name, value in changed.items() if value is not None}
    own: dict[str, str] = {name: kept[name] for name in OWN if name in kept}
    travel = {ENCODING, SIZE_ELSEWHERE} - own.keys()
    room = max(0, MAX_ATTRIBUTES - len(own) - len(added) - len(travel))
    # guard[foreign = [name for name in kept if name not in own]]: attributes of others give way where a message has no
    # room for all
    foreign = [name for name in kept if name not in own][:room]
    return replace(message, attributes={**own, **{name: kept[name] for name in foreign}, **added})
