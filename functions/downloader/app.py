"""The downloader: drains the output topic, takes looks (scheduled checks of jobs), and writes results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from parcelq.aws.clients import other_client
from parcelq.aws.events import put_event
from parcelq.aws.parallel import in_flight
from parcelq.collect.drain import Drained, Drainer
from parcelq.collect.draining import DRAIN_SHARE, LOCKED_SECONDS, Draining
from parcelq.collect.finish import Finisher
from parcelq.collect.large import LargeResults
from parcelq.collect.looks import Looker, Taken
from parcelq.collect.plans import PartTask
from parcelq.collect.seeing import SourceState
from parcelq.collect.sweeping import Request, look_at_all
from parcelq.errors import InvalidValueError, MessageError, ParcelqError
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.look import Look
from parcelq.limits import MAX_DELAY_SECONDS
from parcelq.names import RESULTS
from parcelq.topics.cost import METER
from parcelq.topics.deployed import Deployed
from parcelq.topics.lease import Lease
from parcelq.topics.message import Pulled
from parcelq.topics.sqs import SqsTopic

logger = Logger()
metrics = Metrics()
copy_config_to_registered_loggers(logger, include={"parcelq"})

LOOKS_IN_FLIGHT = 4
"""How many looks an instance of the function takes at the same time."""
FIRST_RETRY_SECONDS = 5
MOST_LISTED = 100


class App(NamedTuple):
    """The objects that all invocations of an instance share, in addition to its stack."""

    output: SqsTopic
    looks: SqsTopic
    looker: Looker
    draining: Draining
    large: LargeResults


@cache
def own() -> Deployed:
    """Return the function's configuration, topics and bucket."""
    return Deployed.connect()


@cache
def app() -> App:
    """Return the objects that all invocations of an instance share."""
    stack = own()
    config, store, topic = stack.config, stack.store, stack.topic
    output, looks, ranges = (topic(name) for name in (config.output_topic, config.looks_topic, config.range_topic))
    large = LargeResults(store, store, looks, time.time)
    looker = Looker(
        Jobs(store, looks),
        Finisher(store, output.name, bucket=config.bucket, large=large),
        (*(topic(config.topic(stage)) for stage in config.stages), ranges, output),
        ranges,
        config.bucket,
        config.topic(config.stages[0]),
        tell,
        config.quiet_seconds,
        METER.take,
    )
    return App(output, looks, looker, Draining(looker, output, looks), large)


@cache
def events() -> Any:
    """Return the client of EventBridge, which is created only when a job ends, because few invocations need it."""
    return other_client("events")


