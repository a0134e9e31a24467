"""A store in memory, for tests that need nothing but the semantics of one, and what messages add up to in it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from threading import RLock
from typing import BinaryIO

from parcelq.collect.assembly import SegmentReader
from parcelq.collect.indexes import open_indexes
from parcelq.collect.resolution import Collected
from parcelq.collect.segments import JobKey, write_segment
from parcelq.errors import ConflictError, NotFoundError
from parcelq.readable import Readable
from parcelq.store.store import NO_METADATA, Part, Stored, part_bytes
from parcelq.topics.message import Message
from parcelq.topics.pieces import pieces_of


@dataclass
class Objects:
    """Objects in memory; a `Store`.

    Attributes:
        objects: their bodies, by key.
        stats: what `stat` returns of each.
        calls: the name and key of every call, in order.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    stats: dict[str, Stored] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    read_bytes: int = 0
    uploads: dict[str, dict[int, tuple[str, bytes]]] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    _etags: Iterator[int] = field(default_factory=count)
    _lock: RLock = field(default_factory=RLock)

    def put(
        self,
        key: str,
        *parts: bytes,
        metadata: Mapping[str, str] = NO_METADATA,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        with self._lock:
            self.calls.append(("put", key))
            there = self.stats.get(key)
            if (if_absent and there) or (if_match is not None and (there is None or there.etag != if_match)):
                raise ConflictError(key)
            body = b"".join(parts)
            etag = str(next(self._etags))
            self.objects[key] = body
            self.stats[key] = Stored(key, etag, len(body), dict(metadata))
            return etag

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._lock:
            self.calls.append(("read", key))
            if key not in self.objects:
                raise NotFoundError(key)
            data = self.objects[key][start:] if length is None else self.objects[key][start : start + length]
            self.read_bytes += len(data)
            return data

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        with self._lock:
            self.calls.append(("read", key))
            if key not in self.objects:
                raise NotFoundError(key)
            return self.objects[key], self.stats[key].etag

    def stat(self, key: str) -> Stored | None:
        self.calls.append(("stat", key))
        return self.stats.get(key)

    def keys(self, prefix: str) -> Iterator[str]:
        self.calls.append(("list", prefix))
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def listing(self, prefix: str) -> Iterator[Stored]:
        return (self.stats[key] for key in self.keys(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._lock:
                self.calls.append(("delete", key))
                self.objects.pop(key, None)
                self.stats.pop(key, None)

    @contextmanager
    def stream(self, key: str) -> Iterator[Readable]:
        yield io.BytesIO(self.read(key))

    def part_bytes(self, size: int) -> int:
        return part_bytes(size)

    def write(self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], seen: Stored | None) -> bool:
        body = list(parts)
        try:
            self.put(key, *body, metadata=metadata, if_match=seen.etag if seen else None, if_absent=seen is None)
        except ConflictError:
            return False
        return True

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        with self._lock:
            self.calls.append(("begin_upload", key))
            upload = f"upload-{next(self._etags)}"
            self.uploads[upload] = {}
            self.metadata[upload] = dict(metadata)
            return upload

    def put_part(self, key: str, upload: str, number: int, body: bytes | BinaryIO) -> str:
        data = body if isinstance(body, bytes) else body.read()
        with self._lock:
            self.calls.append(("put_part", key))
            etag = f"part-{next(self._etags)}"
            self._upload(upload)[number] = (etag, data)
            return etag

    def parts(self, key: str, upload: str, first: int = 1, last: int = 10_000) -> dict[int, Part]:
        with self._lock:
            self.calls.append(("parts", key))
            found = self._upload(upload).items()
            return {number: Part(etag, len(data)) for number, (etag, data) in found if first <= number <= last}

    def complete_upload(self, key: str, upload: str, etags: Sequence[str], seen: str | None) -> None:
        with self._lock:
            self.calls.append(("complete_upload", key))
            parts = [self._upload(upload)[number] for number in range(1, len(etags) + 1)]
            assert [etag for etag, _ in parts] == list(etags)
            body = (data for _, data in parts)
            self.put(key, *body, metadata=self.metadata[upload], if_match=seen, if_absent=seen is None)
            del self.uploads[upload]

    def abort_upload(self, key: str, upload: str) -> None:
        with self._lock:
            self.calls.append(("abort_upload", key))
            self.uploads.pop(upload, None)

    def _upload(self, upload: str) -> dict[int, tuple[str, bytes]]:
        if upload not in self.uploads:
            raise NotFoundError(upload)
        return self.uploads[upload]


def collected_of(messages: Iterable[Message]) -> Collected:
    """What the messages of one source add up to."""
    store = Objects()
    now = datetime(2026, 11, 26, tzinfo=UTC)
    job = JobKey("s3://bucket/inbox/a?put=1")
    pieces = [piece for message in messages for piece in pieces_of(message)]
    key = write_segment(store, "topic", job, pieces, [], now, now)
    return Collected(store, open_indexes(store, [key]))


def result_of(collected: Collected) -> bytes:
    """The result's bytes."""
    reader = SegmentReader(collected.store, collected.segments)
    return b"".join(block for extent in collected.extents() for block in reader.read(extent))
