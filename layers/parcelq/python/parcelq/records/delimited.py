r"""CSV and TSV: entries end at line ends outside of quotes.

According to RFC 4180, counting quotes is enough: every `"` opens or closes a quoted part, and `""` does both. A line
end ends an entry if the number of quotes before the line end is even. The delimiter does not matter. An empty line is
an entry, as in Python's csv module. A `\r` without `\n` does not end an entry.

If an unquoted field contains a quote (`5" disk`), Python's csv module treats the quote as a letter, so counting quotes
would be wrong. An even number of such quotes in one line does no harm. If a line has an odd number of quotes, the entry
seems to continue in the next line. Then `check` verifies that the quotes are where fields begin and end. If they
are not, the source is refused, because any cut would be a guess.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import ClassVar, Final

from parcelq.limits import MIB
from parcelq.records.format import Flaw, Format
from parcelq.records.markers import nth

_QUOTE: Final = b'"'
_NO_SIGNALS: Final = bytes(code for code in range(256) if code not in b'"\n')
_WORDS: Final = bytes(ord("w") if bytes((code,)).isalnum() or code >= 0x80 else code for code in range(256))
"""Maps letters, digits and bytes that are not ASCII to the letter `w`."""
_LEAST_WINDOW: Final = 1024
_MOST_WINDOW: Final = MIB
_NEAR: Final = 16
"""A quote is searched from the end of the bytes if fewer than a sixteenth of all quotes come after the quote."""


@dataclass(frozen=True, slots=True)
class Delimited(Format):
    """CSV, TSV and similar formats. The header is the first record, after an optional byte-order mark."""

    name: str = "csv"
    header: int = 1

    usual_header: ClassVar[int] = 1
    two_phases: ClassVar[bool] = True

    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        return self.scan(data, at, stop, wanted, mean)[:2]

    def scan(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int, bool]:
        """Skip entries; also check the quotes of records that span several lines."""
        end, left, size, unsure = at, wanted, 0, False
        while left and end < stop:
            size = min(max(int(min(left * mean, stop)), _LEAST_WINDOW, 2 * size), max(_MOST_WINDOW, 2 * size))
            window = min(stop, end + size)
            if data.find(_QUOTE, end, window) < 0:
                found, passed = nth(data, b"\n", end, window, left, mean)
            elif b'"\n' not in _signals(data[end : min(window, end + _LEAST_WINDOW)]):
                passed, lines = _in_quoted(data[end:window], left)
                found, _ = nth(data, b"\n", end, window, lines, mean * passed / lines) if passed else (-1, 0)
                unsure |= lines > passed
            else:
                found, passed, stray = _by_pieces(data, end, window, left)
                unsure |= stray
            if passed:
                end, left, size = found + 1, left - passed, 0
            elif window == stop:
                break
        return end, wanted - left, unsure

    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        here, line_end = at, data.find(b"\n", at - 1)
        while True:
            quote = data.find(_QUOTE, here)
            if not inside:
                if 0 <= line_end < here - 1:
                    line_end = data.find(b"\n", here)
                if line_end >= 0 and (quote < 0 or line_end < quote):
                    return line_end + 1, line_end + 1
            if quote < 0:
                return len(data), -1
            here, inside = quote + 1, not inside

    def inside(self, data: bytes, inside: bool) -> bool:
        return inside ^ (data.count(_QUOTE) % 2 == 1)

    def lines(self, data: bytes, entries: int) -> int:
        return data.count(b"\n") if _QUOTE in data else entries - (not data.endswith(b"\n"))

    def check(self, data: bytes, entries: int, lines: int) -> Flaw | None:
        if lines <= entries or not (_is_stray_in(data) and _has_stray(data)):
            return None
        for entry in self.locate(data, range(entries)):
            if _has_stray(data[entry.start : entry.end]):
                reason = (
                    "has a quote in the middle of a field, so the end of the record is ambiguous; put the field in"
                    ' quotes and double the quotes in it, or choose the format "lines header=1" if no field has a line'
                    " end in it"
                )
                return Flaw(entry.number, entry.line, entry.start, reason)
        return None

    def unended(self, tail: bytes) -> str | None:
        return "has a quote that is not closed before the source ends" if tail.count(_QUOTE) % 2 else None

    def pass_header(self, data: bytes) -> tuple[int, int]:
        return self.advance(data, 0, len(data), self.header, 64.0)

    def header_flaw(self, header: bytes) -> str | None:
        flaw = self.check(header, self.header, header.count(b"\n"))
        reason = flaw.reason if flaw else self.unended(header)
        if reason is None and b"\r" in b"".join(header.replace(b"\r\n", b"\n").split(_QUOTE)[::2]):
            reason = 'ends lines with a lone "\\r"; convert them to "\\n" or "\\r\\n"'
        return reason


def _in_quoted(window: bytes, wanted: int) -> tuple[int, int]:
    """Count the entries that end in a window, up to `wanted` entries, and the lines of these entries. The window starts
    with an entry.

    All bytes except quotes and line ends are removed. Pairs of quotes are removed too, because pairs do not affect
    later line ends. After that, one quote remains for each line with an odd number of quotes.
    """
    pieces = _signals(window).split(_QUOTE)
    # How many entries have ended at the end of each part outside quotes.
    outside = list(accumulate(map(len, pieces[::2])))
    passed = min(wanted, outside[-1])
    if not passed:
        return 0, 0
    piece = bisect_left(outside, passed)
    return passed, passed + sum(map(len, pieces[1 : 2 * piece : 2]))


def _by_pieces(data: bytes, at: int, stop: int, wanted: int) -> tuple[int, int, bool]:
    """Find the end of the `wanted`-th entry in `data[at:stop]`. These bytes start with an entry.

    This function searches every part between quotes, which is faster if many line ends are inside quotes.

    Returns:
        The offset of the line end and the number of entries up to this line end, or `(-1, 0)` if no entry ends; and
        whether a stray quote comes before the line end.
    """
    pieces = data[at:stop].split(_QUOTE)
    outside = _QUOTE.join(pieces[::2])
    passed = outside.count(b"\n")
    if not passed:
        return -1, 0, False
    place, passed = nth(outside, b"\n", 0, len(outside), min(wanted, passed), len(outside) / passed)
    begin = outside.rfind(_QUOTE, 0, place) + 1
    quotes = 2 * outside.count(_QUOTE, 0, begin)
    start = _after_quote(data, at, stop, quotes, len(pieces) - 1)
    return start + place - begin, passed, _has_stray_side(outside[:place])


def _after_quote(data: bytes, at: int, stop: int, number: int, count: int) -> int:
    """Return the offset after the `number`-th quote, counted from 1, of the `count` quotes in `data[at:stop]`."""
    if not number:
        return at
    if count - number >= number // _NEAR:
        return nth(data, _QUOTE, at, stop, number, (stop - at) / count)[0] + 1
    found = stop
    for _ in range(count - number + 1):
        found = data.rfind(_QUOTE, at, found)
    return found + 1


def _signals(data: bytes) -> bytes:
    """Remove all bytes except line ends, and except one quote for each line with an odd number of quotes."""
    return data.translate(None, _NO_SIGNALS).replace(b'""', b"")


def _has_stray_side(outside: bytes) -> bool:
    """Return what `_is_stray_in` returns, given the text outside quotes, with one quote for each quoted part."""
    words = outside.translate(_WORDS)
    return b'w"' in words or b'"w' in words


def _is_stray_in(data: bytes) -> bool:
    """Return whether a quote opens after, or closes before, a letter or digit, in bytes that begin outside quotes."""
    return _has_stray_side(_QUOTE.join(data.split(_QUOTE)[::2]))


def _has_stray(data: bytes) -> bool:
    """Return whether lines with an odd number of quotes have a stray quote. In other lines, stray quotes do no harm."""
    signals = _signals(data)
    if _QUOTE not in signals:
        return False
    return _is_stray_in(b"\n".join(compress(data.split(b"\n"), signals.split(b"\n"))))
