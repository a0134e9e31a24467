"""Sources: a source is one upload of one file. The attribute `Source` of messages identifies the source."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

from parcelq.errors import InvalidValueError
from parcelq.names import INBOX, RESULTS
from parcelq.result_names import ELSEWHERE, ResultNames, result_names

NO_SOURCE: Final = ""
"""The source of messages without lineage."""
_NO_SOURCE_ID: Final = "without-lineage"
_MAX_LENGTH: Final = 16 * 1024
"""More characters than any attribute `Source` has; a path has at most 4,096 bytes, each encoded as 3 characters."""
_JOB_ID: Final = re.compile("[0-9a-f]{6,24}")


def source_id(source: str) -> str:
    """Return an id of a source. The id can be part of an object's key."""
    return hashlib.blake2b(source.encode(), digest_size=12).hexdigest() if source else _NO_SOURCE_ID


def job_id(source: str, workflow: str) -> str:
    """Return the id of the job that runs a workflow over a source. `workflow` is empty if the built-in step runs."""
    if not source:
        return _NO_SOURCE_ID
    return hashlib.blake2b(f"{workflow}\n{source}".encode(), digest_size=12).hexdigest()


def is_job_id(text: str) -> bool:
    """Return whether a text looks like a job's id or the beginning of an id: 6 to 24 hexadecimal digits."""
    return _JOB_ID.fullmatch(text) is not None


def workflow_name(attribute: str) -> str:
    """Return the workflow's name, given the attribute `Workflow` in the form `<name>@<version>`."""
    return attribute.rpartition("@")[0]


class Source(NamedTuple):
    """One upload of one file, as the attribute `Source` describes the upload.

    If a file is uploaded again under the same name, the new upload is another source, even if the content is the same.
    If S3 delivers the event of one upload twice, both events name the same source.

    Attributes:
        uri: the file's address `s3://bucket/key` or `file:///path`, percent-encoded.
        put: identifies the upload: the `sequencer` of the S3 event. For a local file, a generated id of the upload, or
            a text that identifies the file's content if the job runs on this machine.
        etag: the object's ETag without quotes; empty for a local file.
        version: the id of the object's version if the bucket keeps versions; else empty.
    """

    uri: str
    put: str
    etag: str = ""
    version: str = ""

    @classmethod
    def of_object(cls, bucket: str, key: str, *, etag: str, put: str, version: str = "") -> Source:
        """Return the source of an S3 object; `key` is not encoded."""
        return cls(f"s3://{bucket}/{quote(key)}", put, etag, version)

    @classmethod
    def of_file(cls, path: str, upload: str) -> Source:
        """Return the source of a local file; `path` is absolute."""
        return cls(f"file://{quote(os.fsencode(path))}", upload)

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parse the attribute `Source`. Raises InvalidValueError if the text is not a source."""
        uri, _, query = text.partition("?")
        try:
            scheme = urlsplit(uri).scheme if len(text) <= _MAX_LENGTH and text.encode() else ""
            fields = {name: values[0] for name, values in parse_qs(query).items()}
        except ValueError:
            scheme, fields = "", {}
        identity = "".join(fields.values())
        if scheme not in {"s3", "file"} or "put" not in fields or not (identity.isascii() and identity.isprintable()):
            raise InvalidValueError("Source", text[:200], "s3://bucket/key?put=… or file:///path?put=…")
        return cls(uri, fields["put"], fields.get("etag", ""), fields.get("version", ""))

    @classmethod
    @lru_cache(maxsize=64)
    def is_one(cls, text: str) -> bool:
        """Return whether the attribute `Source` can be parsed, so that the source's result can have a name."""
        try:
            cls.parse(text)
        except InvalidValueError:
            return False
        return True

    def __str__(self) -> str:
        fields = {"etag": self.etag, "put": self.put, "version": self.version}
        return f"{self.uri}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items() if value)

    @property
    def bucket(self) -> str:
        """The bucket of an S3 object; empty for a local file."""
        return urlsplit(self.uri).netloc

    @property
    def key(self) -> str:
        """The decoded key of an S3 object, or the path of a local file. Bytes that are not UTF-8 become surrogates."""
        path = os.fsdecode(unquote_to_bytes(urlsplit(self.uri).path))
        return path.removeprefix("/") if self.bucket else path

    @property
    def name(self) -> str:
        """The name of the source that users see: the key below `inbox/`, or the file's name."""
        return self.key.removeprefix(INBOX) if self.bucket else self.key.rpartition("/")[2]

    def names(self, bucket: str, prefix: str = RESULTS) -> ResultNames:
        """Return the keys for the source's result and the files beside it, which start with `prefix`.

        No other source has the same keys. The result of a source outside the inbox of the bucket of results is stored
        below `elsewhere/`, under the source's whole address.

        Raises:
            InvalidValueError: the prefix is so long that the keys would be too long for S3.
        """
        if self.bucket == bucket and self.key.startswith(INBOX):
            return result_names(self.name, prefix)
        place = f"s3/{self.bucket}/{self.key}" if self.bucket else f"file{self.key}"
        return result_names(place, f"{prefix}{ELSEWHERE}/")

    @property
    def order(self) -> str:
        """A sort key that orders the uploads of one object by time.

        Sequencers are hexadecimal numbers of different lengths, which are padded on the right to be compared:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
        """
        return self.put.upper().ljust(64, "0")
