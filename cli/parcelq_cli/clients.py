"""The AWS clients of commands. A command creates them when it runs, because importing boto3 takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from parcelq.topics.admin import Topics
    from parcelq.topics.overflow import Overflow
    from parcelq.topics.sqs import SqsTopic


def topics() -> Topics:
    """Return the topics of the account and region that boto3 is configured for.

    Raises:
        AwsError: no region is configured.
    """
    from parcelq.aws.clients import sqs_client
    from parcelq.topics.admin import Topics

    return Topics(sqs_client())


def topic(name: str, bucket: str = "") -> SqsTopic:
    """Return a topic by name or URL.

    Args:
        name: the topic's name or URL.
        bucket: stores bodies that are too large for a message; without it such messages are refused.

    Raises:
        AwsError: no region is configured.
        TopicNotFoundError: there is no such topic.
    """
    from parcelq.topics.sqs import SqsTopic

    every = topics()
    return SqsTopic(every.sqs, every.url(name), overflow(bucket))


def looks(topic: SqsTopic) -> SqsTopic | None:
    """Return the stack's topic of looks, for a topic of a stack; None for other topics."""
    from parcelq.errors import TopicNotFoundError
    from parcelq.names import looks_beside
    from parcelq.topics.admin import Topics
    from parcelq.topics.sqs import SqsTopic

    try:
        name = looks_beside(topic.name)
        return SqsTopic(topic.sqs, Topics(topic.sqs).url(name)) if name else None
    except TopicNotFoundError:
        return None


def s3() -> S3Client:
    """Return an S3 client of the account and region that boto3 is configured for.

    Raises:
        AwsError: no region is configured.
    """
    from parcelq.aws.clients import s3_client

    return s3_client()


def overflow(bucket: str) -> Overflow:
    """Return the store of bodies that are too large for a message.

    Args:
        bucket: where new bodies are stored. For reading it may be empty, because each message names its bucket.
    """
    from parcelq.topics.overflow import Overflow

    return Overflow(s3(), bucket)
