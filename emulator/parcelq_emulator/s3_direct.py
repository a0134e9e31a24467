"""Answers S3's common operations instead of moto.

Moto spends a millisecond of CPU on each request, and scans the whole bucket to list a few keys. So this module answers
the most frequent operations (put, get, head, list, delete several) from moto's own objects, for buckets without
versions. Moto answers all other operations, and creates all errors except "not found" in the reply to a HEAD.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from html import unescape
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape  # nosec B406 # only writes

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.s3.utils import _VersionedKeyStore, metadata_from_headers

from parcelq_emulator.blob import BLOCK_BYTES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_XMLNS: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_MOST_KEYS: Final = 1000
_SIGNED: Final = "/s3/aws4_request"
_USUAL: Final = re.compile(
    r"HTTP_X_AMZ_(DATE|CONTENT_SHA256|SECURITY_TOKEN|SDK_CHECKSUM_ALGORITHM|CHECKSUM_CRC32|CHECKSUM_MODE|META_.*)"
    r"|HTTP_(?!X_AMZ_|IF_MODIFIED|IF_UNMODIFIED).*"
)
"""The WSGI variables of the headers that this module supports. Moto answers requests with other headers of S3."""
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_DELETED_KEY: Final = re.compile(r"<Object><Key>([^<]+)</Key></Object>")
_LISTED_BY: Final = frozenset({"list-type", "prefix", "max-keys", "continuation-token", "start-after", "encoding-type"})

Reply = tuple[str, list[tuple[str, str]], Iterable[bytes]]


class SortedKeys(_VersionedKeyStore):  # type: ignore[misc]
    """Moto's keys of a bucket, with a sorted list of their names.

    Attributes:
        names: the names of the keys, sorted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __setitem__(self, key: str, value: Any) -> None:
        self._add(key)
        super().__setitem__(key, value)

    def setlist(self, key: str, list_: Any) -> None:
        """Replace all versions of a key."""
        self._add(key)
        super().setlist(key, list_)

    def pop(self, key: str) -> None:
        """Remove a key. Raise KeyError if there is no such key."""
        super().pop(key)
        del self.names[bisect_left(self.names, key)]

    def after(self, prefix: str, last: str) -> Iterator[str]:
        """Yield the names that start with `prefix` and come after `last`, in sorted order."""
        names = self.names
        at = max(bisect_left(names, prefix), bisect_right(names, last))
        while at < len(names) and names[at].startswith(prefix):
            yield names[at]
            at += 1

    def _add(self, key: str) -> None:
        if key not in self:
            insort(self.names, key)


