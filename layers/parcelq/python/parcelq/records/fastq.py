"""FASTQ: entries of four lines. The starts of entries can be found from the middle of a source."""

from __future__ import annotations

from dataclasses import dataclass

from parcelq.records.format import BOM, Flaw, Format
from parcelq.records.lines import Lines

_LINES = Lines("", 4)
_MARKS = (b"@", b"+")


@dataclass(frozen=True, slots=True)
class Fastq(Format):
    """FASTQ, in which an entry has four lines: `@` and a name, the sequence, `+`, the quality.

    Sequences over several lines are not supported. The check requires the characters `@` and `+`, and that the sequence
    begins with neither of these characters. So a quality line, which may begin with either character, is never mistaken
    for an entry's start. The step has to check that sequence and quality have the same length.
    """

    name: str = "fastq"
    header: int = 0

    @property
    def keeps_blank_end(self) -> bool:
        return True

    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        return _LINES.advance(data, at, stop, wanted, mean)

    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        """Find an entry whose first three lines begin with `@`, with neither `@` nor `+`, and with `+`."""
        place = data.find(b"\n", at - 1) + 1
        while place:
            second = data.find(b"\n", place) + 1
            third = data.find(b"\n", second) + 1 if second else 0
            if not third or third == len(data):
                return place, -1
            marks = data[place : place + 1], data[second : second + 1], data[third : third + 1]
            if marks[0] == b"@" and marks[1] not in _MARKS and marks[2] == b"+":
                return place, place
            place = second
        return len(data), -1

    def check(self, data: bytes, entries: int, lines: int) -> Flaw | None:
        parted = data.removeprefix(BOM).split(b"\n")[: 4 * entries]
        if (
            {line[:1] for line in parted[::4]} <= {b"@"}
            and {line[:1] for line in parted[1::4]}.isdisjoint(_MARKS)
            and {line[:1] for line in parted[2::4]} <= {b"+"}
        ):
            return None
        return _first_flaw(parted, entries)

    def unended(self, tail: bytes) -> str | None:
        lines = tail.removeprefix(BOM).split(b"\n")
        lines = lines if lines[-1] else lines[:-1]
        if len(lines) == 4:
            return None
        return _why(lines) or f"has only {len(lines)} of the four lines of a FASTQ record"


def _first_flaw(lines: list[bytes], entries: int) -> Flaw | None:
    """Return the place and reason of the first invalid entry. If an earlier entry has a sequence and a quality of
    different lengths, return that entry, because it may lack a line.
    """
    suspect = None
    for number in range(entries):
        four = lines[4 * number : 4 * number + 4]
        reason = _why(four)
        lengths = [len(line.rstrip(b"\r")) for line in four[1::2]]
        if reason is None and suspect is None and len(set(lengths)) > 1:
            suspect = (
                number,
                f"has a sequence of {lengths[0]} and a quality of {lengths[1]} letters; is a line missing?",
            )
        if reason is not None:
            first, why = suspect or (number, reason)
            return Flaw(first, 4 * first, sum(len(line) + 1 for line in lines[: 4 * first]), why)
    return None


def _why(lines: list[bytes]) -> str | None:
    """Return why some lines, at most four, cannot be an entry; None if the lines can be an entry."""
    marks = [line[:1] for line in lines]
    if marks[:1] not in ([], [b"@"]):
        return "does not begin with '@'"
    if marks[1:2] and marks[1] in _MARKS:
        return f"has a sequence that begins with {marks[1].decode()!r}"
    if marks[2:3] not in ([], [b"+"]):
        return "has a third line that does not begin with '+'; sequences over several lines are not supported"
    return None
