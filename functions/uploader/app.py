"""Publishes the records of objects that are put under `inbox/`. If an object is large, each range is a task."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.config import Config, parcel_size_for
from parcelq.errors import (
    InvalidValueError,
    MessageError,
    ParcelqError,
    SettingsError,
    SourceError,
    WorkflowError,
)
from parcelq.jobs.gate import Gate
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.limits import NO_LIMITS, Limits
from parcelq.jobs.record import JobRecord, State, read_job
from parcelq.lineage.source import Source, job_id, workflow_name
from parcelq.names import DEAD_LETTER_SUFFIX, INBOX, dead_letter, topic_within
from parcelq.records import Format, parse
from parcelq.records.compression import is_compressed
from parcelq.topics.attributes import REASON
from parcelq.topics.cost import METER
from parcelq.topics.deadlines import DEADLINE_MARGIN, back_off, set_deadlines
from parcelq.topics.deployed import Deployed
from parcelq.topics.message import Pulled, with_attributes
from parcelq.topics.sqs import SqsTopic
from parcelq.topics.topic import all_published
from parcelq.upload.notes import note_problem
from parcelq.upload.objects import ObjectUploader
from parcelq.upload.puts import Object, event_of, put_of, records_of
from parcelq.upload.ranges import RangeTask, StreamTask, task_of
from parcelq.upload.sources import Uploaded

if TYPE_CHECKING:
    from parcelq.jobs.versions import Versions

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})


RESERVED_SECONDS: Final = 60
"""If fewer seconds are left, an invocation leaves the remaining work to another. These seconds suffice to publish what
was read.
"""


@cache
def own() -> Deployed:
    """Return the function's configuration, topics and bucket."""
    return Deployed.connect()


@lru_cache(maxsize=64)
def topic_named(name: str) -> SqsTopic:
    """Return the stack's topic with a name."""
    return own().topic(name)


@cache
def built_in() -> ObjectUploader:
    """Return the object that publishes the records of sources for the built-in step."""
    config, store = own().config, own().store
    # Messages on the output topic are collected unchanged.
    collected = (*map(config.topic, config.stages), config.output_topic)
    outputs = dict.fromkeys(collected, config.output_topic)
    return ObjectUploader(store, store, config.uploaded_parcel_size, outputs, record_format(config), "stack")


@cache
def jobs() -> Jobs:
    """Return the job records of the stack."""
    return Jobs(own().store, topic_named(own().config.looks_topic))


@cache
def gate() -> Gate:
    """Return the object that knows which jobs were stopped."""
    return Gate(own().store)


@cache
def versions() -> Versions:
    """Return the stack's workflows. The module is imported when the first source needs a workflow."""
    from parcelq.jobs.versions import Versions

    return Versions(own().store)


class Way(NamedTuple):
    """How a source is uploaded: the uploader, the topic, and the limits at which the job stops."""

    uploader: ObjectUploader
    topic: SqsTopic
    limits: Limits = NO_LIMITS


def record_format(config: Config) -> Format | None:
    """Return the record format of all sources; None if each source's name decides."""
    try:
        return parse(config.format) if config.format else None
    except InvalidValueError as error:
        raise SettingsError("the function's environment", [f"PARCELQ_FORMAT: {error}"]) from None


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | None:
    """Upload the objects of an S3 event, or do the tasks of an SQS event."""
    with METER.invocation(int(context.memory_limit_in_mb)):
        return take(records_of(event), context)


def take(records: list[dict[str, Any]], context: LambdaContext) -> dict[str, Any] | None:
    """Upload the objects or the ranges that the items of an event name."""

    def may_go_on() -> bool:
        return context.get_remaining_time_in_millis() > RESERVED_SECONDS * 1000

    built_in()  # a wrong setting of the stack fails the invocation; it must not end the jobs of these sources
    if records and records[0].get("eventSource") == "aws:sqs":
        pulled = list(map(Pulled.from_lambda, records))
        return upload_tasks(pulled, may_go_on, context.get_remaining_time_in_millis() / 1000)
    upload_objects(records, may_go_on)
    return None


def upload_objects(records: list[dict[str, Any]], may_go_on: Callable[[], bool]) -> None:
    """Upload the objects that the records of an event of S3 name."""
    for record in records:
        if record.get("eventSource") == "aws:s3" and record.get("eventName", "").startswith("ObjectCreated:"):
            upload_object(record, may_go_on)
        else:
            logger.info("skipped: it is not a put of an object", record=record)


