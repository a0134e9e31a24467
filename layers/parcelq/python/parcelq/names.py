"""Names of topics, and of the folders of a bucket."""

from __future__ import annotations

import re
from typing import Final

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_TOPIC_NAME

DEAD_LETTER_SUFFIX: Final = "-dead-letter"
OUTPUT: Final = "output"
"""The topic that results are collected from; on a stack, behind its prefix."""
INBOX: Final = "inbox/"
RESULTS: Final = "results/"
SEGMENTS: Final = "segments/"
JOBS: Final = "jobs/"
OVERFLOW: Final = "overflow/"
MARKS: Final = "marks/"
WORKFLOWS: Final = "workflows/"
VERSIONS: Final = f"{SEGMENTS}.versions/"
"""Which version of its workflow each job began with."""
SCANS: Final = f"{SEGMENTS}.scans/"
"""What ranges of a source were found to hold, where a range depends on all before it."""
HEADERS: Final = f"{SEGMENTS}.headers/"
"""Headers of sources and of outputs, where they are too long for an attribute or several runs must agree on them."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:[!-~]+", re.ASCII)
"""Old buckets in us-east-1 may have names that new ones may not; an ARN names an access point."""
_WORKFLOW: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
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


def check_bucket(name: str) -> str:
    """Return `name` if it can be that of a bucket.

    Raises:
        InvalidValueError: it cannot.
    """
    if name.startswith("s3://"):
        alone = name.removeprefix("s3://").partition("/")[0]
        raise InvalidValueError("bucket", name, f"the name alone: {alone}" if alone else "a name alone")
    if not _BUCKET.fullmatch(name):
        raise InvalidValueError("bucket", name, "3 to 63 lower-case letters, digits, dots and hyphens")
    return name


def check_workflow(name: str) -> str:
    """Return `name` if a workflow can have it.

    Raises:
        InvalidValueError: it cannot.
    """
    if not _WORKFLOW.fullmatch(name):
        wanted = (
            "a letter, then lower-case letters, digits and hyphens, up to 40 characters, none of them a last hyphen"
        )
        raise InvalidValueError("name of a workflow", name, wanted)
    return name


def dead_letter(topic: str) -> str:
    """Name of the dead-letter topic of the topic of that name."""
    return topic + DEAD_LETTER_SUFFIX


def looks_beside(topic: str) -> str:
    """Name of the topic of looks of the stack that a topic may belong to; empty if it can be no stack's."""
    prefix, dash, _ = topic.partition("-")
    return f"{prefix}-looks" if dash else ""


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
