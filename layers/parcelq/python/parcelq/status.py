"""How far sources are, and publishing again what is missing of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parcelq.collect import gather
from parcelq.collector import Dead, Resolution
from parcelq.errors import ParcelqError
from parcelq.limits import MIB
from parcelq.names import Source
from parcelq.notes import noted_sources, uploaded_entries
from parcelq.objects import ObjectUploader
from parcelq.segments import NO_SOURCE, segment_keys
from parcelq.store import Store


@dataclass(frozen=True, slots=True)
class Status:
    """How far a source is that has no whole result yet.

    Attributes:
        source: the attribute `Source`.
        total: bytes of it; None if that is not known yet.
        covered: bytes of it whose results are there.
        dead: what failed for good.
        holes: byte ranges of which nothing came yet.
        entries_read: entries of it; None if not all of it has been published.
        entries_written: entries of the result so far.
    """

    source: str
    total: int | None
    covered: int
    dead: tuple[Dead, ...]
    holes: tuple[tuple[int, int], ...]
    entries_read: int | None
    entries_written: int

    @property
    def percent(self) -> float:
        """How much of it is covered; 0 while its size is not known."""
        return 100 * self.covered / self.total if self.total else 0.0


def statuses(store: Store, topic: str) -> Iterator[Status]:
    """Tell of every source that was uploaded, or of which something was collected, and that is not whole yet.

    Args:
        store: where segments lie.
        topic: name of the topic that results are collected from.

    Raises:
        AwsError, OSError: the store refused.
    """
    seen = set()
    for keys in segment_keys(store, topic).values():
        gathered = gather(store, keys)
        if gathered.source != NO_SOURCE:
            seen.add(gathered.source)
            yield _status(store, gathered.source, gathered.collector.resolve())
    for source, total in noted_sources(store).items():
        if source not in seen:
            yield _status(store, source, Resolution(total, 0, (), ((0, total),), (), 0))


def repair(uploader: ObjectUploader, status: Status, topic_url: str) -> int:
    """Publish again what is missing of a source, and only that; returns how many messages it was.

    Args:
        uploader: publishes lines of objects.
        status: how far the source is.
        topic_url: URL of the topic that its lines go to.

    Raises:
        ParcelqError: the object is gone, or another one by now.
        PublishError, AwsError, TopicNotFoundError: not everything was published.
    """
    source = Source.parse(status.source)
    published = 0
    for start, end in status.holes:
        uploaded = uploader.upload_part(source, start, end, status.total, topic_url)
        if uploaded is None:
            raise ParcelqError(f"{source.uri} cannot be repaired: it was deleted or replaced since it was put")
        published += uploaded.messages
    return published


def line_numbers(store: Store, key: str, positions: Iterable[int]) -> dict[int, int]:
    """The number of the line that starts at each of these bytes of an object, counted from 1."""
    numbers: dict[int, int] = {}
    at, lines = 0, 1
    for position in sorted(set(positions)):
        while at < position:
            block = store.read(key, at, min(8 * MIB, position - at))
            if not block:
                return numbers
            lines += block.count(b"\n")
            at += len(block)
        numbers[position] = lines
    return numbers


def _status(store: Store, source: str, resolution: Resolution) -> Status:
    read = None if resolution.total is None else uploaded_entries(store, source, resolution.total)
    return Status(
        source,
        resolution.total,
        resolution.covered,
        resolution.dead,
        resolution.holes,
        read,
        resolution.entries,
    )
