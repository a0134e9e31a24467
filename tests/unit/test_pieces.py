"""Pieces: one message, one piece; packed messages; and tables from strangers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.errors import MessageError
from parcelq.lineage.lineage import Lineage, Span
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.pieces import FIRST, MAX_DEAD_BYTES, MAX_REASON_BYTES, PIECES, Piece, pack, pieces_of

ONE = "0123456789abcdef"


def delivered(message: Message) -> Message:
    """The message as its receiver reads it."""
    wire = message.wire()
    return Pulled("id", "handle", 1, Wire(wire.text, wire.attributes)).message()


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    body = draw(st.binary(max_size=40))
    start = draw(st.integers(0, 100))
    lineage = Lineage(Span(start, start + len(body), None))
    if draw(st.booleans()):
        reason = draw(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
        return Piece(str(lineage), body, 1, reason, draw(st.sampled_from(["", "3,4", "+1,2"])))
    return Piece(str(lineage), body, body.count(b"\n"))


class TestOneMessage:
    def test_a_message_with_an_output_is_one_piece(self) -> None:
        message = Message(b"a\nb\n", {SOURCE: "s", LINEAGE: f"0-9/9>0-4/8:{ONE}", ENTRIES: "2"})
        assert list(pieces_of(delivered(message))) == [Piece(f"0-9/9>0-4/8:{ONE}", b"a\nb\n", 2)]

    @pytest.mark.parametrize("entry", [b"bad line\n", b"\n", b"\xff\x00", b"no line end", b""])
    def test_the_piece_of_a_tombstone_carries_the_dead_entry(self, entry: bytes) -> None:
        lineage = str(Lineage(Span(5, 5 + len(entry), 99)))
        message = Message(entry, {SOURCE: "s", LINEAGE: lineage, ENTRIES: "1", DEAD: "why", FIRST: "17,18"})
        assert list(pieces_of(delivered(message))) == [Piece(lineage, entry, 1, "why", "17,18")]

    def test_a_tombstone_of_an_entry_too_large_to_carry_has_no_bytes(self) -> None:
        message = Message(b"", {LINEAGE: f"0-{MAX_DEAD_BYTES + 1}/*", ENTRIES: "1", DEAD: "why"})
        assert [piece.body for piece in pieces_of(delivered(message))] == [b""]

    @pytest.mark.parametrize("lineage", ["", "nonsense", "0-3/4", "{0-1/9,2-3/9}"])
    def test_a_lineage_that_cannot_be_right_comes_out_empty(self, lineage: str) -> None:
        assert list(pieces_of(Message(b"a\nb\n", {LINEAGE: lineage}))) == [Piece("", b"a\nb\n", 2)]

    def test_a_strangers_reason_and_dead_entry_are_bounded(self) -> None:
        body = b"x" * 900_000
        [piece] = pieces_of(Message(body, {LINEAGE: f"0-{len(body)}/*", DEAD: "é" * 900_000}))
        assert len(piece.dead.encode()) <= MAX_REASON_BYTES
        assert piece.body == b""


class TestPacked:
    def test_texts_of_a_strangers_table_are_bounded_and_can_be_written(self) -> None:
        table = json.dumps([["0-1/9", 1, 1, "\ud800 why", "9" * 1000]]).encode() + b"\n"
        (piece,) = pieces_of(Message(table + b"x", {PIECES: str(len(table))}))
        assert (piece.dead, piece.first) == ("? why", "")

    @given(st.lists(pieces(), max_size=12), st.integers(1, 400))
    def test_packed_pieces_come_out_in_their_order(self, packed: list[Piece], max_bytes: int) -> None:
        messages = list(pack({SOURCE: "s"}, packed, max_bytes))
        assert [piece for one in messages for piece in pieces_of(delivered(one))] == packed
        for one in messages:
            assert len(one.wire().text) <= max_bytes or len(list(pieces_of(one))) == 1
            assert one.attributes[SOURCE] == "s"
            assert one.entries == sum(piece.entries for piece in pieces_of(one))

    def test_pieces_are_packed_into_messages_until_these_are_full(self) -> None:
        many = [Piece(f"{start}-{start + 10}/*", b"123456789\n", 1) for start in range(0, 1000, 10)]
        assert len(list(pack({}, many, 10_000))) == 1

    @pytest.mark.parametrize(
        ("table", "told"),
        [
            ([["0-1/9", 1, 1]], "0"),
            ([["0-1/9", 1, 1]], "99999999999999"),
            ([["0-1/9", 1, 1]], "3"),
            ([["0-1/9", 1, 1]], "many"),
            ([["0-1/9", 2, 1]], None),
            ([["0-1/9", -1, 1], ["1-3/9", 2, 1]], None),
            ([["0-1/9", 1.0, 1]], None),
            ([["0-1/9", True, 1]], None),
            ([["0-1/9", 1]], None),
            ([["0-1/9", 1, 1, ""]], None),
            ([[7, 1, 1]], None),
            ([["0-1/9", 1, 1, "why", 3]], None),
            ({"0-1/9": 1}, None),
            ([1], None),
        ],
    )
    def test_a_packed_message_with_an_invalid_table_is_refused(self, table: object, told: str | None) -> None:
        text = json.dumps(table).encode() + b"\n"
        with pytest.raises(MessageError):
            list(pieces_of(Message(text + b"x", {PIECES: told or str(len(text))})))

    @pytest.mark.parametrize("text", [b"[" * 500_000, b"{nonsense\n", b'[["0-1/9", NaN, 1]]\n', b"\xff\xfe\n"])
    def test_a_hostile_table_is_refused_without_further_harm(self, text: bytes) -> None:
        with pytest.raises(MessageError):
            list(pieces_of(Message(text + b"x", {PIECES: str(len(text))})))
