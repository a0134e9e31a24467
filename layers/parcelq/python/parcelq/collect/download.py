"""Downloads all messages of a topic into one file. Meanwhile, the messages are stored in a folder beside the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.bodies import all_entries, all_extents
from parcelq.collect.drain import Drainer
from parcelq.collect.resolution import Collected
from parcelq.collect.runs import collected_of, tidy
from parcelq.collect.segments import segment_keys
from parcelq.errors import ParcelqError
from parcelq.limits import MIB
from parcelq.local_files import naming
from parcelq.result_names import PIECES, UNFINISHED
from parcelq.store.folder import FolderStore
from parcelq.topics.header import key_of_stage
from parcelq.topics.topic import Topic

_PART_BYTES: Final = 8 * MIB


class Downloaded(NamedTuple):
    """The outcome of a download.

    Attributes:
        messages: how many messages this download stored, including messages that arrived more than once.
        entries: how many entries the file has, including entries that an earlier download stored.
        incomplete: the attribute `Source` of each source with missing or dead parts.
    """

    messages: int
    entries: int
    sources: int
    incomplete: tuple[str, ...]


def download(
    topic: Topic,
    path: Path,
    *,
    receive_message_timeout: float = 20,
    on_progress: Callable[[int, int], None] = lambda _messages, _entries: None,
) -> Downloaded:
    r"""Write all messages of a topic into a file, one entry per line: each source in order, no message twice.

    Messages are acknowledged as soon as the messages are on disk, in a folder `<file>.parts`. The file itself appears
    at the end, complete. If a source is incomplete, the folder stays, so that a later download can add messages that
    arrive later. After a crash, the next download continues from the folder.

    Args:
        path: the path of the file to write; messages without lineage are written at the end.
        receive_message_timeout: after how many seconds without a message the topic is regarded as empty.
        on_progress: called with how many messages and how many entries were just stored.

    Raises what `parcelq.Topic.download` raises.
    """
    folder = path.with_name(path.name + PIECES)
    if path.exists() and not folder.exists():
        raise ParcelqError(f"{str(path)!r} already exists")
    folder.mkdir(parents=True, exist_ok=True)
    store = FolderStore(folder)
    drained = Drainer(topic, store, keeps_headers=True).drain(receive_message_timeout, on_progress=on_progress)
    folders, now = segment_keys(store, topic.name).values(), datetime.now(UTC)
    opened = (collected_of(store, keys, tidy(store, topic.name, keys, now)) for keys in folders)
    found = [one for one in opened if one]
    found.sort(key=lambda one: (not one.job.source, one.job.source, one.job.workflow))
    incomplete, entries = [], 0
    unfinished = path.with_name(path.name + UNFINISHED)
    with naming(unfinished), unfinished.open("wb") as file:
        written = b"\n"
        for one in found:
            is_whole, count, parts = _result(one, topic.name)
            entries += count
            if not is_whole:
                incomplete.append(one.job.source)
            for number, part in enumerate(parts):
                if number == 0 and not written.endswith(b"\n"):
                    file.write(b"\n")
                file.write(part)
                written = part
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    if not incomplete:
        shutil.rmtree(folder)
    sources = sum(bool(one.job.source) for one in found)
    return Downloaded(drained.messages, entries, sources, tuple(incomplete))


def _result(collected: Collected, topic: str) -> tuple[bool, int, Iterator[bytes]]:
    """Return whether a job is complete, how many entries the file gets from the job, and the bytes of these entries. If
    records are missing, these are all collected entries in order.
    """
    keys, extents, entries, is_whole = collected.segments, all_extents(collected), all_entries(collected), True
    if collected.job.source:
        resolution = collected.resolve()
        is_whole = resolution.whole
        if resolution.finished:
            extents, entries = collected.extents(), resolution.entries
        header = collected.store.stat(key_of_stage(collected.job.id, topic))
        keys, extents = collected.with_header(header, extents)
    return is_whole, entries, parts_of(SegmentReader(collected.store, keys), extents, _PART_BYTES)
