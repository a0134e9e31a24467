"""The interface of stores. A store keeps objects that exist completely or not at all, and has conditional writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple, Protocol

from parcelq.limits import MAX_MULTIPART_PARTS, MIB
from parcelq.readable import Readable

NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
_PART_BYTES: Final = 16 * MIB


class Stored(NamedTuple):
    """A description of an object in a store.

    Attributes:
        etag: a text that changes whenever the object is written. The form of the text depends on the store.
        metadata: ASCII texts stored with the object; empty in a listing.
        modified: when the object was written, in seconds since the epoch.
    """

    key: str
    etag: str
    size: int
    metadata: Mapping[str, str] = {}
    modified: float = 0.0


class Part(NamedTuple):
    """The etag and the size of a part of an unfinished object."""

    etag: str
    size: int


class Store(Protocol):
    """Named objects that always exist completely or not at all.

    Every method raises AwsError, StoreError or OSError if the store fails.
    """

    def put(
        self,
        key: str,
        *parts: bytes,
        metadata: Mapping[str, str] = NO_METADATA,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """Create or replace an object, and return the object's etag. The object's body is the given parts joined.

        Args:
            metadata: ASCII texts to store with the object.
            if_match: write only if the object exists with this etag.
            if_absent: write only if the object does not exist.

        Raises:
            ConflictError: the condition does not hold.
        """

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes of an object from byte `start`, or all bytes from `start` if `length` is None. If the
        object ends earlier, return fewer bytes.

        Raises:
            NotFoundError: the object does not exist.
        """

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the bytes of an object, and the etag that the object had when these bytes were read.

        Raises:
            NotFoundError: the object does not exist.
        """

    def stat(self, key: str) -> Stored | None:
        """Return a description of an object; None if the object does not exist."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, sorted by their UTF-8 bytes."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys start with `prefix`, sorted as by `keys`, without the objects' metadata."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing object is no error, but a deletion that the store does not confirm is an error."""

    def stream(self, key: str, start: int = 0) -> AbstractContextManager[Readable]:
        """Open an object for reading in blocks, from byte `start`.

        Raises:
            NotFoundError: the object does not exist.
        """

    def part_bytes(self, size: int) -> int:
        """Return how many bytes each part of an object of about `size` bytes should have, for `write`."""

    def write(self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], seen: Stored | None) -> bool:
        """Write an object part by part, if the object has not changed since `seen`. Few parts are in memory at a time.

        Args:
            parts: the object's body; all parts but the last have at least `part_bytes` bytes.
            metadata: ASCII texts to store with the object.
            seen: an earlier result of `stat`; the object is written only if it has not changed since that call.

        Returns:
            True if the object was written; False if another process wrote or deleted the object meanwhile.
        """


class Multipart(Store, Protocol):
    """A store in which several invocations can write the parts of one object. Part numbers begin at 1."""

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin the upload of an object with this metadata, and return the id of the upload."""

    def put_part(self, key: str, upload: str, number: int, body: bytes | BinaryIO) -> str:
        """Write a part, replacing the part if it already exists, and return the part's etag.

        Raises:
            NotFoundError: the upload was completed or aborted.
        """

    def parts(self, key: str, upload: str, first: int = 1, last: int = MAX_MULTIPART_PARTS) -> dict[int, Part]:
        """Return the written parts of an upload that have numbers from `first` to `last`.

        Raises:
            NotFoundError: the upload was completed or aborted.
        """

    def complete_upload(self, key: str, upload: str, etags: Sequence[str], seen: str | None) -> None:
        """Complete an object from its parts.

        Args:
            etags: the etags of all parts, in order.
            seen: the etag of the object to replace; None if no object may exist.

        Raises:
            ConflictError: the object was created or changed meanwhile.
            NotFoundError: the upload was completed or aborted.
        """

    def abort_upload(self, key: str, upload: str) -> None:
        """Delete the parts of an unfinished upload; it is no error if the upload does not exist."""


def part_bytes(size: int) -> int:
    """Return how many bytes each part of an object of about `size` bytes should have."""
    # Parts are a little larger than needed. So an object larger than `size` does not need more parts than S3 allows.
    return max(_PART_BYTES, size // (MAX_MULTIPART_PARTS - 1000))


def joined(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Join blocks of bytes to longer blocks. Each yielded block except the last has at least `size` bytes."""
    held: list[bytes] = []
    held_bytes = 0
    for block in blocks:
        held.append(block)
        held_bytes += len(block)
        if held_bytes >= size:
            yield b"".join(held)
            held, held_bytes = [], 0
    if held:
        yield b"".join(held)


class OpenedPut(NamedTuple):
    """An object that is open for reading.

    Attributes:
        size: how many bytes the whole object has in the store.
        encoding: the object's Content-Encoding; empty if the object has none.
    """

    body: Readable
    size: int
    encoding: str
