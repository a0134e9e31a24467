"""The interface of record formats. Cutting, counting and searching use only this interface."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final, NamedTuple

from parcelq.errors import InvalidValueError, RecordError

BOM: Final = b"\xef\xbb\xbf"
"""The byte-order mark of UTF-8. The mark belongs to the header, or to the first entry if the format has no header."""

MAX_HEADER_BYTES: Final = 1 << 20
"""How many bytes a header may have, at most. A longer one means that the format is wrong or a quote is not closed."""

USUAL_BYTES: Final = 64.0
"""A first guess of how many bytes an entry has. A wrong guess costs time, but never gives a wrong result."""


class Flaw(NamedTuple):
    """The place where bytes do not match their format, and the reason.

    Attributes:
        entry: the number of the entry with the mistake, counted from 0.
        line: how many line ends come before that entry.
        offset: how many bytes come before that entry.
        reason: the mistake, as the end of a sentence that begins with the entry's place.
    """

    entry: int
    line: int
    offset: int
    reason: str


class Entry(NamedTuple):
    """One entry of a body: `body[start:end]`. Its number counts from 0; `line` line ends of the body come before it."""

    number: int
    start: int
    end: int
    line: int


class Closing(NamedTuple):
    r"""The end of a body or of a source.

    Attributes:
        start: the start of the last entry if only the end of the bytes ends this entry; otherwise the end of the bytes.
        entries: how many entries come before `start`.
        unended: whether the last entry lacks the end that its format requires (the `\n` of a line, an end line, …).
    """

    start: int
    entries: int
    unended: bool


class Format(ABC):
    """A record format. Formats are immutable, and can be compared, hashed and pickled. `str()` returns the format's
    short text.

    Every byte of a source belongs to exactly one entry or to the header, so consecutive entries have no gaps.

    Subclasses define the abstract methods below. These methods are pure, and never raise an exception because of the
    bytes.
    """

    __slots__ = ()

    name: str
    """The name of the format: `csv`, `fasta`, …; empty for a user-defined format with `starts`, `ends` or `lines`."""
    header: int
    """How many lines (CSV and TSV: records) at the beginning of a source are the header."""
    usual_header: ClassVar[int] = 0
    """The value of `header` that the short text omits."""
    two_phases: ClassVar[bool] = False
    """Whether ranges must first be scanned with `flips`, because all bytes before an entry determine its start."""

    @property
    def ranges(self) -> bool:
        """Whether entries can be found from the middle of a source (see `parcelq.records.ranges`)."""
        return True

    @property
    def keeps_blank_end(self) -> bool:
        """Whether blank lines at the end of a source belong to the last entry, not to entries of their own."""
        return False

    def own_text(self) -> str:
        """Return the short text without the header: `csv`, `starts=">"`, …"""
        return self.name

    @property
    def lookahead(self) -> int:
        """How many bytes after an entry's end are needed to recognise the end."""
        return 0

    @abstractmethod
    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        """Skip up to `wanted` entries that end in `data[at:stop]`.

        Args:
            data: bytes of a source. The bytes after `stop` are used only to recognise an end at `stop`.
            at: the offset at which an entry starts.
            stop: an offset. Entries that end after `stop` are not skipped.
            wanted: how many entries to skip, at most; 1 or more.
            mean: about how many bytes an entry has; a wrong value costs only time.

        Returns:
            The end of the last skipped entry, and the number of skipped entries; `(at, 0)` if no entry was skipped.
        """

    def scan(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int, bool]:
        """Skip entries like `advance`; also return whether the skipped entries must be checked with `check`."""
        return *self.advance(data, at, stop, wanted, mean), True

    @abstractmethod
    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        """Find the first entry that starts at or after `at`, without the bytes of the source before `data`.

        Args:
            data: bytes of the source, including the byte before `at`, which is at least 1.
            inside: the result of the method `inside` for all bytes of the source before `at`.

        Returns:
            `(place, start)`: the entry starts at `start`, and belongs to the range that contains `place`. `place`
            equals `start`, except in formats with an end line: there, `place` is the start of the end line before the
            entry. `(place, -1)` if no entry is found yet: no entry starts in `data[at:place]`, so the search can
            continue at `place`.
        """

    def inside(self, data: bytes, inside: bool) -> bool:
        """Return whether the bytes after `data` begin inside quotes, given whether `data` begins inside quotes."""
        return False

    def lines(self, data: bytes, entries: int) -> int:
        """Return how many line ends some entries have. The last entry may lack its end."""
        return data.count(b"\n")

    def check(self, data: bytes, entries: int, lines: int) -> Flaw | None:
        """Find the first of `entries` entries, with `lines` line ends, that does not match; None if all match."""
        return None

    def unended(self, tail: bytes) -> str | None:
        """Return why a source must not end with the incomplete entry `tail`; None if the source may end so."""
        return None

    def __str__(self) -> str:
        header = "" if self.header == self.usual_header else f" header={self.header}"
        return self.own_text() + header

    def header_end(self, data: bytes, last: bool) -> int | None:
        """Return how many of the first bytes of a source are the header with its line end; None if more are needed.

        `last` says whether `data` is the whole source.

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
        """Return why bytes cannot be the header; None if they can be the header."""
        return None

    def closing(self, data: bytes) -> Closing:
        """Describe the end of a body or of a source without a header."""
        end, entries = self.advance(data, 0, len(data), sys.maxsize, USUAL_BYTES)
        if end == len(data):
            return Closing(end, entries, unended=False)
        if entries and self.keeps_blank_end and is_blank(data, end):
            if entries == 1:
                return Closing(0, 0, unended=False)
            start, _ = self.advance(data, 0, len(data), entries - 1, end / entries)
            return Closing(start, entries - 1, unended=False)
        return Closing(end, entries, unended=True)

    def count(self, body: bytes) -> int:
        """Count the entries of a body without a header. The last entry may lack its end."""
        closing = self.closing(body)
        return closing.entries + (closing.start < len(body))

    def split(self, body: bytes) -> Iterator[bytes]:
        """Yield the entries of a body without a header."""
        last, at, mean = self.closing(body).start, 0, USUAL_BYTES
        while at < last:
            end, _ = self.advance(body, at, last, 1, mean)
            yield body[at:end]
            at, mean = end, end - at
        if last < len(body):
            yield body[last:]

    def locate(self, body: bytes, numbers: Iterable[int]) -> Iterator[Entry]:
        """Find entries of a body without a header by their ascending numbers, counted from 0, in one pass.

        Raises InvalidValueError if an entry does not exist, or if the numbers are not ascending.
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
    """Return whether only white space follows the offset `at`."""
    return not data[at : at + 64].strip() and not data[at:].strip()
