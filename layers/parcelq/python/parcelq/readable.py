"""What bytes are read from."""

from __future__ import annotations

from typing import Protocol


class Readable(Protocol):
    """What can be read in blocks: a file, the body of an S3 object, a decompressor."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; fewer at any time, none only at the end."""
