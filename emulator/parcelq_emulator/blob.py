"""Stores bytes in memory or in a file, so that large bodies of objects take no memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from parcelq.limits import MIB

BLOCK_BYTES: Final = MIB
"""How many bytes of a file are in memory at a time."""


class _File:
    """A file that is deleted when its last reference is gone. `deepcopy` returns the same object."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, directory: str) -> None:
        descriptor, self.path = tempfile.mkstemp(dir=directory)
        os.close(descriptor)
        weakref.finalize(self, _unlink, self.path)

    def __deepcopy__(self, memo: object) -> _File:
        return self


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in memory or in a file, with the methods of `bytes` that moto uses."""

    file: _File | bytes
    start: int
    stop: int

    @classmethod
    def of(cls, blocks: Iterable[bytes], directory: str) -> Blob:
        """Write blocks of bytes to a new file, and return the blob that refers to the file."""
        file = _File(directory)
        with open(file.path, "wb") as stream:
            stream.writelines(blocks)
            return cls(file, 0, stream.tell())

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Blob:
        start, stop, _ = part.indices(len(self))
        return Blob(self.file, self.start + start, self.start + max(start, stop))

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self.file, bytes):
            yield self.file[self.start : self.stop]
            return
        with open(self.file.path, "rb") as stream:
            stream.seek(self.start)
            for position in range(self.start, self.stop, BLOCK_BYTES):
                yield stream.read(min(BLOCK_BYTES, self.stop - position))

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def md5(self) -> str:
        """Return the MD5 digest of the bytes, in hexadecimal."""
        digest = hashlib.md5(usedforsecurity=False)
        for block in self:
            digest.update(block)
        return digest.hexdigest()
