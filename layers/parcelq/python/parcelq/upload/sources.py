"""Publishing one source: its records become parcels, the parcels messages, and the messages go onto a topic."""

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
    """Where the upload of a source continues.

    Attributes:
        start: offset of the next entry, in the source as it is when decompressed.
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
        messages: how many messages.
        entries: how many entries they have.
        end: offset just after the last byte.
        parts: bytes and entries of each message in order, or of several messages together if there are many; the header
            is a part without entries.
        warnings: what the program of its compression would warn of.
        format: the record format.
        chosen_by: what chose that: `name` for the source's name, `option`, `stack`, …
        one_stream: why it cannot be cut into ranges, however large it is; empty if it can.
        rest: where to continue, if there was no time for all of it.
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
    """Bytes and entries of parcels, or, if there are many, of several parcels together, so that the list stays
    short."""

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
    """Publish a whole source from its first byte on.

    Args:
        size: how many bytes it has as it is stored; None if only its end shows it.
        store: where a header goes that is too long for an attribute; None if there is no store.
        compressed: whether it is known to be compressed.
        may_go_on: asked before each parcel but the first; where it says no, `rest` of the answer says what is left.

    Raises:
        SourceError: it does not fit its format, or its compression is broken.
        PublishError: some messages were refused; all others are published.
        AwsError, TopicNotFoundError: SQS refused.
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
    """Publish the entries of a stream, from its byte `start` of the source on.

    A header is a message of its own, before the others: its body is the header, and it has no entries.

    Args:
        total: bytes of the whole source; None if only the stream's end shows it.
        layout: the record format, and the header that comes before the stream and is to be published too.
        start: offset in the source of the header, or of the stream's first byte where there is no header to publish.
        record: number of the first entry.
        ends: asked when the stream has been read, whether the source ends there too; it matters only without `total`.
        may_go_on: asked before each parcel but the first; where it says no, `rest` of the answer says what is left.

    Raises:
        RecordError: the stream does not fit the format. All that came before may be published.
        CompressionError: the stream's compression is broken.
        PublishError: some messages were refused; all others are published.
        AwsError, TopicNotFoundError: SQS refused.
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

    def is_end() -> bool:
        return rest is None and ends()

    messages = parcel_messages(counted(), source, total, layout, empty=start == 0, ends=is_end)
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
        total: bytes of the source; where None, the last of the messages tells it, if the source ends with it.
        empty: whether no parcels at all mean an empty source, which is one message without bytes.
        ends: asked after the last of the parcels, whether the source ends there.
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
