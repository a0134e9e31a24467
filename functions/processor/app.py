"""Runs a stage's step over messages of its topic."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.config import load
from parcelq.errors import SettingsError, TopicNotFoundError
from parcelq.names import dead_letter, topic_of_arn
from parcelq.process.processor import Processor, Route, postpone
from parcelq.steps.find import deployed_step
from parcelq.topics.admin import Topics
from parcelq.topics.message import Pulled
from parcelq.topics.overflow import Overflow

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@cache
def processor() -> Processor:
    """What is done with messages: the same for all invocations, and wrong settings are told at the first."""
    config = load()
    step = deployed_step(config.step_folders, config.stage, config.step_path, config.settings_file, config.workflow_id)
    sqs = sqs_client()
    topics = Topics(sqs)
    return Processor(
        sqs,
        Route(
            input=topics.url(config.input_topic),
            output=topics.url(config.next_topic),
            dead_letter=topics.url(dead_letter(config.input_topic)),
            tombstones=topics.url(config.output_topic),
        ),
        step,
        batch_size=config.batch_size,
        parcel_size=config.parcel_size,
        max_receive_count=config.max_receive_count,
        halving=config.halving,
        back_off_seconds=config.back_off_seconds,
        overflow=Overflow(s3_client(), config.bucket, only_own=True),
    )


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch. Wrong settings fail it as a whole, with nothing but what is wrong, and burn no message."""
    if not event.get("Records"):
        return {"batchItemFailures": []}
    try:
        processor()
    except (SettingsError, TopicNotFoundError) as error:
        logger.error(str(error))
        give_back(event)
        raise error.with_traceback(None) from None
    return process(event, context)


def give_back(event: dict[str, Any]) -> None:
    """Publish messages again as they are, for later, so that none dies of what is not its fault."""
    sqs = sqs_client()
    for arn, records in groupby(event["Records"], lambda record: str(record["eventSourceARN"])):
        pulled = [Pulled.from_lambda(record) for record in records]
        left = postpone(sqs, Topics(sqs).url(topic_of_arn(arn)), pulled)
        if left:
            logger.warning("%d of %d messages could not be given back, and used up a receive", len(left), len(pulled))


@logger.inject_lambda_context
@metrics.log_metrics
def process(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch and report the messages that are to be delivered again."""
    messages = [Pulled.from_lambda(record) for record in event["Records"]]
    outcome = processor().handle(messages, lambda: context.get_remaining_time_in_millis() / 1000)
    metrics.add_metric("EntriesProcessed", MetricUnit.Count, outcome.entries)
    metrics.add_metric("MessagesPublished", MetricUnit.Count, outcome.published)
    metrics.add_metric("MessagesDead", MetricUnit.Count, outcome.dead)
    metrics.add_metric("MessagesFailed", MetricUnit.Count, len(outcome.failed))
    return {"batchItemFailures": [{"itemIdentifier": pulled.message_id} for pulled, _ in outcome.failed]}
