"""Calculates the requests and the cost of a job, of storing its file and result, and of an idle stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, inf
from typing import Final, NamedTuple

from parcelq.collect.drain import RECEIVERS
from parcelq.limits import BILLING_UNIT_BYTES, MAX_LONG_POLL_SECONDS, MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES
from parcelq.prices import Prices

from parcelq_cli.estimate.collecting import segments_of
from parcelq_cli.estimate.facts import COLD_SECONDS, LOG_BYTES, LOOK_SECONDS, POLLERS, TASKS_TOGETHER
from parcelq_cli.estimate.model import Estimate
from parcelq_cli.estimate.stack import StackFacts

_LOOK_REQUESTS: Final = RECEIVERS + 4
"""How many requests to SQS a look (a check of a job) makes: to receive until the topic is empty, to lock, to publish
the next look, and to deliver the look's own message.
"""
_LOOK_PUTS: Final = 3
_LOOK_GETS: Final = 4
"""How many requests to S3 with the price of GET a look makes: for the job record, the job's objects, and notes."""
_LOOKUPS: Final = 4
"""How many requests an instance of the processor makes once to look up its topics."""
_RANGE_TASK_BYTES: Final = 300
_FREE_DISK_GB: Final = 0.5
_TRACED: Final = 0.05
"""The share of the invocations that X-Ray samples, in addition to one invocation a second:
https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html
"""
IDLE_REQUESTS: Final = RECEIVERS + 5
"""How many requests to SQS a scheduled start of the downloader makes if the topics are empty: one for each
receiver, and the requests that look up topics.
"""
IDLE_LISTINGS: Final = 3
"""How many listings such a start makes: of segments without lineage, of all segments, and of job records."""
_IDLE_SECONDS: Final = 1.0 + COLD_SECONDS
"""How many seconds such a start takes, which is cold and waits a second for messages."""
_MONTH_SECONDS: Final = 30 * 24 * 3600
_METRICS: Final = 3


class Row(NamedTuple):
    """A row of a bill: a quantity, the price of a service, and the purpose."""

    service: str
    what: str
    quantity: float
    unit: str
    usd: float

    @classmethod
    def of(cls, prices: Prices, service: str, what: str, price: str, quantity: float) -> Row:
        """Return a row whose price has the name `price`."""
        return cls(service, what, quantity, price.partition("_")[2].replace("_", " "), quantity * prices.of[price].usd)


def total(rows: Sequence[Row]) -> float:
    """Return the sum of all rows in dollars."""
    return sum(one.usd for one in rows)


def units(size: float) -> int:
    """Return how many requests SQS bills for one request with a payload of `size` bytes:
    https://aws.amazon.com/sqs/pricing/
    """
    return max(1, ceil(size / BILLING_UNIT_BYTES))


