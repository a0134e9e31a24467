"""Uploading S3 objects: whole, or as byte ranges that many functions upload at once."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, cast

from botocore.exceptions import ClientError

from parcelq.aws.clients import translated
from parcelq.errors import MessageError, ParcelqError, PublishError
from parcelq.lineage.source import Source
from parcelq.names import INBOX, topic_of_url
from parcelq.records.line_ranges import FirstBytes, LinesOfRange
from parcelq.records.parcels import BLOCK_BYTES, Readable
from parcelq.store.stores import Store
from parcelq.topics.message import Message
from parcelq.topics.publish import publish_many
from parcelq.upload.files import Uploaded, upload_stream
from parcelq.upload.notes import note_upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from parcelq.topics.overflow import Overflow

_log = logging.getLogger(__name__)
_GONE: Final = frozenset({"NoSuchKey", "NoSuchVersion", "PreconditionFailed", "404", "412"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
"""One coding: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3"""


@dataclass(frozen=True, slots=True)
class Object:
    """One put of an object.

    Attributes:
        source: what it is called.
        size: its bytes, as they lie in S3.
    """

    source: Source
    size: int

    @property
    def is_folder(self) -> bool:
        """Whether it is only the sign of a folder that consoles make."""
        return self.size == 0 and self.source.key.endswith("/")

    def topic(self, default: str) -> str:
        """The topic that its lines go to: `inbox/<topic>/<name>` names it, `inbox/<name>` leaves the default."""
        first, slash, rest = self.source.key.removeprefix(INBOX).partition("/")
        return first if slash and rest else default


@dataclass(frozen=True, slots=True)
class RangeTask:
    """A byte range of an object, whose lines are to be uploaded: those that start in it.

    Attributes:
        source: the object's source.
        topic: name of the topic to publish them on.
        start: first byte.
        end: just after the last byte.
        total: bytes of the object.
    """

    source: str
    topic: str
    start: int
    end: int
    total: int

    @classmethod
    def parse(cls, text: str) -> RangeTask:
        """Read a task again.

        Raises:
            MessageError: it is none.
        """
        try:
            task = cls(**json.loads(text))
            Source.parse(task.source)
            if not (isinstance(task.topic, str) and 0 <= task.start < task.end <= task.total):
                raise ValueError("it must name a topic, and be 0 <= start < end <= total")
        except (ValueError, TypeError, AttributeError) as error:
            raise MessageError(f"{text[:200]!r} is no range of an object: {error}") from None
        return task

    def __str__(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class ObjectUploader:
    """Publishes the lines of objects.

    Attributes:
        sqs: a boto3 SQS client.
        s3: a boto3 S3 client.
        store: where it is noted how many entries were published.
        parcel_size: most entries of a message.
        overflow: where entries go that are too large for a message.
        outputs: names of the topics whose results are collected, and of the topic that each's are collected from.
    """

    sqs: SQSClient
    s3: S3Client
    store: Store
    parcel_size: int
    overflow: Overflow
    outputs: Mapping[str, str] = field(default_factory=dict)

    def upload(self, source: Source, topic_url: str) -> Uploaded | None:
        """Publish a whole object.

        Returns:
            What was published; None if the object is gone, or another one by now, so that there is nothing to do.

        Raises:
            ParcelqError: its compression is broken.
            PublishError, AwsError, TopicNotFoundError: not everything was published.
        """
        answer = self._get(source)
        if answer is None:
            return None
        packed = is_gzip(source, answer)
        total = None if packed else answer["ContentLength"]
        stream = _decompressed(answer["Body"]) if packed else cast(Readable, answer["Body"])
        with _telling_broken(source):
            uploaded = upload_stream(
                self.sqs, topic_url, stream, source, self.parcel_size, total=total, overflow=self.overflow
            )
        self._note(str(source), 0, uploaded, uploaded.end if total is None else total, topic_url)
        return uploaded

    def upload_range(self, task: RangeTask, topic_url: str) -> Uploaded | None:
        """Publish the lines that start in a range; see `upload`."""
        source = Source.parse(task.source)
        before = max(0, task.start - 1)  # whether a line starts at `start` shows in the byte before it
        answer = self._get(source, Range=f"bytes={before}-")
        if answer is None:
            return None
        body = answer["Body"]
        if is_gzip(source, answer):  # which the event of the put did not tell; it can only be read from its beginning
            body.close()
            return Uploaded(0, 0, 0) if task.start else self.upload(source, topic_url)
        try:
            lines = LinesOfRange(body, task.start, task.end)
            if lines.start is None:
                return Uploaded(0, 0, task.end)
            uploaded = upload_stream(
                self.sqs,
                topic_url,
                lines,
                source,
                self.parcel_size,
                total=task.total,
                start=lines.start,
                overflow=self.overflow,
            )
        finally:
            body.close()
        self._note(task.source, lines.start, uploaded, task.total, topic_url)
        return uploaded

    def upload_part(self, source: Source, start: int, end: int, total: int | None, topic_url: str) -> Uploaded | None:
        """Publish the lines in `[start, end)` of an object, which begins and ends where lines do; see `upload`."""
        answer = self._get(source)
        if answer is None:
            return None
        packed = is_gzip(source, answer)  # which can only be read from its beginning
        if not packed and start < end:
            answer["Body"].close()
            answer = self._get(source, Range=f"bytes={start}-{end - 1}")
            if answer is None:
                return None
        with closing(answer["Body"]), _telling_broken(source):
            stream = _decompressed(answer["Body"]) if packed else cast(Readable, answer["Body"])
            if packed:
                before = FirstBytes(stream, start)
                while before.read(BLOCK_BYTES):
                    pass
            return upload_stream(
                self.sqs,
                topic_url,
                FirstBytes(stream, end - start),
                source,
                self.parcel_size,
                total=total,
                start=start,
                overflow=self.overflow,
                ends=lambda: packed and not stream.read(1),
            )

    def publish_ranges(self, range_topic_url: str, source: Source, topic: str, total: int, range_bytes: int) -> int:
        """Publish the ranges of an object for others to upload, and return how many they are.

        Raises:
            PublishError, AwsError, TopicNotFoundError: not all were published.
        """
        tasks = (
            RangeTask(str(source), topic, start, min(start + range_bytes, total), total)
            for start in range(0, total, range_bytes)
        )
        published, failed = publish_many(self.sqs, range_topic_url, (Message(str(task).encode()) for task in tasks))
        if failed:
            raise PublishError(range_topic_url, [one.reason for one in failed])
        return published

    def _note(self, source: str, start: int, uploaded: Uploaded, total: int, topic_url: str) -> None:
        topic = topic_of_url(topic_url)
        output = self.outputs.get(topic, "") if self.outputs else None
        note_upload(self.store, source, start, uploaded, total=total, topic=topic, output=output)

    def _get(self, source: Source, **more: str) -> Mapping[str, Any] | None:
        answer = _get(self.s3, source, **more)
        if answer is None:
            _log.warning("%s was deleted or replaced since it was put, so it is left out", source.uri)
        return answer


@contextmanager
def opened(s3: S3Client, source: Source) -> Iterator[Readable | None]:
    """Give the bytes of an object, decompressed; None if it is gone, or another one by now.

    Raises:
        ParcelqError: its compression is broken.
        AwsError: S3 refused.
    """
    answer = _get(s3, source)
    if answer is None:
        yield None
        return
    with closing(answer["Body"]), _telling_broken(source), translated():
        yield _decompressed(answer["Body"]) if is_gzip(source, answer) else cast(Readable, answer["Body"])


def is_gzip(source: Source, answer: Mapping[str, Any]) -> bool:
    """Whether an object is compressed, by its name or by its Content-Encoding, which may list several in any case."""
    codings = (answer.get("ContentEncoding") or "").lower().split(",")
    return source.is_gzip or any(coding.strip() in _GZIP for coding in codings)


def _get(s3: S3Client, source: Source, **more: str) -> Mapping[str, Any] | None:
    """S3's answer for just the object that was put; None if it is gone, or another one by now."""
    wanted: dict[str, str] = {"VersionId": source.version} if source.version else {"IfMatch": f'"{source.etag}"'}
    try:
        return s3.get_object(Bucket=source.bucket, Key=source.key, **wanted, **more)  # type: ignore[arg-type]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _GONE:
            return None
        with translated():
            raise


def _decompressed(body: object) -> Readable:
    return cast(Readable, gzip.GzipFile(fileobj=cast(IO[bytes], body)))


@contextmanager
def _telling_broken(source: Source) -> Iterator[None]:
    """Name the object whose compression is broken."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ParcelqError(f"{source.uri} is called gzip, but cannot be decompressed: {error}") from None
