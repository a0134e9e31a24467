"""A step's output, as messages with their lineage; cut around the entries that the step named as bad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Final

from parcelq.errors import InvalidValueError
from parcelq.lineage.lineage import Lineage, Span, digest, new_digest
from parcelq.records.parcels import Readable, cut_for_messages
from parcelq.steps.run import write_bodies
from parcelq.topics.message import ENTRIES, LINEAGE, SOURCE, WORKFLOW, Message, count_entries
from parcelq.topics.pieces import Piece
from parcelq.upload.files import ATTRIBUTE_ROOM, MAX_BODY_BYTES

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive entries of a run's input: one that the step named as bad, or all between two of those.

    Attributes:
        start: where they begin in the input, in bytes.
        end: where they end.
        entries: how many they are.
        output: where the output for them begins and ends, in bytes; None for a bad entry, or where it is not known.
        reason: why the entry is bad; empty for good ones.
    """

    start: int
    end: int
    entries: int
    output: tuple[int, int] | None = None
    reason: str = ""


def output_messages(
    output: Path, lineage: Lineage | None, source: str, parcel_size: int, workflow: str
) -> Iterator[Message]:
    """Cut a step's output into messages.

    Args:
        output: the file that the step wrote.
        lineage: what the step's input stands for; None where that is not known.
        source: the source of that.
        parcel_size: most entries of a message.
        workflow: the attribute `Workflow`; empty for none.
    """
    named = {WORKFLOW: workflow} if workflow else {}
    if lineage is None:
        with output.open("rb") as stream:
            for parcel in cut_for_messages(stream, parcel_size, MAX_BODY_BYTES):
                yield Message(parcel.data, {**named, ENTRIES: str(parcel.entries)})
        return
    with output.open("rb") as stream:
        run = _digest(stream)
    with output.open("rb") as stream:
        for piece in _pieces(stream, output.stat().st_size, run, lineage, source, parcel_size):
            yield Message(piece.body, {**named, SOURCE: source, LINEAGE: piece.lineage, ENTRIES: str(piece.entries)})


def pieces_of_part(data: bytes, lineage: Lineage, source: str, parcel_size: int) -> Iterator[Piece]:
    """Cut a part of a run's output, as if that part of the input had been run alone.

    Args:
        data: the output for that part.
        lineage: what that part of the input stands for.
        source: the source of that.
        parcel_size: most entries of a piece.
    """
    return _pieces(BytesIO(data), len(data), digest(data), lineage, source, parcel_size)


def parts_of(body: bytes, rejects: Sequence[tuple[int, int | None, str]], output: Path) -> list[Part]:
    """Cut a run's input around the entries that the step named as bad.

    Args:
        body: the input.
        rejects: number of the entry, how many entries of output came before it, and the reason; in order.
        output: the file that the step wrote.

    Raises:
        InvalidValueError: an entry is none of the input, or there is less output than the step says.
    """
    entries = count_entries(body)
    known = all(after is not None for _, after, _ in rejects)
    numbers = [edge for entry, _, _ in rejects for edge in (entry, entry + 1)]
    if numbers[-1] > entries:
        raise InvalidValueError("entry of a reject", numbers[-1] - 1, f"less than {entries}, as the input has so many")
    inputs = [0, *offsets(BytesIO(body), numbers, "entry of a reject"), len(body)]
    counts = [0, *numbers, entries]
    outputs: list[int] = []
    if known:
        with output.open("rb") as stream:
            outputs = [
                0,
                *offsets(stream, (after for _, after, _ in rejects if after is not None), "after of a reject"),
            ]
        outputs.append(output.stat().st_size)
    parts = []
    for number, ((start, end), (first, behind)) in enumerate(zip(pairwise(inputs), pairwise(counts), strict=True)):
        if number % 2:
            parts.append(Part(start, end, 1, reason=rejects[number // 2][2]))
        elif behind > first:
            written = (outputs[number // 2], outputs[number // 2 + 1]) if known else None
            parts.append(Part(start, end, behind - first, written))
        elif known and outputs[number // 2] != outputs[number // 2 + 1]:
            after = rejects[min(number // 2, len(rejects) - 1)][1]
            raise InvalidValueError("after of a reject", after, "as if bad entries had no output, but there is some")
    return parts


def joined_bodies(bodies: Sequence[bytes]) -> bytes:
    """The input that a step got for these bodies."""
    if len(bodies) == 1:
        return bodies[0]
    whole = BytesIO()
    write_bodies(whole, bodies)
    return whole.getvalue()


def offsets(stream: Readable, numbers: Iterable[int], name: str) -> list[int]:
    """Where the entries of these numbers begin, counted from 0; one behind the last entry begins at the end.

    Args:
        stream: lines.
        numbers: in order.
        name: what a number is called in an error.

    Raises:
        InvalidValueError: there are fewer entries than a number says.
    """
    found: list[int] = []
    block, start, at, line = b"", 0, 0, 0  # the block begins at `start`; entry `line` begins at `start + at`
    ended = True
    for number in numbers:
        while line < number:
            here = block.count(b"\n", at)
            if line + here < number:
                start, line = start + len(block), line + here
                ended = block.endswith(b"\n") if block else ended
                block, at = stream.read(_READ_BYTES), 0
                if not block:
                    if line + (not ended) < number:
                        raise InvalidValueError(name, number, f"at most {line + (not ended)}, the number of entries")
                    line, ended = number, True
            else:
                for _ in range(number - line):
                    at = block.index(b"\n", at) + 1
                line = number
        found.append(start + at)
    return found


def _pieces(stream: Readable, total: int, run: str, lineage: Lineage, source: str, parcel_size: int) -> Iterator[Piece]:
    # A long lineage or source takes its room from the body.
    room = MAX_BODY_BYTES - max(0, len(str(lineage)) + len(source) - ATTRIBUTE_ROOM // 2)
    nothing = True
    for parcel in cut_for_messages(stream, parcel_size, room):
        nothing = False
        child = lineage.child(Span(parcel.start, parcel.end, total), run)
        yield Piece(str(child), parcel.data, parcel.entries)
    if nothing:  # so that the input counts as done
        yield Piece(str(lineage.child(Span(0, 0, 0), run)), b"", 0)


def _digest(stream: Readable) -> str:
    hasher = new_digest()
    while block := stream.read(_READ_BYTES):
        hasher.update(block)
    return hasher.hexdigest()
