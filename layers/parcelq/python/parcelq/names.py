"""Names of topics and of sources: what they may look like, and how one is made from the other."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_TOPIC_NAME

DEAD_LETTER_SUFFIX: Final = "-dead-letter"
INBOX: Final = "inbox/"
RESULTS: Final = "results/"
SEGMENTS: Final = "segments/"
OVERFLOW: Final = "overflow/"

_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def check_topic(name: str) -> str:
    """Return `name` if SQS takes it and its dead-letter topic's as names of standard queues.

    Raises:
        InvalidValueError: it does not.
    """
    longest = MAX_TOPIC_NAME if name.endswith(DEAD_LETTER_SUFFIX) else MAX_TOPIC_NAME - len(DEAD_LETTER_SUFFIX)
    if not _TOPIC.fullmatch(name) or len(name) > longest:
        raise InvalidValueError("topic name", name, f"1 to {longest} letters, digits, hyphens or underscores")
    return name


def dead_letter(topic: str) -> str:
    """Name of the dead-letter topic of the topic of that name."""
    return topic + DEAD_LETTER_SUFFIX


def is_url(topic: str) -> bool:
    """Whether a topic is given by its URL rather than by its name."""
    return topic.startswith(("https://", "http://"))


def topic_of_url(url: str) -> str:
    """Name of the topic at that URL."""
    return url.rstrip("/").rpartition("/")[2]


def topic_within(prefix: str, topic: str) -> str:
    """Name of a topic that is given by name or URL, if it is one of the stack of that prefix.

    Raises:
        InvalidValueError: its name does not begin with `<prefix>-`, or is none that SQS takes.
    """
    name = topic_of_url(topic) if is_url(topic) else topic
    if not name.startswith(f"{prefix}-"):
        raise InvalidValueError("topic", topic, f"a name that starts with {prefix}-")
    return check_topic(name)


def topic_of_arn(arn: str) -> str:
    """Name of the topic of that ARN."""
    return arn.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Source:
    """One put of one file: what the attribute `Source` says.

    A file dropped again under the same name is another source, even with the same content; a second delivery of the
    event of one put is the same source.

    Attributes:
        uri: `s3://bucket/key` or `file:///path`, percent-encoded.
        etag: the object's ETag without quotes; empty for a local file.
        put: the S3 event's `sequencer`, or the id of an upload.
        version: the object's version, where the bucket keeps versions.
    """

    uri: str
    put: str
    etag: str = ""
    version: str = ""

    @classmethod
    def of_object(cls, bucket: str, key: str, *, etag: str, put: str, version: str = "") -> Source:
        """Source of an S3 object; `key` as it is, not encoded."""
        return cls(f"s3://{bucket}/{quote(key)}", put, etag, version)

    @classmethod
    def of_file(cls, path: str, upload: str) -> Source:
        """Source of a local file; `path` is absolute."""
        return cls(f"file://{quote(os.fsencode(path))}", upload)

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read the attribute's text again.

        Raises:
            InvalidValueError: it is no source.
        """
        uri, _, query = text.partition("?")
        try:
            scheme = urlsplit(uri).scheme
            fields = {name: values[0] for name, values in parse_qs(query).items()}
        except ValueError:
            scheme, fields = "", {}
        if scheme not in {"s3", "file"} or "put" not in fields:
            raise InvalidValueError("Source", text, "s3://bucket/key?put=… or file:///path?put=…")
        return cls(uri, fields["put"], fields.get("etag", ""), fields.get("version", ""))

    @classmethod
    def is_one(cls, text: str) -> bool:
        """Whether the attribute's text can be read; if not, nobody knows what to call the result."""
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
        """Bucket of an S3 object; empty for a local file."""
        return urlsplit(self.uri).netloc

    @property
    def key(self) -> str:
        """Key of an S3 object, or path of a local file, decoded."""
        path = unquote(urlsplit(self.uri).path)
        return path.removeprefix("/") if self.bucket else path

    @property
    def name(self) -> str:
        """What the result is called: the key below `inbox/`, or the file's name.

        An object `….gz` is read decompressed, so its result is called without that.
        """
        return self.key.removeprefix(INBOX).removesuffix(".gz") if self.bucket else self.key.rpartition("/")[2]

    @property
    def is_gzip(self) -> bool:
        """Whether it is an object that is compressed, going by its name."""
        return bool(self.bucket) and self.key.endswith(".gz")

    @property
    def order(self) -> str:
        """Sorts the puts of one key in time: sequencers are hexadecimal numbers of different lengths, compared from
        the left after padding: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
        """
        return self.put.upper().ljust(64, "0")
