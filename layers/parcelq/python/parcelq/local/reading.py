"""Reads a source of one or more files in one pass: yields its missing records as parcels, and counts all its records.

The files of a source are read one after another. The first file's header is the source's header; the headers of all
other files must be equal to it, and are left out. If the last line of a file has no line end, the file gets one, unless
it is the last file. So records have the same numbers wherever a job continues.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Final

from parcelq.errors import SourceError
from parcelq.limits import KIB, MIB
from parcelq.lineage.lineage import MAX_POSITION
from parcelq.local.files import LocalFile, LocalSource
from parcelq.process.broken import LEAST_MESSAGES
from parcelq.readable import Readable
from parcelq.records import BOM, FirstBytes, Format, Parcel, by_name, cut, split_header
from parcelq.records.compression import open_source, read_at_least
from parcelq.records.naming import naming_source
from parcelq.upload.notes import Beginning
from parcelq.upload.parcels import MAX_BODY_BYTES
from parcelq.upload.sources import Parts

Range = tuple[int, int]
EVERYTHING: Final[tuple[Range, ...]] = ((0, MAX_POSITION),)
"""The missing ranges of a new job: the whole source."""
_SAMPLE_BYTES: Final = 64 * KIB
"""How many bytes show about how many entries a source has."""
_COUNTED_ENTRIES: Final = 1_000_000
_COUNTED_BYTES: Final = 4 * MIB
"""The most entries and bytes of a parcel of records that are already done and are only counted."""
_BLANK: Final = (b"\n\n", b"\n\r\n")


@dataclass(slots=True)
class Reading:
    """One pass over a source. When `parcels` has yielded its last parcel, the attributes describe the whole source.

    Attributes:
        missing: the ranges of the source to yield, in order; each range begins and ends at a boundary of records.
        parcel_size: the most entries of a parcel.
        marks: the offsets at which counted parts must begin and end, in order. All are outside of `missing`.
        max_bytes: the most bytes of a parcel.
        on_read: a function that is called repeatedly with two numbers: how many bytes of files were read, and how many
            bytes of the source these bytes became.
        begins: the position in the source at which each file begins.
        warnings: sentences about problems with the files' content and compression that do not stop the job.
        is_text: whether the files should be text, because the user named no format.
        end, entries, lines: how many bytes, entries and line ends of the source were read so far.
        parts: the numbers of bytes and entries of each part of the source, whether the part is missing or done.
    """

    source: LocalSource
    format: Format
    header: bytes
    missing: Sequence[Range]
    parcel_size: int
    marks: Sequence[int] = ()
    max_bytes: int = MAX_BODY_BYTES
    is_text: bool = False
    on_read: Callable[[int, int], None] = lambda _read, _made: None
    begins: list[Beginning] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    end: int = 0
    entries: int = 0
    lines: int = 0
    parts: Parts = field(default_factory=Parts)

    @classmethod
    def of(
        cls,
        source: LocalSource,
        fmt: Format | None,
        missing: Sequence[Range],
        parcel_size: int,
        marks: Sequence[int] = (),
        parcels: int = 1,
    ) -> Reading:
        """Begin to read a source: read its header and first entries from the first file that is not empty.

        Parcels have fewer than `parcel_size` entries if the whole source would otherwise seem to have fewer than
        `parcels` parcels.

        Raises:
            SourceError: if the header does not match the format, or if the compression is damaged.
            ParcelqError: if a file cannot be read.
        """
        is_text, fmt = fmt is None, fmt or by_name(source.format_name)
        header, sample, coding = b"", b"", ""
        for file in source.files:
            with file.opened() as raw, naming_source(file.name):
                opened = open_source(raw, file.name)
                header, entries = split_header(opened.stream, fmt)
                sample, coding = read_at_least(entries, b"", _SAMPLE_BYTES), opened.coding
                if header or sample:
                    break
        if sample and not (coding and len(sample) == _SAMPLE_BYTES):
            # A sample that is shorter is the whole content of its compressed file.
            expected = fmt.count(sample) * source.size / (file.state.size if coding else len(sample))
            if expected >= LEAST_MESSAGES:  # fewer messages could not show that the step is broken
                parcel_size = min(parcel_size, math.ceil(expected / parcels))
        return cls(source, fmt, header, missing, parcel_size, marks, is_text=is_text)

    def parcels(self) -> Iterator[Parcel]:
        """Yield the missing entries as parcels, in order, with their record and line numbers in the source.

        Raises:
            SourceError: if a file does not match its format, if its compression is damaged, or if its header differs.
            ParcelqError: if a file cannot be read, or has changed.
        """
        self.end, self.lines = len(self.header), self.header.count(b"\n")
        if self.header:
            self.parts.add(len(self.header), 0)
        parcels = self._of_files()
        if len(self.source.files) > 1:
            parcels = _joined(parcels, self.format, self.parcel_size, self.max_bytes)
        return parcels

    def _of_files(self) -> Iterator[Parcel]:
        before = 0
        for file in self.source.files:
            with file.opened() as raw, naming_source(file.name):
                yield from self._of_file(file, raw, before, is_last=file is self.source.files[-1])
            before += file.state.size

    def _of_file(self, file: LocalFile, raw: IO[bytes], before: int, *, is_last: bool) -> Iterator[Parcel]:
        opened = open_source(raw, file.name, is_text=self.is_text)
        header, stream = split_header(opened.stream, self.format)
        if header and _plain(header) != _plain(self.header):
            raise SourceError(file.name, f"its header differs from that of {self.source.files[0].name!r}")
        lines = header.count(b"\n")
        # Errors name records and lines of the file; parcels name records and lines of the source.
        origin = Beginning(file.name, self.end - len(header), self.entries, self.lines - lines)
        first = not self.begins
        self.begins.append(origin._replace(start=0 if first else self.end))
        entries = stream if is_last else _Ended(stream)
        for stretch, is_missing in self._stretches(entries):
            at = Parcel(self.end - origin.start, b"", 0, self.entries - origin.record + 1, self.lines - origin.line + 1)
            size, room = (self.parcel_size, self.max_bytes) if is_missing else (_COUNTED_ENTRIES, _COUNTED_BYTES)
            for one in cut(
                stretch, self.format, size, room, start=at.start, record=at.record, line=at.line, strict=is_missing
            ):
                parcel = one
                if not first:
                    start, record, line = one.start + origin.start, one.record + origin.record, one.line + origin.line
                    parcel = Parcel(start, one.data, one.entries, record, line)
                self.end, self.entries = parcel.end, self.entries + one.entries
                self.lines += self.format.lines(one.data, one.entries)
                self.parts.add(len(one.data), one.entries)
                self.on_read(before + raw.tell(), self.end)
                if is_missing:
                    yield parcel
        self.warnings += opened.warnings

    def _stretches(self, stream: Readable) -> Iterator[tuple[Readable, bool]]:
        """Split a file's stream into done and missing bytes; yield each stream, and whether it is missing."""
        starts = [start for start, _ in self.missing]
        begin = -1
        while self.end != begin:  # the file has ended if the stream is empty
            begin = self.end
            number = bisect_right(starts, begin) - 1
            if number >= 0 and begin < self.missing[number][1]:
                yield FirstBytes(stream, self.missing[number][1] - begin), True
            else:
                mark = bisect_right(self.marks, begin)
                until = min([*starts[number + 1 : number + 2], *self.marks[mark : mark + 1], MAX_POSITION])
                yield FirstBytes(stream, until - begin), False


