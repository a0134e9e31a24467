"""The interface of record formats, on which cutting, counting and searching are built."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from parcelq.errors import InvalidValueError, RecordError

BOM: Final = b"\xef\xbb\xbf"
"""UTF-8's byte-order mark. It belongs to the header, or to the first entry if the format has no header."""

MAX_HEADER_BYTES: Final = 1 << 20
"""The most bytes of a header. A longer header means another format, or a quote that is never closed."""

USUAL_BYTES: Final = 64.0
"""A first guess of an entry's length; a wrong guess costs time, never a wrong result."""


class Flaw(NamedTuple):
    """The place and reason where bytes do not match their format.

    Attributes:
        entry: number of the entry, from 0.
        line: number of line ends before that entry.
        offset: number of bytes before that entry.
        reason: the mistake, as the end of a sentence that begins with the entry's place.
    """

    entry: int
    line: int
    offset: int
    reason: str


class Part(NamedTuple):
    """Consecutive entries of a body: `body[start:end]` contains `entries` of them."""

    start: int
    end: int
    entries: int


class Entry(NamedTuple):
    """One entry of a body: `body[start:end]`.

    Attributes:
        number: its number in the body, from 0.
        start: offset of its first byte.
        end: offset just after its last byte.
        line: number of line ends before it in the body.
    """

    number: int
    start: int
    end: int
    line: int


class Closing(NamedTuple):
    """The end of a body or a source.

    Attributes:
        start: start of the last entry, if only the end of the bytes ends it; otherwise the end of the bytes.
        entries: number of entries before `start`.
        unended: whether that last entry lacks the end that its format requires (a line's `\\n`, an end line, …).
    """

    start: int
    entries: int
    unended: bool


class Format(ABC):
    """A record format. Its values are immutable, can be compared, hashed and pickled; `str()` gives the short text.

    Every byte belongs to exactly one entry or to the header, so consecutive entries have no gaps.

    Subclasses define the abstract methods below; they are pure and never raise because of the bytes.
    """

    __slots__ = ()

    name: str
    """`csv`, `fasta`, …; empty for a user-defined format with `starts`, `ends` or `lines`."""
    header: int
    """Number of lines (CSV and TSV: records) at the beginning of a source that are its header."""

    @property
    def ranges(self) -> bool:
        """Whether a source can be cut from the middle (see `parcelq.records.ranges`)."""
        return True

    @property
    def two_phases(self) -> bool:
        """Whether ranges must first be scanned with `flips`, because an entry's start depends on all bytes before
        it.
        """
        return False

    @property
    def keeps_blank_end(self) -> bool:
        """Whether blank lines after the last entry belong to it; otherwise they are entries or parts of entries."""
        return False

    def own_text(self) -> str:
        """The short text without the header: `csv`, `starts=">"`, …"""
        return self.name

    def usual_header(self) -> int:
        """The value of `header` that the short text omits."""
        return 0

    @property
    def lookahead(self) -> int:
        """Number of bytes after an entry's end that are needed to recognise the end."""
        return 0

    @abstractmethod
    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        """Skip the next `wanted` entries that end in `data[at:stop]`.

        Args:
            data: bytes; those after `stop` are only used to recognise an end at `stop`.
            at: start of an entry.
            stop: entries that end after it are not skipped.
            wanted: most entries to skip, at least 1.
            mean: approximate bytes of an entry; a wrong value costs only time.

        Returns:
            The end of the last skipped entry, and the number of skipped entries; `(at, 0)` if none.
        """

    def scan(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int, bool]:
        """Like `advance`; also return whether the entries must be checked with `check`."""
        return *self.advance(data, at, stop, wanted, mean), True

    @abstractmethod
    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        """Find the first entry that starts at or after `at`, from the middle of a source.

        Args:
            data: bytes of the source, including the byte before `at`.
            at: where to begin, at least 1.
            inside: the value of `inside` for all bytes of the source before `at`.

        Returns:
            `(place, start)`: the entry starts at `start`, and belongs to the range that contains `place`. `place` is
            `start`, except for formats with an end line, where it is the start of the end line before it. `(place, -1)`
            if none is found yet: no entry starts in `data[at:place]`, so the search can continue at `place`.
        """

    def inside(self, data: bytes, inside: bool) -> bool:
        """Return whether the bytes after `data` begin inside quotes, given whether `data` begins inside quotes."""
        return False

    def lines(self, data: bytes, entries: int) -> int:
        """Return the number of line ends of whole entries."""
        return data.count(b"\n")

    def line_ends(self, data: bytes, entries: int) -> int:
        """Return the number of line ends of `entries` entries. The last one may lack its end."""
        return data.count(b"\n")

    def check(self, data: bytes, entries: int, lines: int) -> Flaw | None:
        """Find the first of these entries, with `lines` line ends, that does not match the format."""
        return None

    def unended(self, tail: bytes) -> str | None:
        """Return why a source must not end with this incomplete entry; None if it may."""
        return None

    def __str__(self) -> str:
        header = "" if self.header == self.usual_header() else f" header={self.header}"
        return self.own_text() + header

    def header_end(self, data: bytes, last: bool) -> int | None:
        """Find the end of the header in the first bytes of a source.

        Args:
            data: the source's first bytes.
            last: whether `data` is the whole source.

        Returns:
            The bytes of the header, including its line end; None if more bytes are needed.

        Raises:
            RecordError: the header is missing or invalid, or it is longer than `MAX_HEADER_BYTES`.
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
        """Skip the lines of the header; see `advance`."""
        at = 0
        for passed in range(self.header):
            found = data.find(b"\n", at)
            if found < 0:
                return at, passed
            at = found + 1
        return at, self.header

    def header_flaw(self, header: bytes) -> str | None:
        """Return why this cannot be the header; None if it can."""
        return None

    def closing(self, data: bytes, at: int = 0) -> Closing:
        """Describe the end of a body or a source, from the entry that starts at `at`."""
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
        """Count the entries of a body without a header; the last one may lack its end."""
        closing = self.closing(body)
        return closing.entries + (closing.start < len(body))

    def parts(self, body: bytes, size: int) -> Iterator[Part]:
        """Cut a body into parts of `size` entries without copying it; the last part may be smaller.

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
            InvalidValueError: an entry does not exist, or the numbers are not ascending.
        """
        closing, at, passed, line = self.closing(body), 0, 0, 0
        count = closing.entries + (closing.start < len(body))
        for number in numbers:
            if not passed <= number < count:
                raise InvalidValueError("entry", number, f"from {passed} to {count - 1}, in ascending order")
            if number > passed:
                start, _ = self.advance(body, at, closing.start, number - passed, USUAL_BYTES)
                line += body.count(b"\n", at, start)
                at = start
            end = len(body) if at == closing.start else self.advance(body, at, closing.start, 1, USUAL_BYTES)[0]
            yield Entry(number, at, end, line)
            line += body.count(b"\n", at, end)
            at, passed = end, number + 1


def is_blank(data: bytes, at: int) -> bool:
    """Return whether only white space follows `at`."""
    return not data[at : at + 64].strip() and not data[at:].strip()
