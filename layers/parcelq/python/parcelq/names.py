"""Names of topics, and of folders in a bucket; checks names."""

from __future__ import annotations

import re
from typing import Final

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_TOPIC_NAME

DEAD_LETTER_SUFFIX: Final = "-dead-letter"
OUTPUT: Final = "output"
"""The name of the topic that results are collected from; on a stack, its prefix comes before it."""
INBOX: Final = "inbox/"
RESULTS: Final = "results/"
SEGMENTS: Final = "segments/"
JOBS: Final = "jobs/"
OVERFLOW: Final = "overflow/"
MARKS: Final = "marks/"
WORKFLOWS: Final = "workflows/"
VERSIONS: Final = f"{SEGMENTS}.versions/"
"""The folder that says which workflow version each job began with."""
SCANS: Final = f"{SEGMENTS}.scans/"
"""The folder of results of scanning ranges, for formats in which a range depends on all ranges before it."""
HEADERS: Final = f"{SEGMENTS}.headers/"
"""The folder of headers of sources and of outputs that are too long for an attribute, or that several runs must agree
on.
"""

_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:[!-~]+", re.ASCII)
"""Old buckets in us-east-1 may have names that are not allowed for new ones; an ARN names an access point."""
_WORKFLOW: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def check_topic(name: str) -> str:
    """Return `name` if it and the name of its dead-letter topic are valid names of standard queues.

    Raises:
        InvalidValueError: one of them is not valid.
    """
    longest = MAX_TOPIC_NAME if name.endswith(DEAD_LETTER_SUFFIX) else MAX_TOPIC_NAME - len(DEAD_LETTER_SUFFIX)
    if not _TOPIC.fullmatch(name) or len(name) > longest:
        raise InvalidValueError("topic name", name, f"1 to {longest} letters, digits, hyphens or underscores")
    return name


def check_bucket(name: str) -> str:
    """Return `name` if it is valid for a bucket.

    Raises:
        InvalidValueError: it is not.
    """
    if name.startswith("s3://"):
        alone = name.removeprefix("s3://").partition("/")[0]
        raise InvalidValueError("bucket", name, f"the name alone: {alone}" if alone else "a name alone")
    if not _BUCKET.fullmatch(name):
        raise InvalidValueError("bucket", name, "3 to 63 lower-case letters, digits, dots and hyphens")
    return name


def check_workflow(name: str) -> str:
    """Return `name` if it is valid for a workflow.

    Raises:
        InvalidValueError: it is not.
    """
    if not _WORKFLOW.fullmatch(name):
        wanted = "a letter, then lower-case letters, digits and hyphens, up to 40 characters, not ending with a hyphen"
        raise InvalidValueError("name of a workflow", name, wanted)
    return name


def dead_letter(topic: str) -> str:
    """Return the name of a topic's dead-letter topic."""
    return topic + DEAD_LETTER_SUFFIX


def looks_beside(topic: str) -> str:
    """Return the name of the topic of looks of the stack that a topic may belong to; empty if it cannot belong to a
    stack.
    """
    prefix, dash, _ = topic.partition("-")
    return f"{prefix}-looks" if dash else ""


def is_url(topic: str) -> bool:
    """Return whether a topic is given by its URL instead of its name."""
    return topic.startswith(("https://", "http://"))


def topic_of_url(url: str) -> str:
    """Return the topic's name from its URL."""
    return url.rstrip("/").rpartition("/")[2]


def topic_within(prefix: str, topic: str) -> str:
    """Return the name of a topic given by name or URL, if it belongs to the stack with that prefix.

    Raises:
        InvalidValueError: its name does not begin with `<prefix>-`, or is not valid for SQS.
    """
    name = topic_of_url(topic) if is_url(topic) else topic
    if not name.startswith(f"{prefix}-"):
        raise InvalidValueError("topic", topic, f"a name that starts with {prefix}-")
    return check_topic(name)


def topic_of_arn(arn: str) -> str:
    """Return the topic's name from its ARN."""
    return arn.rpartition(":")[2]
