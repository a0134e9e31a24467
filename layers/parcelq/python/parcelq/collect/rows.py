"""Rows: what an index keeps about each message, as numbers. Pure functions.

A row is a fixed number of words of 8 bytes, the most significant byte first, so that sorting rows as bytes sorts them
by lineage:

    start  end  [digest  total  start  end] …  where  content  size  entries  read

- `start` and `end` are bytes of the source. For each step, if the message has only a slice of the step's output, a
  group of four words follows: the output's digest and size, and the slice. If the message has the whole output, there
  is no group, because the message then covers all of the step's input. Missing groups are zeros.
- `where` is the place of the body: 24 bits for the number of the segment, 40 for the offset in it. Messages that cover
  the same bytes sort by it, so the one that was collected first comes first.
- `content` distinguishes messages that cover the same bytes but have different contents, such as the outputs of two
  runs or two reasons.
- `size` is the body's bytes. Its highest bit says that the body lacks its last line end, which the segment has after
  it. `entries` counts entries. Its highest bit says that they are dead; the next bit says that dead entries are of a
  step's output and not of the source.
- `read` counts the entries of the source that the message was made from. Only the first message of an output has that
  number; the others have zero.
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
"""Number of a row's words from `where` on, which are not part of the lineage."""
WHERE, CONTENT, SIZE, ENTRIES, READ = range(-PAYLOAD, 0)
"""Indexes of columns, counted from the end of a row; see the module's docstring for their meaning."""
OFFSET_BITS: Final = 40
MAX_OFFSET: Final = (1 << OFFSET_BITS) - 1
FLAG: Final = 1 << 63
NUMBER: Final = FLAG - 1
OF_STEP: Final = 1 << 62
COUNT: Final = OF_STEP - 1
UNKNOWN: Final = (1 << 64) - 1
"""The word for an unknown number."""
_DIGEST_CHARACTERS: Final = 16

Key: TypeAlias = tuple[int, ...]
"""Return the words of a row before `where`, without missing groups."""


def words_of(steps: int) -> int:
    """Return how many words a row needs for slices of this many steps."""
    return _PLAIN + _GROUP * steps


def steps_of(key: Key) -> int:
    """Return how many steps' slices a row needs room for, to hold these words."""
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
    """Return the word that distinguishes contents of the same bytes; `note` is what a segment keeps of a dead piece."""
    if note:
        return _hash(note)
    if not lineage.outputs:
        return 0
    if len(lineage.outputs) == 1:
        return _digest(lineage.outputs[0].digest)
    return _hash("".join(map(str, lineage.outputs)).encode())


def read_of(lineage: Lineage, *, dead: bool) -> int:
    """Return the word that counts entries of the source; dead messages do not need it."""
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
    """Rows as columns of numbers; each column has one number for each row."""

    words: int
    numbers: array[int] = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[bytes], words: int) -> Columns:
        """Read rows with a given number of words."""
        return cls(words, _numbers(b"".join(rows)))

    @property
    def steps(self) -> int:
        """Number of groups of words for slices of steps' outputs."""
        return (self.words - _PLAIN) // _GROUP

    def __getitem__(self, column: int) -> array[int]:
        """A column after the lineage: `WHERE`, `CONTENT`, `SIZE`, `ENTRIES` or `READ`."""
        return self.numbers[self.words + column :: self.words]

    def spans(self, step: int) -> tuple[array[int], array[int]]:
        """Return starts and ends: in the source for step 0, otherwise in the output of that step."""
        first = 4 * step if step else 0
        return self.numbers[first :: self.words], self.numbers[first + 1 :: self.words]

    def outputs(self, step: int) -> tuple[array[int], array[int]]:
        """Return digests and sizes of a step's outputs, for steps from 1; digest 0 means that there is no slice."""
        first = 4 * step - 2
        return self.numbers[first :: self.words], self.numbers[first + 1 :: self.words]


def _numbers(data: bytes) -> array[int]:
    numbers = array("Q", data)
    _to_native(numbers)
    return numbers


def _to_native(numbers: array[int]) -> None:
    """Convert numbers between the byte order of rows and that of this machine."""
    if sys.byteorder == "little":
        numbers.byteswap()


def _digest(text: str) -> int:
    # Digests are numbers of 64 bits. Zero means none; digests of other programs may be longer or shorter.
    number = int(text, 16) if len(text) == _DIGEST_CHARACTERS else 0
    return number or _hash(text.encode())


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=WORD).digest(), "big") or 1
