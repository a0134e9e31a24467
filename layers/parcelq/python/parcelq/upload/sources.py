"""Publishes one source: cuts the source's records into parcels, and publishes the parcels as messages on a topic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from parcelq.aws.text import is_legal
from parcelq.lineage.lineage import Lineage, Span
from parcelq.lineage.source import Source
from parcelq.readable import Readable
from parcelq.records import Format, Parcel, by_name, cut, fit_messages, split_header
from parcelq.records.compression import open_source
from parcelq.records.naming import naming_source
from parcelq.store.store import Store
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.header import header_of_source
from parcelq.topics.message import Message
from parcelq.topics.topic import Topic, all_published
from parcelq.upload.parcels import LINES_ONLY, Layout

_MOST_PARTS: Final = 2048
"""How many parts a note may have, at most; such a note has about 30 KB."""


class Rest(NamedTuple):
    """The place in a source where the upload of the source continues.

    Attributes:
        start: the offset of the next entry in the decompressed source.
        record: the number of the next entry.
        line: the number of the next entry's first line.
        header: the attribute `Header` of the source's messages.
        coded: whether the source is compressed, and must be decompressed from its beginning.
    """

    start: int
    record: int
    line: int
    header: str = ""
    coded: bool = False


class Uploaded(NamedTuple):
    """What was published of a source.

    Attributes:
        end: the offset just after the last byte that was published.
        parts: how many bytes and entries each message has, in order. If there are many messages, a part covers several
            messages. The header is a part without entries.
        warnings: warnings about the content and the compression of the source.
        chosen_by: what determined the format: `name` (the source's name), `option`, `stack`, …
        one_stream: why the source cannot be cut into ranges; empty if it can be cut.
        rest: where the upload must continue, if there was not enough time for the whole source; otherwise None.
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
    """The bytes and entries of parcels. If there are many parcels, neighbours are added up, so the list stays short."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []
        self._of_each = 1
        self._size = self._entries = self._parcels = 0

    def add(self, size: int, entries: int) -> None:
        """Add a parcel, or several parcels that are counted together."""
        self._size, self._entries, self._parcels = self._size + size, self._entries + entries, self._parcels + 1
        if self._parcels == self._of_each:
            self._parts.append((self._size, self._entries))
            self._size = self._entries = self._parcels = 0
            if len(self._parts) == _MOST_PARTS:
                pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
                self._parts = [(one[0] + other[0], one[1] + other[1]) for one, other in pairs]
                self._of_each *= 2

    def all(self) -> tuple[tuple[int, int], ...]:
        """Return how many bytes and entries each part has, in order."""
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
        size: how many bytes the source has as stored; None if unknown until the end of the source is read.
        fmt: the record format; None if the source's name determines it.
        store: the store for a header that is too long for an attribute; None if there is no store.
        compressed: whether the source must be compressed.
        may_go_on: see `upload_stream`.

    Raises:
        SourceError: the source does not match its format, or its compression is damaged.
        PublishError, AwsError, TopicNotFoundError: SQS refused some messages or a request.
    """
    with naming_source(source.key):
        opened = open_source(stream, source.key, compressed=compressed, is_text=fmt is None)
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
    """Publish the entries of a stream that begins at byte `start` of the source.

    A header is a separate message before the other messages: the body of this message is the header, and the message
    has no entries.

    Args:
        total: how many bytes the whole source has; None if unknown until the end of the stream is read.
        start: the offset of the header in the source, or of the stream's first byte if there is no header to publish.
        record: the number of the stream's first entry.
        ends: a function that is called at the end of the stream if `total` is None, and returns whether the source
            ends there too.
        may_go_on: a function that is called before each parcel except the first. If the function returns False, the
            upload stops, and `rest` of the result says where it must continue.

    Raises:
        RecordError, CompressionError: the stream is damaged. Entries before the mistake may have been published.
        PublishError, AwsError, TopicNotFoundError: SQS refused some messages or a request.
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
        parcels = fit_messages(in_time(), layout.format, layout.room, is_legal)
        for parcel in chain(layout.header_parcel(start), parcels):
            entries, end = entries + parcel.entries, parcel.end
            parts.add(len(parcel.data), parcel.entries)
            yield parcel

    messages = parcel_messages(counted(), source, total, layout, empty=start == 0, ends=lambda: rest is None and ends())
    published = all_published(topic.name, topic.publish(messages))
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
    """Turn parcels of a source into messages with lineage. For `total` and `ends`, see `upload_stream`.

    If `total` is None, the last message carries the size of the source, provided that the source ends there. If there
    are no parcels and `empty` is true, the source is empty, and gives one message without bytes.
    """
    named = {SOURCE: str(source), **layout.attributes}
    header = {SOURCE: str(source), **layout.attributes_of_header}

    def message(parcel: Parcel, known: int | None) -> Message:
        own = {LINEAGE: str(Lineage(Span(parcel.start, parcel.end, known))), ENTRIES: str(parcel.entries)}
        if not parcel.entries:
            return Message(parcel.data, {**header, **own})
        return Message(parcel.data, {**named, **own, **layout.first(parcel)})

    held: Parcel | None = None
    for parcel in parcels:
        if held is not None:
            yield message(held, total)
        held = parcel
    if held is not None:
        yield message(held, held.end if total is None and ends() else total)
    elif empty and (total is not None or ends()):
        yield message(Parcel(0, b"", 0), 0)
