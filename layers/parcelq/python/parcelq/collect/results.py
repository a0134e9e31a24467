"""Results in a bucket: written whole or not at all, and never an older put's over a newer one's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.limits import MAX_MULTIPART_PARTS, MIB

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PART_BYTES: Final = 16 * MIB
_PARTS_IN_FLIGHT: Final = 3
_REFUSED: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


@dataclass(frozen=True, slots=True)
class Present:
    """An object that is there.

    Attributes:
        etag: its ETag, as S3 gives it.
        size: its bytes.
        metadata: what was said of it when it was put.
    """

    etag: str
    size: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Begun:
    """An object that is not written to the end.

    Attributes:
        upload: id of its multipart upload.
        etags: of its parts that are there, from the first on.
    """

    upload: str
    etags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Writes objects of a bucket on the condition that nobody else wrote them since one looked.

    Attributes:
        s3: a boto3 S3 client.
        bucket: its name.
    """

    s3: S3Client
    bucket: str

    def look(self, key: str) -> Present | None:
        """Look at an object; None if there is none.

        Raises:
            AwsError: S3 refused.
        """
        with translated():
            try:
                answer = self.s3.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in {"404", "NoSuchKey", "NotFound"}:
                    return None
                raise
        return Present(answer["ETag"], answer["ContentLength"], answer["Metadata"])

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
        """Write an object, by parts if it is large, never more than a few parts of it in memory.

        Args:
            key: its key.
            bodies: gives its parts from a number on, the first being 0; all but the last of `part_bytes` at least.
            metadata: ASCII texts to keep with it.
            seen: what `look` saw before; the object is written only if that has not changed.
            begun: what was returned when the same parts were not written to the end.
            may_go_on: asked before each part but the first.

        Returns:
            Whether it was written, which it is not if another one is there by now; or what is there of it when it was
            not to go on.

        Raises:
            AwsError: S3 refused; nothing is there then.
        """
        condition: dict[str, Any] = {"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}
        with translated():
            try:
                if begun is None:
                    parts = bodies(0)
                    head = list(islice(parts, 2))
                    if len(head) < 2:
                        body = head[0] if head else b""
                        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=dict(metadata), **condition)
                        return True
                    upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key, Metadata=dict(metadata))
                    begun, parts = Begun(upload["UploadId"]), chain(head, parts)
                    del head  # lest these parts stay in memory to the end
                else:
                    parts = bodies(len(begun.etags))
                return self._write_parts(key, begun, parts, condition, may_go_on)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _REFUSED:
                    return False
                raise

    def _write_parts(
        self,
        key: str,
        begun: Begun,
        bodies: Iterator[bytes],
        condition: Mapping[str, Any],
        may_go_on: Callable[[], bool],
    ) -> bool | Begun:
        place: dict[str, Any] = {"Bucket": self.bucket, "Key": key, "UploadId": begun.upload}
        stopped = False

        def allowed() -> Iterator[tuple[int, bytes]]:
            nonlocal stopped
            for number, body in enumerate(bodies, len(begun.etags) + 1):
                yield number, body
                if not may_go_on():
                    stopped = True
                    return

        def put(part: tuple[int, bytes]) -> tuple[int, str]:
            number, body = part
            return number, self.s3.upload_part(**place, PartNumber=number, Body=body)["ETag"]

        try:
            written = sorted(in_flight(put, allowed(), _PARTS_IN_FLIGHT))
            etags = (*begun.etags, *(etag for _, etag in written))
            if stopped:
                return Begun(begun.upload, etags)
            parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
            self.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **condition)  # type: ignore[typeddict-item]
        except BaseException:
            self.s3.abort_multipart_upload(**place)
            raise
        return True


def part_bytes(size: int) -> int:
    """How large the parts of an object of about `size` bytes should be."""
    # A little larger than needed, so that a size that is not quite right does not run out of parts.
    return max(_PART_BYTES, size // (MAX_MULTIPART_PARTS - 1000))
