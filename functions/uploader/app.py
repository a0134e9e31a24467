"""Publishes the records of objects that are put under `inbox/`; of large ones range by range, by tasks over SQS."""

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
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.config import Config, load
from parcelq.errors import InvalidValueError, ParcelqError, SettingsError, SourceError
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.record import State
from parcelq.lineage.source import Source
from parcelq.names import INBOX, dead_letter, topic_within
from parcelq.records import Format, parse
from parcelq.records.compression import is_compressed
from parcelq.store.bucket import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.message import Pulled
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.files import Uploaded
from parcelq.upload.objects import Object, ObjectUploader
from parcelq.upload.ranges import RangeTask

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@dataclass(frozen=True, slots=True)
class App:
    """What the function works with."""

    config: Config
    topics: Topics
    overflow: Overflow
    uploader: ObjectUploader
    jobs: Jobs

    def topic(self, name: str) -> SqsTopic:
        """The topic of that name."""
        return SqsTopic(self.topics.sqs, self.topics.url(name), self.overflow)


@cache
def app() -> App:
    """The same for all invocations of one instance."""
    config = load()
    sqs, s3 = sqs_client(), s3_client()
    store = BucketStore(s3, config.bucket)
    overflow = Overflow(s3, config.bucket, only_own=True)
    # What is put on the output topic is collected as it is.
    collected = (*map(config.topic, config.stages), config.output_topic)
    outputs = dict.fromkeys(collected, config.output_topic)
    uploader = ObjectUploader(store, store, config.uploaded_parcel_size, outputs, record_format(config))
    topics = Topics(sqs)
    return App(config, topics, overflow, uploader, Jobs(store, SqsTopic(sqs, topics.url(config.looks_topic))))


def record_format(config: Config) -> Format | None:
    """The record format of all sources; None to go by their names. Raises SettingsError if it is no format."""
    try:
        return parse(config.record_format) if config.record_format else None
    except InvalidValueError as error:
        raise SettingsError("the function's environment", [f"PARCELQ_FORMAT: {error}"]) from None


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any] | None:
    """Take S3's events, or a batch of ranges from SQS."""
    records = records_of(event)
    if records and records[0].get("eventSource") == "aws:sqs":
        return {"batchItemFailures": [failure for record in records for failure in upload_range(record)]}
    for record in records:
        if record.get("eventSource") == "aws:s3" and record.get("eventName", "").startswith("ObjectCreated:"):
            upload_object(record)
        else:
            logger.info("no put of an object, so left out", record=record)
    return None


