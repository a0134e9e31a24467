"""Stores the bodies of waiting messages: in memory up to a limit, and further bodies in files.

An uploader is faster than the steps, so most of a large file waits in a topic for a while.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Final, SupportsBytes

from parcelq.limits import MIB

from parcelq_emulator.blob import Blob

MOST_BYTES: Final = 64 * MIB
"""How many bytes of bodies are in memory at most, for all topics together."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Held:
    data: bytes

    def __bytes__(self) -> bytes:
        return self.data


class Bodies:
    """Keeps each body until the object that `keep` returned for the body is no longer referenced.

    Args:
        directory: the folder for the files; None to keep all bodies in memory.
        most_bytes: how many bytes of bodies are in memory at most.
    """

    def __init__(self, directory: str | None, most_bytes: int = MOST_BYTES) -> None:
        self._directory = directory
        self._left = most_bytes
        self._lock = threading.Lock()

    def keep(self, body: bytes) -> SupportsBytes:
        """Keep a body; `bytes()` of the returned object is the body."""
        if self._directory is None:
            return body
        with self._lock:
            fits = len(body) <= self._left
            self._left -= len(body) if fits else 0
        if not fits:
            return Blob.of((body,), self._directory)
        held = _Held(body)
        weakref.finalize(held, self._release, len(body))
        return held

    def _release(self, size: int) -> None:
        with self._lock:
            self._left += size
