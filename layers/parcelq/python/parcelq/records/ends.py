"""Entries that end with a line that begins with a given text: SDF (`$$$$`), and user-defined formats."""

from __future__ import annotations

import json
from dataclasses import dataclass

from parcelq.records.format import Format
from parcelq.records.markers import nth


@dataclass(frozen=True, slots=True)
class Ends(Format):
    """An entry ends with a line that begins with `text`, as in RDKit.

    A source must end with such a line. Only blank lines may follow; they belong to the last entry.
    """

    text: bytes
    name: str = ""
    header: int = 0

    @property
    def keeps_blank_end(self) -> bool:
        return True

    def own_text(self) -> str:
        return self.name or f"ends={json.dumps(self.text.decode())}"

    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        begin, end, passed = at, at, 0
        # Such an entry consists of its end line alone, and there may be no line end before the end line in `data`.
        if data.startswith(self.text, at):
            end = data.find(b"\n", at, stop) + 1
            if not end:
                return at, 0
            begin, passed = end - 1, 1
            if wanted == 1:
                return end, 1
        marker = b"\n" + self.text
        found, entries = nth(data, marker, begin, stop, wanted - passed, mean)
        if not entries:
            return end, passed
        line_end = data.find(b"\n", found + len(marker), stop)
        if line_end < 0:  # the last end line continues after `stop`, so its entry does not end before `stop`
            entries -= 1
            if not entries:
                return end, passed
            found = data.rfind(marker, begin, found + len(self.text))
            line_end = data.find(b"\n", found + len(marker), stop)
        return line_end + 1, passed + entries

    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        found = data.find(b"\n" + self.text, at - 1)
        if found < 0:
            return max(at, len(data) + 1 - len(self.text)), -1
        line_end = data.find(b"\n", found + 1)
        return (found + 1, line_end + 1) if line_end >= 0 else (found + 1, -1)

    def unended(self, tail: bytes) -> str | None:
        if tail[tail.rfind(b"\n") + 1 :].startswith(self.text):
            return None  # only the line end of the end line is missing
        return f"has no end line {self.text.decode()!r} before the source ends"