class DirectS3:
    """A WSGI application that answers S3's common operations, and passes all other requests to another application.

    Args:
        application: the application that answers all other requests.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self._lock = Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        reply = self._reply(environ) if _SIGNED in environ.get("HTTP_AUTHORIZATION", "") else None
        if reply is None:
            return self._application(environ, start_response)
        status, headers, body = reply
        start_response(status, headers)
        return body

    def _reply(self, environ: WSGIEnvironment) -> Reply | None:
        """Return the reply to a request; None if moto must answer."""
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        _, name, key = f"{path}/".split("/", 2) if path.count("/") < 2 else path.split("/", 2)
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        bucket = backend.buckets.get(name)
        usual = all(map(_USUAL.fullmatch, (one for one in environ if one.startswith("HTTP_"))))
        if bucket is None or not usual or bucket.is_versioned or not isinstance(bucket.keys, SortedKeys):
            return None
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        with self._lock:  # only one of several simultaneous conditional writes wins
            if key and not query:
                if method == "PUT":
                    return _put(backend, bucket, key, environ)
                return _get(bucket, key, environ) if method in {"GET", "HEAD"} else None
            if not key and method == "GET":
                return _list(bucket, dict(parse_qsl(query, keep_blank_values=True)))
            return _delete(backend, bucket, environ) if not key and (method, query) == ("POST", "delete") else None


def _put(backend: Any, bucket: Any, key: str, environ: WSGIEnvironment) -> Reply | None:
    size = int(environ.get("CONTENT_LENGTH") or 0)
    in_chunks = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-")
    present = bucket.keys.get(key)
    if_match, if_absent = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_NONE_MATCH")
    refused = (if_absent and (if_absent != "*" or present)) or (if_match and not _has(present, if_match))
    if size > BLOCK_BYTES or in_chunks or refused or bucket.object_lock_enabled or not _is_plain(present):
        return None
    headers = {_header(name): value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))}
    algorithm = headers.get("X-Amz-Sdk-Checksum-Algorithm", "")
    checksum = headers.get("X-Amz-Checksum-Crc32")
    if algorithm not in {"", "CRC32"} or bool(algorithm) != bool(checksum):
        return None
    new = backend.put_object(bucket.name, key, environ["wsgi.input"].read(size), checksum_value=checksum)
    new.set_metadata(metadata_from_headers(headers))
    new.checksum_algorithm = algorithm or None
    headers = {**new.response_dict, "content-length": "0", **({"x-amz-checksum-crc32": checksum} if checksum else {})}
    return "200 OK", list(headers.items()), ()


def _get(bucket: Any, key: str, environ: WSGIEnvironment) -> Reply | None:
    present, is_head = bucket.keys.get(key), environ["REQUEST_METHOD"] == "HEAD"
    asked, if_match = environ.get("HTTP_RANGE"), environ.get("HTTP_IF_MATCH")
    if present is None:
        return ("404 Not Found", [("content-length", "0")], ()) if is_head else None
    if not _is_plain(present) or "HTTP_IF_NONE_MATCH" in environ or (if_match and not _has(present, if_match)):
        return None
    headers = {**present.response_dict, **present.metadata, "accept-ranges": "bytes"}
    wants_checksum = not asked and environ.get("HTTP_X_AMZ_CHECKSUM_MODE") == "ENABLED"
    # Only the checksum of a multipart upload has a type.
    if wants_checksum and present.checksum_algorithm and not present.checksum_type:
        headers[f"x-amz-checksum-{present.checksum_algorithm.lower()}"] = present.checksum_value
    if is_head:
        return None if asked else ("200 OK", list(headers.items()), ())
    blob = present._blob
    if not asked:
        return "200 OK", list(headers.items()), blob
    part = _RANGE.fullmatch(asked)
    if part is None or int(part[1]) >= len(blob) or (part[2] and int(part[2]) < int(part[1])):
        return None
    start, stop = int(part[1]), min(len(blob), int(part[2] or len(blob)) + 1)
    headers |= {"content-length": str(stop - start), "content-range": f"bytes {start}-{stop - 1}/{len(blob)}"}
    return "206 Partial Content", list(headers.items()), blob[start:stop]


def _list(bucket: Any, query: Mapping[str, str]) -> Reply | None:
    most = query.get("max-keys", str(_MOST_KEYS))
    if query.get("list-type") != "2" or not query.keys() <= _LISTED_BY or not most.isdecimal() or int(most) < 1:
        return None
    token, prefix = query.get("continuation-token"), query.get("prefix", "")
    try:
        last = bytes.fromhex(token).decode() if token else query.get("start-after", "")
    except ValueError:
        return None
    wanted = min(int(most), _MOST_KEYS)
    names = []
    for name in bucket.keys.after(prefix, last):
        names.append(name)
        if len(names) > wanted:
            break
    is_truncated, names = len(names) > wanted, names[:wanted]
    encoded = quote if query.get("encoding-type") == "url" else str
    parts = [f"{_XML}<ListBucketResult {_XMLNS}><Name>{bucket.name}</Name><Prefix>{escape(encoded(prefix))}</Prefix>"]
    parts += [f"<KeyCount>{len(names)}</KeyCount><MaxKeys>{most}</MaxKeys>"]
    parts += ["<EncodingType>url</EncodingType>"] if encoded is quote else []
    parts += [f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"]
    if is_truncated:
        parts += [f"<NextContinuationToken>{names[-1].encode().hex()}</NextContinuationToken>"]
    if not token and last:
        parts += [f"<StartAfter>{escape(encoded(last))}</StartAfter>"]
    for name in names:
        one = bucket.keys[name]
        algorithm = one.checksum_algorithm
        parts += [
            f"<Contents><Key>{escape(encoded(name))}</Key><LastModified>{one.last_modified_ISO8601}</LastModified>"
            f"<ETag>{escape(one.etag)}</ETag><Size>{one.size}</Size><StorageClass>{one.storage_class}</StorageClass>"
            + (f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm></Contents>" if algorithm else "</Contents>")
        ]
    return _xml("".join(parts) + "</ListBucketResult>")


def _delete(backend: Any, bucket: Any, environ: WSGIEnvironment) -> Reply | None:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    text = body.decode("utf-8", "replace")
    keys = [unescape(one) for one in _DELETED_KEY.findall(text)]
    if not keys or len(keys) != text.count("<Object>") or "<Quiet>true" in text or bucket.object_lock_enabled:
        environ["wsgi.input"] = io.BytesIO(body)
        return None
    deleted, _ = backend.delete_objects(bucket.name, [{"Key": key} for key in keys])
    listed = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key, *_ in deleted)
    return _xml(f"{_XML}<DeleteResult {_XMLNS}>{listed}</DeleteResult>")


def _xml(text: str) -> Reply:
    body = text.encode()
    return "200 OK", [("content-type", "application/xml"), ("content-length", str(len(body)))], (body,)


def _has(present: Any, etag: str) -> bool:
    return present is not None and str(present.etag).strip('"') == etag.strip('"')


def _is_plain(present: Any) -> bool:
    return present is None or present.storage_class == "STANDARD"


def _header(variable: str) -> str:
    return variable.removeprefix("HTTP_").replace("_", "-").title()
