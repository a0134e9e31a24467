"""Publishes the lines of objects that are put under `inbox/`; of large ones range by range, told by itself over SQS."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws import s3_client, sqs_client
from parcelq.config import Config, load
from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.message import Pulled
from parcelq.names import INBOX, Source, dead_letter, topic_within
from parcelq.objects import Object, ObjectUploader, RangeTask
from parcelq.overflow import Overflow
from parcelq.store import BucketStore
from parcelq.topics import Topics
from parcelq.transfer import Uploaded

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@dataclass(frozen=True, slots=True)
class App:
    """What the function works with."""

    config: Config
    topics: Topics
    uploader: ObjectUploader


@cache
def app() -> App:
    """The same for all invocations of one instance."""
    config = load()
    sqs, s3 = sqs_client(), s3_client()
    store = BucketStore(s3, config.bucket)
    uploader = ObjectUploader(sqs, s3, store, config.parcel_size, Overflow(s3, config.bucket, only_own=True))
    return App(config, Topics(sqs), uploader)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any] | None:
    """Take S3's events, or a batch of ranges from SQS."""
    records = event.get("Records") or []
    if records and records[0].get("eventSource") == "aws:sqs":
        return {"batchItemFailures": [failure for record in records for failure in upload_range(record)]}
    for record in records:
        if record.get("eventSource") == "aws:s3" and record.get("eventName", "").startswith("ObjectCreated:"):
            upload_object(record)
        else:
            logger.info("no put of an object, so left out", record=record)
    return None


def upload_object(record: dict[str, Any]) -> None:
    """Publish an object's lines, or its ranges if it is large. Errors are raised, so that Lambda tries again."""
    put = put_of(record)
    if put.is_folder:
        return
    config, source = app().config, put.source
    check_inbox(source, config)
    topic = topic_for(put, config)
    if put.size > config.range_bytes and not source.is_gzip:
        range_topic = app().topics.url(config.range_topic)
        ranges = app().uploader.publish_ranges(range_topic, source, topic, put.size, config.range_bytes)
        logger.info("ranges published", source=str(source), ranges=ranges, bytes=put.size)
        return
    count(app().uploader.upload(source, app().topics.url(topic)), str(source))


def upload_range(record: dict[str, Any]) -> list[dict[str, str]]:
    """Publish the lines of a range; one that fails is delivered again, alone."""
    pulled = Pulled.from_lambda(record)
    try:
        task = RangeTask.parse(pulled.wire.text)
        check_inbox(Source.parse(task.source), app().config)
        topic = topic_within(app().config.prefix, task.topic)
        count(app().uploader.upload_range(task, app().topics.url(topic)), task.source)
    except ParcelqError as error:
        logger.error("range not uploaded: %s", error, message_id=pulled.message_id)
        return [{"itemIdentifier": pulled.message_id}]
    return []


def put_of(record: dict[str, Any]) -> Object:
    """The put that an S3 event tells of; keys in events are URL-encoded, a space as `+`."""
    entity = record["s3"]["object"]
    source = Source.of_object(
        record["s3"]["bucket"]["name"],
        unquote_plus(entity["key"]),
        etag=entity.get("eTag", ""),
        put=entity["sequencer"],
        version=entity.get("versionId", ""),
    )
    return Object(source, entity.get("size", 0))


def check_inbox(source: Source, config: Config) -> None:
    """Raise InvalidValueError if a source is no object of the stack's inbox, whoever may have sent it here."""
    if source.bucket != config.bucket or not source.key.startswith(INBOX):
        raise InvalidValueError("source", source.uri, f"an object under s3://{config.bucket}/{INBOX}")


def topic_for(put: Object, config: Config) -> str:
    """Name of the topic that an object's lines go to, one of the stack's."""
    with suppress(InvalidValueError):
        topic = topic_within(config.prefix, put.topic(config.input_topic))
        if topic not in {config.range_topic, dead_letter(config.range_topic)}:
            return topic
    wanted = f"inbox/<name>, or inbox/<topic>/<name> with a topic {config.prefix}-…"
    raise InvalidValueError("key", put.source.key, wanted)


def count(uploaded: Uploaded | None, source: str) -> None:
    """Tell metrics and the log what was published."""
    if uploaded is None:
        return
    logger.info("uploaded", source=source, messages=uploaded.messages, entries=uploaded.entries)
    metrics.add_metric("MessagesPublished", MetricUnit.Count, uploaded.messages)
    metrics.add_metric("EntriesUploaded", MetricUnit.Count, uploaded.entries)
