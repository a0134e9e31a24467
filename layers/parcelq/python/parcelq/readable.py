"""An interface for reading bytes."""

from __future__ import annotations

from typing import Protocol


class Readable(Protocol):
    """An object that can be read in blocks, such as a file, the body of an S3 object, or a decompressor."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes. The result may be shorter, but is empty only at the end."""
