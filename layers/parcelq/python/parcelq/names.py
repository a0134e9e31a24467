"""The names of topics and of folders in a bucket, and the checks of names."""

from __future__ import annotations

import re
from typing import Final

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_TOPIC_NAME

DEAD_LETTER_SUFFIX: Final = "-dead-letter"
OUTPUT: Final = "output"
"""The name of the topic with outputs, from which results are put together. A stack's prefix comes before this name."""
INBOX: Final = "inbox/"
RESULTS: Final = "results/"
SEGMENTS: Final = "segments/"
JOBS: Final = "jobs/"
OVERFLOW: Final = "overflow/"
MARKS: Final = "marks/"
WORKFLOWS: Final = "workflows/"
VERSIONS: Final = f"{SEGMENTS}.versions/"
"""The folder with the version of the workflow with which each job began."""
SCANS: Final = f"{SEGMENTS}.scans/"
"""The folder with the results of scanning ranges of objects, for formats in which a range depends on earlier ones."""
HEADERS: Final = f"{SEGMENTS}.headers/"
"""The folder with headers that are too long for an attribute, or that several runs must share."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{3,255}|arn:[!-~]+", re.ASCII)
"""Old buckets in us-east-1 may have names that new buckets may not have. An ARN names an access point."""
_WORKFLOW: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def check_topic(name: str) -> str:
    """Return `name` if it and the name of the dead-letter topic are valid. Raises InvalidValueError if not."""
    longest = MAX_TOPIC_NAME if name.endswith(DEAD_LETTER_SUFFIX) else MAX_TOPIC_NAME - len(DEAD_LETTER_SUFFIX)
    if not _TOPIC.fullmatch(name) or len(name) > longest:
        raise InvalidValueError("topic name", name, f"1 to {longest} letters, digits, hyphens or underscores")
    return name


def check_bucket(name: str) -> str:
    """Return `name` if a bucket may have this name. Raises InvalidValueError if not."""
    if name.startswith("s3://"):
        alone = name.removeprefix("s3://").partition("/")[0]
        raise InvalidValueError("bucket", name, f"the name alone: {alone}" if alone else "a name alone")
    if not _BUCKET.fullmatch(name):
        raise InvalidValueError("bucket", name, "3 to 63 lower-case letters, digits, dots and hyphens")
    return name


def check_workflow(name: str) -> str:
    """Return `name` if a workflow may have this name. Raises InvalidValueError if not."""
    if not _WORKFLOW.fullmatch(name):
        wanted = "a letter, then lower-case letters, digits and hyphens, up to 40 characters, not ending with a hyphen"
        raise InvalidValueError("name of a workflow", name, wanted)
    return name


def dead_letter(topic: str) -> str:
    """Return the name of a topic's dead-letter topic."""
    return topic + DEAD_LETTER_SUFFIX


def looks_beside(topic: str) -> str:
    """Return the name of the topic of looks in the stack of a topic, judged by its name; empty if in no stack."""
    prefix, dash, _ = topic.partition("-")
    return f"{prefix}-looks" if dash else ""


def is_url(topic: str) -> bool:
    """Return whether `topic` is the URL of a topic, not a name."""
    return topic.startswith(("https://", "http://"))


def topic_of_url(url: str) -> str:
    """Return the name of the topic that has this URL."""
    return url.rstrip("/").rpartition("/")[2]


def topic_within(prefix: str, topic: str) -> str:
    """Return the name of a stack's topic from its name or URL.

    Raises InvalidValueError if the name does not begin with `<prefix>-`, or is not valid for SQS.
    """
    name = topic_of_url(topic) if is_url(topic) else topic
    if not name.startswith(f"{prefix}-"):
        raise InvalidValueError("topic", topic, f"a name that starts with {prefix}-")
    return check_topic(name)


def topic_of_arn(arn: str) -> str:
    """Return the name of the topic that has this ARN."""
    return arn.rpartition(":")[2]
