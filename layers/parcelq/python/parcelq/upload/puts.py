"""Reads the events by which S3 reports puts (uploads of objects), and opens the bytes of the objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_plus

from parcelq.errors import InvalidValueError
from parcelq.lineage.source import Source
from parcelq.names import INBOX
from parcelq.readable import Readable
from parcelq.records.compression import open_source
from parcelq.records.naming import naming_source
from parcelq.store.store import OpenedPut

if TYPE_CHECKING:
    from parcelq.store.bucket import BucketStore

_CODINGS: Final = frozenset({"gzip", "x-gzip", "zstd"})
"""Content codings that Parcelq decompresses: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1"""


class Object(NamedTuple):
    """One version of an S3 object, which a put (an upload of the object) created, and its size in bytes."""

    source: Source
    size: int

    @property
    def is_folder(self) -> bool:
        """Whether the object is only the empty object that the S3 console creates for a folder."""
        return self.size == 0 and self.source.key.endswith("/")

    def topic(self, default: str) -> str:
        """Return the topic for the object's records, which the key `inbox/<topic>/<name>` names, or the default."""
        first, _, rest = self.source.key.removeprefix(INBOX).partition("/")
        return first if first and rest else default


@contextmanager
def opened(objects: BucketStore, source: Source) -> Iterator[Readable | None]:
    """Yield the decompressed bytes of an object; None if the object was deleted or replaced.

    Raises:
        SourceError: the object's compression is damaged.
        AwsError: S3 refused a request.
    """
    with opened_put(objects, source) as found, naming_source(source.key):
        if found is None:
            yield None
        else:
            yield open_source(found.body, source.key, compressed=is_coded(found.encoding)).stream


def is_coded(encoding: str) -> bool:
    """Return whether a Content-Encoding, which may list several codings, says that an object is compressed."""
    return any(coding.strip() in _CODINGS for coding in encoding.lower().split(","))


def opened_put(objects: BucketStore, source: Source, start: int = 0) -> AbstractContextManager[OpenedPut | None]:
    """Open the stored bytes of a source in any bucket; yield None if the object was deleted or replaced."""
    bucket = objects.in_bucket(source.bucket)
    return bucket.opened_put(source.key, version=source.version, etag=source.etag, start=start)


def put_of(record: dict[str, Any]) -> Object:
    """Return the version of an object that an S3 event reports as uploaded.

    Keys in events are URL-encoded, with `+` for a space. A version id identifies an upload too, but only a sequencer
    shows which of two uploads was later.

    Raises:
        InvalidValueError: the event does not identify an object or its version.
    """
    bucket = _member(record, "s3", "bucket", "name")
    entity = {name: _member(record, "s3", "object", name) for name in ("key", "eTag", "sequencer", "versionId")}
    version = entity["versionId"]
    # guard[entity["sequencer"] = "1"]: a source names one put, by the event's sequencer
    entity["sequencer"] = entity["sequencer"] or version
    needed = {
        "s3.bucket.name": bucket,
        "s3.object.key": entity["key"],
        "s3.object.sequencer or versionId": entity["sequencer"],
        "s3.object.eTag or versionId": entity["eTag"] or version,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise InvalidValueError("record", _shown(record), f"one of S3's, with a text as {', as '.join(missing)}")
    key = unquote_plus(entity["key"])
    source = Source.of_object(bucket, key, etag=entity["eTag"], put=entity["sequencer"], version=version)
    size = record["s3"]["object"].get("size", 0)
    if not isinstance(size, int):
        raise InvalidValueError("record", _shown(record), "one of S3's, with a number as s3.object.size")
    return Object(source, size)


def _member(record: Any, *path: str) -> str:
    """Return the text at a place in a record of an event; empty if there is no text."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, str) else ""


def _shown(value: object) -> str:
    """Return a short text that shows an invalid record of an event: in S3's records, the part about the object."""
    if isinstance(value, dict) and isinstance(value.get("s3"), dict):
        value = {name: value["s3"][name] for name in ("bucket", "object") if name in value["s3"]}
    return str(value)[:300]


def event_of(text: str) -> dict[str, Any] | None:
    """Return the event of S3 that a message contains; None if the message is not an event with records."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "Records" in event else None


def records_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of an event; empty if there are none. Raises InvalidValueError if records are not valid."""
    records = event.get("Records") or []
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise InvalidValueError("Records", _shown(records), "a list of JSON objects, as S3 and SQS send them")
    return records
