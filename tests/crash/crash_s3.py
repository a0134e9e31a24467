"""S3 as far as the functions ask for it, in memory: https://docs.aws.amazon.com/AmazonS3/latest/API/

An operation is a method of its name, with its parameters by their names; what S3 has and this has not, be it an
operation or a parameter, is an error in Python. Replies have what somebody looks at. Two things are not as in S3: a
listing is one page, however long, and parts may be small, so that a small object has several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from io import BytesIO
from itertools import count, pairwise
from typing import Any, BinaryIO, Final

from botocore import xform_name
from botocore.response import StreamingBody
from crash_faults import Reply

_WHEN: Final = datetime(2026, 11, 26, tzinfo=UTC)


class RefusedError(Exception):
    """S3's no, by its code and the status of its answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Object:
    """An object, or a part of one.

    Attributes:
        data: its bytes.
        etag: its ETag, in quotes.
        metadata: what the user said of it.
    """

    data: bytes
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def head(self) -> Reply:
        """What S3 says about it."""
        said = {"Metadata": dict(self.metadata), "LastModified": _WHEN}
        return {"ETag": self.etag, "ContentLength": len(self.data), **said}


@dataclass(frozen=True)
class Upload:
    """A multipart upload.

    Attributes:
        key: what its object is to be called.
        metadata: what the user said of that.
        parts: by their numbers.
    """

    key: str
    metadata: Mapping[str, str]
    parts: dict[int, Object] = field(default_factory=dict)


