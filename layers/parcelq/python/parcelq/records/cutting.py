"""Cuts a stream of bytes into parcels at the ends of entries, without running Python code for each entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError, RecordError
from parcelq.limits import MIB
from parcelq.readable import Readable
from parcelq.records.format import USUAL_BYTES, Closing, Format, is_blank

BLOCK_BYTES: Final = MIB
"""How many bytes are read at a time: enough to make copies at a block's end cheap, and few enough for a CPU's cache."""

MAX_ENTRY_BYTES: Final = 256 * MIB
"""How many bytes an entry may have, at most. While an entry is read, up to four copies of the entry are in memory.
Without this limit, an unclosed quote or a missing end line would take all memory.
"""


class Parcel(NamedTuple):
    """Consecutive whole entries of a source.

    Attributes:
        start: the offset of the parcel's first byte.
        record: the number of the parcel's first entry. The first entry of a source, after the header, has the number 1.
        line: the number of the first line of the parcel's first entry. The first line of a source has the number 1,
            even if the line is a header.
    """

    start: int
    data: bytes
    entries: int
    record: int = 1
    line: int = 1

    @property
    def end(self) -> int:
        """The offset just after the parcel's last byte."""
        return self.start + len(self.data)


def cut(
    stream: Readable,
    fmt: Format,
    parcel_size: int,
    max_bytes: int,
    *,
    start: int = 0,
    record: int = 1,
    line: int = 1,
    counted_from: int = 0,
    strict: bool = True,
) -> Iterator[Parcel]:
    """Cut a stream into parcels that cover the stream without a gap.

    A parcel ends after `parcel_size` entries, or before the entry that would make the parcel larger than `max_bytes`.
    If a single entry is larger than `max_bytes`, the entry is a parcel of its own, whatever its size.

    Args:
        stream: the entries, without a header. The stream is read once, in blocks, so memory does not grow with the
            stream's length.
        start: the offset of the stream's first byte in the source.
        record: the number of the stream's first entry.
        line: the number of the stream's first line.
        counted_from: the offset from which `record` and `line` are counted. Errors mention this offset.
        strict: whether to check the entries. False if the entries were already checked.

    Raises:
        InvalidValueError: a number is below 1.
        RecordError: the bytes do not match the format, or an entry is larger than `MAX_ENTRY_BYTES`. All parcels that
            were yielded before are complete.
    """
    for name, value in (("parcel_size", parcel_size), ("max_bytes", max_bytes)):
        if value < 1:
            raise InvalidValueError(name, value, "at least 1")

    def refused(reason: str, entries: int, lines: int, offset: int) -> RecordError:
        return RecordError(
            str(fmt),
            reason,
            record=record + entries,
            line=line + lines,
            offset=start + at + offset,
            counted_from=counted_from,
        )

    buffer, at, closing = b"", 0, None
    mean = USUAL_BYTES
    while True:
        end, entries, unsure = _parcel_end(fmt, buffer, at, parcel_size, max_bytes, mean, closing)
        if entries:
            data = buffer[at:end]
            lines = fmt.lines(data, entries)
            if strict and unsure and (flaw := fmt.check(data, entries, lines)):
                raise refused(flaw.reason, flaw.entry, flaw.line, flaw.offset)
            yield Parcel(start + at, data, entries, record, line)
            mean = (end - at) / entries
            record += entries
            line += lines
            at = end
        elif closing is not None:
            return
        else:
            rest = buffer[at:]
            if len(rest) > max_bytes + MAX_ENTRY_BYTES:
                raise refused(f"does not end within {MAX_ENTRY_BYTES // MIB} MiB", 0, 0, 0)
            # Each read doubles the bytes that are left over, so the time for a huge entry stays linear.
            block = stream.read(max(BLOCK_BYTES, len(rest)))
            start += at
            buffer, at = rest + block if rest else block, 0
            if not block:
                closing = fmt.closing(buffer)
                if strict and closing.unended and (reason := fmt.unended(buffer[closing.start :])):
                    # An entry often has no end because of a mistake in an entry before it, so the error names that
                    # mistake.
                    if flaw := fmt.check(buffer, closing.entries + 1, buffer.count(b"\n")):
                        raise refused(flaw.reason, flaw.entry, flaw.line, flaw.offset)
                    lines = buffer.count(b"\n", 0, closing.start)
                    raise refused(reason, closing.entries, lines, closing.start)


def cut_bytes(data: bytes, fmt: Format, parcel_size: int, max_bytes: int) -> Iterator[Parcel]:
    """Cut the body of a message into parcels. The entries must have been checked already; see `cut`."""
    if 0 < len(data) <= max_bytes and (entries := fmt.count(data)) <= parcel_size:
        return iter((Parcel(0, data, entries),))  # so the bytes are scanned only once
    return cut(BytesIO(data), fmt, parcel_size, max_bytes, strict=False)


def fit_messages(
    parcels: Iterator[Parcel], fmt: Format, max_bytes: int, is_text: Callable[[bytes], bool]
) -> Iterator[Parcel]:
    """Cut those parcels again that do not fit into a message because they need base64, which takes 4/3 of the bytes.

    A parcel is larger only if it consists of a single entry that is too large for a message. `is_text` returns whether
    bytes can be sent as text.
    """
    room = max(1, max_bytes // 4 * 3)
    for parcel in parcels:
        if len(parcel.data) <= room or parcel.entries == 1 or is_text(parcel.data):
            yield parcel
        else:
            yield from cut(
                BytesIO(parcel.data),
                fmt,
                parcel.entries,
                room,
                start=parcel.start,
                record=parcel.record,
                line=parcel.line,
                strict=False,
            )


def _parcel_end(
    fmt: Format, data: bytes, at: int, parcel_size: int, max_bytes: int, mean: float, closing: Closing | None
) -> tuple[int, int, bool]:
    """Return the end of the parcel that begins at `at`, the parcel's number of entries, and whether the entries must be
    checked.

    The number of entries is 0 if more bytes must be read first. If `data` contains the stream up to its end, `closing`
    describes this end, and the last entry may lack its own end.
    """
    nothing = at, 0, False
    if closing is None and len(data) - at < min(max_bytes, 0.9 * mean * parcel_size):
        return nothing  # there are too few bytes for a whole parcel, so counting now would mean counting twice
    last = len(data) if closing is None else closing.start
    end, entries, unsure = nothing
    if at < last:
        end, entries, unsure = fmt.scan(data, at, min(last, at + max_bytes), parcel_size, mean)
    if entries < parcel_size:
        if closing is None and len(data) <= at + max_bytes + fmt.lookahead:
            return nothing  # the parcel is not full yet
        if closing is not None and end == last and at < len(data) <= at + max_bytes:
            return len(data), entries + (last < len(data)), True
        if not entries:  # a single entry exceeds the limit of a parcel
            if at < last:
                end, entries, unsure = fmt.scan(data, at, last, 1, mean)
            if not entries and closing is not None and at < len(data):
                return len(data), 1, True
    if closing is None and fmt.keeps_blank_end and is_blank(data, end):
        return nothing  # the next lines may be blank lines at the end, which belong to the last entry
    return end, entries, unsure
