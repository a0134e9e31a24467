"""Cuts messages and steps' outputs into messages, each with its part of the lineage. Also cuts around entries that the
step rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import SEEK_END, BytesIO
from itertools import chain, pairwise
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError
from parcelq.lineage.lineage import Lineage, Span, digest, digest_of
from parcelq.process.headers import Written
from parcelq.process.plan import Work
from parcelq.process.runs import Run
from parcelq.readable import Readable
from parcelq.records import Format, cut
from parcelq.steps.data import Output, write_bodies
from parcelq.steps.rejects import Reject
from parcelq.topics.attributes import ENTRIES, FAILURES, FIRST, HEADER, LINEAGE, SOURCE
from parcelq.topics.message import Message, with_attributes
from parcelq.topics.pieces import Piece
from parcelq.upload.parcels import ATTRIBUTE_ROOM, MAX_BODY_BYTES, cut_for_messages

_FIRST: Final = re.compile(r"(\+?)([0-9]{1,18}),([0-9]{1,18})")
_READ_BYTES: Final = 1 << 20
_ENTRIES_AT_ONCE: Final = 100_000
_BYTES_AT_ONCE: Final = 4 << 20


class OutputPart(NamedTuple):
    """Consecutive entries of a run's input: a rejected entry, or all entries between two rejected entries.

    Attributes:
        before: how many entries of the input come before the part.
        output: the offsets at which the part's output begins and ends; None if the part is a bad entry, or if the
            offsets are unknown.
        reason: why the entry is bad; empty if the part consists of good entries.
    """

    start: int
    end: int
    entries: int
    before: int
    output: tuple[int, int] | None = None
    reason: str = ""


def parts_of_message(work: Work, size: int, failures: int) -> Iterator[Message]:
    """Cut a message into parcels, which carry a number of `failures` from the beginning."""
    before = 0
    room = MAX_BODY_BYTES - len(work.message.attributes.get(HEADER, ""))
    for parcel in cut_for_messages(BytesIO(work.message.body), work.format, size, room):
        yield part_of(work, parcel.start, parcel.end, parcel.entries, before, failures).message
        before += parcel.entries


def part_of(work: Work, start: int, end: int, entries: int, before: int, failures: int = 0) -> Work:
    """Return a part of a message as a separate message. `before` is the number of entries before the part."""
    body = work.message.body
    lineage = work.lineage.cut(start, end) if work.lineage else None
    first = work.message.attributes.get(FIRST)
    if first is not None:
        first = moved_on(first, before, body.count(b"\n", 0, start))
    own = {
        LINEAGE: str(lineage) if lineage else None,
        ENTRIES: str(entries),
        FIRST: first,
        FAILURES: str(failures) if failures else None,
    }
    message = with_attributes(Message(body[start:end], work.message.attributes), **own)
    return work._replace(message=message, lineage=lineage, entries=entries, failures=failures)


def moved_on(first: str, records: int, lines: int) -> str | None:
    """Return the attribute `First` of a part that begins this much later; None if `first` is invalid."""
    found = _FIRST.fullmatch(first)
    return f"{found[1]}{int(found[2]) + records},{int(found[3]) + lines}" if found else None


def output_messages(run: Run, parcel_size: int, attributes: Mapping[str, str]) -> Iterator[Message]:
    """Cut the output of a run into messages, each with `attributes` and those of its own."""
    assert run.ran is not None
    written, named = run.written, {**attributes, **run.written.attributes}
    with run.ran.output.open("rb") as stream:
        if run.lineage is None:
            for parcel in cut_for_messages(stream, written.format, parcel_size, written.room):
                yield Message(parcel.data, {**named, ENTRIES: str(parcel.entries)})
            return
        stream.seek(written.start)
        data = stream.read(written.room)  # usually the whole output
        # guard[made = digest_of([])]: the digest of a run tells its output from that of other runs
        made = digest_of(chain([data], iter(partial(stream.read, _READ_BYTES), b"")))
        total = stream.tell() - written.start
        stream.seek(written.start)
        whole = data if total == len(data) else stream
        for piece in _pieces(whole, run, run.lineage, run.entries, parcel_size, total, made):
            own = {SOURCE: run.source, LINEAGE: piece.lineage, ENTRIES: str(piece.entries)}
            yield Message(piece.body, {**named, **own})


def pieces_of_part(data: bytes, run: Run, lineage: Lineage, entries: int, parcel_size: int) -> Iterator[Piece]:
    """Cut the output for a part of a run's input, as if this part, with `lineage` and `entries`, had been run alone."""
    return _pieces(data, run, lineage, entries, parcel_size, len(data), digest(data))


def parts_of(body: bytes, fmt: Format, rejects: Sequence[Reject], output: Output, written: Written) -> list[OutputPart]:
    """Cut a run's input around the entries that the step rejected, which are in ascending order. Raises
    InvalidValueError if an entry is not in the input, or the output is shorter than the rejects say.
    """
    entries = fmt.count(body)
    known = all(after is not None for _, after, _ in rejects)
    numbers = [edge for entry, _, _ in rejects for edge in (entry, entry + 1)]
    if numbers[-1] > entries:
        raise InvalidValueError(
            "entry of a reject", numbers[-1] - 1, f"less than {entries}, the number of entries of the input"
        )
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
            raise InvalidValueError("after of a reject", after, "none, because there is output for bad entries")
    return parts


def joined_bodies(bodies: Sequence[bytes]) -> bytes:
    """Return the input of a step that consists of these bodies."""
    if len(bodies) == 1:
        return bodies[0]
    whole = BytesIO()
    write_bodies(whole, bodies)
    return whole.getvalue()


def offsets(stream: Readable, fmt: Format, numbers: Sequence[int], name: str, start: int = 0) -> list[int]:
    """Return the offsets at which the entries with these numbers begin. The numbers ascend from 0; the number after
    that of the last entry means the end. The stream begins at the offset `start`. Raises InvalidValueError with the
    name `name` if a number is larger than the number of entries.
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
    output: Readable | bytes, run: Run, lineage: Lineage, entries: int, parcel_size: int, total: int, made: str
) -> Iterator[Piece]:
    """Cut an output of `total` bytes with the digest `made` into pieces."""
    # A long lineage or source leaves fewer bytes for the body.
    room = run.written.room - max(0, len(str(lineage)) + len(run.source) - ATTRIBUTE_ROOM // 2)
    nothing = True
    for parcel in cut_for_messages(output, run.written.format, parcel_size, room):
        nothing = False
        child = lineage.child(Span(parcel.start, parcel.end, total), made, entries)
        yield Piece(str(child), parcel.data, parcel.entries)
    if nothing:  # so that the input counts as done
        yield Piece(str(lineage.child(Span(0, 0, 0), made, entries)), b"", 0)