def upload_object(record: dict[str, Any], may_go_on: Callable[[], bool]) -> None:
    """Publish an object's records, or tasks for its ranges if it is large. Errors are raised, so that Lambda retries,
    unless the object can never be uploaded.
    """
    put = put_of(record)
    if put.is_folder:
        return
    config, source = own().config, put.source
    check_inbox(source, config)
    # Before the workflow is read: the event may be delivered again after the job ended and its workflow was deleted.
    job = job_of(str(source), workflow_in(put).partition("@")[0])
    if job and (job.state is State.FINISHED or job.halted):
        logger.info("has already ended, so it is left out", source=str(source), job=job.id, state=job.state)
        return
    try:
        way = way_of(put)
        jobs().begin(str(source), way.uploader.workflow, way.topic.name, way.limits)
        tasks = topic_named(config.range_topic)
        if put.size > config.range_bytes and not is_compressed(source.key):
            ranges = way.uploader.publish_ranges(tasks, source, way.topic, put.size, config.range_bytes)
            if ranges is not None:
                logger.info("ranges published", source=str(source), ranges=ranges, bytes=put.size)
                return
        goes_on = going_on(str(source), way.uploader.workflow, may_go_on, coded=is_compressed(source.key))
        count(way.uploader.upload(source, way.topic, tasks, goes_on), str(source))
    except SourceError as error:
        refuse(error, str(source))


def upload_tasks(pulled: list[Pulled], may_go_on: Callable[[], bool], seconds: float) -> dict[str, Any]:
    """Do the tasks in messages, and return a reply that names the messages that must be delivered again. `seconds` says
    how much time the invocation has.
    """
    tasks = topic_named(own().config.range_topic)
    # guard[pass]: if the uploader dies, its task is delivered again soon after the invocation's time is up
    set_deadlines(tasks, pulled, seconds + DEADLINE_MARGIN)
    failed = [one for one in pulled if not is_done(one, may_go_on)]
    # guard[pass]: a task that failed is delivered again after seconds, not after its deadline
    back_off(tasks, failed, own().config.back_off_seconds)
    return {"batchItemFailures": [{"itemIdentifier": one.message_id} for one in failed]}


def is_done(pulled: Pulled, may_go_on: Callable[[], bool]) -> bool:
    """Do the task in a message, and return whether it succeeded. A message on the range topic may also be an event of
    S3, which Lambda sent to the dead-letter topic and which was redriven.
    """
    try:
        try:
            if event := event_of(pulled.wire.text):
                upload_objects(records_of(event), may_go_on)
            else:
                upload_task(task_of(pulled.wire.text), may_go_on)
        except (MessageError, InvalidValueError) as error:
            logger.error("moved to the dead-letter topic: %s", error, message_id=pulled.message_id)
            move_to_dead_letters(pulled, error)
    except ParcelqError as error:
        logger.error("range not uploaded: %s", error, message_id=pulled.message_id)
        # guard[return True]: a range that failed is delivered again, alone
        return False
    return True


def move_to_dead_letters(pulled: Pulled, error: ParcelqError) -> None:
    """Publish a message that is not a valid task, with the reason, on the dead-letter topic of ranges. Raises
    PublishError, AwsError or TopicNotFoundError if this fails.
    """
    from parcelq.process.dead import reason_of  # rarely needed

    topic = topic_named(dead_letter(own().config.range_topic))
    all_published(topic.name, topic.publish([with_attributes(pulled.as_it_is(), **{REASON: reason_of(error)})]))


def upload_task(task: RangeTask | StreamTask, may_go_on: Callable[[], bool]) -> None:
    """Publish the records of a range, or the rest of a stream."""
    try:
        check_inbox(Source.parse(task.source), own().config)
        coded = isinstance(task, StreamTask) and task.rest.coded
        goes_on = going_on(task.source, task.workflow, may_go_on, coded=coded)
        job = job_of(task.source, workflow_name(task.workflow))
        # guard[False]: nothing more is uploaded of a job that was cancelled or stopped, or that is whole
        if job and (job.is_whole or (job.halted and not coded)):
            logger.info("has already ended, so it is left out", source=task.source, job=job.id, state=job.state)
            return
        topic = topic_named(topic_of_records(task.topic, own().config))
        tasks = topic_named(own().config.range_topic)
        uploader = way_of_version(task.workflow).uploader if task.workflow else built_in()
        if isinstance(task, StreamTask):
            count(uploader.upload_rest(task, topic, tasks, goes_on), task.source)
        else:
            count(uploader.upload_range(task, topic, tasks), task.source)
    except SourceError as error:
        refuse(error, task.source)
    except (WorkflowError, SettingsError) as error:  # the source's workflow was deleted meanwhile
        refuse(refusal(Source.parse(task.source), error), task.source)


