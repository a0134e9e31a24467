"""Moto's S3, changed so that objects are in files instead of in memory, and events are as real S3 sends them."""

from __future__ import annotations

import hashlib
import io
import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

import moto.s3.models as s3_models
from moto.s3 import notifications
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.responses import S3Response
from parcelq.limits import KIB

from parcelq_emulator.blob import BLOCK_BYTES, Blob
from parcelq_emulator.limits import MIN_MULTIPART_BYTES
from parcelq_emulator.s3_direct import SortedKeys

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SMALL_BYTES: Final = 16 * KIB
"""The most bytes of an object that stays in memory; a file would cost more time."""
_BODY: Final = "parcelq.s3.body"
"""The key in the WSGI environment of a request body that was written to a file."""


class FileKey(s3_models.FakeKey):  # type: ignore[misc]
    """An S3 object whose bytes are in a file.

    Attributes:
        directory: the folder of the files.
        sequencer: a hexadecimal number that grows with each put of a key.
    """

    directory: str
    _etag: str | None

    def __init__(self, *args: Any, **options: Any) -> None:
        self.sequencer = _next_sequencer()
        super().__init__(*args, **options)

    @property
    def value(self) -> bytes | Blob:
        """The object's bytes: a `Blob` within `_from_file`, otherwise `bytes` in memory."""
        return self._blob if _read_from_file.get() else bytes(self._blob)

    @value.setter
    def value(self, new: bytes | Blob) -> None:
        if isinstance(new, bytes):
            new = Blob(new, 0, len(new)) if len(new) <= _SMALL_BYTES else Blob.of((new,), self.directory)
        self._blob = new
        self.contentsize = len(self._blob)

    @property
    def etag(self) -> str:
        """The MD5 of the bytes, or the ETag of a multipart upload."""
        if self._etag is None:
            self._etag = self._blob.md5()
        return f'"{self._etag}"'

    def __getstate__(self) -> dict[str, Any]:
        with _from_file():  # moto copies objects to list their versions
            state: dict[str, Any] = super().__getstate__()
            return state


_sequence = itertools.count(time.time_ns())


def _next_sequencer() -> str:
    return f"{next(_sequence):018X}"


_read_from_file: ContextVar[bool] = ContextVar("_read_from_file", default=False)


@contextmanager
def _from_file() -> Iterator[None]:
    """Make the value of an object a `Blob` while this context lasts."""
    token = _read_from_file.set(True)
    try:
        yield
    finally:
        _read_from_file.reset(token)


class S3Frontend:
    """A WSGI application that writes the bodies of large uploads to files before it calls moto.

    Moto would have up to three copies of a body in memory.
    """

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > BLOCK_BYTES and environ["REQUEST_METHOD"] == "PUT" and _is_plain_s3(environ):
            environ[_BODY] = Blob.of(_blocks(environ["wsgi.input"], length), FileKey.directory)
            environ["wsgi.input"] = io.BytesIO()
            environ["CONTENT_LENGTH"] = "0"
        return self._application(environ, start_response)


def _is_plain_s3(environ: WSGIEnvironment) -> bool:
    signed = "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "")
    presigned = "Signature=" in environ.get("QUERY_STRING", "")
    in_chunks = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING-")  # moto parses these
    return (signed or presigned) and not in_chunks


def _blocks(stream: Any, length: int) -> Iterator[bytes]:
    while length > 0 and (block := stream.read(min(BLOCK_BYTES, length))):
        length -= len(block)
        yield block


def install(directory: str) -> None:
    """Patch moto's S3 for the whole process, so that objects are in files and events are like those of S3.

    Args:
        directory: the folder for the objects.
    """
    FileKey.directory = directory
    s3_models.FakeKey = FileKey
    s3_models._VersionedKeyStore = SortedKeys
    s3_models.FakeMultipart.complete = _complete
    s3_models.S3Backend.put_object = _without_event_of_parts(s3_models.S3Backend.put_object)
    S3Response.setup_class = _with_body_of_file(S3Response.setup_class)
    S3Response.get_object = _reading_from_file(S3Response.get_object)
    s3_models.S3Backend.copy_object = _reading_from_file(s3_models.S3Backend.copy_object)
    s3_models.S3Backend.upload_part_copy = _reading_from_file(s3_models.S3Backend.upload_part_copy)
    notifications._get_s3_event = _with_sequencer(notifications._get_s3_event)


def _complete(upload: Any, parts: Iterable[tuple[int, str]]) -> tuple[Blob, str, tuple[str, str, int] | None]:
    """Complete a multipart upload by copying files. Moto's `FakeMultipart.complete` has up to four copies in memory."""
    keys: list[FileKey] = []
    for number, etag in parts:
        key = upload.parts.get(number)
        if key is None or key.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        if keys and keys[-1].size < MIN_MULTIPART_BYTES:
            raise EntityTooSmall
        keys.append(key)
    if not keys:
        raise MalformedXML
    digests = b"".join(bytes.fromhex(key.etag.strip('"')) for key in keys)
    etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(keys)}"
    checksum = None
    if algorithm := upload.metadata.get("x-amz-checksum-algorithm"):
        builder = s3_models.MultipartChecksumBuilder(algorithm, upload.metadata.get("x-amz-checksum-type"))
        for key in keys:
            builder.addPart(key.value)
        checksum = builder.build()
    whole = Blob.of(itertools.chain.from_iterable(key._blob for key in keys), FileKey.directory)
    for key in keys:
        key._blob = whole[:0]  # because moto keeps the parts as long as the object exists
    return whole, etag, checksum


def _without_event_of_parts(put_object: Any) -> Any:
    # Moto completes a multipart upload by a put, and sends the put's event in addition to the right one.
    def put(backend: Any, *args: Any, **options: Any) -> Any:
        if options.get("multipart") is not None:
            options["disable_notification"] = True
        return put_object(backend, *args, **options)

    return put


def _with_body_of_file(setup_class: Any) -> Any:
    def setup(response: Any, request: Any, *args: Any, **options: Any) -> None:
        setup_class(response, request, *args, **options)
        response.body = request.environ.get(_BODY, response.body)

    return setup


def _reading_from_file(method: Any) -> Any:
    def read(*args: Any, **options: Any) -> Any:
        with _from_file():
            return method(*args, **options)

    return read


def _with_sequencer(get_event: Any) -> Any:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    def event(event_name: str, bucket: Any, key: Any, notification_id: str) -> Any:
        result = get_event(event_name, bucket, key, notification_id)
        created = "ObjectCreated" in event_name
        described = result["Records"][0]["s3"]["object"]
        described["key"] = quote_plus(key.name, safe="/")
        described["sequencer"] = key.sequencer if created else _next_sequencer()
        if bucket.is_versioned:
            described["versionId"] = key.version_id
        return result

    return event
