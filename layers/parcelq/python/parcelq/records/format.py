"""What every record format offers: one small interface, on which cutting, counting and finding are built."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError, RecordError

BOM: Final = b"\xef\xbb\xbf"
"""UTF-8's byte-order mark. It belongs to the header, or to the first entry where the format has no header."""

MAX_HEADER_BYTES: Final = 1 << 20
"""The longest header that is read. A longer one is a file of another format, or a quote that is never closed."""

USUAL_BYTES: Final = 64.0
"""A first guess of an entry's length; a wrong guess costs time, never a wrong result."""


class Flaw(NamedTuple):
    """Where and why some bytes do not fit their format.

    Attributes:
        entry: number of the entry, from 0.
        line: how many line ends lie between the first byte and that entry.
        offset: how many bytes do.
        reason: what is wrong, as the end of a sentence that begins with the entry's place.
    """

    entry: int
    line: int
    offset: int
    reason: str


class Part(NamedTuple):
    """Consecutive entries of a body: `body[start:end]` holds `entries` of them."""

    start: int
    end: int
    entries: int


class Entry(NamedTuple):
    """One entry of a body: `body[start:end]`.

    Attributes:
        number: its number in the body, from 0.
        start: offset of its first byte.
        end: offset just after its last byte.
        line: how many line ends lie before it in the body.
    """

    number: int
    start: int
    end: int
    line: int


class Closing(NamedTuple):
    """How a body or a source ends.

    Attributes:
        start: where the last entry starts, if its end is only the end of the bytes; otherwise just after the bytes.
        entries: how many entries lie before `start`.
        unended: whether that last entry lacks the end that its format asks for (a line's `\\n`, an end line, …).
    """

    start: int
    entries: int
    unended: bool