def job_of(source: str, workflow: str) -> JobRecord | None:
    """Return the record of the job that runs a workflow over a source; None if the job has not begun."""
    found = read_job(own().store, job_id(source, workflow))
    return found[0] if found else None


def going_on(source: str, workflow: str, may_go_on: Callable[[], bool], *, coded: bool) -> Callable[[], bool]:
    """Return a function that says whether an upload may continue: if time is left and the job was not stopped. A
    compressed source is always uploaded to its end, because its size is needed to resume the job.
    """
    if coded:
        return may_go_on
    return lambda: may_go_on() and gate().is_open(source, workflow)


def refuse(error: SourceError, source: str) -> None:
    """Log and count that an object can never be uploaded. The reason was already stored beside the job's segments."""
    logger.error("not uploaded: %s", error, source=source)
    metrics.add_metric("SourcesRefused", MetricUnit.Count, 1)


def check_inbox(source: Source, config: Config) -> None:
    """Raise InvalidValueError if a source is not an object of the stack's inbox. Anybody may have sent the event."""
    # guard[False]: only objects of the stack's inbox are uploaded, for any event
    if source.bucket != config.bucket or not source.key.startswith(INBOX):
        raise InvalidValueError("source", source.uri, f"an object under s3://{config.bucket}/{INBOX}")


def workflow_in(put: Object) -> str:
    """Return the workflow, as `<name>` or `<name>@<version>`, that an object's folder in the inbox names; empty if the
    built-in step runs.
    """
    folder = put.topic("")
    return "" if folder.startswith(f"{own().config.prefix}-") else folder


def way_of(put: Object) -> Way:
    """Return how to upload an object. The object's folder in the inbox names a workflow or a topic of the stack. Raises
    SourceError if there is no such workflow, or InvalidValueError for another topic.
    """
    workflow = workflow_in(put)
    if not workflow:
        return Way(built_in(), topic_named(topic_for(put, own().config)))
    try:
        return way_of_version(versions().of_job(str(put.source), workflow))
    except (WorkflowError, SettingsError) as error:
        jobs().refuse(str(put.source), workflow.partition("@")[0], str(error))
        raise refusal(put.source, error) from None


@lru_cache(maxsize=64)
def way_of_version(attribute: str) -> Way:
    """Return how to upload a source of a workflow version. Raises WorkflowError or SettingsError if it is invalid."""
    config, whole = own().config, built_in()
    workflow = versions().read(attribute).workflow
    batch_size = workflow.batch_size_of(workflow.steps[0], config.batch_size)
    uploader = whole._replace(
        parcel_size=parcel_size_for(batch_size, workflow.parcel_size or config.parcel_size),
        format=workflow.format or whole.format,
        chosen_by="workflow" if workflow.format else whole.chosen_by,
        workflow=attribute,
    )
    return Way(uploader, topic_named(config.topic(workflow.stages(config.stages)[0])), workflow.limits)


def refusal(source: Source, error: WorkflowError | SettingsError) -> SourceError:
    """Store the reason why a source cannot be uploaded with its workflow, and return an error with this reason."""
    reason = str(error)
    note_problem(own().store, str(source), reason, output=own().config.output_topic)
    return SourceError(source.key, reason)


def topic_for(put: Object, config: Config) -> str:
    """Return the name of the topic on which an object's records are published."""
    with suppress(InvalidValueError):
        return topic_of_records(put.topic(config.input_topic), config)
    wanted = f"inbox/<name>, inbox/<workflow>/<name>, or inbox/<topic>/<name> with a topic {config.prefix}-…"
    raise InvalidValueError("key", put.source.key, wanted)


def topic_of_records(topic: str, config: Config) -> str:
    """Return the name of a topic for records. Raises InvalidValueError unless it is the stack's and for records."""
    name = topic_within(config.prefix, topic)
    if name.removesuffix(DEAD_LETTER_SUFFIX) in {config.range_topic, config.looks_topic}:
        raise InvalidValueError("topic", topic, "another topic than those of ranges and of looks")
    return name


def count(uploaded: Uploaded | None, source: str) -> None:
    """Add the number of published records to the metrics, and log it."""
    if uploaded is None:
        return
    logger.info("uploaded", source=source, messages=uploaded.messages, entries=uploaded.entries, format=uploaded.format)
    for warning in uploaded.warnings:
        logger.warning(warning, source=source)
    metrics.add_metric("MessagesPublished", MetricUnit.Count, uploaded.messages)
    metrics.add_metric("EntriesUploaded", MetricUnit.Count, uploaded.entries)
