"""Entries that start with a line that begins with a given text, as in FASTA (`>`) and MOL2 (`@<TRIPOS>MOLECULE`)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from parcelq.records.format import BOM, Flaw, Format
from parcelq.records.markers import nth


@dataclass(frozen=True, slots=True)
class Starts(Format):
    """An entry extends from a line that begins with `text` to the next such line or to the end of the source.

    A source must begin with such a line, after an optional byte-order mark. (Biopython refuses leading blank lines and
    comments in FASTA too.)
    """

    text: bytes
    name: str = ""
    header: int = 0

    def own_text(self) -> str:
        return self.name or f"starts={json.dumps(self.text.decode())}"

    @property
    def lookahead(self) -> int:
        return len(self.text)

    def advance(self, data: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
        seen = min(len(data), stop + len(self.text))
        found, entries = nth(data, b"\n" + self.text, at, seen, wanted, mean)
        return (found + 1, entries) if entries else (at, 0)

    def seek(self, data: bytes, at: int, inside: bool) -> tuple[int, int]:
        found = data.find(b"\n" + self.text, at - 1)
        if found >= 0:
            return found + 1, found + 1
        return max(at, len(data) + 1 - len(self.text)), -1

    def check(self, data: bytes, entries: int, lines: int) -> Flaw | None:
        """Find an entry without the text; only the first entry of a source can lack it."""
        if data.removeprefix(BOM).startswith(self.text):
            return None
        return Flaw(0, 0, 0, f"does not begin with {self.text.decode()!r}")
