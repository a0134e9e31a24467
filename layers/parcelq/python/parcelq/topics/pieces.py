"""Pieces and packed messages. A piece is the output or the tombstone for some bytes of a source. Pure functions only.

Most messages are one piece: the body is the output, and the attribute `Lineage` says which bytes gave the output. A
*packed* message carries several pieces of one source. Its body begins with a table, which is a line of JSON; the
attribute `Pieces` has the length of the table in bytes. The pieces' bodies follow the table.

    [["0-400/5000>0-300/300:3fa1b2c4…", 300, 10], ["400-420/5000", 20, 1, "ValueError: …", "17,18"]]

A row is a piece's lineage, the size of its body in bytes, and its number of entries. The row of a tombstone also has
the reason, and the record and line numbers of its first entry if known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from parcelq.aws.text import is_legal
from parcelq.errors import LineageError, MessageError
from parcelq.limits import KIB, MIB
from parcelq.lineage.lineage import Lineage
from parcelq.topics.attributes import DEAD, ENTRIES, FIRST, LINEAGE, parse_count
from parcelq.topics.message import Message

PIECES: Final = "Pieces"
"""Only on packed messages: the number of bytes of the table at the beginning of the body."""
MAX_DEAD_BYTES: Final = 64 * KIB
"""A tombstone carries its dead entries if these entries have at most this many bytes."""
MAX_REASON_BYTES: Final = 4 * KIB
"""How many bytes of a reason are kept; Parcelq itself writes shorter reasons."""
_MAX_TABLE_BYTES: Final = MIB
_MOST_ENTRIES: Final = 10**12
_MAX_FIRST: Final = 40


class Piece(NamedTuple):
    """The outcome of some bytes of a source: the step's output, or a tombstone.

    Attributes:
        lineage: which bytes of the source; empty if the message has no valid lineage.
        body: the step's output. For a tombstone, the dead entries themselves; empty if these have more than
            `MAX_DEAD_BYTES` bytes.
        entries: how many entries the body has; for a tombstone, how many entries are dead.
        dead: the reason why the entries are dead; empty for an output.
        first: the record and line number of a tombstone's first entry, as in the attribute `First`; empty if unknown.
    """

    lineage: str
    body: bytes
    entries: int
    dead: str = ""
    first: str = ""


def pieces_of(message: Message) -> Iterator[Piece]:
    """Yield the pieces of an output message, a tombstone or a packed message.

    A piece with an invalid lineage gets an empty lineage: the body is kept, but its place in the source is unknown.
    Raises MessageError, before the first piece, if the table of a packed message is invalid.
    """
    attributes = message.attributes
    table = attributes.get(PIECES)
    if table is not None:
        yield from _unpacked(message.body, table)
        return
    dead = attributes.get(DEAD, "")
    yield _piece(attributes.get(LINEAGE, ""), message.body, message.entries, dead, attributes.get(FIRST, ""))


def pack(attributes: Mapping[str, str], pieces: Iterable[Piece], max_bytes: int) -> Iterator[Message]:
    """Pack pieces of one source into as few messages as possible, in their order. Only a single piece may give a
    message whose encoded body has more than `max_bytes`.
    """
    held: list[Piece] = []
    size, is_text = 0, True
    for piece in pieces:
        row_size = len(_table([piece])) + len(piece.body)
        piece_is_text = is_legal(piece.body)
        sent = size + row_size if is_text and piece_is_text else -(-(size + row_size) // 3) * 4  # base64
        if held and sent > max_bytes:
            yield _packed(attributes, held)
            held, size, is_text = [], 0, True
        held.append(piece)
        size += row_size
        is_text &= piece_is_text
    if held:
        yield _packed(attributes, held)


def _packed(attributes: Mapping[str, str], pieces: list[Piece]) -> Message:
    table = _table(pieces)
    own = {PIECES: str(len(table)), ENTRIES: str(sum(piece.entries for piece in pieces))}
    return Message(b"".join((table, *(piece.body for piece in pieces))), {**attributes, **own})


def _table(pieces: Iterable[Piece]) -> bytes:
    rows: list[list[Any]] = []
    for piece in pieces:
        row: list[Any] = [piece.lineage, len(piece.body), piece.entries]
        row += [piece.dead] * bool(piece.dead) + [piece.first] * bool(piece.dead and piece.first)
        rows.append(row)
    # ASCII, so that a reason cannot make SQS refuse the body.
    return json.dumps(rows, separators=(",", ":")).encode() + b"\n"


def _unpacked(body: bytes, size_text: str) -> list[Piece]:
    size = parse_count(size_text)
    if size is None or not 0 < size <= min(len(body), _MAX_TABLE_BYTES):
        raise MessageError(
            f"{PIECES} is {size_text[:20]!r}, but must be the bytes of the table at the body's beginning"
        )
    try:
        rows = json.loads(body[:size])
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the table of pieces cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise MessageError("the table of pieces must be a list of [lineage, size, entries] with a reason if dead")
    if size + sum(row[1] for row in rows) != len(body):
        raise MessageError("the sizes in the table of pieces do not add up to the body's")
    pieces = []
    at = size
    for lineage, length, entries, *dead in rows:
        pieces.append(_piece(lineage, body[at : at + length], entries, *dead))
        at += length
    return pieces


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or not 3 <= len(row) <= 5:
        return False
    lineage, size, entries, *dead = row
    counts = all(type(count) is int and 0 <= count <= _MOST_ENTRIES for count in (size, entries))
    return counts and all(isinstance(text, str) for text in (lineage, *dead)) and "" not in dead[:1]


def _piece(lineage: str, body: bytes, entries: int, dead: str = "", first: str = "") -> Piece:
    reason = _bounded(dead)
    numbers = first if first.isascii() and len(first) <= _MAX_FIRST else ""
    try:
        size = len(Lineage.parse(lineage).span)
    except LineageError:
        return Piece("", body, entries, reason, numbers)
    if dead:
        body = b"" if len(body) > MAX_DEAD_BYTES else body
    elif size != len(body):
        lineage = ""
    return Piece(lineage, body, entries, reason, numbers)


def _bounded(reason: str) -> str:
    """Shorten the reason of a dead entry, which may come from an untrusted message, and drop invalid UTF-8."""
    return reason[:MAX_REASON_BYTES].encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