class Bucket:
    """A bucket without versions.

    Attributes:
        name: its name.
        objects: what is in it, by key.
        uploads: what was begun and neither completed nor aborted, by id.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, Upload] = {}
        self._ids = map(str, count(1))

    def answer(self, operation: str, asked: Mapping[str, Any]) -> tuple[int, Reply]:
        """The status of S3's answer to a request, and the answer."""
        given = {xform_name(name): value for name, value in asked.items()}
        try:
            if given.pop("bucket") != self.name:
                raise RefusedError(404, "NoSuchBucket")
            return 200, getattr(self, xform_name(operation))(**given)
        except RefusedError as refused:
            error = {"Code": refused.code, "Message": refused.code}
            return refused.status, {"Error": error, "ResponseMetadata": {"HTTPStatusCode": refused.status}}

    # Objects.

    def put_object(
        self,
        key: str,
        body: bytes | BinaryIO = b"",
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        content_type: str = "",
    ) -> Reply:
        self._check(key, if_match, if_none_match)
        self.objects[key] = made = _object(body, metadata)
        return {"ETag": made.etag}

    def get_object(self, key: str, range: str | None = None, if_match: str | None = None) -> Reply:  # noqa: A002
        found = self._found(key)
        if if_match is not None and not _same(if_match, found.etag):
            raise RefusedError(412, "PreconditionFailed")
        data = found.data if range is None else _part(found.data, range)
        start = range.partition("=")[2].partition("-")[0] if range else ""
        part = {"ContentRange": f"bytes {start}-{int(start) + len(data) - 1}/{len(found.data)}"} if range else {}
        return {**found.head(), **part, "ContentLength": len(data), "Body": StreamingBody(BytesIO(data), len(data))}

    def head_object(self, key: str) -> Reply:
        if key not in self.objects:
            raise RefusedError(404, "404")  # the answer to a HEAD has no body that could say more
        return self.objects[key].head()

    def list_objects_v2(self, prefix: str = "") -> Reply:
        contents = [
            {"Key": key, "ETag": one.etag, "Size": len(one.data), "LastModified": _WHEN}
            for key, one in sorted(self.objects.items())
            if key.startswith(prefix)
        ]
        return {"IsTruncated": False, "KeyCount": len(contents), **({"Contents": contents} if contents else {})}

    def delete_objects(self, delete: Mapping[str, Any]) -> Reply:
        keys = [one["Key"] for one in delete["Objects"]]
        for key in keys:
            self.objects.pop(key, None)
        return {} if delete.get("Quiet") else {"Deleted": [{"Key": key} for key in keys]}

    # Objects by parts.

    def create_multipart_upload(
        self, key: str, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> Reply:
        upload_id = next(self._ids)
        self.uploads[upload_id] = Upload(key, metadata or {})
        return {"UploadId": upload_id}

    def upload_part(self, key: str, upload_id: str, part_number: int, body: bytes | BinaryIO) -> Reply:
        self._upload(key, upload_id).parts[part_number] = made = _object(body)
        return {"ETag": made.etag}

    def list_parts(self, key: str, upload_id: str, part_number_marker: int, max_parts: int) -> Reply:
        parts = self._upload(key, upload_id).parts
        after = sorted(number for number in parts if number > part_number_marker)
        listed = [{"PartNumber": one, "ETag": parts[one].etag, "Size": len(parts[one].data)} for one in after]
        more = len(listed) > max_parts
        last = {"NextPartNumberMarker": listed[max_parts - 1]["PartNumber"]} if more else {}
        return {"IsTruncated": more, **last, "Parts": listed[:max_parts]}

    def complete_multipart_upload(
        self,
        key: str,
        upload_id: str,
        multipart_upload: Mapping[str, Any],
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Reply:
        upload = self._upload(key, upload_id)
        parts = _chosen(upload.parts, multipart_upload["Parts"])
        self._check(key, if_match, if_none_match)
        digest = md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)).hexdigest()
        made = _object(b"".join(part.data for part in parts), upload.metadata, f'"{digest}-{len(parts)}"')
        self.objects[key] = made
        del self.uploads[upload_id]
        return {"ETag": made.etag}

    def abort_multipart_upload(self, key: str, upload_id: str) -> Reply:
        self._upload(key, upload_id)
        del self.uploads[upload_id]
        return {}

    # What is looked at before.

    def _found(self, key: str) -> Object:
        if key not in self.objects:
            raise RefusedError(404, "NoSuchKey")
        return self.objects[key]

    def _upload(self, key: str, upload_id: str) -> Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise RefusedError(404, "NoSuchUpload")
        return upload

    def _check(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """The conditions of a write: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""
        if if_none_match not in {None, "*"}:
            raise RefusedError(501, "NotImplemented")
        if if_none_match and key in self.objects:
            raise RefusedError(412, "PreconditionFailed")
        if if_match is not None and not _same(if_match, self._found(key).etag):
            raise RefusedError(412, "PreconditionFailed")


def _object(body: bytes | BinaryIO, metadata: Mapping[str, str] | None = None, etag: str = "") -> Object:
    data = bytes(body) if isinstance(body, bytes | bytearray | memoryview) else body.read()
    said = {name.lower(): value for name, value in (metadata or {}).items()}  # they travel as HTTP's headers
    return Object(data, etag or f'"{md5(data).hexdigest()}"', said)


def _same(etag: str, other: str) -> bool:
    return etag.strip('"') == other.strip('"')


def _part(data: bytes, asked: str) -> bytes:
    """A range of bytes that ends with the data, if not before."""
    ends = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if not ends:
        raise NotImplementedError(asked)
    start, last = int(ends[1]), int(ends[2] or len(data))
    if start >= len(data):
        raise RefusedError(416, "InvalidRange")
    return data[start : last + 1]


def _chosen(parts: Mapping[int, Object], asked: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The parts that an object is made of."""
    chosen = [(one["PartNumber"], one["ETag"]) for one in asked]
    if not chosen:
        raise RefusedError(400, "MalformedXML")
    if any(number not in parts or not _same(etag, parts[number].etag) for number, etag in chosen):
        raise RefusedError(400, "InvalidPart")
    if any(number >= following for (number, _), (following, _) in pairwise(chosen)):
        raise RefusedError(400, "InvalidPartOrder")
    return [parts[number] for number, _ in chosen]
