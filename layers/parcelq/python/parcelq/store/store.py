"""The interface of stores. A store keeps objects that exist completely or not at all, and has conditional writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from parcelq.errors import AwsError, NotFoundError
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
        """Create or replace an object from the joined parts of its body, and return the object's etag.

        Args:
            metadata: ASCII texts to store with the object.
            if_match: write only if the object exists with this etag.
            if_absent: write only if the object does not exist.

        Raises:
            ConflictError: the condition does not hold.
        """

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes of an object from `start`, at most `length`; None means to the object's end.

        Raises:
            NotFoundError: the object does not exist.
        """

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the bytes of an object with the etag that they had. Raises NotFoundError if it does not exist."""

    def stat(self, key: str) -> Stored | None:
        """Return a description of an object; None if the object does not exist."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with `prefix`, sorted by their UTF-8 bytes."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys start with `prefix`, sorted as by `keys`, without the objects' metadata."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. A missing object is no error, but a deletion that the store does not confirm is an error."""

    def stream(self, key: str) -> AbstractContextManager[Readable]:
        """Open an object for reading in blocks. Raises NotFoundError if it does not exist."""

    def part_bytes(self, size: int) -> int:
        """Return how many bytes each part of an object of about `size` bytes should have, for `write`."""

    def write(self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], seen: Stored | None) -> bool:
        """Write an object part by part, if the object has not changed since `stat` returned `seen`.

        Few parts are in memory at a time; all but the last have at least `part_bytes` bytes. Return False if another
        process wrote or deleted the object meanwhile.
        """


def etag_of_equal(store: Store, key: str, parts: Sequence[bytes], metadata: Mapping[str, str]) -> str:
    """Return the etag of a small object with exactly these bytes and metadata; empty if it is large, differs or cannot
    be read.
    """
    with suppress(NotFoundError, AwsError):
        found = store.stat(key) if sum(map(len, parts)) <= MIB else None
        if found and found.metadata == dict(metadata) and store.read_with_etag(key) == (b"".join(parts), found.etag):
            return found.etag
    return ""


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
    """An object that is open for reading: its bytes, the size of the whole object, and its Content-Encoding or ""."""

    body: Readable
    size: int
    encoding: str