def tell(kind: str, detail: Mapping[str, Any]) -> None:
    """Send an event about a job to the default bus of EventBridge."""
    metrics.add_metric("JobsEnded", MetricUnit.Count, 1)
    logger.info(kind, job=detail["job"]["id"], source=detail["job"]["source"], complete=detail["complete"])
    put_event(events(), kind, detail, f"arn:aws:s3:::{detail['bucket']}")


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take the looks that an SQS event asks for, or collect the messages of all jobs on other requests."""

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    with METER.invocation(int(context.memory_limit_in_mb)):
        if isinstance(event, dict) and event.get("Records"):
            return take_looks(event["Records"], time_left)
        try:
            request = Request.parse(event)
        except ValueError as error:
            return {"error": {"type": "BadRequest", "message": str(error)}}
        try:
            return collect(request, time_left)
        except InvalidValueError as error:
            return {"error": {"type": type(error).__name__, "message": str(error)}}


# ---- Looks.


def take_looks(records: Sequence[Mapping[str, Any]], time_left: Callable[[], float]) -> dict[str, Any]:
    """Drain the output topic, take looks, and write parts of large results, as the messages of a batch ask."""
    pulled = [Pulled.from_lambda(record) for record in records]
    asked = [(one, what) for one in pulled if (what := asked_of(one))]
    looks = [(one, what) for one, what in asked if isinstance(what, Look)]
    whole = time_left()

    def take(of_one_job: Sequence[tuple[Pulled, Look]]) -> list[tuple[Pulled, Taken]]:
        return [(one, take_look(one, look)) for one, look in of_one_job]

    def take_all() -> Iterator[tuple[Pulled, Taken]]:
        yield from chain.from_iterable(in_flight(take, by_job(looks), LOOKS_IN_FLIGHT))
        for one, task in asked:
            if isinstance(task, PartTask):
                yield one, write_parts(one, task, lambda: time_left() > whole * 0.3)

    failed: list[dict[str, str]] = []
    with Lease(app().looks, pulled, LOCKED_SECONDS) as lease:
        if looks:
            found, written = app().draining.take_turn([look for _, look in looks], time_left)
            count_drained(found)
            for state in written:
                log_state(state)
        for one, taken in take_all():
            if taken.again is not None:
                lease.drop([one])
                app().looks.refresh_deadline([one], int(max(1, taken.again)))
                failed.append({"itemIdentifier": one.message_id})
    return {"batchItemFailures": failed}


def by_job(looks: Iterable[tuple[Pulled, Look]]) -> Iterable[list[tuple[Pulled, Look]]]:
    """Group looks by job, the newest look first. Looks at one job must not run at the same time."""
    found: dict[str, list[tuple[Pulled, Look]]] = {}
    for one in sorted(looks, key=lambda one: -one[1].number):
        found.setdefault(one[1].job, []).append(one)
    found.pop("", None)
    return found.values()


def asked_of(pulled: Pulled) -> Look | PartTask | None:
    """Return the look or the task in a message; None if it has neither, which is logged."""
    try:
        return PartTask.parse(pulled.wire.text) or Look.parse(pulled.wire.text)
    except MessageError as error:
        logger.error("left out: %s", error, message_id=pulled.message_id)
        return None


def take_look(pulled: Pulled, look: Look) -> Taken:
    """Check a job. If the check fails, its message is delivered again with growing delays, and finally becomes dead."""
    try:
        taken = app().looker.take(look)
    except (ParcelqError, OSError) as error:
        return failed_once(pulled, f"look at job {look.job}", error)
    if taken.state:
        log_state(taken.state)
    return taken


def write_parts(pulled: Pulled, task: PartTask, may_go_on: Callable[[], bool]) -> Taken:
    """Write the parts of a large result that a task names. If time runs out, the task is delivered again."""
    try:
        return Taken() if app().large.write_parts(task, may_go_on) else Taken(again=0)
    except (ParcelqError, OSError) as error:
        return failed_once(pulled, f"parts {task.first} to {task.last} of {task.plan}", error)


def failed_once(pulled: Pulled, what: str, error: Exception) -> Taken:
    """Log an error, and let SQS deliver the message again after a delay that grows with each failure."""
    logger.error("%s failed: %s", what, error)
    metrics.add_metric("LooksFailed", MetricUnit.Count, 1)
    return Taken(again=min(MAX_DELAY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(pulled.receive_count - 1, 10)))


def count_drained(found: Drained) -> None:
    """Add the number of drained messages to the metrics."""
    metrics.add_metric("MessagesCollected", MetricUnit.Count, found.messages)
    metrics.add_metric("EntriesCollected", MetricUnit.Count, found.entries)


def log_state(state: SourceState) -> None:
    """Log the progress of the job of a source."""
    logger.info("source", **state._asdict())
    if state.result:
        metrics.add_metric("SourcesFinished", MetricUnit.Count, 1)


# ---- Requests from the schedule and from people.


def collect(request: Request, time_left: Callable[[], float]) -> dict[str, Any]:
    """Drain a topic, check all jobs with new segments, and publish lost looks again. Raises ParcelqError at the end if
    the check of a job failed.
    """
    name, destination = request.topic_in(own().config), request.destination_in(own().config)
    topic = own().topic(name)
    whole = time_left()
    drained = Drainer(topic, own().store).drain(
        request.receive_message_timeout, lambda: time_left() - whole * (1 - DRAIN_SHARE)
    )
    count_drained(drained)

    def may_go_on() -> bool:
        return time_left() > whole * 0.1

    if name == own().config.output_topic and destination == RESULTS:
        states = look_at_all(app().looker, may_go_on)
    else:  # jobs of another topic or with another destination do not belong to the stack
        finisher = Finisher(own().store, name, destination, bucket=own().config.bucket, large=app().large)
        states = list(finisher.finish_all(may_go_on))
    for state in states:
        log_state(state)
    failed = [state for state in states if state.problem]
    finished = [state for state in states if state.result and not state.problem]
    waiting = [state for state in states if not state.result and not state.problem]
    if failed:  # raised last, because the alarm counts only invocations that raise an error
        first = failed[0]
        raise ParcelqError(f"{len(failed)} source(s) have a problem; the first, {first.source}: {first.problem}")
    summary = asdict(drained)
    del summary["jobs"]
    return {
        "drained": summary,
        "finished": [state._asdict() for state in finished[:MOST_LISTED]],
        "waiting": [state._asdict() for state in waiting[:MOST_LISTED]],
        "finished_count": len(finished),
        "waiting_count": len(waiting),
    }
