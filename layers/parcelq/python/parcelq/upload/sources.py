"""Publishes one source: cuts its records into parcels, and publishes them as messages on a topic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from parcelq.errors import PublishError
from parcelq.lineage.lineage import Lineage, Span
from parcelq.lineage.source import Source
from parcelq.readable import Readable
from parcelq.records import Format, Parcel, by_name, cut, split_header
from parcelq.records.compression import open_source
from parcelq.records.naming import naming_source
from parcelq.store.store import Store
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.header import header_of_source
from parcelq.topics.message import Message
from parcelq.topics.topic import Topic
from parcelq.upload.parcels import LINES_ONLY, Layout, fit_for_messages

_MOST_PARTS: Final = 2048
"""The most parts of a note, which then has about 30 KB."""


class Rest(NamedTuple):
    """The place where the upload of a source continues.

    Attributes:
        start: offset of the next entry in the decompressed source.
        record: number of that entry.
        line: number of its first line.
        header: the attribute `Header` of the source's messages.
        coded: whether the source is compressed, so that it must be decompressed from its beginning.
    """

    start: int
    record: int
    line: int
    header: str = ""
    coded: bool = False


class Uploaded(NamedTuple):
    """What was published of a source.

    Attributes:
        messages: number of messages.
        entries: number of their entries.
        end: offset just after the last byte.
        parts: bytes and entries of each message in order, or of several messages together if there are many; the header
            is a part without entries.
        warnings: warnings about its compression.
        format: the record format.
        chosen_by: what determined the format: `name` for the source's name, `option`, `stack`, …
        one_stream: why it cannot be cut into ranges; empty if it can.
        rest: where to continue, if there was not enough time for all of it.
    """

    messages: int
    entries: int
    end: int
    parts: tuple[tuple[int, int], ...] = ()
    warnings: tuple[str, ...] = ()
    format: str = "lines"
    chosen_by: str = ""
    one_stream: str = ""
    rest: Rest | None = None


class Parts:
    """Bytes and entries of parcels. If there are many, adjacent parcels are added up, so that the list stays short."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []
        self._of_each = 1
        self._size = self._entries = self._parcels = 0

    def add(self, size: int, entries: int) -> None:
        """Add a parcel, or several that are counted together."""
        self._size, self._entries, self._parcels = self._size + size, self._entries + entries, self._parcels + 1
        if self._parcels == self._of_each:
            self._parts.append((self._size, self._entries))
            self._size = self._entries = self._parcels = 0
            if len(self._parts) == _MOST_PARTS:
                pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
                self._parts = [(one[0] + other[0], one[1] + other[1]) for one, other in pairs]
                self._of_each *= 2

    def all(self) -> tuple[tuple[int, int], ...]:
        """Bytes and entries of each part, in order."""
        return (*self._parts, *[(self._size, self._entries)] * bool(self._parcels))


def upload_source(
    topic: Topic,
    stream: Readable,
    source: Source,
    parcel_size: int,
    *,
    size: int | None,
    fmt: Format | None = None,
    store: Store | None = None,
    compressed: bool = False,
    workflow: str = "",
    may_go_on: Callable[[], bool] = lambda: True,
) -> Uploaded:
    """Publish a whole source.

    Args:
        size: its bytes as stored; None if unknown before its end.
        store: stores a header that is too long for an attribute; None if there is no store.
        compressed: whether it must be compressed.
        may_go_on: called before each parcel except the first; if it returns False, `rest` of the result says what is
            left.

    Raises:
        SourceError: it does not match its format, or its compression is damaged.
        PublishError: some messages were refused; all others are published.
        AwsError, TopicNotFoundError: SQS refused a request.
    """
    with naming_source(source.key):
        opened = open_source(stream, source.key, compressed=compressed)
        fmt = fmt or by_name(source.key)
        header, entries = split_header(opened.stream, fmt)
        layout = Layout.of_source(fmt, header, header_of_source(header, str(source), store), workflow)
        total = None if opened.coding else size
        uploaded = upload_stream(topic, entries, source, parcel_size, total=total, layout=layout, may_go_on=may_go_on)
    rest = uploaded.rest and uploaded.rest._replace(header=layout.attribute, coded=bool(opened.coding))
    one_stream = f"it is compressed ({opened.coding})" if opened.coding else ""
    if not opened.coding and not fmt.ranges:
        one_stream = f"{fmt} cannot be cut from the middle"
    return uploaded._replace(warnings=tuple(opened.warnings), rest=rest, one_stream=one_stream)


