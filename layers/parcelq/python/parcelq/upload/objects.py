"""Uploading S3 objects: whole, or as byte ranges that many functions upload at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final, Protocol

from parcelq.errors import CompressionError, PublishError, RecordError, SourceError
from parcelq.lineage.source import Source
from parcelq.names import INBOX
from parcelq.records import BLOCK_BYTES, FirstBytes, Format, RangeReader, Readable, by_name, flips, parse, split_header
from parcelq.records.compression import Opened, open_source
from parcelq.store.store import OpenedPut, Store
from parcelq.topics.header import header_of_source
from parcelq.topics.message import Message
from parcelq.topics.topic import Topic
from parcelq.upload.files import Uploaded, upload_source, upload_stream
from parcelq.upload.layout import Layout
from parcelq.upload.notes import note_problem, note_upload, noted_format, noted_workflow
from parcelq.upload.ranges import RangeTask, note_scan, tasks_after_scan, tasks_for
from parcelq.upload.streams import StreamTask

_log = logging.getLogger(__name__)
_GONE: Final = "it was deleted or replaced since it was put"
_CODINGS: Final = frozenset({"gzip", "x-gzip", "zstd"})
"""Content codings that are decompressed: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1"""


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
        """Whether it is only the empty object that the S3 console creates for a folder."""
        return self.size == 0 and self.source.key.endswith("/")

    def topic(self, default: str) -> str:
        """The topic that its records go to: `inbox/<topic>/<name>` names it, `inbox/<name>` leaves the default."""
        first, slash, rest = self.source.key.removeprefix(INBOX).partition("/")
        return first if slash and rest else default


class Puts(Protocol):
    """What sources are read from: buckets, or the files of one machine."""

    def in_bucket(self, bucket: str) -> Puts:
        """Return what reads the objects of a bucket, whose name is empty for files."""

    def opened_put(
        self, key: str, *, version: str = "", etag: str = "", start: int = 0
    ) -> AbstractContextManager[OpenedPut | None]:
        """Open what one put stored, from byte `start` on; give None if that was deleted or replaced since."""


@dataclass(frozen=True, slots=True)
class ObjectUploader:
    """Publishes the records of objects.

    Attributes:
        objects: where the objects are; a source names its bucket itself.
        store: where uploads are noted, and long headers and scans of ranges go.
        parcel_size: most entries of a message.
        outputs: names of the topics whose results are collected, and of the topic that each's are collected from.
        format: the record format of all objects; None to go by the name of each.
        chosen_by: what gave that format: `option`, `stack`, …
        workflow: the attribute `Workflow` of all messages; empty for the built-in step.
    """

    objects: Puts
    store: Store
    parcel_size: int
    outputs: Mapping[str, str] = field(default_factory=dict)
    format: Format | None = None
    chosen_by: str = "option"
    workflow: str = ""

    def upload(
        self,
        source: Source,
        topic: Topic,
        ranges: Topic | None = None,
        may_go_on: Callable[[], bool] = lambda: True,
    ) -> Uploaded | None:
        """Publish a whole object as one stream.

        Args:
            source: the object.
            topic: the topic that its entries go to.
            ranges: the topic of tasks; None where there is time for any object.
            may_go_on: says whether there is time to go on. If not, a task for the rest goes to the topic of tasks.

        Returns:
            What was published; None if the object was deleted or replaced, so that there is nothing to do.

        Raises:
            SourceError: it does not fit its format, or its compression is broken. That is noted.
            PublishError, AwsError, TopicNotFoundError: not everything was published.
        """
        with self._opened(source) as found, self._noting(source, topic):
            if found is None:
                self._note_gone(source, topic)
                return None
            uploaded = upload_source(
                topic,
                found.body,
                source,
                self.parcel_size,
                size=found.size,
                fmt=self.format,
                store=self.store,
                compressed=is_coded(found.encoding),
                workflow=self.workflow,
                may_go_on=may_go_on if ranges else lambda: True,
            )
        total = uploaded.end if uploaded.rest is None else None
        self._note(str(source), 0, uploaded, total, topic)
        self._hand_on(source, uploaded, topic, ranges)
        return uploaded

    def upload_rest(
        self, task: StreamTask, topic: Topic, ranges: Topic, may_go_on: Callable[[], bool]
    ) -> Uploaded | None:
        """Continue the upload of an object, as far as there is time; see `upload`."""
        source, rest = Source.parse(task.source), task.rest
        with self._opened(source, 0 if rest.coded else rest.start) as found, self._noting(source, topic):
            if found is None:
                return None
            body: Readable = found.body
            warnings: list[str] = []
            if rest.coded:
                opened = open_source(body, source.key, compressed=is_coded(found.encoding))
                body, warnings = opened.stream, opened.warnings
                _skip(body, rest.start, source, may_go_on)
            uploaded = upload_stream(
                topic,
                body,
                source,
                self.parcel_size,
                total=None if rest.coded else found.size,
                layout=Layout(task.records, b"", rest.header, rest.line, workflow=self.workflow),
                start=rest.start,
                record=rest.record,
                may_go_on=may_go_on,
            )
            left = uploaded.rest and uploaded.rest._replace(header=rest.header, coded=rest.coded)
            uploaded = uploaded._replace(rest=left, warnings=tuple(warnings))
        self._note(task.source, rest.start, uploaded, uploaded.end if left is None else None, topic)
        self._hand_on(source, uploaded, topic, ranges)
        return uploaded

    def _hand_on(self, source: Source, uploaded: Uploaded, topic: Topic, ranges: Topic | None) -> None:
        """Publish a task for the rest, if there was no time for all."""
        # guard[False]: what there was no time for is uploaded by another invocation
        if uploaded.rest and ranges:
            self._publish(ranges, [StreamTask(str(source), topic.name, uploaded.format, uploaded.rest, self.workflow)])

    def publish_ranges(self, ranges: Topic, source: Source, topic: Topic, total: int, range_bytes: int) -> int | None:
        """Publish an object's header, and the ranges of its entries for others to upload.

        Args:
            ranges: the topic of tasks.
            source: the object.
            topic: the topic that its entries go to.
            total: bytes of the object.
            range_bytes: bytes of a range.

        Returns:
            How many ranges it has; None if it cannot be cut from the middle, and is to be uploaded whole.

        Raises:
            SourceError: it has no header that fits its format. That is noted.
            PublishError, AwsError, TopicNotFoundError: not all were published.
        """
        with self._opened(source) as found, self._noting(source, topic):
            if found is None:
                self._note_gone(source, topic)
                return 0
            opened, fmt = self._decompressed(found, source)
            if opened.coding or not fmt.ranges:
                return None
            header, _ = split_header(opened.stream, fmt)
        if len(header) == total:
            return None
        attribute = header_of_source(header, str(source), self.store)
        layout = Layout.of_source(fmt, header, attribute, self.workflow)
        if header:
            nothing = BytesIO()
            uploaded = upload_stream(topic, nothing, source, self.parcel_size, total=total, layout=layout)
            self._note(str(source), 0, uploaded, total, topic)
        line = layout.line or 1
        whole = RangeTask(
            str(source), topic.name, 0, total, total, str(fmt), attribute, len(header), line, workflow=self.workflow
        )
        return self._publish(ranges, tasks_for(whole, range_bytes))

    def upload_range(self, task: RangeTask, topic: Topic, ranges: Topic) -> Uploaded | None:
        """Publish the entries that belong to a range, or the bytes of a part, or scan a range; see `upload`."""
        source = Source.parse(task.source)
        if task.part:
            with self._noting(source, topic):
                uploaded = self.upload_part(source, task.start, task.end, task.total, topic)
            if uploaded is None:
                self._note_gone(source, topic)
            return uploaded
        if task.scan:
            with self._opened(source, task.start) as found:
                if found is None:
                    self._note_gone(source, topic)
                    return None
                flipped = flips(FirstBytes(found.body, task.end - task.start), task.records)
            note_scan(self.store, task, flips=flipped)
            self._publish(ranges, tasks_after_scan(self.store, task))
            return Uploaded(0, 0, task.end)
        before = max(0, task.start - 1)  # whether an entry starts at `start` shows in the bytes before it
        with self._opened(source, before) as found, self._noting(source, topic):
            if found is None:
                self._note_gone(source, topic)
                return None
            entries = RangeReader(
                found.body, task.records, task.start, task.end, origin=task.origin, inside=task.inside
            )
            start = entries.start
            if start is None:
                return Uploaded(0, 0, task.end)
            line = task.line if start == task.origin else None
            layout = Layout(task.records, b"", task.header, line, workflow=self.workflow)
            size = self.parcel_size
            uploaded = upload_stream(topic, entries, source, size, total=task.total, layout=layout, start=start)
        self._note(task.source, start, uploaded, task.total, topic)
        return uploaded

    def upload_part(self, source: Source, start: int, end: int, total: int | None, topic: Topic) -> Uploaded | None:
        """Publish bytes `[start, end)` of an object, which begin and end where its entries or its header do.

        See `upload`.
        """
        with self._opened(source) as found:
            if found is None:
                return None
            opened, fmt = self._decompressed(found, source)
            if noted := noted_format(self.store, str(source)):
                fmt = parse(noted)
            header, entries = split_header(opened.stream, fmt)
            attribute = header_of_source(header, str(source), self.store)
            workflow = self.workflow or noted_workflow(self.store, str(source))
            layout = Layout(fmt, header if start < len(header) else b"", attribute, numbered=False, workflow=workflow)
            begin = max(start, len(header))
            if opened.coding or layout.header:  # it is read from its beginning
                before = FirstBytes(entries, begin - len(header))
                while before.read(BLOCK_BYTES):
                    pass
                part = FirstBytes(entries, max(0, end - begin))
                return self._upload_part(part, source, total, layout, start, topic, lambda: not entries.read(1))
        with self._opened(source, start if start < end else 0) as found:
            if found is None:
                return None
            part = FirstBytes(found.body, end - start)
            return self._upload_part(part, source, total, layout, start, topic, lambda: False)

    def _upload_part(
        self,
        part: Readable,
        source: Source,
        total: int | None,
        layout: Layout,
        start: int,
        topic: Topic,
        ends: Callable[[], bool],
    ) -> Uploaded:
        return upload_stream(topic, part, source, self.parcel_size, total=total, layout=layout, start=start, ends=ends)

    def _decompressed(self, found: OpenedPut, source: Source) -> tuple[Opened, Format]:
        """Return the object's bytes, decompressed, and its record format."""
        opened = open_source(found.body, source.key, compressed=is_coded(found.encoding))
        return opened, self.format or by_name(source.key)

    def _publish(self, ranges: Topic, tasks: Iterable[RangeTask | StreamTask]) -> int:
        published, failed = ranges.publish(Message(str(task).encode()) for task in tasks)
        # guard[False]: ranges are published again if not all of them were published
        if failed:
            raise PublishError(ranges.name, [one.reason for one in failed])
        return published

    def _note(self, source: str, start: int, uploaded: Uploaded, total: int | None, topic: Topic) -> None:
        uploaded = uploaded._replace(chosen_by=self.chosen_by if self.format else "name")
        output, workflow = self._output(topic), self.workflow
        note_upload(
            self.store, source, start, uploaded, total=total, topic=topic.name, output=output, workflow=workflow
        )

    def _note_gone(self, source: Source, topic: Topic) -> None:
        """Note that the rest of a source can never be uploaded."""
        note_problem(self.store, str(source), _GONE, topic=topic.name, output=self._output(topic))

    def _output(self, topic: Topic) -> str | None:
        return self.outputs.get(topic.name, "") if self.outputs else None

    @contextmanager
    def _noting(self, source: Source, topic: Topic) -> Iterator[None]:
        """Note why a source cannot be uploaded."""
        try:
            with _naming(source):
                yield
        except SourceError as error:
            note_problem(self.store, str(source), error.reason, topic=topic.name, output=self._output(topic))
            raise

    @contextmanager
    def _opened(self, source: Source, start: int = 0) -> Iterator[OpenedPut | None]:
        with _put(self.objects, source, start) as found, _naming(source):
            if found is None:
                _log.warning("%s was deleted or replaced since it was put, so it is skipped", source.uri)
            yield found


