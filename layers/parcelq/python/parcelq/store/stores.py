"""Where collected pieces and results lie: a bucket, or a folder on one's own machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from parcelq.aws.batching import batches
from parcelq.aws.clients import translated
from parcelq.errors import ParcelqError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_DELETED_TOGETHER: Final = 1000
"""Keys of one DeleteObjects: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


class Store(Protocol):
    """Named objects that are there whole or not at all."""

    def put(self, key: str, *parts: bytes) -> None:
        """Make an object of parts that follow one another, or replace it."""

    def read(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes of an object from `start` on; fewer where it ends."""

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error."""


class Stream(RawIOBase):
    """Parts that are read as one file.

    Args:
        parts: what follows one another in it.
    """

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(map(len, parts))]
        self._at = 0
        self._number = 0

    def readable(self) -> bool:
        """That it can be read."""
        return True

    def seekable(self) -> bool:
        """That it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a place, and return it."""
        self._at = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._starts[-1]}[whence])
        self._number = 0
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes: a short answer is the end, since S3 takes no short chunks."""
        room = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(room) and self._number < len(self._parts):
            skip = self._at - self._starts[self._number]
            block = memoryview(self._parts[self._number])[skip : skip + len(room) - filled]
            room[filled : filled + len(block)] = block
            filled += len(block)
            self._at += len(block)
            if self._at >= self._starts[self._number + 1]:
                self._number += 1
        return filled


@dataclass(frozen=True, slots=True)
class BucketStore:
    """Objects of a bucket. All methods raise AwsError where S3 refuses.

    Attributes:
        s3: a boto3 S3 client.
        bucket: its name.
    """

    s3: S3Client
    bucket: str

    def put(self, key: str, *parts: bytes) -> None:
        """Make an object of parts that follow one another, or replace it."""
        # One that is large is never joined, so that it is not in memory twice.
        body: Any = parts[0] if len(parts) == 1 else Stream(parts)
        with translated():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def read(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes of an object from `start` on; fewer where it ends."""
        if not length:
            return b""
        with translated():
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")
            return answer["Body"].read()

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        with translated():
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        for batch in batches(keys, _DELETED_TOGETHER):
            with translated():
                answer = self.s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            if errors := answer.get("Errors"):
                first = errors[0]
                raise ParcelqError(f"s3://{self.bucket}/{first.get('Key')} was not deleted: {first.get('Message')}")


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Files of a folder, which is made when the first is put.

    Attributes:
        folder: where they lie.
    """

    folder: Path

    def put(self, key: str, *parts: bytes) -> None:
        """Make a file of parts that follow one another, or replace it; it is on the disk when this returns."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def read(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes of a file from `start` on; fewer where it ends."""
        with (self.folder / key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return sorted(key for key in found if key.startswith(prefix) and not key.endswith(".part"))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; those that are gone already are no error."""
        for key in keys:
            (self.folder / key).unlink(missing_ok=True)
