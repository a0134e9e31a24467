"""Lineage: one line of text that names the bytes of the source from which a message was made. Pure functions.

A *span* `start-end/total` means bytes `[start, end)` of a source or output of `total` bytes (`*` if not known yet).

    0-900/5000                         bytes 0 to 900 of a source of 5000 bytes
    0-900/5000>0-40/70:3fa1b2c4:12     the first 40 of the 70 bytes that a step wrote for that message of 12 entries
    0-900/5000>0-40/70:3fa1b2c4>…      for each further step, one more `>` and a slice of the step's output

The digest after a step's span identifies the *whole* output of the run. Two runs over the same input may write
different outputs, and the digest distinguishes slices of these outputs. The number after the digest says how many
entries the run got. This number may be missing.

    lineage = span *( ">" span ":" digest [ ":" entries ] )
    span    = start "-" end "/" ( total / "*" )

Numbers have no leading zeros. So every lineage has exactly one text, and lineages can be compared as texts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, TypeAlias

from parcelq.errors import LineageError
from parcelq.escaping import cut

MAX_POSITION: Final = 2**63 - 1
"""The largest start, end or total, in bytes."""
MAX_DEPTH: Final = 64
"""How many steps a lineage may have."""
MAX_LENGTH: Final = 16 * 1024
"""How many characters `Lineage.parse` reads at most; a lineage with `MAX_DEPTH` steps has fewer characters."""

NUMBER: Final = r"(?:0|[1-9][0-9]{0,18})"
DIGEST: Final = r"[0-9a-f]{8,64}"
_SPAN: Final = re.compile(rf"({NUMBER})-({NUMBER})/({NUMBER}|\*)")
_OUTPUT: Final = re.compile(rf">({NUMBER})-({NUMBER})/({NUMBER}|\*):({DIGEST})(?![0-9a-f])(?::({NUMBER}))?")
_DIGEST: Final = re.compile(DIGEST)
_SHOWN: Final = 60
_DIGEST_CHARACTERS: Final = 16

Order: TypeAlias = tuple[tuple[int, int, int, str], ...]
"""A sort key for lineages of one source; callers should only compare such keys."""


def digest(data: bytes) -> str:
    """Return the digest of a step's whole output: 16 lower-case hexadecimal characters."""
    return digest_of([data])


def digest_of(blocks: Iterable[bytes]) -> str:
    """Return the digest of a step's whole output, given as blocks of bytes."""
    hasher = hashlib.sha256()  # SHA-256 is twice as fast as BLAKE2b on processors with SHA instructions
    for block in blocks:
        hasher.update(block)
    return hasher.hexdigest()[:_DIGEST_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[start, end)` of a source or output of `total` bytes; `total` is None if the size is not known yet."""

    start: int
    end: int
    total: int | None

    def __post_init__(self) -> None:
        last = MAX_POSITION if self.total is None else self.total
        if not 0 <= self.start <= self.end <= last <= MAX_POSITION:
            raise LineageError(f"span {self} is not 0 <= start <= end <= total <= {MAX_POSITION}")

    def __str__(self) -> str:
        return f"{self.start}-{self.end}/{'*' if self.total is None else self.total}"

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class RunOutput:
    """A slice of the output of one run of a step, with the digest of the whole output.

    `entries` says how many entries the run got; None if unknown.
    """

    span: Span
    digest: str
    entries: int | None = None

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise LineageError(f"digest {cut(self.digest, _SHOWN)!r} is not 8 to 64 lower-case hexadecimals")
        if self.entries is not None and not 0 <= self.entries <= MAX_POSITION:
            raise LineageError(f"a run cannot get {self.entries} entries")

    def __str__(self) -> str:
        return f">{self.span}:{self.digest}" + ("" if self.entries is None else f":{self.entries}")


@dataclass(frozen=True, slots=True)
class Lineage:
    """The bytes of the source from which a message was made, and the steps that processed these bytes."""

    root: Span
    outputs: tuple[RunOutput, ...] = ()

    def __post_init__(self) -> None:
        if len(self.outputs) > MAX_DEPTH:
            raise LineageError(f"a lineage passes through at most {MAX_DEPTH} steps")

    @classmethod
    def parse(cls, text: str) -> Lineage:
        """Parse the text of a lineage. If the text is invalid, raise LineageError, which shows the text shortened."""
        if len(text) > MAX_LENGTH:
            raise LineageError(f"lineage {cut(text, _SHOWN)!r} has {len(text)} characters, more than {MAX_LENGTH}")
        try:
            return _read(text)
        except LineageError as error:
            raise LineageError(f"lineage {cut(text, _SHOWN)!r}: {error}") from None

    def __str__(self) -> str:
        return str(self.root) + "".join(map(str, self.outputs))

    @property
    def span(self) -> Span:
        """The span of the message's body: the span of the last step's output, or of the source if no step ran."""
        return self.outputs[-1].span if self.outputs else self.root

    @property
    def order(self) -> Order:
        """A sort key that puts messages of a source in the order of the result."""
        return _key(self.root, ""), *(_key(output.span, output.digest) for output in self.outputs)

    def cut(self, start: int, end: int) -> Lineage:
        """Return the lineage of bytes `[start, end)` of the body. Raises LineageError if the body has no such bytes."""
        span = self.span
        if not 0 <= start <= end <= len(span):
            raise LineageError(f"cannot cut {start}-{end} out of a body of {len(span)} bytes")
        return self._with_last(Span(span.start + start, span.start + end, span.total))

    def child(self, span: Span, digest: str, entries: int | None = None) -> Lineage:
        """Return the lineage of a slice of the output that a step wrote for this message; see `RunOutput`."""
        return Lineage(self.root, (*self.outputs, RunOutput(span, digest, entries)))

    def _with_last(self, span: Span) -> Lineage:
        if self.outputs:
            return replace(self, outputs=(*self.outputs[:-1], replace(self.outputs[-1], span=span)))
        return Lineage(span)


def joined(one: Lineage, other: Lineage) -> Lineage | None:
    """Return the lineage of two bodies joined to one message; None if the bodies are not adjacent.

    Two bodies are adjacent if the bodies are slices of the source, or of one output of one run, and the second body
    begins at the end of the first body. Outputs of different runs are never joined.
    """
    first, second = one.span, other.span
    if first.end != second.start or first.total != second.total or one._with_last(second) != other:
        return None
    return one._with_last(Span(first.start, second.end, first.total))


def _key(span: Span, digest: str) -> tuple[int, int, int, str]:
    return span.start, span.end, -1 if span.total is None else span.total, digest


def _span(start: str, end: str, total: str) -> Span:
    return Span(int(start), int(end), None if total == "*" else int(total))


@lru_cache(maxsize=1024)  # a message's lineage is read several times in a row
def _read(text: str) -> Lineage:
    found = _SPAN.match(text)
    if not found:
        raise LineageError("it must begin with a span, start-end/total")
    root, position = _span(*found.groups()), found.end()
    outputs = []
    while found := _OUTPUT.match(text, position):
        start, end, total, run, entries = found.groups()
        outputs.append(RunOutput(_span(start, end, total), run, None if entries is None else int(entries)))
        position = found.end()
    if position < len(text):
        raise LineageError(f"{cut(text[position:], _SHOWN)!r} is left over at character {position}")
    return Lineage(root, tuple(outputs))
