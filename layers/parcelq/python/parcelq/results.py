"""Results in a bucket: written whole or not at all, and never an older put's over a newer one's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from parcelq.assembly import blocks_of
from parcelq.aws import translated
from parcelq.limits import MAX_MULTIPART_PARTS, MIB
from parcelq.parallel import in_flight

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
        metadata: what was said of it when it was put.
    """

    etag: str
    metadata: Mapping[str, str]


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
        return Present(answer["ETag"], answer["Metadata"])

    def write(
        self, key: str, chunks: Iterable[bytes], size: int, metadata: Mapping[str, str], seen: Present | None
    ) -> bool:
        """Write an object, by parts if it is large, never more than a few parts of it in memory.

        Args:
            key: its key.
            chunks: its bytes.
            size: about how many they are.
            metadata: ASCII texts to keep with it.
            seen: what `look` saw before; the object is written only if that has not changed.

        Returns:
            Whether it was written; False if another one is there by now.

        Raises:
            AwsError: S3 refused.
        """
        condition: dict[str, Any] = {"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}
        # A little larger than needed, so that a size that is not quite right does not run out of parts.
        blocks = blocks_of(chunks, max(_PART_BYTES, size // (MAX_MULTIPART_PARTS - 1000)))
        head = list(islice(blocks, 2))
        with translated():
            try:
                if len(head) < 2:
                    body = head[0] if head else b""
                    self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=dict(metadata), **condition)
                else:
                    self._write_parts(key, chain(head, blocks), metadata, condition)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _REFUSED:
                    return False
                raise
        return True

    def _write_parts(
        self, key: str, blocks: Iterator[bytes], metadata: Mapping[str, str], condition: Mapping[str, Any]
    ) -> None:
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key, Metadata=dict(metadata))
        place: dict[str, Any] = {"Bucket": self.bucket, "Key": key, "UploadId": upload["UploadId"]}

        def put(part: tuple[int, bytes]) -> dict[str, Any]:
            number, body = part
            answer = self.s3.upload_part(**place, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            parts = sorted(in_flight(put, enumerate(blocks, 1), _PARTS_IN_FLIGHT), key=lambda part: part["PartNumber"])
            self.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **condition)  # type: ignore[typeddict-item]
        except BaseException:
            self.s3.abort_multipart_upload(**place)
            raise
