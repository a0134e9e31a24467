"""The processor of a stage: runs the steps of the workflow that a message names, or the stack's built-in step."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws.clients import sqs_client
from parcelq.errors import ParcelqError, SettingsError, TopicNotFoundError
from parcelq.jobs.gate import Gate
from parcelq.limits import MAX_DELAY_SECONDS, MIB
from parcelq.lineage.source import workflow_name
from parcelq.names import topic_of_arn
from parcelq.process.apply import Outcome, Route
from parcelq.process.job_failures import JobFailures
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.find import deployed_step
from parcelq.steps.grants import Grants
from parcelq.topics.admin import Topics
from parcelq.topics.attributes import WORKFLOW
from parcelq.topics.cost import METER
from parcelq.topics.deadlines import back_off
from parcelq.topics.deployed import Deployed
from parcelq.topics.message import Pulled
from parcelq.topics.sqs import SqsTopic

if TYPE_CHECKING:
    from parcelq.process.workflows import Workflows

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@cache
def own() -> Deployed:
    """Return the function's configuration, topics and bucket."""
    return Deployed.connect()


@cache
def topic(name: str) -> SqsTopic:
    """Return the stack's topic with a name."""
    return own().topic(name)


@cache
def route() -> Route:
    """Return the topics of the built-in step: for its messages, its output, its dead letters and its tombstones."""
    config = own().config
    source, output = topic(config.input_topic), topic(config.output_topic)
    dead_letters = source.dead_letter_topic()
    if dead_letters is None:
        raise SettingsError(f"topic {source.name}", ["it has no dead-letter topic"])
    return Route(source, topic(config.next_topic), dead_letters, output)


def rules() -> Rules:
    """Return the rules for processing messages, which apply unless a message's workflow has other rules."""
    config = own().config
    return Rules(
        batch_size=config.batch_size,
        parcel_size=config.parcel_size,
        max_failures=config.max_failures,
        halving=config.halving,
        back_off_seconds=config.back_off_seconds,
        joins=False,
        counts=True,
    )


@cache
def grants() -> Grants:
    """Return the object that gets the credentials and secrets of steps."""
    known = own().config
    return Grants(known.step_role, known.secrets, f"{known.prefix}-{known.stage}")


@cache
def processor() -> Processor:
    """Return the processor that runs the built-in step."""
    known = own().config
    step = deployed_step(known.step_folders, known.stage, known.step_path, known.settings_file, known.workflow_id)
    store = own().store
    first = JobFailures(store, time.time)
    return Processor(route(), grants().to(step, known.stage), rules(), store, first=first)


@cache
def gate() -> Gate:
    """Return the object that knows which jobs were stopped."""
    return Gate(own().store)


@cache
def workflows() -> Workflows:
    """Return the object that runs workflows. Its module is imported when the first message needs it."""
    from parcelq.process.workflows import Stage, Workflows

    known, routed = own().config, route()
    stage = Stage(
        known.stage,
        known.stages,
        lambda name: topic(known.topic(name)),
        routed.dead_letters,
        routed.output,
        rules(),
        own().store,
        grants(),
    )
    return Workflows(stage, known.storage_mib * MIB // 2)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch of messages. If the settings are wrong, SQS delivers all messages again after a long delay."""
    if not isinstance(event, dict) or not event.get("Records"):
        return {"batchItemFailures": []}
    messages = by_workflow(event)
    try:
        grants()
        if "" in messages:
            processor()
        else:
            route()
    except (SettingsError, TopicNotFoundError) as error:
        logger.error(str(error))
        # guard[pass]: with wrong settings messages are delivered again as late as possible
        put_off(event)
        raise error.with_traceback(None) from None
    with METER.invocation(int(context.memory_limit_in_mb)):
        answer: dict[str, Any] = process(messages, context)
        return answer


def by_workflow(event: dict[str, Any]) -> dict[str, list[Pulled]]:
    """Group the messages of an event by the workflow version that they name; the key "" means the built-in step."""
    messages: defaultdict[str, list[Pulled]] = defaultdict(list)
    for record in event["Records"]:
        pulled = Pulled.from_lambda(record)
        attribute = pulled.attributes.get(WORKFLOW, "")
        messages[attribute if workflow_name(attribute) else ""].append(pulled)
    return messages


def put_off(event: dict[str, Any]) -> None:
    """Delay the messages of an event by the maximal delay, because they fail until the stack is deployed again."""
    sqs = sqs_client()  # without the settings, which may be wrong
    for arn, records in groupby(event["Records"], lambda record: str(record["eventSourceARN"])):
        try:
            waiting = SqsTopic(sqs, Topics(sqs).url(topic_of_arn(arn)))
            waiting.refresh_deadline(map(Pulled.from_lambda, records), MAX_DELAY_SECONDS)
        except ParcelqError as error:
            logger.warning("messages will be delivered again soon: %s", error)


@logger.inject_lambda_context
@metrics.log_metrics
def process(messages: dict[str, list[Pulled]], context: LambdaContext) -> dict[str, Any]:
    """Process messages, and return a reply that names the messages that must be delivered again."""

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    whole = Outcome()
    for attribute, every in messages.items():
        pulled = gate().passing(every)
        if len(pulled) < len(every):
            logger.info("left out, because their jobs were stopped", messages=len(every) - len(pulled))
        if not pulled:
            continue
        if attribute:
            whole.add(workflows().handle(attribute, pulled, time_left, invocation=context.aws_request_id))
        else:
            whole.add(processor().handle(pulled, time_left, invocation=context.aws_request_id))
    failed = [pulled for pulled, _ in whole.failed]
    for reason in dict.fromkeys(reason for _, reason in whole.failed):
        logger.warning("messages are delivered again: %s", reason)
    # guard[pass]: a message that is not done is delivered again after seconds, not after its deadline
    back_off(route().input, failed, own().config.back_off_seconds)
    metrics.add_metric("EntriesProcessed", MetricUnit.Count, whole.entries)
    metrics.add_metric("MessagesPublished", MetricUnit.Count, whole.published)
    metrics.add_metric("MessagesDead", MetricUnit.Count, whole.dead)
    metrics.add_metric("MessagesFailed", MetricUnit.Count, len(failed))
    # guard[return {"batchItemFailures": []}]: messages that are not done are reported as failed
    return {"batchItemFailures": [{"itemIdentifier": pulled.message_id} for pulled in failed]}
