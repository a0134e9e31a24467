"""Uploads files: publishes the records of files as parcels (groups of records) on a topic."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from parcelq.errors import SourceError
from parcelq.lineage.source import Source
from parcelq.local_files import check_readable, opened
from parcelq.records import Format
from parcelq.store.store import Store
from parcelq.topics.topic import Topic
from parcelq.upload.sources import Uploaded, upload_source


def upload_files(
    topic: Topic,
    paths: Iterable[str | Path],
    parcel_size: int = 1000,
    *,
    fmt: Format | None = None,
    store: Store | None = None,
    on_file: Callable[[Path, Uploaded], None] = lambda _path, _uploaded: None,
) -> int:
    """Publish the records of files as parcels, one file after another; return the number of published messages.

    A file is decompressed if its name or content says that the file is compressed. If a file does not match its format
    or is damaged, the other files are uploaded nevertheless; other errors end the upload. The last message of a file
    that could not be read to its end is not published, so that the file never counts as completely uploaded.

    Args:
        paths: files, pipes and terminals. All paths are checked first, so that a wrong name does not end an upload
            halfway.
        fmt, store: as in `upload_source`.

    Raises what `parcelq.Topic.upload` raises; SourceError if some files do not match their format or are damaged.
    """
    files = [Path(path) for path in paths]
    for path in files:
        check_readable(path)
    published = 0
    failed: list[SourceError] = []
    for path in files:
        try:
            with opened(path) as found:
                source, size = Source.of_file(found.path, _upload_id()), found.size
                uploaded = upload_source(topic, found.stream, source, parcel_size, size=size, fmt=fmt, store=store)
        except SourceError as error:
            failed.append(error)
            continue
        on_file(path, uploaded)
        published += uploaded.messages
    if failed:
        raise SourceError(failed[0].source, "; ".join([failed[0].reason, *map(str, failed[1:])]))
    return published


def _upload_id() -> str:
    """Return the name of a new upload. The names of uploads sort by time, like S3's sequencers."""
    return f"{time.time_ns():016x}{uuid.uuid4().hex[:8]}"