def upload_stream(
    topic: Topic,
    stream: Readable,
    source: Source,
    parcel_size: int,
    *,
    total: int | None,
    layout: Layout = LINES_ONLY,
    start: int = 0,
    record: int = 1,
    ends: Callable[[], bool] = lambda: True,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Uploaded:
    """Publish the entries of a stream, which begins at byte `start` of the source.

    A header is a separate message before the others: its body is the header, and it has no entries.

    Args:
        total: bytes of the whole source; None if unknown before the stream's end.
        layout: the record format, and the header to publish before the stream.
        start: offset in the source of the header, or of the stream's first byte if there is no header to publish.
        record: number of the first entry.
        ends: called at the end of the stream; says whether the source ends there too. It matters only without `total`.
        may_go_on: called before each parcel except the first; if it returns False, `rest` of the result says what is
            left.

    Raises:
        RecordError: the stream does not match the format. Entries before the mistake may be published.
        CompressionError: the stream's compression is damaged.
        PublishError: some messages were refused; all others are published.
        AwsError, TopicNotFoundError: SQS refused a request.
    """
    entries, end = 0, start
    parts = Parts()
    rest: Rest | None = None

    def in_time() -> Iterator[Parcel]:
        nonlocal rest
        first = {"start": start + len(layout.header), "record": record, "line": layout.line or 1}
        parcels = cut(
            stream,
            layout.format,
            parcel_size,
            layout.room,
            **first,
            counted_from=0 if layout.line else start,
            strict=True,
        )
        yield from islice(parcels, 1)
        for parcel in parcels:
            # guard[False]: an upload stops before its function's time is up
            if not may_go_on():
                rest = Rest(parcel.start, parcel.record, parcel.line)
                return
            yield parcel

    def counted() -> Iterator[Parcel]:
        nonlocal entries, end
        parcels = fit_for_messages(in_time(), layout.format, layout.room)
        for parcel in chain(layout.header_parcel(start), parcels):
            entries, end = entries + parcel.entries, parcel.end
            parts.add(len(parcel.data), parcel.entries)
            yield parcel

    messages = parcel_messages(counted(), source, total, layout, empty=start == 0, ends=lambda: rest is None and ends())
    published, failed = topic.publish(messages)
    # guard[False]: an upload fails if not all of it was published
    if failed:
        raise PublishError(topic.name, [one.reason for one in failed])
    return Uploaded(published, entries, end, parts.all(), format=str(layout.format), rest=rest)


def parcel_messages(
    parcels: Iterable[Parcel],
    source: Source,
    total: int | None,
    layout: Layout = LINES_ONLY,
    *,
    empty: bool,
    ends: Callable[[], bool] = lambda: True,
) -> Iterator[Message]:
    """Turn parcels of a source into messages with their lineage.

    Args:
        total: bytes of the source; if None, the last message carries it, if the source ends there.
        empty: whether no parcels mean an empty source, which gives one message without bytes.
        ends: called after the last parcel; says whether the source ends there.
    """
    named = {SOURCE: str(source), **layout.attributes}
    header = {SOURCE: str(source), **layout.attributes_of_header}

    def message(parcel: Parcel, known: int | None) -> Message:
        told = {LINEAGE: str(Lineage(Span(parcel.start, parcel.end, known))), ENTRIES: str(parcel.entries)}
        if not parcel.entries:
            return Message(parcel.data, {**header, **told})
        return Message(parcel.data, {**named, **told, **layout.first(parcel)})

    held: Parcel | None = None
    for parcel in parcels:
        if held is not None:
            yield message(held, total)
        held = parcel
    if held is not None:
        yield message(held, held.end if total is None and ends() else total)
    elif empty and (total is not None or ends()):
        yield message(Parcel(0, b"", 0), 0)
