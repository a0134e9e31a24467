"""Rows: the numbers that an index keeps about each message. This module has only pure functions.

A row is a fixed number of words of 8 bytes, the most significant byte first. So rows that are sorted as bytes are
sorted by lineage:

    start  end  [digest  total  start  end] …  where  content  size  entries  read

- `start` and `end` are bytes of the source. For each step, if the message has only a slice of the step's output, a
  group of four words follows: the output's digest and size, and the slice. If the message has the whole output, there
  is no group, because the message then covers all of the step's input. Missing groups are zeros.
- `where` is the place of the body: 24 bits for the segment's number, and 40 bits for the offset in the segment.
  Messages that cover the same bytes are sorted by `where`, so the message that was collected first comes first.
- `content` distinguishes messages that cover the same bytes but have different contents, such as the outputs of two
  runs, or two reasons of dead entries.
- `size` is how many bytes the body has. The highest bit of `size` is set if the body lacks its last line end; the
  segment has this line end after the body. `entries` is how many entries the body has. The highest bit of `entries` is
  set if the entries are dead, and the next bit if dead entries are of a step's output and not of the source.
- `read` is the number of source entries from which the message was made. Only the first message of an output has this
  number; all other messages of the output have zero. For dead entries of the source, it is unknown.
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
"""How many fields a row has after the lineage; the first of these fields is `where`."""
WHERE, CONTENT, SIZE, ENTRIES, READ = range(-PAYLOAD, 0)
"""Indexes of columns, counted from the end of a row; see the module's docstring for their meaning."""
OFFSET_BITS: Final = 40
MAX_OFFSET: Final = (1 << OFFSET_BITS) - 1
FLAG: Final = 1 << 63
NUMBER: Final = FLAG - 1
OF_STEP: Final = 1 << 62
COUNT: Final = OF_STEP - 1
UNKNOWN: Final = (1 << 64) - 1
"""The value of a field whose number is unknown."""
_DIGEST_CHARACTERS: Final = 16

Key: TypeAlias = tuple[int, ...]
"""The fields of a row before `where`, without missing groups."""


def words_of(steps: int) -> int:
    """Return how many words of 8 bytes a row needs to contain slices of the outputs of this many steps."""
    return _PLAIN + _GROUP * steps


def steps_of(key: Key) -> int:
    """Return for how many steps a row must have fields so that the row can contain this key."""
    return (len(key) - 2) // _GROUP


def key_of(lineage: Lineage) -> Key:
    """Return the numbers by which a lineage is sorted; the numbers are the first fields of a row."""
    words = [lineage.root.start, lineage.root.end]
    for output in lineage.outputs:
        span = output.span
        if span.start or span.end != span.total:
            total = UNKNOWN if span.total is None else span.total
            words += (_digest(output.digest), total, span.start, span.end)
    return tuple(words)


def content_of(lineage: Lineage, note: bytes = b"") -> int:
    """Return the field `content` of a row; `note` is the text that is stored for dead entries."""
    if note:
        return _hash(note)
    if not lineage.outputs:
        return 0
    if len(lineage.outputs) == 1:
        return _digest(lineage.outputs[0].digest)
    return _hash("".join(map(str, lineage.outputs)).encode())


def read_of(lineage: Lineage) -> int:
    """Return the field `read` of a row: 0 for all messages of an output but the first message. For the first message,
    the field is `UNKNOWN` if the number is not known.
    """
    if any(output.span.start for output in lineage.outputs):
        return 0
    entries = lineage.outputs[0].entries if lineage.outputs else None
    return UNKNOWN if entries is None else entries


def row(key: Key, words: int, where: int, content: int, size: int, entries: int, read: int = UNKNOWN) -> bytes:
    """Return a row with a given number of words."""
    missing = (0,) * (words - PAYLOAD - len(key))
    return struct.pack(f">{words}Q", *key, *missing, where, content, size, entries, read)


def moved(data: bytes, words: int, by: int) -> bytes:
    """Return joined rows, after adding `by` to the field `where` of each row."""
    numbers = _numbers(data)
    column = slice(words + WHERE, None, words)
    numbers[column] = array("Q", [where + by for where in numbers[column]])
    _to_native(numbers)
    return numbers.tobytes()


def widened(data: bytes, words: int, to: int) -> bytes:
    """Convert rows of `words` words to rows of `to` words."""
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
    """Rows as columns of numbers; each column has one number per row."""

    words: int
    numbers: array[int] = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[bytes], words: int) -> Columns:
        """Read rows with a given number of words."""
        return cls(words, _numbers(b"".join(rows)))

    @property
    def steps(self) -> int:
        """How many groups of fields for slices of steps' outputs each row has."""
        return (self.words - _PLAIN) // _GROUP

    def __getitem__(self, column: int) -> array[int]:
        """Return one of the columns that follow the lineage: `WHERE`, `CONTENT`, `SIZE`, `ENTRIES` or `READ`."""
        return self.numbers[self.words + column :: self.words]

    def spans(self, step: int) -> tuple[array[int], array[int]]:
        """Return the starts and ends of slices: of the source if step is 0, otherwise of the output of that step."""
        first = 4 * step if step else 0
        return self.numbers[first :: self.words], self.numbers[first + 1 :: self.words]

    def outputs(self, step: int) -> tuple[array[int], array[int]]:
        """Return two columns: digest and size of the output of a step (from 1); both are 0 if the row has no slice."""
        first = 4 * step - 2
        return self.numbers[first :: self.words], self.numbers[first + 1 :: self.words]


def _numbers(data: bytes) -> array[int]:
    numbers = array("Q", data)
    _to_native(numbers)
    return numbers


def _to_native(numbers: array[int]) -> None:
    """Convert numbers between the byte order of rows and the byte order of this machine."""
    if sys.byteorder == "little":
        numbers.byteswap()


def _digest(text: str) -> int:
    # Digests are numbers of 64 bits, and zero means no digest. Digests of other programs may be longer or shorter.
    number = int(text, 16) if len(text) == _DIGEST_CHARACTERS else 0
    return number or _hash(text.encode())


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=WORD).digest(), "big") or 1
