"""Lines, and entries that consist of a fixed number of lines."""

from __future__ import annotations

from dataclasses import dataclass

from parcelq.records.format import Format
from parcelq.records.markers import nth

_END = b"\n"


@dataclass(frozen=True, slots=True)
class Lines(Format):
    r"""An entry is one line, or `size` lines. A line ends with `\n`, but the last line of a source may lack the `\n`.

    A `\r` without `\n` does not end a line. The `\r` of `\r\n` belongs to the line.
    """

    name: str = "lines"
    size: int = 1
    header: int = 0

    @property
    def ranges(self) -> bool:
        return self.size == 1

    @property
    def keeps_blank_end(self) -> bool:
        return self.size > 1

    def own_text(self) -> str:
        return self.name or f"lines={self.size}"

    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        size = self.size
        found, lines = nth(data, _END, at, stop, wanted * size, mean / size)
        entries, rest = divmod(lines, size)
        if not entries:
            return at, 0
        for _ in range(rest):
            found = data.rfind(_END, at, found)
        return found + 1, entries

    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        found = data.find(_END, at - 1)
        return (found + 1, found + 1) if found >= 0 else (len(data), -1)

    def lines(self, data: bytes, entries: int) -> int:
        return entries - (not data.endswith(_END)) if self.size == 1 else data.count(_END)

    def unended(self, tail: bytes) -> str | None:
        lines = tail.count(_END) + (not tail.endswith(_END))
        return None if lines == self.size else f"has only {lines} of {self.size} lines"
