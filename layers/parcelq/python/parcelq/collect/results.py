"""Results in a bucket, by the names of before: `Store.write` does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parcelq.store.bucket import BucketStore
from parcelq.store.store import Begun, part_bytes
from parcelq.store.store import Stored as Present

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Begun", "Present", "ResultWriter", "part_bytes"]


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """A bucket's `stat` and `write`.

    Attributes:
        s3: a boto3 S3 client.
        bucket: its name.
    """

    s3: S3Client
    bucket: str

    def look(self, key: str) -> Present | None:
        """Describe an object; None if there is none."""
        return BucketStore(self.s3, self.bucket).stat(key)

    def write(
        self,
        key: str,
        bodies: Callable[[int], Iterator[bytes]],
        metadata: Mapping[str, str],
        seen: Present | None,
        *,
        begun: Begun | None = None,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> bool | Begun:
        """Write an object part by part; see `Store.write`."""
        return BucketStore(self.s3, self.bucket).write(key, bodies, metadata, seen, begun=begun, may_go_on=may_go_on)
