"""Rows: what an index keeps of each message, as numbers. Pure.

A row is a fixed number of words of 8 bytes, the most significant byte first, so that rows sort as bytes just as their
lineages do:

    start  end  [digest  total  start  end] …  where  content  size  entries  read

- `start` and `end` are bytes of the source. A group of four words follows for each step if the message holds
  only a slice of the output: the output's digest and size, and the slice. A step whose whole output it holds
  leaves no group, because the message stands for all of the step's input then. Missing groups are zeros.
- `where` is the place of the body: 24 bits for the number of the segment, 40 for the offset in it. Messages that stand
  for the same bytes sort by it, so the one that was collected first comes first.
- `content` tells different contents of the same bytes apart: what another run made of them, or another reason.
- `size` is the body's bytes. Its highest bit says that the body lacks its last line end, and that the segment has one
  behind it. `entries` counts entries; its highest bit says that they are dead, the next that they are then no entries
  of the source, but of what a step made of it.
- `read` counts the entries of the source that the message was made of. Only the first message of what was made of them
  has that number; the others have zero.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, TypeAlias

from parcelq.lineage.lineage import Lineage

WORD: Final = 8
_PLAIN: Final = 7
_GROUP: Final = 4
PAYLOAD: Final = 5
"""Words of a row from `where` on, which do not belong to the lineage."""
WHERE, CONTENT, SIZE, ENTRIES, READ = range(-PAYLOAD, 0)
"""Columns of the same, counted from the end of a row; see above what they hold."""
OFFSET_BITS: Final = 40
MAX_OFFSET: Final = (1 << OFFSET_BITS) - 1
FLAG: Final = 1 << 63
NUMBER: Final = FLAG - 1
OF_STEP: Final = 1 << 62
COUNT: Final = OF_STEP - 1
UNKNOWN: Final = (1 << 64) - 1
"""Stands for a number that is not known."""
_DIGEST_CHARACTERS: Final = 16

Key: TypeAlias = tuple[int, ...]
"""The words of a row up to `where`, without missing groups."""


def words_of(steps: int) -> int:
    """How many words a row needs for slices of this many steps."""
    return _PLAIN + _GROUP * steps


def steps_of(key: Key) -> int:
    """For how many steps a row needs room to hold these words."""
    return (len(key) - 2) // _GROUP


def key_of(lineage: Lineage) -> Key:
    """Return the words that a lineage is sorted by."""
    words = [lineage.root.start, lineage.root.end]
    for output in lineage.outputs:
        span = output.span
        if span.start or span.end != span.total:
            total = UNKNOWN if span.total is None else span.total
            words += (_digest(output.digest), total, span.start, span.end)
    return tuple(words)


def content_of(lineage: Lineage, note: bytes = b"") -> int:
    """Return the word that tells different contents of the same bytes apart; `note` is what is kept of a dead piece."""
    if note:
        return _hash(note)
    if not lineage.outputs:
        return 0
    if len(lineage.outputs) == 1:
        return _digest(lineage.outputs[0].digest)
    return _hash("".join(map(str, lineage.outputs)).encode())


def read_of(lineage: Lineage, *, dead: bool) -> int:
    """Return the word that counts entries of the source; for a dead message it is not needed."""
    if any(output.span.start for output in lineage.outputs):
        return 0
    entries = lineage.outputs[0].entries if lineage.outputs else None
    return UNKNOWN if dead or entries is None else entries


def row(key: Key, words: int, where: int, content: int, size: int, entries: int, read: int = UNKNOWN) -> bytes:
    """Return a row with a given number of words."""
    missing = (0,) * (words - PAYLOAD - len(key))
    return struct.pack(f">{words}Q", *key, *missing, where, content, size, entries, read)


def moved(data: bytes, words: int, by: int) -> bytes:
    """Return rows, one after another, with `by` added to each `where`."""
    numbers = _numbers(data)
    column = slice(words + WHERE, None, words)
    numbers[column] = array("Q", [where + by for where in numbers[column]])
    _to_native(numbers)
    return numbers.tobytes()


def widened(data: bytes, words: int, to: int) -> bytes:
    """Return rows of `words` words as rows of `to` words."""
    if words == to or not data:
        return data
    numbers = _numbers(data)
    wide = array("Q", bytes(len(numbers) // words * to * WORD))
    for column in range(words):
        target = column if column < words - PAYLOAD else column + to - words
        wide[target::to] = numbers[column::words]
    _to_native(wide)
    return wide.tobytes()


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows as columns of numbers; each column has one number for each row."""

    words: int
    numbers: array[int] = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[bytes], words: int) -> Columns:
        """Read rows with a given number of words."""
        return cls(words, _numbers(b"".join(rows)))

    @property
    def steps(self) -> int:
        """How many groups of words the rows have for slices of a step's output."""
        return (self.words - _PLAIN) // _GROUP

    def __getitem__(self, column: int) -> array[int]:
        """A column behind the lineage: `WHERE`, `CONTENT`, `SIZE`, `ENTRIES` or `READ`."""
        return self.numbers[self.words + column :: self.words]

    def spans(self, step: int) -> tuple[array[int], array[int]]:
        """Starts and ends: of bytes of the source for step 0, else of slices of that step's output."""
        first = 4 * step if step else 0
        return self.numbers[first :: self.words], self.numbers[first + 1 :: self.words]

    def outputs(self, step: int) -> tuple[array[int], array[int]]:
        """Digests and totals of the outputs of a step, from 1 on; digest 0 where there is no slice of one."""
        first = 4 * step - 2
        return self.numbers[first :: self.words], self.numbers[first + 1 :: self.words]


def _numbers(data: bytes) -> array[int]:
    numbers = array("Q", data)
    _to_native(numbers)
    return numbers


def _to_native(numbers: array[int]) -> None:
    """Change numbers from the order of bytes in a row to that of this machine, or back."""
    if sys.byteorder == "little":
        numbers.byteswap()


def _digest(text: str) -> int:
    # Parcelq's digests are numbers of 64 bits. Zero stands for none; and others may be longer or shorter.
    number = int(text, 16) if len(text) == _DIGEST_CHARACTERS else 0
    return number or _hash(text.encode())


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=WORD).digest(), "big") or 1
