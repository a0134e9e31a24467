"""A step's output, as messages with their lineage; cut around the entries that the step named as bad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from io import SEEK_END, BytesIO
from itertools import chain, pairwise
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError
from parcelq.lineage.lineage import Lineage, Span, digest, digest_of
from parcelq.process.headers import Written
from parcelq.readable import Readable
from parcelq.records import Format, cut
from parcelq.steps.given import write_bodies
from parcelq.steps.output import Output
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE, WORKFLOW
from parcelq.topics.message import Message
from parcelq.topics.pieces import Piece
from parcelq.upload.parcels import ATTRIBUTE_ROOM, cut_for_messages

_READ_BYTES: Final = 1 << 20
_ENTRIES_AT_ONCE: Final = 100_000
_BYTES_AT_ONCE: Final = 4 << 20


class OutputPart(NamedTuple):
    """Consecutive entries of a run's input: one that the step named as bad, or all between two of those.

    Attributes:
        start: where they begin in the input, in bytes.
        end: where they end.
        entries: how many they are.
        before: how many entries of the input come before them.
        output: where the output for them begins and ends, in bytes; None for a bad entry, or where it is not known.
        reason: why the entry is bad; empty for good ones.
    """

    start: int
    end: int
    entries: int
    before: int
    output: tuple[int, int] | None = None
    reason: str = ""


def output_messages(
    output: Output,
    written: Written,
    lineage: Lineage | None,
    source: str,
    parcel_size: int,
    workflow: str,
    entries: int | None = None,
) -> Iterator[Message]:
    """Cut a step's output into messages.

    Args:
        output: what the step wrote.
        written: its layout.
        lineage: what the step's input stands for; None if that is not known.
        source: the source of that.
        parcel_size: most entries of a message.
        workflow: the attribute `Workflow`; empty for none.
        entries: how many entries the step got.
    """
    named = {**({WORKFLOW: workflow} if workflow else {}), **written.attributes}
    with output.open("rb") as stream:
        if lineage is None:
            for parcel in cut_for_messages(stream, written.format, parcel_size, written.room):
                yield Message(parcel.data, {**named, ENTRIES: str(parcel.entries)})
            return
        stream.seek(written.start)
        data = stream.read(written.room)  # all of it, as a rule
        # guard[run = digest_of([])]: the digest of a run tells its output from that of other runs
        run = digest_of(chain([data], iter(partial(stream.read, _READ_BYTES), b"")))
        total = stream.tell() - written.start
        stream.seek(written.start)
        whole = data if total == len(data) else stream
        for piece in _pieces(whole, written, total, run, lineage, source, parcel_size, entries):
            yield Message(piece.body, {**named, SOURCE: source, LINEAGE: piece.lineage, ENTRIES: str(piece.entries)})


def pieces_of_part(
    data: bytes, written: Written, lineage: Lineage, source: str, parcel_size: int, entries: int
) -> Iterator[Piece]:
    """Cut a part of a run's output, as if that part of the input had been run alone.

    Args:
        data: the output for that part.
        written: the layout of the output.
        lineage: what that part of the input stands for.
        source: the source of that.
        parcel_size: most entries of a piece.
        entries: how many entries that part of the input has.
    """
    return _pieces(data, written, len(data), digest(data), lineage, source, parcel_size, entries)


def parts_of(
    body: bytes, fmt: Format, rejects: Sequence[tuple[int, int | None, str]], output: Output, written: Written
) -> list[OutputPart]:
    """Cut a run's input around the entries that the step named as bad.

    Args:
        body: the input, without a header.
        fmt: the record format of the input.
        rejects: number of the entry, how many entries of output came before it, and the reason; in order.
        output: what the step wrote.
        written: the layout of the output.

    Raises:
        InvalidValueError: an entry is none of the input, or there is less output than the step says.
    """
    entries = fmt.count(body)
    known = all(after is not None for _, after, _ in rejects)
    numbers = [edge for entry, _, _ in rejects for edge in (entry, entry + 1)]
    if numbers[-1] > entries:
        raise InvalidValueError("entry of a reject", numbers[-1] - 1, f"less than {entries}, as the input has so many")
    inputs = [0, *offsets(BytesIO(body), fmt, numbers, "entry of a reject"), len(body)]
    counts = [0, *numbers, entries]
    outputs: list[int] = []
    if known:
        afters = [after for _, after, _ in rejects if after is not None]
        with output.open("rb") as stream:
            stream.seek(written.start)
            found = offsets(stream, written.format, afters, "after of a reject", written.start)
            outputs = [written.start, *found, stream.seek(0, SEEK_END)]
    parts = []
    for number, ((start, end), (first, behind)) in enumerate(zip(pairwise(inputs), pairwise(counts), strict=True)):
        if number % 2:
            parts.append(OutputPart(start, end, 1, first, reason=rejects[number // 2][2]))
        elif behind > first:
            place = (outputs[number // 2], outputs[number // 2 + 1]) if known else None
            parts.append(OutputPart(start, end, behind - first, first, place))
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


def offsets(stream: Readable, fmt: Format, numbers: Sequence[int], name: str, start: int = 0) -> list[int]:
    """Find where entries begin; the one after the last entry begins at the end.

    Args:
        stream: the entries.
        fmt: what an entry is.
        numbers: the entries' numbers from 0, in order.
        name: what a number is called in an error.
        start: offset of the stream's first byte.

    Raises:
        InvalidValueError: there are fewer entries than a number says.
    """
    found: list[int] = []
    passed, end = 0, start
    for parcel in cut(stream, fmt, _ENTRIES_AT_ONCE, _BYTES_AT_ONCE, start=start, strict=False):
        here = [number - passed for number in numbers[len(found) :] if number < passed + parcel.entries]
        starts = {entry.number: entry.start for entry in fmt.locate(parcel.data, sorted(set(here)))}
        found += (parcel.start + starts[number] for number in here)
        passed, end = passed + parcel.entries, parcel.end
        if len(found) == len(numbers):
            return found
    for number in numbers[len(found) :]:
        if number > passed:
            raise InvalidValueError(name, number, f"at most {passed}, the number of entries")
        found.append(end)
    return found


def _pieces(
    output: Readable | bytes,
    written: Written,
    total: int,
    run: str,
    lineage: Lineage,
    source: str,
    parcel_size: int,
    entries: int | None,
) -> Iterator[Piece]:
    # A long lineage or source takes its room from the body.
    room = written.room - max(0, len(str(lineage)) + len(source) - ATTRIBUTE_ROOM // 2)
    nothing = True
    for parcel in cut_for_messages(output, written.format, parcel_size, room):
        nothing = False
        child = lineage.child(Span(parcel.start, parcel.end, total), run, entries)
        yield Piece(str(child), parcel.data, parcel.entries)
    if nothing:  # so that the input counts as done
        yield Piece(str(lineage.child(Span(0, 0, 0), run, entries)), b"", 0)
