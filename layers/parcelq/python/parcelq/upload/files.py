"""Uploading: a file's lines, as parcels, onto a topic."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.errors import PublishError
from parcelq.limits import KIB, MAX_MESSAGE_BYTES
from parcelq.lineage.lineage import Lineage, Span
from parcelq.lineage.source import Source
from parcelq.local_files import check_readable, opened
from parcelq.records.parcels import Parcel, Readable, cut_for_messages
from parcelq.topics.message import ENTRIES, LINEAGE, SOURCE, Message
from parcelq.topics.topic import Topic

ATTRIBUTE_ROOM: Final = 4 * KIB
"""Bytes of a message that its attributes may take: those that it gets here, and what later steps add to them."""
MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES - ATTRIBUTE_ROOM
_MOST_PARTS: Final = 2048
"""So many stretches of an upload are counted each by itself: a note of them has some 30 KB."""


def upload_file(
    topic: Topic,
    path: str | Path,
    parcel_size: int = 1000,
) -> int:
    """Publish the lines of a file as parcels; memory stays flat whatever the file's size.

    Args:
        topic: the topic.
        path: the file, pipe or terminal.
        parcel_size: most entries of a message.

    Returns:
        How many messages were published.

    Raises:
        ParcelqError: the file cannot be read, or changed while it was read. Its last message is not published then,
            so that nobody takes the source for whole.
        PublishError: some messages were refused, such as one with an entry too large where the topic has no bucket.
        AwsError, TopicNotFoundError: SQS refused.
    """
    with opened(Path(path)) as found:
        source = Source.of_file(found.path, _upload_id())
        return upload_stream(topic, found.stream, source, parcel_size, total=found.size).messages


def upload_files(
    topic: Topic,
    paths: Iterable[str | Path],
    parcel_size: int = 1000,
    *,
    on_file: Callable[[Path, int], None] = lambda _path, _published: None,
) -> int:
    """Publish the lines of several files, one file after another; see `upload_file`.

    Args:
        topic: the topic.
        paths: the files. All are looked at first, so that a name that is wrong leaves nothing half done.
        parcel_size: most entries of a message.
        on_file: told each file that is done and how many messages it made.

    Returns:
        How many messages were published.
    """
    files = [Path(path) for path in paths]
    for path in files:
        check_readable(path)
    published = 0
    for path in files:
        count = upload_file(topic, path, parcel_size)
        on_file(path, count)
        published += count
    return published


def _upload_id() -> str:
    """Names an upload, and sorts behind those before it, as sequencers of S3 do."""
    return f"{time.time_ns():016x}{uuid.uuid4().hex[:8]}"


class Uploaded(NamedTuple):
    """What was published of a stream: messages, their entries, and the offset just after the last byte.

    `parts` are the bytes and entries of its stretches in order: of each message, or of several where they are many.
    """

    messages: int
    entries: int
    end: int
    parts: tuple[tuple[int, int], ...] = ()


def upload_stream(
    topic: Topic,
    stream: Readable,
    source: Source,
    parcel_size: int,
    *,
    total: int | None,
    start: int = 0,
    ends: Callable[[], bool] = lambda: True,
) -> Uploaded:
    """Publish what a stream has, from its byte `start` of the source on.

    Args:
        topic: the topic.
        stream: the bytes from `start` on.
        source: what they are called.
        parcel_size: most entries of a message.
        total: bytes of the whole source; None where only the stream's end tells.
        start: offset of the stream's first byte in the source.
        ends: asked when the stream has been read, whether the source ends there too; it matters only without `total`.

    Raises:
        PublishError: some messages were refused; all others are published.
        AwsError, TopicNotFoundError: SQS refused.
    """
    entries, end = 0, start
    parts = _Parts()

    def counted() -> Iterator[Parcel]:
        nonlocal entries, end
        for parcel in cut_for_messages(stream, parcel_size, MAX_BODY_BYTES, start=start):
            entries, end = entries + parcel.entries, parcel.end
            parts.add(len(parcel.data), parcel.entries)
            yield parcel

    messages = parcel_messages(counted(), source, total, empty=start == 0, ends=ends)
    published, failed = topic.publish(messages)
    if failed:
        raise PublishError(topic.name, [one.reason for one in failed])
    return Uploaded(published, entries, end, parts.all())


class _Parts:
    """Bytes and entries of parcels; where they are many, of as many together as keep the list short."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []
        self._of_each = 1
        self._size = self._entries = self._parcels = 0

    def add(self, size: int, entries: int) -> None:
        self._size, self._entries, self._parcels = self._size + size, self._entries + entries, self._parcels + 1
        if self._parcels == self._of_each:
            self._parts.append((self._size, self._entries))
            self._size = self._entries = self._parcels = 0
            if len(self._parts) == _MOST_PARTS:
                pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
                self._parts = [(one[0] + other[0], one[1] + other[1]) for one, other in pairs]
                self._of_each *= 2

    def all(self) -> tuple[tuple[int, int], ...]:
        return (*self._parts, *[(self._size, self._entries)] * bool(self._parcels))


def parcel_messages(
    parcels: Iterable[Parcel],
    source: Source,
    total: int | None,
    *,
    empty: bool,
    ends: Callable[[], bool] = lambda: True,
) -> Iterator[Message]:
    """Turn parcels of a source into messages with their lineage.

    Args:
        parcels: in order.
        source: what they were cut from.
        total: bytes of the source; where None, the last of the messages tells it, if the source ends with it.
        empty: whether no parcels at all mean an empty source, which is one message without bytes.
        ends: asked after the last of the parcels, whether the source ends there.
    """
    name = str(source)

    def message(parcel: Parcel, known: int | None) -> Message:
        lineage = Lineage(Span(parcel.start, parcel.end, known))
        return Message(parcel.data, {SOURCE: name, LINEAGE: str(lineage), ENTRIES: str(parcel.entries)})

    held: Parcel | None = None
    for parcel in parcels:
        if held is not None:
            yield message(held, total)
        held = parcel
    if held is not None:
        yield message(held, held.end if total is None and ends() else total)
    elif empty and (total is not None or ends()):
        yield message(Parcel(0, b"", 0), 0)
