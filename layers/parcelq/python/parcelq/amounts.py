"""Formats numbers, sizes and durations for people."""

from __future__ import annotations

from collections.abc import Iterable


def amount(count: int, noun: str) -> str:
    """Return a count and a noun, such as `1 record` or `2,000 entries`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} " + (f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s")


def size(count: float) -> str:
    """Return a number of bytes as text, such as `999 bytes` or `1.2 MB`."""
    for name, unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return amount(int(count), "byte")


def dollars(usd: float) -> str:
    """Return an amount of US dollars as text, with at least two significant digits."""
    if usd >= 1:
        return f"${usd:,.2f}"
    places = next((places for places in range(2, 9) if usd * 10**places >= 10 or not usd), 9)
    return f"${usd:.{places}f}"


def duration(seconds: float) -> str:
    """Return a duration as text, such as `1.8 ms`, `0.4 s`, `12 s`, `3 min 05 s` or `2 h 10 min`."""
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def percent(part: float, whole: float) -> str:
    """Return a share as a percentage. The text is 0 % or 100 % only if the share is exactly 0 or 1."""
    share = 100 * part / whole if whole else 0.0
    for places in (1, 3, 6):
        shown = f"{share:.{places}f}"
        if (float(shown) > 0 or part <= 0) and (float(shown) < 100 or part >= whole):
            return f"{float(shown):g} %" if shown.endswith("0") else f"{shown} %"
    return "almost 0 %" if share < 50 else "almost 100 %"


def listed(texts: Iterable[str]) -> str:
    """Return texts joined to one text, such as `a`, `a and b` or `a, b and c`."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
