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
from parcelq.errors import ParcelqError, SettingsError, TopicNotFoundError
from parcelq.limits import MAX_DELAY_SECONDS
from parcelq.names import topic_of_arn
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.find import deployed_step
from parcelq.store.bucket import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})


@cache
def processor() -> Processor:
    """What is done with messages: the same for all invocations of one instance."""
    config = load()
    step = deployed_step(config.step_folders, config.stage, config.step_path, config.settings_file, config.workflow_id)
    sqs, s3 = sqs_client(), s3_client()
    urls, overflow = Topics(sqs), Overflow(s3, config.bucket, only_own=True)

    def topic(name: str) -> SqsTopic:
        return SqsTopic(sqs, urls.url(name), overflow)

    source, output = topic(config.input_topic), topic(config.output_topic)
    dead_letters = source.dead_letter_topic()
    if dead_letters is None:
        raise SettingsError(f"topic {source.name}", ["it has no dead-letter topic"])
    following = output if config.next_topic == config.output_topic else topic(config.next_topic)
    rules = Rules(
        batch_size=config.batch_size,
        parcel_size=config.parcel_size,
        max_failures=config.max_failures,
        halving=config.halving,
        back_off_seconds=config.back_off_seconds,
        joins=False,
    )
    return Processor(Route(source, following, dead_letters, output), step, rules, BucketStore(s3, config.bucket))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch. Wrong settings fail it as a whole, and its messages come again much later."""
    if not event.get("Records"):
        return {"batchItemFailures": []}
    try:
        processor()
    except (SettingsError, TopicNotFoundError) as error:
        logger.error(str(error))
        # guard[pass]: with wrong settings messages come again as late as a delay can be
        put_off(event)
        raise error.with_traceback(None) from None
    return process(event, context)


def put_off(event: dict[str, Any]) -> None:
    """Have messages delivered again as late as a delay can be: only a redeployment can help."""
    sqs = sqs_client()
    for arn, records in groupby(event["Records"], lambda record: str(record["eventSourceARN"])):
        try:
            topic = SqsTopic(sqs, Topics(sqs).url(topic_of_arn(arn)))
            topic.refresh_deadline(map(SqsTopic.from_lambda, records), MAX_DELAY_SECONDS)
        except ParcelqError as error:
            logger.warning("messages will come again soon: %s", error)


@logger.inject_lambda_context
@metrics.log_metrics
def process(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch and report the messages that are to be delivered again."""
    messages = [SqsTopic.from_lambda(record) for record in event["Records"]]
    outcome = processor().handle(
        messages, lambda: context.get_remaining_time_in_millis() / 1000, invocation=context.aws_request_id
    )
    failed = [pulled for pulled, _ in outcome.failed]
    # guard[pass]: a message that is not done comes again after seconds, not after its deadline
    processor().back_off(failed)
    metrics.add_metric("EntriesProcessed", MetricUnit.Count, outcome.entries)
    metrics.add_metric("MessagesPublished", MetricUnit.Count, outcome.published)
    metrics.add_metric("MessagesDead", MetricUnit.Count, outcome.dead)
    metrics.add_metric("MessagesFailed", MetricUnit.Count, len(failed))
    # guard[return {"batchItemFailures": []}]: messages that are not done are reported as failed
    return {"batchItemFailures": [{"itemIdentifier": pulled.message_id} for pulled in failed]}
