"""Messages: what a parcel looks like on the wire, and how it is decoded.

A body is a slice of a file, as it is. Only a slice that SQS would refuse (NUL, invalid UTF-8, …) travels as base64.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from parcelq.aws.text import legal_text
from parcelq.errors import MessageError
from parcelq.limits import MAX_ATTRIBUTES
from parcelq.topics.attributes import (
    DEAD,
    ENCODING,
    ENTRIES,
    OLD_SIZE_ELSEWHERE,
    OWN,
    SIZE_ELSEWHERE,
    attributes_size,
    count_told,
    format_of,
    received,
    typed,
)

BASE64: Final = "base64"

NO_BYTES: Final = "\n"
"""The body of a message that has none (`Entries` is 0, or it is a tombstone), because SQS refuses an empty one."""


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


class Wire(NamedTuple):
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
        attributes = {name: typed(name, value) for name, value in self.attributes.items()}
        return {"MessageBody": self.text, "MessageAttributes": attributes}

    def body(self) -> bytes:
        """The bytes that this stands for.

        Raises:
            MessageError: the encoding is unknown, or the text is not in it, or it is only a pointer to S3.
        """
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
            raise MessageError(f"the body is not the base64 that its Encoding says: {error}") from None


class Pulled(NamedTuple):
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
            name: received(name, value.get("DataType"), value.get("StringValue"), value.get("BinaryValue"))
            for name, value in raw.get("MessageAttributes", {}).items()
        }
        return cls._of(raw["MessageId"], raw["ReceiptHandle"], raw["Body"], attributes, raw.get("Attributes", {}))

    @classmethod
    def from_lambda(cls, record: Mapping[str, Any]) -> Pulled:
        """From a record of the event that an SQS event source mapping gives to a Lambda."""
        attributes = {
            name: received(name, value.get("dataType"), value.get("stringValue"), value.get("binaryValue"))
            for name, value in record.get("messageAttributes", {}).items()
        }
        system = record.get("attributes", {})
        return cls._of(record["messageId"], record["receiptHandle"], record["body"], attributes, system)

    @classmethod
    def _of(
        cls, message_id: str, receipt: str, text: str, attributes: Mapping[str, str], system: Mapping[str, str]
    ) -> Pulled:
        count, sent = int(system.get("ApproximateReceiveCount", 1)), int(system.get("SentTimestamp", 0)) / 1000
        return cls(message_id, receipt, count, Wire(text, attributes), sent)

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
        return self._replace(content=_NOTHING)

    def message(self) -> Message:
        """What was published, decoded. Raises MessageError if the body cannot be decoded."""
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


def with_attributes(message: Message, **changed: str | None) -> Message:
    """A copy with these attributes set, or removed if the value is None.

    If SQS would refuse that many attributes, those that are not Parcelq's are dropped, with room for those that
    publishing may add.
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
