"""Uploads S3 objects: either as a whole, or as byte ranges that many Lambda functions upload in parallel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Final, NamedTuple

from parcelq.errors import AwsError, PublishError, SourceError
from parcelq.lineage.source import Source
from parcelq.readable import Readable
from parcelq.records import BLOCK_BYTES, FirstBytes, Format, RangeReader, by_name, flips, parse, split_header
from parcelq.records.compression import Opened, open_source
from parcelq.records.naming import naming_source
from parcelq.store.store import OpenedPut, Store
from parcelq.topics.header import header_of_source
from parcelq.topics.message import Message
from parcelq.topics.topic import Topic
from parcelq.upload.notes import note_problem, note_upload, notes_of
from parcelq.upload.parcels import Layout
from parcelq.upload.puts import is_coded, opened_put
from parcelq.upload.ranges import RangeTask, StreamTask, note_scan, tasks_after_scan, tasks_for
from parcelq.upload.sources import Uploaded, upload_source, upload_stream

if TYPE_CHECKING:
    from parcelq.store.bucket import BucketStore

_log = logging.getLogger(__name__)
_GONE: Final = "it was deleted or replaced after it was put"
_NEVER_READ: Final = ("InvalidObjectState", "InvalidRequest", "KMS.")
"""The error codes of S3 for an object in an archive, with a key of the customer (SSE-C), or with a disabled KMS key."""
_PUT_ANEW: Final = "put it in a storage class and with a key that the stack can read"
_TOO_LONG: Final = (
    "decompressing its first {:,} bytes takes longer than a function may run; put it uncompressed, or as several files"
)


class ObjectUploader(NamedTuple):
    """Publishes the records of S3 objects.

    Attributes:
        objects: the store that contains the objects; each source names its own bucket.
        store: the store for notes, long headers and scans of ranges.
        outputs: maps the name of a topic to the name of the topic from which its results are collected.
        format: the record format of all objects; None if each source's name determines its format.
        chosen_by: what determined the format: `option`, `stack`, …
        workflow: the attribute `Workflow` of all messages; empty for the built-in step.
    """

    objects: BucketStore
    store: Store
    parcel_size: int
    outputs: Mapping[str, str] = {}
    format: Format | None = None
    chosen_by: str = "option"
    workflow: str = ""

    def upload(
        self, source: Source, topic: Topic, ranges: Topic | None = None, may_go_on: Callable[[], bool] = lambda: True
    ) -> Uploaded | None:
        """Publish a whole object as one stream. Return None if the object was deleted or replaced.

        If `may_go_on` returns False, no time is left, and a task to upload the rest is published on the topic `ranges`.
        Without this topic, the time is not limited.

        Raises:
            SourceError: the object does not match its format, or its compression is damaged. The problem is noted in
                the store.
            PublishError, AwsError, TopicNotFoundError: not all records were published.
        """
        with self._opened(source, topic) as found:
            if found is None:
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
        self._note(source, 0, uploaded, uploaded.end if uploaded.rest is None else None, topic, ranges)
        return uploaded

    def upload_rest(
        self, task: StreamTask, topic: Topic, ranges: Topic, may_go_on: Callable[[], bool]
    ) -> Uploaded | None:
        """Continue the upload of an object until no time is left; see `upload`."""
        source, rest = Source.parse(task.source), task.rest
        with self._opened(source, topic, 0 if rest.coded else rest.start) as found:
            if found is None:
                return None
            body: Readable = found.body
            warnings: list[str] = []
            if rest.coded:
                opened = open_source(body, source.key, compressed=is_coded(found.encoding))
                body, warnings = opened.stream, opened.warnings
                if not _skip(body, rest.start, may_go_on):
                    raise SourceError(source.key, _TOO_LONG.format(rest.start))
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
        self._note(source, rest.start, uploaded, uploaded.end if left is None else None, topic, ranges)
        return uploaded

    def publish_ranges(self, ranges: Topic, source: Source, topic: Topic, total: int, range_bytes: int) -> int | None:
        """Publish an object's header, and tasks by which other Lambda functions upload the ranges of its entries.

        Return the number of ranges; None if the object cannot be cut from the middle and must be uploaded as a whole.
        Raises as `upload` does.
        """
        with self._opened(source, topic) as found:
            if found is None:
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
            uploaded = upload_stream(topic, BytesIO(), source, self.parcel_size, total=total, layout=layout)
            self._note(source, 0, uploaded._replace(warnings=tuple(opened.warnings)), total, topic)
        about = str(fmt), attribute, len(header), layout.line or 1
        whole = RangeTask(str(source), topic.name, 0, total, total, *about, workflow=self.workflow)
        return self._publish(ranges, tasks_for(whole, range_bytes))

    def upload_range(self, task: RangeTask, topic: Topic, ranges: Topic) -> Uploaded | None:
        """Carry out a task: publish the entries of a range or the bytes of a part, or scan a range; see `upload`."""
        source = Source.parse(task.source)
        if task.part:
            return self.upload_part(source, task.start, task.end, task.total, topic)
        if task.scan:
            with self._opened(source, topic, task.start) as found:
                if found is None:
                    return None
                flipped = flips(FirstBytes(found.body, task.end - task.start), task.records)
            note_scan(self.store, task, flips=flipped)
            self._publish(ranges, tasks_after_scan(self.store, task))
            return Uploaded(0, 0, task.end)
        before = max(0, task.start - 1)  # the bytes before `start` show whether an entry starts there
        with self._opened(source, topic, before) as found:
            if found is None:
                return None
            opened = Opened(found.body, "", []) if task.start else self._decompressed(found, source)[0]
            entries = RangeReader(
                opened.stream, task.records, task.start, task.end, origin=task.origin, inside=task.inside
            )
            start = entries.start
            if start is None:
                return Uploaded(0, 0, task.end)
            line = task.line if start == task.origin else None
            layout = Layout(task.records, b"", task.header, line, workflow=self.workflow)
            uploaded = upload_stream(
                topic, entries, source, self.parcel_size, total=task.total, layout=layout, start=start
            )
        uploaded = uploaded._replace(warnings=tuple(opened.warnings))
        self._note(source, start, uploaded, task.total, topic)
        return uploaded

    def upload_part(self, source: Source, start: int, end: int, total: int | None, topic: Topic) -> Uploaded | None:
        """Publish bytes `[start, end)` of an object, between boundaries of entries or of the header. See `upload`."""
        with self._opened(source, topic) as found:
            if found is None:
                return None
            opened, fmt = self._decompressed(found, source)
            notes = notes_of(self.store, str(source))
            if noted := next((note.format for note in notes if note.format), ""):
                fmt = parse(noted)
            header, entries = split_header(opened.stream, fmt)
            attribute = header_of_source(header, str(source), self.store)
            workflow = self.workflow or next((note.workflow for note in notes if note.workflow), "")
            layout = Layout(fmt, header if start < len(header) else b"", attribute, numbered=False, workflow=workflow)
            upload = partial(upload_stream, topic, source=source, parcel_size=self.parcel_size, start=start)
            upload = partial(upload, total=total, layout=layout)
            if opened.coding or layout.header:  # the stream was read from the beginning of the object
                begin = max(start, len(header))
                _skip(entries, begin - len(header))
                part = FirstBytes(entries, max(0, end - begin))
                return upload(part, ends=lambda: not entries.read(1))
        with self._opened(source, topic, start if start < end else 0) as found:
            if found is None:
                return None
            return upload(FirstBytes(found.body, end - start), ends=lambda: False)

    def _decompressed(self, found: OpenedPut, source: Source) -> tuple[Opened, Format]:
        """Return the decompressed bytes of an object, and its record format."""
        is_text = self.format is None
        opened = open_source(found.body, source.key, compressed=is_coded(found.encoding), is_text=is_text)
        return opened, self.format or by_name(source.key)

    def _publish(self, ranges: Topic, tasks: Iterable[RangeTask | StreamTask]) -> int:
        published, failed = ranges.publish(Message(str(task).encode()) for task in tasks)
        # guard[False]: ranges are published again if not all of them were published
        if failed:
            raise PublishError(ranges.name, [one.reason for one in failed])
        return published

    def _note(
        self,
        source: Source,
        start: int,
        uploaded: Uploaded,
        total: int | None,
        topic: Topic,
        ranges: Topic | None = None,
    ) -> None:
        """Write a note about an upload. If there was no time for all of it, publish a task to upload the rest."""
        uploaded = uploaded._replace(chosen_by=self.chosen_by if self.format else "name")
        output, workflow = self._output(topic), self.workflow
        where = self.store, str(source), start
        note_upload(*where, uploaded, total=total, topic=topic.name, output=output, workflow=workflow)
        # guard[False]: what there was no time for is uploaded by another invocation
        if uploaded.rest and ranges:
            self._publish(ranges, [StreamTask(str(source), topic.name, uploaded.format, uploaded.rest, workflow)])

    def _output(self, topic: Topic) -> str | None:
        return self.outputs.get(topic.name, "") if self.outputs else None

    @contextmanager
    def _opened(self, source: Source, topic: Topic, start: int = 0) -> Iterator[OpenedPut | None]:
        """Open a version of an object; None if it was deleted or replaced. Note why a source cannot be uploaded."""

        def note(problem: str) -> None:
            note_problem(self.store, str(source), problem, topic=topic.name, output=self._output(topic))

        try:
            with opened_put(self.objects, source, start) as found, naming_source(source.key):
                if found is None:
                    _log.warning("%s was deleted or replaced after it was put, so the object is skipped", source.uri)
                    note(_GONE)
                yield found
        except SourceError as error:
            note(error.reason)
            raise
        except AwsError as error:
            if error.operation != "GetObject" or not error.code.startswith(_NEVER_READ):
                raise
            note(reason := f"S3 does not give out its bytes ({error}); {_PUT_ANEW}")
            raise SourceError(source.key, reason) from None


def _skip(stream: Readable, size: int, may_go_on: Callable[[], bool] = lambda: True) -> bool:
    """Skip the first `size` bytes of a stream; return whether there was enough time."""
    before = FirstBytes(stream, size)
    while before.read(BLOCK_BYTES):
        if not may_go_on():
            return False
    return True
