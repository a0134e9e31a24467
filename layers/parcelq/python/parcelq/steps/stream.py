"""A pipe that a step prints to. The supervisor of a step imports this module, so it imports nothing slow."""

from __future__ import annotations

import os

TAIL_BYTES = 4096
"""Bytes kept from the end of what a step prints."""
READ_BYTES = 64 * 1024


class Stream:
    """A pipe that a step prints to; its last bytes are kept."""

    def __init__(self) -> None:
        self.fd, self.theirs = os.pipe()
        os.set_blocking(self.fd, False)
        self.tail = b""
        self.closed = False

    def read(self) -> None:
        """Read the output so far."""
        while not self.closed:
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                return
            self.closed = not data
            self.tail = (self.tail + data)[-TAIL_BYTES:]
            if len(data) < READ_BYTES:
                return

    def close(self) -> None:
        """Close the pipe; the tail stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd, self.closed = -1, True
