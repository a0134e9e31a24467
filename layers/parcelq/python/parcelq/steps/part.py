"""A part of a file that several runs write one after another. Every start of a Python step imports this module."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final

_BLOCK_BYTES: Final = 1 << 20


class Part:
    """Writes into a file from a given offset. Bytes after the written ones stay.

    A fork of the process writes at the same place, not after it.

    Args:
        path: the file.
        start: offset of the part.

    Attributes:
        end: offset of its end so far.
    """

    def __init__(self, path: str, start: int) -> None:
        self.end = start
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`."""
        left = memoryview(data).cast("B") if len(data) else b""
        while left:
            written = os.pwrite(self._file, left[:_BLOCK_BYTES], self.end)
            self.end, left = self.end + written, left[written:]

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)