def records_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of an event; none where it has no such thing. Raises InvalidValueError if they are no records."""
    records = event.get("Records") or []
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise InvalidValueError("Records", shown(records), "a list of JSON objects, as S3 and SQS send them")
    return records


def upload_object(record: dict[str, Any]) -> None:
    """Publish an object's records, or its ranges if it is large.

    Errors are raised, so that Lambda tries again; but not for an object that no other try could upload.
    """
    put = put_of(record)
    if put.is_folder:
        return
    config, source = app().config, put.source
    check_inbox(source, config)
    topic = app().topic(topic_for(put, config))
    job = app().jobs.begin(str(source), "", topic.name)
    if job.state is State.FINISHED:
        logger.info("finished already, so left out", source=str(source), job=job.id)
        return
    try:
        if put.size > config.range_bytes and not is_compressed(source.key):
            ranges = app().uploader.publish_ranges(
                app().topic(config.range_topic), source, topic, put.size, config.range_bytes
            )
            if ranges is not None:
                logger.info("ranges published", source=str(source), ranges=ranges, bytes=put.size)
                return
        count(app().uploader.upload(source, topic), str(source))
    except SourceError as error:
        refuse(error, str(source))


def upload_range(record: dict[str, Any]) -> list[dict[str, str]]:
    """Publish the records of a range; one that fails is delivered again, alone."""
    pulled = Pulled.from_lambda(record)
    try:
        task = RangeTask.parse(pulled.wire.text)
        check_inbox(Source.parse(task.source), app().config)
        topic = app().topic(topic_of_records(task.topic, app().config))
        count(app().uploader.upload_range(task, topic, app().topic(app().config.range_topic)), task.source)
    except SourceError as error:
        refuse(error, task.source)
    except ParcelqError as error:
        logger.error("range not uploaded: %s", error, message_id=pulled.message_id)
        # guard[return []]: a range that failed is delivered again, alone
        return [{"itemIdentifier": pulled.message_id}]
    return []


def refuse(error: SourceError, source: str) -> None:
    """Say that an object can never be uploaded; the reason is noted beside its segments, too."""
    logger.error("not uploaded: %s", error, source=source)
    metrics.add_metric("SourcesRefused", MetricUnit.Count, 1)


def put_of(record: dict[str, Any]) -> Object:
    """The put that an S3 event tells of; keys in events are URL-encoded, a space as `+`.

    A version is a put's name too, though it does not tell which of two puts was later, as a sequencer does.

    Raises:
        InvalidValueError: it does not say which object that is, or which put of it.
    """
    bucket = member(record, "s3", "bucket", "name")
    entity = {name: member(record, "s3", "object", name) for name in ("key", "eTag", "sequencer", "versionId")}
    version = entity["versionId"]
    # guard[entity["sequencer"] = "1"]: a source names one put, by the event's sequencer
    entity["sequencer"] = entity["sequencer"] or version
    needed = {
        "s3.bucket.name": bucket,
        "s3.object.key": entity["key"],
        "s3.object.sequencer or versionId": entity["sequencer"],
        "s3.object.eTag or versionId": entity["eTag"] or version,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise InvalidValueError("record", shown(record), f"one of S3's, with a text as {', as '.join(missing)}")
    key = unquote_plus(entity["key"])
    source = Source.of_object(bucket, key, etag=entity["eTag"], put=entity["sequencer"], version=version)
    size = record["s3"]["object"].get("size", 0)
    if not isinstance(size, int):
        raise InvalidValueError("record", shown(record), "one of S3's, with a number as s3.object.size")
    return Object(source, size)


def member(record: Any, *path: str) -> str:
    """The text at a place in a record; empty where there is none."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, str) else ""


def shown(value: object) -> str:
    """What is wrong, in a few characters: of a record of S3's, what it tells of the object."""
    if isinstance(value, dict) and isinstance(value.get("s3"), dict):
        value = {name: value["s3"][name] for name in ("bucket", "object") if name in value["s3"]}
    return str(value)[:300]


def check_inbox(source: Source, config: Config) -> None:
    """Raise InvalidValueError if a source is no object of the stack's inbox, whoever may have sent it here."""
    # guard[False]: only objects of the stack's inbox are uploaded, whoever sends the event
    if source.bucket != config.bucket or not source.key.startswith(INBOX):
        raise InvalidValueError("source", source.uri, f"an object under s3://{config.bucket}/{INBOX}")


def topic_for(put: Object, config: Config) -> str:
    """Name of the topic that an object's records go to, one of the stack's."""
    with suppress(InvalidValueError):
        return topic_of_records(put.topic(config.input_topic), config)
    wanted = f"inbox/<name>, or inbox/<topic>/<name> with a topic {config.prefix}-…"
    raise InvalidValueError("key", put.source.key, wanted)


def topic_of_records(topic: str, config: Config) -> str:
    """Name of a topic that records may go to. Raises InvalidValueError if it is not the stack's, or for ranges."""
    name = topic_within(config.prefix, topic)
    if name in {config.range_topic, dead_letter(config.range_topic)}:
        raise InvalidValueError("topic", topic, "another topic than that of the ranges")
    return name


def count(uploaded: Uploaded | None, source: str) -> None:
    """Tell metrics and the log what was published."""
    if uploaded is None:
        return
    logger.info("uploaded", source=source, messages=uploaded.messages, entries=uploaded.entries, format=uploaded.format)
    for warning in uploaded.warnings:
        logger.warning(warning, source=source)
    metrics.add_metric("MessagesPublished", MetricUnit.Count, uploaded.messages)
    metrics.add_metric("EntriesUploaded", MetricUnit.Count, uploaded.entries)
