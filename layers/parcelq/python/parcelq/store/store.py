"""What a store is: named objects that are there whole or not at all, and conditional writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple, Protocol

from parcelq.limits import MAX_MULTIPART_PARTS, MIB
from parcelq.readable import Readable

NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
_PART_BYTES: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of a store.

    Attributes:
        etag: changes with every write of the object. Its form is the store's own.
        metadata: ASCII texts that were stored with it; empty in a listing.
        modified: when it was written, in seconds of the epoch.
    """

    key: str
    etag: str
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    modified: float = 0.0


class Part(NamedTuple):
    """A part of an object that is being written: its etag, and how many bytes it has."""

    etag: str
    size: int


class Store(Protocol):
    """Named objects that are there whole or not at all.

    Every method raises AwsError, StoreError or OSError where the store refuses.
    """

    def put(
        self,
        key: str,
        *parts: bytes,
        metadata: Mapping[str, str] = NO_METADATA,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """Create or replace an object, whose body is the parts one after another, and return its etag.

        Args:
            metadata: ASCII texts to store with it.
            if_match: write only if the object exists with this etag.
            if_absent: write only if there is no object.

        Raises:
            ConflictError: the condition does not hold.
        """

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Read `length` bytes of an object from byte `start` on, or all of the rest; fewer where it ends.

        Raises:
            NotFoundError: there is no such object.
        """

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read an object and the etag that it has with just these bytes.

        Raises:
            NotFoundError: there is no such object.
        """

    def stat(self, key: str) -> Stored | None:
        """Describe an object; None if there is none."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, sorted by their UTF-8 bytes."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys start with `prefix`, sorted like `keys`, without their metadata."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing one is no error; one that the store does not confirm as deleted is."""

    def stream(self, key: str, start: int = 0) -> AbstractContextManager[Readable]:
        """Open an object for reading in blocks, from byte `start` on.

        Raises:
            NotFoundError: there is no such object.
        """

    def part_bytes(self, size: int) -> int:
        """How many bytes each part of an object of about `size` bytes should have, for `write`."""

    def write(self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], seen: Stored | None) -> bool:
        """Write an object part by part, if it has not changed since it was seen. Few parts are in memory at a time.

        Args:
            parts: its body; all parts but the last have at least `part_bytes` bytes.
            metadata: ASCII texts to store with it.
            seen: what `stat` returned before; the object is written only if it still is so.

        Returns:
            True if it was written; False if someone else wrote or deleted it since.
        """


class Multipart(Store, Protocol):
    """A store in which several invocations can write one object together. Parts are numbered from 1."""

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin an object with this metadata, and return the id of the upload."""

    def put_part(self, key: str, upload: str, number: int, body: bytes | BinaryIO) -> str:
        """Write a part, or write it again, and return its etag.

        Raises:
            NotFoundError: the upload was completed or aborted.
        """

    def parts(self, key: str, upload: str, first: int = 1, last: int = MAX_MULTIPART_PARTS) -> dict[int, Part]:
        """Return the parts that are written, of those from one number to another.

        Raises:
            NotFoundError: the upload was completed or aborted.
        """

    def complete_upload(self, key: str, upload: str, etags: Sequence[str], seen: str | None) -> None:
        """Make parts the object.

        Args:
            etags: the etags of all parts, in order.
            seen: the etag of the object that this replaces; None if there must be none.

        Raises:
            ConflictError: there is another object by now.
            NotFoundError: the upload was completed or aborted.
        """

    def abort_upload(self, key: str, upload: str) -> None:
        """Delete the parts of an upload that is not completed; it is no error if there is no such upload."""


def part_bytes(size: int) -> int:
    """How many bytes each part of an object of about `size` bytes should have."""
    # A little larger than needed, so that a wrong guess of the size does not exceed the number of parts.
    return max(_PART_BYTES, size // (MAX_MULTIPART_PARTS - 1000))


class OpenedPut(NamedTuple):
    """An object that is being read.

    Attributes:
        size: bytes of the whole object, as it is stored.
        encoding: its Content-Encoding; empty if it has none.
    """

    body: Readable
    size: int
    encoding: str
