"""A file object that reads the parts of a body one after another."""

from __future__ import annotations

from collections.abc import Sequence
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from itertools import accumulate
from typing import Any


class JoinedParts(RawIOBase):
    """Reads parts as one file, without joining the parts in memory."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(map(len, parts))]
        self._at = 0
        self._number = 0

    def readable(self) -> bool:
        """Return True, because this file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True, because this file can seek."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Move to an offset, and return the new offset from the start."""
        self._at = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._starts[-1]}[whence])
        self._number = 0
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer completely unless the parts end, because boto3 treats a short read as the end of the body."""
        room = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(room) and self._number < len(self._parts):
            skip = self._at - self._starts[self._number]
            block = memoryview(self._parts[self._number])[skip : skip + len(room) - filled]
            room[filled : filled + len(block)] = block
            filled += len(block)
            self._at += len(block)
            if self._at >= self._starts[self._number + 1]:
                self._number += 1
        return filled