class _Ended:
    """Yields the bytes of another stream, and adds a line end if the last line has none."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._lacks_end = False

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        block = self._stream.read(size)
        if block:
            self._lacks_end = not block.endswith(b"\n")
        elif self._lacks_end and size:
            block, self._lacks_end = b"\n", False
        return block


def _joined(parcels: Iterator[Parcel], fmt: Format, size: int, max_bytes: int) -> Iterator[Parcel]:
    """Join small adjacent parcels, such as the parcels of files with one record each."""
    held: list[Parcel] = []
    entries = length = 0
    for parcel in parcels:
        fits = entries + parcel.entries <= size and length + len(parcel.data) <= max_bytes
        if held and not (fits and held[-1].end == parcel.start and _ends_clearly(held[-1].data)):
            yield from _flushed(held, entries, fmt)
            held, entries, length = [], 0, 0
        held.append(parcel)
        entries, length = entries + parcel.entries, length + len(parcel.data)
    yield from _flushed(held, entries, fmt)


def _flushed(held: list[Parcel], entries: int, fmt: Format) -> list[Parcel]:
    if len(held) < 2:
        return held
    data = b"".join([one.data for one in held])
    # Parcels are joined only if that does not change their records.
    return [held[0]._replace(data=data, entries=entries)] if fmt.count(data) == entries else held


def _ends_clearly(data: bytes) -> bool:
    return data.endswith(b"\n") and not data.endswith(_BLANK) and data != b"\n"


def _plain(header: bytes) -> bytes:
    return header.removeprefix(BOM).rstrip(b"\r\n")
