"""Downloading: all messages of a topic into one file, by way of segments in a folder beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from parcelq.collect.assembly import SegmentReader, joined
from parcelq.collect.drain import Drainer
from parcelq.collect.extents import Extent
from parcelq.collect.finish import Gathered, gather
from parcelq.collect.segments import segment_keys
from parcelq.errors import InvalidValueError
from parcelq.lineage.lineage import Lineage
from parcelq.lineage.source import NO_SOURCE
from parcelq.local_files import naming
from parcelq.names import topic_of_url
from parcelq.result_names import PIECES, UNFINISHED
from parcelq.store.stores import FolderStore

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from parcelq.topics.overflow import Overflow


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What was downloaded.

    Attributes:
        messages: messages that came this time.
        entries: entries of theirs.
        sources: how many sources the file has results of.
        incomplete: the sources of which something is missing or dead.
    """

    messages: int
    entries: int
    sources: int
    incomplete: tuple[str, ...]


def download(
    sqs: SQSClient,
    topic_url: str,
    path: Path,
    *,
    receive_message_timeout: float = 20,
    overflow: Overflow | None = None,
    on_progress: Callable[[int, int], None] = lambda _messages, _entries: None,
) -> Downloaded:
    r"""Write all messages of a topic into a file, one entry a line, each source in its order and no message twice.

    Messages are acknowledged when they are on the disk, in a folder `<file>.parts`. The file itself appears at the end,
    whole. Where a source is incomplete the folder stays, so that a later download adds what came since; after a crash a
    second one goes on from it.

    Args:
        sqs: a boto3 SQS client.
        topic_url: URL of the topic.
        path: the file; messages without lineage come last in it.
        receive_message_timeout: seconds with nothing coming after which the topic counts as exhausted.
        overflow: where bodies lie that are too large for a message.
        on_progress: told how many messages and entries were just stored.

    Raises:
        InvalidValueError: the file is there already, and is not the unfinished one of an earlier download.
        AwsError, TopicNotFoundError, OSError: SQS or the disk refused. Nothing is lost.
    """
    folder = path.with_name(path.name + PIECES)
    if path.exists() and not folder.exists():
        raise InvalidValueError("file", str(path), "a file that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    store = FolderStore(folder)
    drained = Drainer(sqs, topic_url, store, overflow).drain(receive_message_timeout, on_progress=on_progress)
    found = [gather(store, keys) for keys in segment_keys(store, topic_of_url(topic_url)).values()]
    found.sort(key=lambda one: (one.source == NO_SOURCE, one.source))
    incomplete: list[str] = []
    unfinished = path.with_name(path.name + UNFINISHED)
    with naming(unfinished), unfinished.open("wb") as file:
        file.writelines(joined(piece for one in found for piece in _pieces(store, one, incomplete)))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    if not incomplete:
        shutil.rmtree(folder)
    sources = sum(one.source != NO_SOURCE for one in found)
    return Downloaded(drained.messages, drained.entries, sources, tuple(incomplete))


def _pieces(store: FolderStore, gathered: Gathered, incomplete: list[str]) -> Iterator[Iterable[bytes]]:
    extents: Iterable[Extent]
    if gathered.source == NO_SOURCE:
        extents = gathered.apart
    else:
        resolution = gathered.collector.resolve()
        extents = chain(resolution.extents, gathered.apart)
        if not resolution.whole:
            incomplete.append(gathered.source)
        if not resolution.finished:  # then at least all that came, in order
            extents = gathered.extents(store, lambda name: Lineage.parse(name).order)
    return map(SegmentReader(store, gathered.keys).read, extents)