def billed(count: float, size: float, together: float = inf) -> float:
    """Return how many requests SQS bills for `count` messages of one size that are sent in full requests."""
    most = max(1, min(MAX_REQUEST_MESSAGES, together, MAX_REQUEST_BYTES // max(1, size)))
    full, rest = divmod(count, most)
    return full * units(most * size) + (units(rest * size) if rest else 0)


def sqs(job: Estimate) -> dict[str, float]:
    """Return a dict from each purpose to the number of requests that SQS bills for a job."""
    size, parcel, (pieces, out) = job.input_bytes, job.message_bytes(job.parcel), job.outputs
    results = job.result.messages
    instances = 1 + min(job.setup.uploads, job.ranges) + min(job.setup.concurrency, job.invocations)
    asked = {
        "input topic, publish": billed(job.uploaded, parcel),
        "input topic, receive and delete": billed(job.runs, size, job.together) + job.runs / MAX_REQUEST_MESSAGES,
        "output topic, publish": billed(results, out, job.together * pieces),
        "output topic, receive and delete": billed(results, out) + results / MAX_REQUEST_MESSAGES,
        "looks": job.looks * _LOOK_REQUESTS,
        "looking up topics": _LOOKUPS * instances,
    }
    if job.ranges:
        asked["range topic"] = billed(job.ranges, _RANGE_TASK_BYTES) + 2 * job.ranges
    if job.splitting:
        cut = billed(job.runs, size) + billed(job.uploaded, parcel) + job.uploaded / MAX_REQUEST_MESSAGES
        asked["input topic, re-parcel"] = cut
    if job.again[0]:  # a message of each such run was published, received and deleted, and its output was published
        runs, over, dead = job.again
        asked["failures"] = runs * (2 + 2 * units(job.message_bytes(over / runs))) + 2 * dead
    return asked


def s3(job: Estimate) -> tuple[float, float]:
    """Return how many requests S3 bills as PUT, and how many as GET, for all objects that the job writes or reads."""
    result, ranges = job.result, max(1, job.ranges)
    segments = segments_of(result.messages, job.outputs[1]) + RECEIVERS
    puts = ranges + segments + result.parts + 8 + _LOOK_PUTS * job.looks
    return puts, 2 * ranges + 4 * segments + result.parts * result.gets + _LOOK_GETS * job.looks


def used(job: Estimate) -> dict[str, tuple[float, float]]:
    """Return the number of invocations of each Lambda function, and the total seconds of these invocations."""
    result, drains = job.result, ceil(job.draining / 30)
    uploading = max(1, job.ranges) * job.publishing + (1 + min(job.ranges, job.setup.uploads)) * COLD_SECONDS
    looking = job.looks * LOOK_SECONDS + min(job.looks, job.setup.collects) * COLD_SECONDS
    writers = ceil(result.tasks / TASKS_TOGETHER) if result.is_large else 0
    return {
        "uploader": (1 + job.ranges, uploading),
        "processor": (job.invocations + job.splitting + job.again[0], job.busy),
        "downloader": (job.looks + drains + writers, job.draining + looking + result.busy),
    }


def bill(job: Estimate) -> list[Row]:
    """Return the cost of processing the file, without the cost of storing the file and its result."""
    asked = sqs(job)
    fair = sum(count for what, count in asked.items() if what.endswith("publish"))
    return priced(job, asked, fair, s3(job), used(job), job.processed)


def priced(
    job: Estimate,
    asked: Mapping[str, float],
    fair: float,
    requests: tuple[float, float],
    invoked: Mapping[str, tuple[float, float]],
    seconds: float,
) -> list[Row]:
    """Return the cost of the resources that a job used.

    Args:
        asked: maps purposes to the number of requests to SQS.
        fair: how many requests to SQS publish with a MessageGroupId.
        requests: how many requests S3 bills, from `s3`.
        invoked: the invocations and seconds of each function, from `used`.
        seconds: how many seconds the job took.
    """
    invocations = sum(count for count, _ in invoked.values())
    disk = invoked["processor"][1] * max(0.0, job.stack.disk_gb - _FREE_DISK_GB)
    gb_seconds = {name: busy * job.megabytes[name] / 1024 for name, (_, busy) in invoked.items()}
    rows = [
        *(("SQS", what, "sqs_requests", count) for what, count in asked.items()),
        ("SQS", "fair queues", "sqs_fair_requests", fair),
        *(("Lambda", name, "lambda_requests", count) for name, (count, _) in invoked.items()),
        *(("Lambda", name, "lambda_gb_seconds", count) for name, count in gb_seconds.items()),
        ("Lambda", "processor, disk", "lambda_storage_gb_seconds", disk),
        ("S3", "requests", "s3_puts", requests[0]),
        ("S3", "requests", "s3_gets", requests[1]),
        ("CloudWatch", "logs", "log_gb", invocations * LOG_BYTES / 1e9),
        ("X-Ray", "traces", "xray_traces", min(invocations, seconds + _TRACED * invocations)),
    ]
    return [Row.of(job.prices, *one) for one in rows]


def usd(job: Estimate) -> float:
    """Return the total cost of processing the file in dollars."""
    return total(bill(job))


def keeping(job: Estimate) -> list[Row]:
    """Return the cost of storing the file and its result for a month."""
    sizes = {"the file": job.known.stored, "the result": job.output_bytes}
    return [Row.of(job.prices, "S3", what, "s3_gb_months", size / 1e9) for what, size in sizes.items()]


def idle(stack: StackFacts, prices: Prices) -> list[Row]:
    """Return the monthly cost of a stack that processes nothing."""
    starts = _MONTH_SECONDS / stack.collect_seconds
    polls = stack.mappings * POLLERS * _MONTH_SECONDS / MAX_LONG_POLL_SECONDS
    gb_seconds = starts * _IDLE_SECONDS * stack.downloader_mb / 1024
    rows = [
        ("SQS", "Lambda polling the topics", "sqs_requests", polls),
        ("SQS", "downloader polling the topics", "sqs_requests", starts * IDLE_REQUESTS),
        ("Lambda", "downloader, on its schedule", "lambda_requests", starts),
        ("Lambda", "downloader, on its schedule", "lambda_gb_seconds", gb_seconds),
        ("S3", "downloader listing segments", "s3_puts", starts * IDLE_LISTINGS),
        ("CloudWatch", "logs", "log_gb", starts * LOG_BYTES / 1e9),
        ("CloudWatch", "alarms", "alarm_months", stack.alarms),
        ("CloudWatch", "metrics", "metric_months", _METRICS),
        ("CloudWatch", "dashboard", "dashboard_months", stack.dashboards),
        ("X-Ray", "traces", "xray_traces", starts),
    ]
    return [Row.of(prices, *one) for one in rows]
