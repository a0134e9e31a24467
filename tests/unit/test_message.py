"""The wire: any bytes survive, exactly what SQS refuses travels as base64, and sizes are SQS's."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from parcelq.aws.text import legal_text
from parcelq.errors import InvalidValueError, MessageError
from parcelq.records import LINES
from parcelq.topics.attributes import DEAD, ENCODING, ENTRIES, FORMAT, LINEAGE, SIZE_ELSEWHERE, SOURCE, TypedValue
from parcelq.topics.message import Message, Pulled, Wire, with_attributes

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
SQS_TAKES = [(0x9, 0x9), (0xA, 0xA), (0xD, 0xD), (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)]


def sent(message: Message) -> Pulled:
    """The message as it comes out of SQS again."""
    request = message.wire().request()
    return Pulled.from_sqs(
        {
            "MessageId": "id",
            "ReceiptHandle": "handle",
            "Body": request["MessageBody"],
            "MessageAttributes": request["MessageAttributes"],
        }
    )


def is_legal_by_the_book(code: int) -> bool:
    return any(first <= code <= last for first, last in SQS_TAKES)


@given(st.binary(max_size=300))
@example(b"\n")
@example(b"\x00")
@example("\ufeffa\r\n\U0001f600".encode())
@example("\uffff\n".encode())
def test_a_message_keeps_any_bytes(body):
    message = Message(body, {ENTRIES: str(LINES.count(body)), SOURCE: "s"})
    back = sent(message).message()
    assert back.body == body
    assert back.attributes == message.attributes
    assert back.entries == LINES.count(body)


@given(st.binary(min_size=1, max_size=300))
def test_a_message_keeps_bytes_that_nobody_counted(body):
    assert sent(Message(body)).message() == Message(body)


@given(st.text(max_size=100))
def test_the_wire_form_of_a_message_is_always_one_that_sqs_takes(text):
    wire = Message(text.encode()).wire()
    assert wire.text
    assert all(is_legal_by_the_book(ord(one)) for one in wire.text)


def test_the_legal_characters_are_exactly_those_of_sqs():
    """Every code point there is, and surrogates as the bytes they would be, which are no UTF-8."""
    for block in range(0, 0x110000, 0x100):
        codes = range(block, block + 0x100)
        wanted = [is_legal_by_the_book(code) for code in codes]
        if all(wanted):  # one call for a block that is legal as a whole
            text = "".join(map(chr, codes))
            assert legal_text(text.encode()) == text
        else:
            for code, legal in zip(codes, wanted, strict=True):
                data = chr(code).encode("utf-8", "surrogatepass")
                assert legal_text(data) == (chr(code) if legal else None), hex(code)
                # the same among others, where a search must find it
                assert (legal_text(b"a" + data + "ä".encode()) is not None) == legal, hex(code)


@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"])
def test_bytes_that_are_invalid_utf8_are_no_legal_text(data):
    assert legal_text(data) is None


def test_bodies_that_sqs_takes_travel_as_they_are():
    wire = Message(b"a\tb\r\n\xc3\xa4\n", {ENTRIES: "2"}).wire()
    assert wire == Wire("a\tb\r\nä\n", {ENTRIES: "2"})


def test_bodies_that_sqs_does_not_take_travel_as_base64_and_say_so():
    wire = Message(b"a\0b\n", {ENTRIES: "1"}).wire()
    assert base64.b64decode(wire.text) == b"a\0b\n"
    assert wire.attributes == {ENTRIES: "1", ENCODING: "base64"}


def test_a_message_without_bytes_travels_with_a_body_that_sqs_takes():
    wire = Message(b"", {LINEAGE: "0-0/0"}).wire()
    assert wire.text == "\n"
    assert wire.attributes[ENTRIES] == "0"
    assert wire.body() == b""


def test_a_tombstone_has_no_bytes_whatever_it_says_of_entries():
    back = sent(Message(b"", {ENTRIES: "7", DEAD: "why"})).message()
    assert (back.body, back.entries) == (b"", 7)


def test_a_body_is_never_lost_to_a_wrong_count():
    assert Wire("a\nb\n", {ENTRIES: "0"}).body() == b"a\nb\n"


@pytest.mark.parametrize(
    ("data", "entries"),
    [(b"", 0), (b"\n", 1), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n\n", 2), (b"a\r\nb\r\n", 2), (b"\0\n\0", 2)],
)
def test_entries_are_lines_whether_or_not_the_last_is_ended(data, entries):
    assert LINES.count(data) == entries
    assert Message(data).entries == entries


@pytest.mark.parametrize("told", ["", "-1", "1.5", "many", "٣", "²", " 3", "9" * 5000])
def test_an_invalid_number_of_entries_is_counted_again(told):
    assert Message(b"a\nb\n", {ENTRIES: told}).entries == 2


def test_the_number_of_entries_in_the_attribute_is_believed():
    assert Message(b"a\n", {ENTRIES: "12"}).entries == 12


@given(st.text("aä€😀", max_size=50), st.dictionaries(st.sampled_from([SOURCE, "Other", ENTRIES]), st.text("1ä😀")))
def test_size_is_the_bytes_of_the_body_and_of_each_attributes_name_type_and_value(text, attributes):
    wire = Wire(text, attributes)
    request = wire.request()
    size = len(request["MessageBody"].encode())
    for name, value in request["MessageAttributes"].items():
        size += len(name) + len(value["DataType"]) + len(value["StringValue"].encode())
    assert wire.size == size


def test_attributes_that_are_numbers_are_sent_as_numbers():
    attributes = Wire("x", {ENTRIES: "3", SIZE_ELSEWHERE: "9", SOURCE: "3"}).request()["MessageAttributes"]
    assert {name: one["DataType"] for name, one in attributes.items()} == {
        ENTRIES: "Number",
        SIZE_ELSEWHERE: "Number",
        SOURCE: "String",
    }


@pytest.mark.parametrize("text", ["*", "YQ", "YQ==\n", "ä", "\ud800"])
def test_a_body_that_is_not_its_encoding_is_a_message_error(text):
    with pytest.raises(MessageError, match="base64"):
        Wire(text, {ENCODING: "base64"}).body()


@pytest.mark.parametrize("encoding", ["gzip", "BASE64", " base64"])
def test_an_unknown_encoding_is_a_message_error(encoding):
    with pytest.raises(MessageError, match="Encoding"):
        Wire("YQ==", {ENCODING: encoding}).body()


@pytest.mark.parametrize("mark", ["ExtendedPayloadSize", "SQSLargePayloadSize"])
def test_a_pointer_is_never_taken_for_a_body(mark):
    with pytest.raises(MessageError, match="S3"):
        Wire("[]", {mark: "5"}).body()


def test_a_message_is_read_alike_from_sqs_and_from_a_lambda_event():
    from_sqs = Pulled.from_sqs(
        {
            "MessageId": "id",
            "ReceiptHandle": "handle",
            "Body": "a\n",
            "Attributes": {"ApproximateReceiveCount": "3"},
            "MessageAttributes": {
                ENTRIES: {"DataType": "Number", "StringValue": "1"},
                "Bytes": {"DataType": "Binary", "BinaryValue": b"x"},
            },
        }
    )
    from_lambda = Pulled.from_lambda(
        {
            "messageId": "id",
            "receiptHandle": "handle",
            "body": "a\n",
            "attributes": {"ApproximateReceiveCount": "3"},
            "messageAttributes": {
                ENTRIES: {"dataType": "Number", "stringValue": "1", "stringListValues": [], "binaryListValues": []},
                "Bytes": {"dataType": "Binary", "binaryValue": "eA==", "stringValue": None},
            },
        }
    )
    expected = Pulled("id", "handle", 3, Wire("a\n", {ENTRIES: "1", "Bytes": TypedValue("eA==", "Binary")}))
    assert from_sqs == from_lambda == expected
    assert from_sqs.wire.request() == from_lambda.wire.request() == expected.wire.request()


@pytest.mark.parametrize(
    "given",
    [
        {"DataType": "Binary", "BinaryValue": b"\0\xff"},
        {"DataType": "Binary.png", "BinaryValue": b"x"},
        {"DataType": "Number", "StringValue": "1.5"},
        {"DataType": "Number.int", "StringValue": "5"},
        {"DataType": "String.json", "StringValue": "{}"},
        {"DataType": "String", "StringValue": "text"},
    ],
)
@pytest.mark.parametrize("name", ["Foreign", ENTRIES, SOURCE])
def test_an_attribute_keeps_its_type_and_value_when_it_is_published_again(name, given):
    one = Pulled.from_sqs(
        {"MessageId": "i", "ReceiptHandle": "h", "Body": "b", "MessageAttributes": {name: given, "Other": given}}
    )
    changed = with_attributes(one.message(), Reason="why")
    for message in (one.as_it_is(), changed, pickle.loads(pickle.dumps(changed))):
        assert message.wire().request()["MessageAttributes"][name] == given
        assert isinstance(message.attributes[name], str)
    data = given.get("BinaryValue", given.get("StringValue", "").encode())
    assert one.wire.size == 1 + sum(len(one) + len(given["DataType"]) + len(data) for one in (name, "Other"))


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"messageId": "a"},
        "text",
        None,
        {"messageId": "a", "receiptHandle": "h", "body": "b", "messageAttributes": []},
    ],
)
def test_the_error_about_an_invalid_record_of_an_event_shows_the_record(record: Any) -> None:
    with pytest.raises(InvalidValueError, match="but must be a message as SQS sends it") as error:
        Pulled.from_lambda(record)
    assert str(record)[:20] in str(error.value)


def test_a_message_without_a_receive_count_counts_as_received_once():
    assert sent(Message(b"a")).receive_count == 1
    assert Pulled.from_lambda({"messageId": "i", "receiptHandle": "h", "body": "b"}).receive_count == 1


@pytest.mark.parametrize(
    "wire",
    [
        Wire("a\n", {"X": "1"}),
        Wire("YQA=", {ENCODING: "base64"}),
        Wire("\n", {ENTRIES: "0"}),
        Wire("\n", {ENTRIES: "1", DEAD: "why"}),
        Wire("?", {ENCODING: "?"}),
    ],
)
def test_a_message_published_again_as_it_is_is_the_same(wire):
    assert Pulled("i", "h", 1, wire).as_it_is().wire() == wire


def test_attributes_are_set_and_taken_away_on_a_copy():
    message = Message(b"a", {"A": "1", "B": "2"})
    assert with_attributes(message, A="3", B=None, C="4").attributes == {"A": "3", "C": "4"}
    assert message.attributes == {"A": "1", "B": "2"}


def test_a_header_that_is_an_empty_line_is_not_taken_for_a_missing_body():
    message = Message(b"\n", {ENTRIES: "0", FORMAT: "lines header=1"})
    assert Pulled("i", "h", 1, message.wire()).message().body == b"\n"


def test_entries_are_counted_in_the_format_of_the_body_where_no_attribute_has_their_number():
    body = b'a,"x\ny"\nb,c\n'
    assert Message(body).entries == 3
    assert Message(body, {FORMAT: "csv"}).entries == 2
    with pytest.raises(MessageError, match="record format"):
        _ = Message(body, {FORMAT: "cvs"}).entries
