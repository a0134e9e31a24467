"""Lineage: which bytes of its source a message stands for, as one line of text. Pure arithmetic.

A *span* `start-end/total` is bytes `[start, end)` of something `total` bytes long (`*`: not known yet).

    0-900/5000                         cut from the source: its bytes 0 to 900
    0-900/5000>0-40/70:3fa1b2c4        the first 40 of the 70 bytes that a step made of that message
    0-900/5000>0-40/70:3fa1b2c4>…      and so on: one `>` for each step
    {0-900/5000,2000-2900/5000}>…      the step ran over both messages together

The digest behind a step's span names the step's *whole* output, so that pieces of two runs of the same input,
which may differ, are never taken for pieces of one.

    lineage = root *( ">" span ":" digest )        root = span / "{" lineage 1*( "," lineage ) "}"
    span    = start "-" end "/" ( total / "*" )

Every lineage has exactly one text: numbers have no leading zeros; a group is in order and has at least two
members, none of them twice and none a bare group. So texts may be compared in place of lineages.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, TypeAlias

from parcelq.errors import LineageError

MAX_POSITION: Final = 2**63 - 1
"""The largest start, end or total, in bytes."""
MAX_LENGTH: Final = 64 * 1024
"""Characters of a lineage that `Lineage.parse` will read."""
MAX_GROUP_LENGTH: Final = 16 * 1024
"""Characters of a group that `together` will make; what steps then add to it stays far below `MAX_LENGTH`."""
MAX_DEPTH: Final = 64
"""Steps and groups that a lineage may lead through, so that text from elsewhere cannot exhaust the stack."""

NUMBER: Final = r"(?:0|[1-9][0-9]{0,18})"
DIGEST: Final = r"[0-9a-f]{8,64}"
_SPAN: Final = re.compile(rf"({NUMBER})-({NUMBER})/({NUMBER}|\*)")
_OUTPUT: Final = re.compile(rf">({NUMBER})-({NUMBER})/({NUMBER}|\*):({DIGEST})(?![0-9a-f])")
_DIGEST: Final = re.compile(DIGEST)
_SHOWN: Final = 60
_DIGEST_BYTES: Final = 8

Order: TypeAlias = tuple[tuple[int, int, int, str], ...]
"""What lineages of one source are sorted by; opaque."""


def new_digest() -> hashlib.blake2b:
    """Return the hasher for a step's whole output; its `hexdigest()` is the digest in a lineage."""
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def digest(data: bytes) -> str:
    """Return the digest of a step's whole output: 16 lower-case hexadecimal characters."""
    hasher = new_digest()
    hasher.update(data)
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[start, end)` of something that is `total` bytes long; None if that is not known yet."""

    start: int
    end: int
    total: int | None

    def __post_init__(self) -> None:
        last = MAX_POSITION if self.total is None else self.total
        if not 0 <= self.start <= self.end <= last <= MAX_POSITION:
            raise LineageError(f"span {self} is not 0 <= start <= end <= total <= {MAX_POSITION}")

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `start-end/total`. Raises LineageError."""
        found = _SPAN.fullmatch(text)
        if not found:
            raise LineageError(f"{_short(text)!r} is no span: it must read start-end/total")
        return _span(*found.groups())

    def __str__(self) -> str:
        return f"{self.start}-{self.end}/{'*' if self.total is None else self.total}"

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Output:
    """A slice of what one run of a step put out, and the digest of all that the run put out."""

    span: Span
    digest: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise LineageError(f"digest {_short(self.digest)!r} is not 8 to 64 lower-case hexadecimals")

    def __str__(self) -> str:
        return f">{self.span}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a message stands for: bytes of the source, or several messages, led through any number of steps."""

    root: Span | tuple[Lineage, ...]
    outputs: tuple[Output, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.root, tuple):
            if len(self.root) < 2 or any(member.is_group for member in self.root):
                raise LineageError("a group is of two messages at least, and not of groups")
            if any(one.order >= other.order for one, other in pairwise(self.root)):
                raise LineageError("the members of a group must be in order, and none twice")
        if self.depth > MAX_DEPTH:
            raise LineageError(f"a lineage leads through at most {MAX_DEPTH} steps and groups")

    @classmethod
    def parse(cls, text: str) -> Lineage:
        """Read what `str` gives. Raises LineageError, with the text shortened, for anything else."""
        if len(text) > MAX_LENGTH:
            raise LineageError(f"lineage {_short(text)!r} has {len(text)} characters, more than {MAX_LENGTH}")
        try:
            lineage, position = _read(text, 0, MAX_DEPTH)
            if position < len(text):
                raise LineageError(f"{_short(text[position:])!r} is left over at character {position}")
        except LineageError as error:
            raise LineageError(f"lineage {_short(text)!r}: {error}") from None
        return lineage

    def __str__(self) -> str:
        root = "{" + ",".join(map(str, self.root)) + "}" if isinstance(self.root, tuple) else str(self.root)
        return root + "".join(map(str, self.outputs))

    @property
    def is_group(self) -> bool:
        """Whether this is several messages, the parent of what a step makes of them, and itself no message."""
        return isinstance(self.root, tuple) and not self.outputs

    @property
    def span(self) -> Span:
        """What the message's body is: the last span. Raises LineageError for a bare group: it has none."""
        if self.outputs:
            return self.outputs[-1].span
        if isinstance(self.root, tuple):
            raise LineageError(f"{_short(str(self))!r} is a group of messages and has no span of its own")
        return self.root

    @property
    def depth(self) -> int:
        """How many steps and groups lie between this and the source."""
        below = 1 + max(member.depth for member in self.root) if isinstance(self.root, tuple) else 0
        return below + len(self.outputs)

    @property
    def order(self) -> Order:
        """A key that sorts messages of a source as they lie in the result; a group lies at its first member."""
        root: Order
        if isinstance(self.root, tuple):
            root = (*self.root[0].order, (-1, -1, -1, ",".join(map(str, self.root))))
        else:
            root = (_key(self.root, ""),)
        return root + tuple(_key(output.span, output.digest) for output in self.outputs)

    def cut(self, start: int, end: int) -> Lineage:
        """Return the lineage of bytes `[start, end)` of the message's body. Raises LineageError outside it."""
        span = self.span
        if not 0 <= start <= end <= len(span):
            raise LineageError(f"cannot cut {start}-{end} out of a body of {len(span)} bytes")
        piece = Span(span.start + start, span.start + end, span.total)
        return self._with_last(piece)

    def child(self, span: Span, digest: str) -> Lineage:
        """Return the lineage of slice `span` of what a step made of this; `digest` names all that it made."""
        return Lineage(self.root, (*self.outputs, Output(span, digest)))

    def _with_last(self, span: Span) -> Lineage:
        if self.outputs:
            return replace(self, outputs=(*self.outputs[:-1], replace(self.outputs[-1], span=span)))
        return Lineage(span)

    def _joined(self, follower: Lineage) -> Lineage | None:
        """Return the lineage of both bodies as one, or None if they are no neighbours in the same thing."""
        one, other = self.span, follower.span
        if one.end != other.start or one.total != other.total or self._with_last(other) != follower:
            return None
        return self._with_last(Span(one.start, other.end, one.total))


def together(lineages: Iterable[Lineage]) -> Lineage:
    """Return what the output of messages of one source has for a parent if a step runs over them together.

    Neighbours are merged, so a run of them is as short as one message; a single lineage stays itself.

    Raises:
        LineageError: there are none; two stand for the same bytes (a duplicate is refused, not dropped, since its
            body would be in the step's input twice) or for different runs of the same input; or the group's text
            would be longer than `MAX_GROUP_LENGTH`. Run fewer of them together, or each alone.
    """
    members = sorted(lineages, key=lambda lineage: lineage.order)
    if not members:
        raise LineageError("there is no lineage to put together")
    if not disjoint(members):
        raise LineageError("messages that stand for the same bytes cannot be run together")
    merged = members[:1]
    for member in members[1:]:
        joined = merged[-1]._joined(member)
        if joined:
            merged[-1] = joined
        else:
            merged.append(member)
    if len(merged) == 1:
        return merged[0]
    group = Lineage(tuple(merged))
    if len(str(group)) > MAX_GROUP_LENGTH:
        raise LineageError(f"a group of {len(merged)} messages is longer than {MAX_GROUP_LENGTH} characters")
    return group


def follows(one: Lineage, other: Lineage) -> bool:
    """Return whether the body of `other` comes right after that of `one` in the result, with nothing in between.

    That is so for neighbours in one thing, and for the end of one run's output and the beginning of the next one's.
    Messages that were themselves made of several are not looked into, but that they are neighbours in one output.
    """
    while True:
        before, after = one.span, other.span
        if one._with_last(after) == other and before.end == after.start:
            return True
        if not (one.outputs and other.outputs and before.end == before.total and after.start == 0):
            return False
        one, other = Lineage(one.root, one.outputs[:-1]), Lineage(other.root, other.outputs[:-1])
        if one.is_group or other.is_group:
            return False


def disjoint(lineages: Iterable[Lineage]) -> bool:
    """Return whether messages of one source fit into one result: no byte twice, no two runs of one input."""
    paths: defaultdict[tuple[Lineage, ...], list[Order]] = defaultdict(list)
    waiting = list(lineages)
    while waiting:
        lineage = waiting.pop()
        if isinstance(lineage.root, tuple):
            if lineage.root not in paths:
                waiting += lineage.root
            paths[lineage.root].append(lineage.order[-len(lineage.outputs) :] if lineage.outputs else ())
        else:
            paths[()].append(lineage.order)
    # Sorted, things that overlap have neighbours that overlap.
    return all(_apart(one, other) for below in paths.values() for one, other in pairwise(sorted(below)))


def _apart(one: Order, other: Order) -> bool:
    """Whether two sorted paths below the same thing part before either ends, and part within one run."""
    for this, that in zip(one, other, strict=False):
        if this != that:
            return this[3] == that[3] and this[1] <= that[0]
    return False


def _key(span: Span, digest: str) -> tuple[int, int, int, str]:
    return span.start, span.end, -1 if span.total is None else span.total, digest


def _span(start: str, end: str, total: str) -> Span:
    return Span(int(start), int(end), None if total == "*" else int(total))


def _read(text: str, position: int, depth: int) -> tuple[Lineage, int]:
    """Read a lineage that begins at a position; return it and where it ends."""
    root: Span | tuple[Lineage, ...]
    if text.startswith("{", position):
        root, position = _read_group(text, position, depth - 1)
    elif found := _SPAN.match(text, position):
        root, position = _span(*found.groups()), found.end()
    else:
        raise LineageError(f"a span or a group must begin at character {position}")
    outputs = []
    while found := _OUTPUT.match(text, position):
        start, end, total, run = found.groups()
        outputs.append(Output(_span(start, end, total), run))
        position = found.end()
    return Lineage(root, tuple(outputs)), position


def _read_group(text: str, position: int, depth: int) -> tuple[tuple[Lineage, ...], int]:
    if depth < 0:
        raise LineageError(f"groups lie deeper in one another than {MAX_DEPTH}")
    members: list[Lineage] = []
    while not members or text.startswith(",", position):
        member, position = _read(text, position + 1, depth)
        members.append(member)
    if not text.startswith("}", position):
        raise LineageError(f"a group must go on or end at character {position}")
    return tuple(members), position + 1


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
