"""Uploading S3 objects: whole, or as byte ranges that many functions upload at once."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Final, cast

from parcelq.errors import MessageError, ParcelqError, PublishError
from parcelq.lineage.source import Source
from parcelq.names import INBOX
from parcelq.records.line_ranges import FirstBytes, LinesOfRange
from parcelq.records.parcels import BLOCK_BYTES
from parcelq.store.bucket import BucketStore, OpenedPut
from parcelq.store.store import Readable, Store
from parcelq.topics.message import Message
from parcelq.topics.topic import Topic
from parcelq.upload.files import Uploaded, upload_stream
from parcelq.upload.notes import note_upload

_log = logging.getLogger(__name__)
_GZIP: Final = frozenset({"gzip", "x-gzip"})
"""One coding: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3"""
_MAX_OBJECT_BYTES: Final = 2**53
"""More than any object has; a number of JSON that is still exact."""


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
            whole = all(type(number) is int for number in (task.start, task.end, task.total))
            if not (isinstance(task.topic, str) and whole):
                raise ValueError("it must name a topic, and start, end and total must be whole numbers")
            if not 0 <= task.start < task.end <= task.total <= _MAX_OBJECT_BYTES:
                raise ValueError("it must be 0 <= start < end <= total")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MessageError(f"{text[:200]!r} is no range of an object: {error}") from None
        return task

    def __str__(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class ObjectUploader:
    """Publishes the lines of objects.

    Attributes:
        objects: where the objects are; a source names its bucket itself.
        store: where it is noted how many entries were published.
        parcel_size: most entries of a message.
        outputs: names of the topics whose results are collected, and of the topic that each's are collected from.
    """

    objects: BucketStore
    store: Store
    parcel_size: int
    outputs: Mapping[str, str] = field(default_factory=dict)

    def upload(self, source: Source, topic: Topic) -> Uploaded | None:
        """Publish a whole object.

        Returns:
            What was published; None if the object is gone, or another one by now, so that there is nothing to do.

        Raises:
            ParcelqError: its compression is broken.
            PublishError, AwsError, TopicNotFoundError: not everything was published.
        """
        with self._opened(source) as found:
            if found is None:
                return None
            packed, size = is_gzip(source, found.encoding), found.size
            stream = _decompressed(found.body) if packed else found.body
            known = None if packed else size
            uploaded = upload_stream(topic, stream, source, self.parcel_size, total=known)
        self._note(str(source), 0, uploaded, uploaded.end if packed else size, topic)
        return uploaded

    def upload_range(self, task: RangeTask, topic: Topic) -> Uploaded | None:
        """Publish the lines that start in a range; see `upload`."""
        source = Source.parse(task.source)
        before = max(0, task.start - 1)  # whether a line starts at `start` shows in the byte before it
        with self._opened(source, before) as found:
            if found is None:
                return None
            # The event of the put did not say that it is compressed; then it can only be read from its beginning.
            if not is_gzip(source, found.encoding):
                lines = LinesOfRange(found.body, task.start, task.end)
                start = lines.start
                if start is None:
                    return Uploaded(0, 0, task.end)
                uploaded = upload_stream(topic, lines, source, self.parcel_size, total=task.total, start=start)
                self._note(task.source, start, uploaded, task.total, topic)
                return uploaded
        return Uploaded(0, 0, 0) if task.start else self.upload(source, topic)

    def upload_part(self, source: Source, start: int, end: int, total: int | None, topic: Topic) -> Uploaded | None:
        """Publish the lines in `[start, end)` of an object, which begins and ends where lines do; see `upload`."""
        with self._opened(source) as found:
            if found is None:
                return None
            if is_gzip(source, found.encoding):  # it can only be read from its beginning
                whole = _decompressed(found.body)
                before = FirstBytes(whole, start)
                while before.read(BLOCK_BYTES):
                    pass
                lines, ends = FirstBytes(whole, end - start), lambda: not whole.read(1)
                return upload_stream(topic, lines, source, self.parcel_size, total=total, start=start, ends=ends)
        with self._opened(source, start if start < end else 0) as found:
            if found is None:
                return None
            lines = FirstBytes(found.body, end - start)
            return upload_stream(topic, lines, source, self.parcel_size, total=total, start=start, ends=lambda: False)

    def publish_ranges(self, ranges: Topic, source: Source, topic: str, total: int, range_bytes: int) -> int:
        """Publish the ranges of an object for others to upload, and return how many they are.

        Raises:
            PublishError, AwsError, TopicNotFoundError: not all were published.
        """
        tasks = (
            RangeTask(str(source), topic, start, min(start + range_bytes, total), total)
            for start in range(0, total, range_bytes)
        )
        published, failed = ranges.publish(Message(str(task).encode()) for task in tasks)
        if failed:
            raise PublishError(ranges.name, [one.reason for one in failed])
        return published

    def _note(self, source: str, start: int, uploaded: Uploaded, total: int, topic: Topic) -> None:
        output = self.outputs.get(topic.name, "") if self.outputs else None
        note_upload(self.store, source, start, uploaded, total=total, topic=topic.name, output=output)

    @contextmanager
    def _opened(self, source: Source, start: int = 0) -> Iterator[OpenedPut | None]:
        with _put(self.objects, source, start) as found, _naming_broken(source):
            if found is None:
                _log.warning("%s was deleted or replaced since it was put, so it is left out", source.uri)
            yield found


@contextmanager
def opened(objects: BucketStore, source: Source) -> Iterator[Readable | None]:
    """Give the bytes of an object, decompressed; None if it is gone, or another one by now.

    Raises:
        ParcelqError: its compression is broken.
        AwsError: S3 refused.
    """
    with _put(objects, source) as found, _naming_broken(source):
        if found is None:
            yield None
        else:
            yield _decompressed(found.body) if is_gzip(source, found.encoding) else found.body


def is_gzip(source: Source, encoding: str) -> bool:
    """Whether an object is compressed, by its name or by its Content-Encoding, which may list several in any case."""
    return source.is_gzip or any(coding.strip() in _GZIP for coding in encoding.lower().split(","))


def _put(objects: BucketStore, source: Source, start: int = 0) -> AbstractContextManager[OpenedPut | None]:
    bucket = objects.in_bucket(source.bucket)
    return bucket.opened_put(source.key, version=source.version, etag=source.etag, start=start)


def _decompressed(body: Readable) -> Readable:
    return cast(Readable, gzip.GzipFile(fileobj=cast(IO[bytes], body)))


@contextmanager
def _naming_broken(source: Source) -> Iterator[None]:
    """Name the object whose compression is broken."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ParcelqError(f"{source.uri} is called gzip, but cannot be decompressed: {error}") from None
