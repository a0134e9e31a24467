"""Cutting a stream of bytes into parcels, at line ends.

Nothing here looks at single entries: line ends are counted in whole blocks, and a parcel is one slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Protocol

from parcelq.aws.text import legal_text
from parcelq.errors import InvalidValueError
from parcelq.limits import MIB

BLOCK_BYTES: Final = MIB
"""How much is read at a time: enough that the copy at a block's end does not count, little enough for a CPU's cache."""

_END: Final = b"\n"


class Readable(Protocol):
    """What can be read in blocks: a file, an S3 object's body, a decompressor."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; fewer only near the end, none at the end."""


@dataclass(frozen=True, slots=True)
class Parcel:
    r"""A run of whole entries.

    Attributes:
        start: offset of its first byte in the stream.
        data: the entries, each ended by `\n`, the very last of the stream perhaps not.
        entries: how many.
    """

    start: int
    data: bytes
    entries: int

    @property
    def end(self) -> int:
        """Offset just after its last byte."""
        return self.start + len(self.data)


def cut(stream: Readable, parcel_size: int, max_bytes: int, *, start: int = 0) -> Iterator[Parcel]:
    """Cut a stream into parcels that cover it without a gap.

    A parcel ends after `parcel_size` entries, or before the entry that would make it larger than `max_bytes`. An entry
    that is larger than that alone makes a parcel of its own, whatever its size.

    Args:
        stream: where the bytes come from; it is read once, in blocks, so memory does not grow with its length.
        parcel_size: most entries of a parcel, at least 1.
        max_bytes: most bytes of a parcel, at least 1.
        start: what the first byte's offset is to be called.

    Raises:
        InvalidValueError: a number is below 1.
    """
    if parcel_size < 1:
        raise InvalidValueError("parcel_size", parcel_size, "at least 1")
    if max_bytes < 1:
        raise InvalidValueError("max_bytes", max_bytes, "at least 1")
    buffer, at, last = b"", 0, False
    mean = 64.0  # bytes of an entry, as far as is known
    while True:
        end, entries = _parcel_end(buffer, at, parcel_size, max_bytes, mean, last=last)
        if end > at:
            yield Parcel(start + at, buffer[at:end], entries)
            mean = (end - at) / entries
            at = end
        elif last:
            return
        else:
            # Reading as much again as is left over keeps one huge entry linear in time.
            rest = buffer[at:]
            block = stream.read(max(BLOCK_BYTES, len(rest)))
            start += at
            buffer, at, last = rest + block if rest else block, 0, not block


def cut_bytes(data: bytes, parcel_size: int, max_bytes: int, *, start: int = 0) -> Iterator[Parcel]:
    """Cut bytes that are at hand; as `cut`."""
    return cut(BytesIO(data), parcel_size, max_bytes, start=start)


def cut_for_messages(stream: Readable, parcel_size: int, max_bytes: int, *, start: int = 0) -> Iterator[Parcel]:
    """Cut a stream into parcels of which each fits into a message of `max_bytes`, as base64 where it must be.

    Only an entry that alone is too large for a message makes a larger parcel. See `cut`.
    """
    unencoded = max(1, max_bytes // 4 * 3)
    for parcel in cut(stream, parcel_size, max_bytes, start=start):
        if len(parcel.data) <= unencoded or parcel.entries == 1 or legal_text(parcel.data) is not None:
            yield parcel
        else:
            yield from cut_bytes(parcel.data, parcel_size, unencoded, start=parcel.start)


def _parcel_end(
    buffer: bytes, at: int, parcel_size: int, max_bytes: int, mean: float, *, last: bool
) -> tuple[int, int]:
    """Find where the parcel that begins at `at` ends, and how many entries it has; `at` if more must be read first."""
    stop = min(len(buffer), at + max_bytes)
    end, missing = _after_lines(buffer, at, stop, parcel_size, mean)
    if not missing:
        return end, parcel_size
    if stop == len(buffer) and (stop < at + max_bytes or end < stop):  # it ends before the parcel is full
        if not last:
            return at, 0
        unended = end < stop
        return stop, parcel_size - missing + unended
    if end > at:  # full by bytes
        return end, parcel_size - missing
    end = buffer.find(_END, stop - 1) + 1  # one entry larger than a parcel may be
    if end:
        return end, 1
    return (len(buffer), 1) if last and at < len(buffer) else (at, 0)


def _after_lines(buffer: bytes, at: int, stop: int, lines: int, mean: float) -> tuple[int, int]:
    """Go behind the next `lines` line ends within `buffer[at:stop]`.

    Returns where that is and how many line ends were missing; where some were, the place is behind the last there is.

    It leaps to where the mean length says that the place is, counts what it passed over, and corrects: entries of
    about one length take one leap.
    """
    left, here = lines, at
    while here < stop and left > 0:
        leap = min(stop, here + max(1, int(left * mean)))
        passed = buffer.count(_END, here, leap)
        if passed > left + _FEW:  # far too far: the entries here are shorter than they were
            mean *= left / passed
            continue
        here, left = leap, left - passed
        if 0 < left <= _FEW:
            break
    for _ in range(-left + 1 if left <= 0 else 0):  # back to the line end itself
        here = buffer.rfind(_END, at, here)
    if left <= 0:
        return here + 1, 0
    while left:
        found = buffer.find(_END, here, stop)
        if found < 0:
            return max(at, buffer.rfind(_END, at, stop) + 1), left
        here, left = found + 1, left - 1
    return here, 0


_FEW: Final = 16
"""So few line ends are found one by one; more are worth another count."""