class Format(ABC):
    """A record format. Its values are immutable, can be compared, hashed and pickled; `str()` gives the short text.

    Every byte belongs to exactly one entry or to the header, so entries in a row cover their bytes without a gap.

    Subclasses define the abstract methods below; they are pure and never raise for strange bytes.
    """

    __slots__ = ()

    name: str
    """`csv`, `fasta`, …; empty for a format that a user made of `starts`, `ends` or `lines`."""
    header: int
    """How many lines (CSV and TSV: records) at the beginning of a source are its header."""

    @property
    def ranges(self) -> bool:
        """Whether a source can be cut from the middle (see `parcelq.records.ranges`)."""
        return True

    @property
    def two_phases(self) -> bool:
        """Whether ranges must first be scanned with `flips`, since an entry's start depends on all bytes before it."""
        return False

    @property
    def keeps_blank_end(self) -> bool:
        """Whether blank lines after the last entry belong to it; otherwise each is an entry, or part of one anyway."""
        return False

    def own_text(self) -> str:
        """The short text without the header: `csv`, `starts=">"`, …"""
        return self.name

    def usual_header(self) -> int:
        """The `header` that the short text leaves out."""
        return 0

    @property
    def lookahead(self) -> int:
        """How many bytes after an entry's end are needed to recognise that end."""
        return 0

    @abstractmethod
    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        """Go past the next `wanted` entries whose ends lie in `data[at:stop]`.

        Args:
            data: bytes; those after `stop` are looked at only to recognise an end at `stop`.
            at: where an entry starts.
            stop: no entry that ends after it is passed.
            wanted: how many entries to pass, at least 1.
            mean: about how many bytes an entry has; a wrong value costs only time.

        Returns:
            Where the last entry that was passed ends, and how many were passed; `(at, 0)` if none was.
        """

    def scan(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int, bool]:
        """As `advance`, and whether the entries must be looked through with `check`."""
        return *self.advance(data, at, stop, wanted, mean), True

    @abstractmethod
    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        """Find the first entry that starts at or after `at`, from the middle of a source.

        Args:
            data: bytes of the source, among them the one before `at`.
            at: where to begin, at least 1.
            inside: what `inside` gave for all bytes of the source before `at`.

        Returns:
            `(place, start)`: the entry starts at `start`, and belongs to the range in which `place` lies. `place` is
            `start`, except for formats with an end line, where it is the start of the end line before it.
            `(place, -1)` if none is found yet: no entry starts in `data[at:place]`, so the search can go on there.
        """

    def inside(self, data: bytes, inside: bool) -> bool:
        """Whether the bytes after `data` begin inside quotes, if those of `data` do or do not."""
        return False

    def lines(self, data: bytes, entries: int) -> int:
        """How many line ends this number of whole entries has."""
        return data.count(b"\n")

    def line_ends(self, data: bytes, entries: int) -> int:
        """How many line ends `entries` entries have. The last one may lack its end."""
        return data.count(b"\n")

    def check(self, data: bytes, entries: int, lines: int) -> Flaw | None:
        """Look for the first of these entries, with so many line ends, that does not fit the format."""
        return None

    def unended(self, tail: bytes) -> str | None:
        """Why a source must not end with this incomplete entry; None if it may."""
        return None

    def __str__(self) -> str:
        header = "" if self.header == self.usual_header() else f" header={self.header}"
        return self.own_text() + header

    def header_end(self, data: bytes, last: bool) -> int | None:
        """Find the end of the header in the first bytes of a source.

        Args:
            data: the source's first bytes.
            last: whether the source ends where `data` does.

        Returns:
            How many bytes the header has, its line end included; None if more bytes are needed to tell.

        Raises:
            RecordError: there is no header that fits the format, or it is longer than `MAX_HEADER_BYTES`.
        """
        if not self.header:
            return 0
        end, passed = self.pass_header(data)
        if passed < self.header and not last and len(data) <= MAX_HEADER_BYTES:
            return None
        if passed < self.header:
            end = len(data)
        reason = f"is longer than {MAX_HEADER_BYTES} bytes" if end > MAX_HEADER_BYTES else self.header_flaw(data[:end])
        if reason is not None:
            raise RecordError(str(self), reason, record=0, line=1, offset=0)
        return end

    def pass_header(self, data: bytes) -> tuple[int, int]:
        """Go past the header's lines; as `advance`."""
        at = 0
        for passed in range(self.header):
            found = data.find(b"\n", at)
            if found < 0:
                return at, passed
            at = found + 1
        return at, self.header

    def header_flaw(self, header: bytes) -> str | None:
        """Why this cannot be the header; None if it can."""
        return None

    def closing(self, data: bytes, at: int = 0) -> Closing:
        """Describe how the last bytes of a body or a source end, from the entry that starts at `at`."""
        end, entries = self.advance(data, at, len(data), sys.maxsize, USUAL_BYTES)
        if end == len(data):
            return Closing(end, entries, unended=False)
        if entries and self.keeps_blank_end and is_blank(data, end):
            if entries == 1:
                return Closing(at, 0, unended=False)
            start, _ = self.advance(data, at, len(data), entries - 1, (end - at) / entries)
            return Closing(start, entries - 1, unended=False)
        return Closing(end, entries, unended=True)

    def count(self, body: bytes) -> int:
        """Count the entries of a body (without a header), whether or not the last one has its end."""
        closing = self.closing(body)
        return closing.entries + (closing.start < len(body))

    def parts(self, body: bytes, size: int) -> Iterator[Part]:
        """Cut a body into parts of `size` entries, the last one perhaps smaller, without copying it.

        Raises:
            InvalidValueError: `size` is below 1.
        """
        if size < 1:
            raise InvalidValueError("size", size, "at least 1")
        closing, at = self.closing(body), 0
        mean = USUAL_BYTES
        while at < len(body):
            end, entries = self.advance(body, at, closing.start, size, mean) if at < closing.start else (at, 0)
            if entries < size and closing.start < len(body):
                end, entries = len(body), entries + 1
            yield Part(at, end, entries)
            at, mean = end, (end - at) / entries

    def locate(self, body: bytes, numbers: Iterable[int]) -> Iterator[Entry]:
        """Find entries of a body by their numbers, in one pass.

        Args:
            body: the entries, without a header.
            numbers: numbers from 0, each greater than the one before it.

        Raises:
            InvalidValueError: there is no such entry, or the numbers do not grow.
        """
        closing, at, passed, line = self.closing(body), 0, 0, 0
        count = closing.entries + (closing.start < len(body))
        for number in numbers:
            if not passed <= number < count:
                raise InvalidValueError("entry", number, f"from {passed} to {count - 1}, in growing order")
            if number > passed:
                start, _ = self.advance(body, at, closing.start, number - passed, USUAL_BYTES)
                line += body.count(b"\n", at, start)
                at = start
            end = len(body) if at == closing.start else self.advance(body, at, closing.start, 1, USUAL_BYTES)[0]
            yield Entry(number, at, end, line)
            line += body.count(b"\n", at, end)
            at, passed = end, number + 1


def is_blank(data: bytes, at: int) -> bool:
    """Whether nothing but white space follows `at`."""
    return not data[at : at + 64].strip() and not data[at:].strip()
