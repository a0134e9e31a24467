"""Stores bodies that are too large for a message in S3, and puts a pointer into the message, as the Amazon SQS Extended
Client Library does.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-managing-large-messages.html
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from botocore.exceptions import ParamValidationError

from parcelq.aws.clients import translated
from parcelq.aws.replies import needed
from parcelq.errors import AwsError, MessageError
from parcelq.limits import MIB
from parcelq.names import OVERFLOW
from parcelq.topics.attributes import OLD_SIZE_ELSEWHERE, SIZE_ELSEWHERE
from parcelq.topics.message import Pulled, Wire

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_BODY_BYTES: Final = 512 * MIB
"""The most bytes of a body that is read from S3. A larger body is refused, because reading it would take all memory.

The largest body that Parcelq publishes is an entry of at most 256 MiB, as base64.
"""
_log = logging.getLogger(__name__)
_POINTER_CLASS: Final = "software.amazon.payloadoffloading.PayloadS3Pointer"
_OLD_POINTER_CLASS: Final = "com.amazon.sqs.javamessaging.MessageS3Pointer"


class Overflow(NamedTuple):
    """Stores large message bodies in S3, and reads these bodies.

    Each object belongs to one message. The object is not deleted with the message, because SQS may deliver the message
    again. The bucket's lifecycle rule deletes the object a day after the longest retention time of SQS.

    Attributes:
        bucket: the bucket in which bodies are stored under `overflow/`; empty if this object only reads bodies.
        only_own: whether to refuse pointers to objects outside `overflow/` in `bucket`. Without this check, anybody who
            may publish could copy any object that the reader can read into a result.
    """

    s3: S3Client
    bucket: str
    only_own: bool = False

    def offload(self, wire: Wire) -> Wire:
        """Put the body into S3 and return the message that points to it. The object belongs to this message alone.

        Raises MessageError if there is no bucket for the body.
        """
        if not self.bucket:
            raise MessageError("the message is larger than SQS allows, and no bucket was given for large entries")
        body = wire.text.encode()
        key = _new_key()
        with translated():
            needed(self.s3.put_object(Bucket=self.bucket, Key=key, Body=body), "PutObject", "ETag")
        return Wire(_pointer(self.bucket, key), {**wire.attributes, SIZE_ELSEWHERE: str(len(body))})

    def renew(self, wire: Wire) -> Wire:
        """Copy the message's body in S3, and return a new message that points to the copy, which outlasts the new
        message.

        A message that is published again needs a copy, because the first object is deleted some time after it was put,
        or by the consumer of the first message. If no bucket was given, the copy is put beside the body. If the body
        does not exist or may not be read, the pointer is returned unchanged. Raises AwsError if a retry may help.
        """
        try:
            bucket, key = self._allowed_target(wire)
            own, copied = self.bucket or bucket, _new_key()
            with translated():
                reply = self.s3.copy_object(
                    Bucket=own, Key=copied, CopySource={"Bucket": bucket, "Key": key}, MetadataDirective="COPY"
                )
            needed(reply, "CopyObject", "CopyObjectResult")
        except (MessageError, AwsError) as error:
            if isinstance(error, AwsError) and error.server_fault:
                raise
            _log.warning("a body in S3 was not copied for a message that is published again: %s", error)
            return wire
        return Wire(_pointer(own, copied), wire.attributes)

    def load(self, pulled: Pulled) -> Pulled:
        """Return a message with its body, read from S3 if necessary.

        Raises MessageError if the pointer cannot be read, points to a forbidden place, or points to an object that is
        missing or not text.
        """
        if not pulled.wire.is_pointer:
            return pulled
        bucket, key = self._allowed_target(pulled.wire)
        with translated():
            try:
                reply = self.s3.get_object(Bucket=bucket, Key=key)
                needed(reply, "GetObject", "ETag")
                # guard[pass]: a body that is larger than any entry may be is not read into memory
                _check_size(needed(reply, "GetObject", "ContentLength"), bucket, key)
                body = reply["Body"].read()
            except (self.s3.exceptions.NoSuchKey, self.s3.exceptions.NoSuchBucket, ParamValidationError):
                raise MessageError(
                    f"the body should be at s3://{bucket}/{key}, but this object does not exist"
                ) from None
        marks = {SIZE_ELSEWHERE, OLD_SIZE_ELSEWHERE}
        attributes = {name: value for name, value in pulled.attributes.items() if name not in marks}
        try:
            return pulled._replace(content=Wire(body.decode(), attributes))
        except UnicodeDecodeError:
            raise MessageError(f"the body at s3://{bucket}/{key} is not UTF-8 text") from None

    def _allowed_target(self, wire: Wire) -> tuple[str, str]:
        bucket, key = _target(wire.text)
        # guard[False]: a pointer is followed only to what this stack has put into S3
        if self.only_own and (bucket != self.bucket or not key.startswith(OVERFLOW)):
            raise MessageError(f"the body is at s3://{bucket}/{key}, but must be under s3://{self.bucket}/{OVERFLOW}")
        return bucket, key


def _check_size(size: int, bucket: str, key: str) -> None:
    if size > MAX_BODY_BYTES:
        limit = f"{MAX_BODY_BYTES // MIB} MiB"
        raise MessageError(f"the body at s3://{bucket}/{key} has {size:,} bytes, but must have at most {limit}")


def _new_key() -> str:
    return OVERFLOW + uuid.uuid4().hex


def _pointer(bucket: str, key: str) -> str:
    return json.dumps([_POINTER_CLASS, {"s3BucketName": bucket, "s3Key": key}])


def _target(text: str) -> tuple[str, str]:
    try:
        kind, pointer = json.loads(text)
        bucket, key = str(pointer["s3BucketName"]), str(pointer["s3Key"])
        key.encode()  # raises ValueError if the text cannot be a key
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MessageError(f"the body should be a pointer to S3, but is {text[:200]!r}") from None
    if kind not in (_POINTER_CLASS, _OLD_POINTER_CLASS):
        raise MessageError(f"the pointer is of the class {kind!r}, but must be {_POINTER_CLASS!r}")
    return bucket, key
