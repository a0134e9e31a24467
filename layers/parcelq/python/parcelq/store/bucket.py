"""A store in an S3 bucket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from parcelq.aws.batching import batches
from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.aws.replies import all_needed, incomplete, needed, size_of_part
from parcelq.errors import AwsError, ConflictError, NotFoundError, ParcelqError, StoreError
from parcelq.limits import MAX_MULTIPART_PARTS
from parcelq.readable import Readable
from parcelq.store.joined import JoinedParts
from parcelq.store.store import NO_METADATA, OpenedPut, Part, Stored, etag_of_equal, part_bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_log = logging.getLogger(__name__)
_TOGETHER: Final = 1000  # the most keys of one DeleteObjects request, and the most parts of one ListParts reply
_PARTS_IN_FLIGHT: Final = 3
_HTML: Final = "text/html; charset=utf-8"
"""The content type that makes a browser show an HTML page of the bucket instead of saving the page."""
_GONE_UPLOAD: Final = "NoSuchUpload"
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
_REFUSED: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_PAST_THE_END: Final = frozenset({"InvalidRange", "416"})


@dataclass(frozen=True, slots=True)
class BucketStore:
    """The objects of a bucket; a `Store` in which several invocations can write the parts of one object."""

    s3: S3Client
    bucket: str

    def put(
        self,
        key: str,
        *parts: bytes,
        metadata: Mapping[str, str] = NO_METADATA,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        # The parts of a large body are not joined, because a joined copy would double the memory.
        body: Any = parts[0] if len(parts) == 1 else JoinedParts(parts)
        more: dict[str, Any] = {"Metadata": dict(metadata)} if metadata else {}
        more |= {"ContentType": _HTML} if key.endswith(".html") else {}
        # guard[pass]: a bucket replaces an object only in the state that was seen
        more |= {"IfMatch": if_match} if if_match is not None else {}
        # guard[pass]: of several who create an object in a bucket, one wins
        more |= {"IfNoneMatch": "*"} if if_absent else {}
        try:
            with self._refusals(key, writing=True):
                reply = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **more)
        except ConflictError:
            # guard[False]: a conditional write whose reply was lost, and that botocore sent again, is no conflict
            if etag := etag_of_equal(self, key, parts, metadata):
                return etag
            raise
        return str(needed(reply, "PutObject", "ETag"))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        try:
            with self._opened(key, start, length) as reply:
                return reply["Body"].read()
        except AwsError as error:
            if error.code in _PAST_THE_END:
                return b""
            raise

    def read_with_etag(self, key: str) -> tuple[bytes, str]:
        with self._opened(key, 0, None) as reply:
            return reply["Body"].read(), reply["ETag"]

    def stat(self, key: str) -> Stored | None:
        try:
            with self._refusals(key):
                reply = self.s3.head_object(Bucket=self.bucket, Key=key)
        except NotFoundError:
            return None
        etag, modified, size = all_needed(reply, "HeadObject", "ETag", "LastModified", "ContentLength")
        return Stored(key, etag, size, reply.get("Metadata", {}), modified.timestamp())

    def put_file(self, key: str, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Put a file as an object, in parallel parts. Threads call `on_bytes` with the size of each block they sent."""
        from parcelq.local_files import naming

        try:
            with translated(), naming(path):
                self.s3.upload_file(str(path), self.bucket, key, Callback=on_bytes)
        except S3UploadFailedError as error:
            raise ParcelqError(str(error)) from None

    def keys(self, prefix: str) -> Iterator[str]:
        return (one.key for one in self.listing(prefix))

    def listing(self, prefix: str) -> Iterator[Stored]:
        pages = iter(self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix))
        while True:
            with self._refusals(prefix):
                page = next(pages, None)
            if page is None:
                return
            if needed(page, "ListObjectsV2", "IsTruncated"):
                needed(page, "ListObjectsV2", "NextContinuationToken")  # if missing, botocore would end the list here
            for one in page.get("Contents", ()):
                key, etag, size, modified = all_needed(one, "ListObjectsV2", "Key", "ETag", "Size", "LastModified")
                yield Stored(key, etag, size, NO_METADATA, modified.timestamp())

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, and check that S3 confirms each deletion."""
        for batch in batches(keys, _TOGETHER):
            with translated():
                reply = self.s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": False}
                )
            if errors := reply.get("Errors"):
                key, why = errors[0].get("Key"), errors[0].get("Message")
                raise StoreError(str(key), f"it was not deleted from {self.bucket!r}: {why}")
            deleted = {one.get("Key") for one in reply.get("Deleted", ())}
            # guard[False]: an object counts as deleted only if S3 confirms it
            if left := [key for key in batch if key not in deleted]:
                raise incomplete("DeleteObjects", f"the reply does not say that {left[0]!r} was deleted")

    @contextmanager
    def stream(self, key: str) -> Iterator[Readable]:
        with self._opened(key, 0, None) as reply:
            yield cast(Readable, reply["Body"])

    def in_bucket(self, bucket: str) -> BucketStore:
        """Return a store for another bucket."""
        return BucketStore(self.s3, bucket)

    @contextmanager
    def opened_put(self, key: str, *, version: str = "", etag: str = "", start: int = 0) -> Iterator[OpenedPut | None]:
        """Open the object that one upload stored under a key; yield None if this object was deleted or replaced.
        `version` is empty if the bucket keeps no versions. `etag` has no quotes, and is empty if it is unknown.
        """
        wanted: dict[str, str] = {"VersionId": version} if version else {}
        if etag or not version:  # another put may have replaced the version `null`
            wanted["IfMatch"] = f'"{etag}"'
        if start:
            wanted["Range"] = f"bytes={start}-"
        try:
            with self._refusals(key):
                reply = self.s3.get_object(Bucket=self.bucket, Key=key, **wanted)  # type: ignore[arg-type]
        except (NotFoundError, ConflictError):
            yield None
            return
        with translated(), closing(reply["Body"]) as body:
            # guard[False]: bytes count as the object's only if the reply has the object's etag
            if needed(reply, "GetObject", "ETag").strip('"') != (etag or reply["ETag"].strip('"')):
                raise incomplete("GetObject", f"the reply has not the etag of {key!r}")
            size = size_of_part(reply, start, key) if start else needed(reply, "GetObject", "ContentLength")
            yield OpenedPut(cast(Readable, body), size, reply.get("ContentEncoding") or "")

    def part_bytes(self, size: int) -> int:
        return part_bytes(size)

    def write(self, key: str, parts: Iterable[bytes], metadata: Mapping[str, str], seen: Stored | None) -> bool:
        """Write an object part by part; if there are several parts, with a multipart upload."""
        etag = seen.etag if seen else None
        rest = iter(parts)
        head = list(islice(rest, 2))
        try:
            if len(head) < 2:
                self.put(key, *head, metadata=metadata, if_match=etag, if_absent=etag is None)
                return True
            upload = self.begin_upload(key, metadata)
            numbered = enumerate(chain(head, rest), 1)
            del head  # otherwise, the first parts would stay in memory until the end
            try:
                put = in_flight(lambda one: (one[0], self.put_part(key, upload, *one)), numbered, _PARTS_IN_FLIGHT)
                self.complete_upload(key, upload, [etag for _, etag in sorted(put)], etag)
            except BaseException as error:
                # guard[pass]: a multipart upload that fails is aborted
                self._abort_after(error, key, upload)
                raise
        except ConflictError:
            return False
        return True

    def begin_upload(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin the upload of an object with this metadata, and return the id of the upload."""
        with self._refusals(key, writing=True):
            reply = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key, Metadata=dict(metadata))
        return str(needed(reply, "CreateMultipartUpload", "UploadId"))

    def put_part(self, key: str, upload: str, number: int, body: bytes | BinaryIO) -> str:
        """Write a part and return its etag. Parts are numbered from 1; a part that exists is replaced.

        Raises NotFoundError if the upload was completed or aborted.
        """
        with self._refusals(key, writing=True):
            reply = self.s3.upload_part(
                Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=cast(Any, body)
            )
        return str(needed(reply, "UploadPart", "ETag"))

    def parts(self, key: str, upload: str, first: int = 1, last: int = MAX_MULTIPART_PARTS) -> dict[int, Part]:
        """Return the written parts with numbers from `first` to `last`; raises as `put_part` does."""
        found: dict[int, Part] = {}
        marker = first - 1
        while marker < last:
            with self._refusals(key, writing=True):
                reply = self.s3.list_parts(
                    Bucket=self.bucket,
                    Key=key,
                    UploadId=upload,
                    PartNumberMarker=marker,
                    MaxParts=min(_TOGETHER, last - marker),
                )
            more = needed(reply, "ListParts", "IsTruncated")
            for one in reply.get("Parts", ()):
                number, etag, size = all_needed(one, "ListParts", "PartNumber", "ETag", "Size")
                found[number] = Part(etag, size)
            if not more:
                break
            before, marker = marker, int(needed(reply, "ListParts", "NextPartNumberMarker"))
            if marker <= before:
                raise incomplete("ListParts", f"the list of parts goes on after part {marker}, not {before}")
        return {number: part for number, part in found.items() if number <= last}

    def complete_upload(self, key: str, upload: str, etags: Sequence[str], seen: str | None) -> None:
        """Complete an object from all its parts, given their etags in order.

        `seen` is the etag of the object to replace; None if there must be no object. Raises ConflictError if the object
        was created or changed meanwhile, and NotFoundError if the upload was completed or aborted.
        """
        # guard[condition: dict[str, Any] = {}]: a result is written to a bucket only if nobody else wrote it in the
        # meantime
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
        parts: Any = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with self._refusals(key, writing=True):
            reply = self.s3.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
        needed(reply, "CompleteMultipartUpload", "ETag")

    def abort_upload(self, key: str, upload: str) -> None:
        """Delete the parts of an unfinished upload; it is no error if the upload does not exist."""
        with suppress(NotFoundError), self._refusals(key, writing=True):
            self.s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def _abort_after(self, error: BaseException, key: str, upload: str) -> None:
        """Abort an upload after an error, unless the upload no longer exists. If aborting fails, only log this."""
        if isinstance(error, NotFoundError):
            return
        try:
            self.abort_upload(key, upload)
        except ParcelqError as refused:
            _log.warning("an unfinished upload of %s remains in %s: %s", key, self.bucket, refused)

    @contextmanager
    def _opened(self, key: str, start: int, length: int | None) -> Iterator[GetObjectOutputTypeDef]:
        """Open an object, or a range of its bytes. Errors that occur when the body is read are translated, too."""
        part = bool(start) or length is not None
        end = "" if length is None else str(start + length - 1)
        more: dict[str, Any] = {"Range": f"bytes={start}-{end}"} if part else {}
        with self._refusals(key):
            reply = self.s3.get_object(Bucket=self.bucket, Key=key, **more)
            needed(reply, "GetObject", "ETag")
            with closing(reply["Body"]):
                if part:
                    size_of_part(reply, start, key)
                yield reply

    @contextmanager
    def _refusals(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Translate errors of S3: NotFoundError if an object is missing, ConflictError if it was changed meanwhile."""
        with translated():
            try:
                yield
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                if code == _GONE_UPLOAD:
                    raise NotFoundError(key, "its unfinished upload no longer exists") from error
                if code in _ABSENT and not writing:
                    raise NotFoundError(key) from error
                if code in _REFUSED | _ABSENT:  # if a conditional write finds no object, it was deleted meanwhile
                    raise ConflictError(key) from error
                raise
