"""Collects results: drains the output topic into segments, and writes the result of every source that is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.checks import Check, checked, number, optional, shown, text
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.results import ResultWriter
from parcelq.config import Config, load
from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.names import RESULTS, topic_of_url, topic_within
from parcelq.store.stores import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.overflow import Overflow

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})

DRAIN_SHARE = 0.6
"""Of the time there is, draining gets so much; the rest is for writing results."""
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What may be asked for; the schedule asks for nothing in particular."""

    topic: str | None = None
    destination: str | None = None
    receive_message_timeout: float = 20


REQUEST: Mapping[str, Check] = {
    "topic": optional(text),
    "destination": optional(text),
    "receive_message_timeout": number(0, 600),
}


@cache
def config() -> Config:
    """The same for all invocations of one instance."""
    return load()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Collect for as long as there is something, or time; another invocation goes on from there."""
    try:
        request = request_of(event)
    except ValueError as error:
        return {"error": {"type": "BadRequest", "message": str(error)}}
    try:
        return collect(request, lambda: context.get_remaining_time_in_millis() / 1000)
    except InvalidValueError as error:
        return {"error": {"type": type(error).__name__, "message": str(error)}}


def request_of(event: object) -> Request:
    """What an event asks for. Raises ValueError that says everything that is wrong with it."""
    if not isinstance(event, dict):
        raise ValueError(f"request is {shown(event)}, but must be a JSON object")
    values, problems = checked(event, REQUEST)
    if problems:
        raise ValueError("; ".join(problems))
    return Request(**values)


def collect(request: Request, time_left: Callable[[], float]) -> dict[str, Any]:
    """Drain the topic, then finish what can be finished.

    Raises:
        ParcelqError: something stands in the way of a source; all others were looked at before.
    """
    sqs, s3 = sqs_client(), s3_client()
    bucket = config().bucket
    destination = destination_of(request)
    store = BucketStore(s3, bucket)
    url = Topics(sqs).url(topic_of(request))
    whole = time_left()
    drained = Drainer(sqs, url, store, Overflow(s3, bucket, only_own=True)).drain(
        request.receive_message_timeout, lambda: time_left() - whole * (1 - DRAIN_SHARE)
    )
    finisher = Finisher(store, ResultWriter(s3, bucket), topic_of_url(url), destination)
    metrics.add_metric("MessagesCollected", MetricUnit.Count, drained.messages)
    metrics.add_metric("EntriesCollected", MetricUnit.Count, drained.entries)
    finished, waiting, failed = [], [], []
    for state in finisher.finish_all(lambda: time_left() > whole * 0.1):
        (failed if state.problem else finished if state.result else waiting).append(state)
        logger.info("source", **asdict(state))
    metrics.add_metric("SourcesFinished", MetricUnit.Count, len(finished))
    if failed:  # last of all, when the others are done: an alarm tells of invocations that raise, and of no answer
        first = failed[0]
        raise ParcelqError(f"{len(failed)} source(s) are in trouble; the first, {first.source}: {first.problem}")
    return {
        "drained": asdict(drained),
        "finished": [asdict(state) for state in finished[:MOST_LISTED]],
        "waiting": [asdict(state) for state in waiting[:MOST_LISTED]],
        "finished_count": len(finished),
        "waiting_count": len(waiting),
    }


def topic_of(request: Request) -> str:
    """Name of the topic to drain, one of the stack's."""
    if request.topic is None:
        return config().output_topic
    return topic_within(config().prefix, request.topic)


def destination_of(request: Request) -> str:
    """The prefix that results go under, in the stack's bucket below `results/`."""
    root = f"s3://{config().bucket}/{RESULTS}"
    wanted = request.destination or root
    if not wanted.endswith("/"):
        wanted += "/"
    if not wanted.startswith(root) or "/../" in wanted or "/./" in wanted:
        raise InvalidValueError("destination", request.destination, f"a folder under {root}")
    return wanted.removeprefix(f"s3://{config().bucket}/")
