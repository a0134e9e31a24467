"""The AWS clients of commands. A command creates its clients when it runs, because importing boto3 takes long.

The clients use the account and region for which boto3 is configured. AwsError is raised if no region is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from parcelq.store.bucket import BucketStore
    from parcelq.topics.admin import Topics
    from parcelq.topics.overflow import Overflow
    from parcelq.topics.sqs import SqsTopic


def topics() -> Topics:
    """Return the topics of the account and region."""
    from parcelq.aws.clients import sqs_client
    from parcelq.topics.admin import Topics

    return Topics(sqs_client())


def topic(name: str, bucket: str = "") -> SqsTopic:
    """Return the topic with a name or URL; the bucket, if any, stores bodies that are too large for a message."""
    from parcelq.topics.sqs import SqsTopic

    every = topics()
    return SqsTopic(every.sqs, every.url(name), overflow(bucket))


def looks(topic: SqsTopic) -> SqsTopic | None:
    """Return the topic of looks (checks of jobs) in the stack of a topic; None if the topic belongs to no stack."""
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
    """Return a client of S3."""
    from parcelq.aws.clients import s3_client

    return s3_client()


def bucket(name: str) -> BucketStore:
    """Return the store of objects in a bucket."""
    from parcelq.store.bucket import BucketStore

    return BucketStore(s3(), name)


def overflow(bucket: str) -> Overflow:
    """Return the store of large bodies. Reading needs no bucket, because each message names its bucket."""
    from parcelq.topics.overflow import Overflow

    return Overflow(s3(), bucket)