def _skip(stream: Readable, size: int, source: Source, may_go_on: Callable[[], bool]) -> None:
    """Read what was uploaded before. Raises SourceError if there is no time for that."""
    before = FirstBytes(stream, size)
    while before.read(BLOCK_BYTES):
        if not may_go_on():
            raise SourceError(
                source.key,
                f"decompressing its first {size:,} bytes takes longer than a function may run; "
                "put it uncompressed, or as several files",
            )


@contextmanager
def opened(objects: Puts, source: Source) -> Iterator[Readable | None]:
    """Give the bytes of an object, decompressed; None if it was deleted or replaced.

    Raises:
        SourceError: its compression is broken.
        AwsError: S3 refused.
    """
    with _put(objects, source) as found, _naming(source):
        if found is None:
            yield None
        else:
            yield open_source(found.body, source.key, compressed=is_coded(found.encoding)).stream


def is_coded(encoding: str) -> bool:
    """Whether an object is compressed, by its Content-Encoding, which may list several in any case."""
    return any(coding.strip() in _CODINGS for coding in encoding.lower().split(","))


def _put(objects: Puts, source: Source, start: int = 0) -> AbstractContextManager[OpenedPut | None]:
    bucket = objects.in_bucket(source.bucket)
    return bucket.opened_put(source.key, version=source.version, etag=source.etag, start=start)


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Name the object whose bytes are not what they should be."""
    try:
        yield
    except CompressionError as error:
        raise SourceError(source.key, error.reason) from error
    except RecordError as error:
        raise SourceError(source.key, str(error)) from error
