"""The requests and the bill for a file. Pure arithmetic."""

from __future__ import annotations

from math import ceil
from typing import Final

from parcelq.collect.drain import RECEIVERS
from parcelq.limits import MAX_REQUEST_MESSAGES

from parcelq_cli.estimate.arithmetic import Row, billed, function, row, total, units
from parcelq_cli.estimate.collecting import segments_of
from parcelq_cli.estimate.facts import COLD_SECONDS, LOOK_SECONDS, TASKS_TOGETHER
from parcelq_cli.estimate.model import Job
from parcelq_cli.estimate.stack import LOG_BYTES

_LOOK_REQUESTS: Final = RECEIVERS + 4
"""Requests to SQS of a look: receiving until the topic is empty, locking, publishing the next look, and its own
delivery.
"""
_LOOK_PUTS: Final = 3
_LOOK_GETS: Final = 4
"""Requests to S3 of a look: the job's record, its objects, and notes."""
_LOOKUPS: Final = 4
"""Requests of the processor to look up its topics, once an instance."""
_FREE_DISK_GB: Final = 0.5
_RANGE_TASK_BYTES: Final = 300
_TRACED: Final = 0.05
"""Share of the invocations that X-Ray samples, in addition to one a second:
https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html
"""


def sqs(job: Job) -> dict[str, float]:
    """Requests that SQS bills, by purpose."""
    size, parcel, (pieces, out) = job.input_bytes, job.message_bytes(job.parcel), job.outputs
    results = job.result.messages
    asked = {
        "input topic, publish": billed(job.uploaded, parcel),
        "input topic, receive and delete": billed(job.runs, size, job.together) + job.runs / MAX_REQUEST_MESSAGES,
        "output topic, publish": billed(results, out, job.together * pieces),
        "output topic, receive and delete": billed(results, out) + results / MAX_REQUEST_MESSAGES,
        "looks": job.looks * _LOOK_REQUESTS,
        "looking up topics": _LOOKUPS
        * (1 + min(job.setup.uploads, job.ranges) + min(job.setup.concurrency, job.invocations)),
    }
    if job.ranges:
        asked["range topic"] = billed(job.ranges, _RANGE_TASK_BYTES) + 2 * job.ranges
    if job.splitting:
        cut = billed(job.runs, size) + billed(job.uploaded, parcel) + job.uploaded / MAX_REQUEST_MESSAGES
        asked["input topic, re-parcel"] = cut
    if job.again[0]:  # each such run was published and received, its output was published, and it was deleted
        runs, over, dead = job.again
        asked["failures"] = runs * (2 + 2 * units(job.message_bytes(over / runs))) + 2 * dead
    return asked


def s3(job: Job) -> tuple[float, float]:
    """Requests that S3 bills as PUT and as GET: notes, segments, the result and the report."""
    result, ranges = job.result, max(1, job.ranges)
    segments = segments_of(result.messages, job.outputs[1]) + RECEIVERS
    puts = ranges + segments + result.parts + 8 + _LOOK_PUTS * job.looks
    gets = 2 * ranges + 4 * segments + result.parts * result.gets + _LOOK_GETS * job.looks
    return puts, gets


def bill(job: Job) -> list[Row]:
    """The cost of processing the file, without storing it."""
    uploads, processors = 1 + job.ranges, job.invocations + job.splitting + job.again[0]
    uploading = max(1, job.ranges) * job.publishing + (1 + min(job.ranges, job.setup.uploads)) * COLD_SECONDS
    result, drains = job.result, ceil(job.draining / 30)
    looking = job.looks * LOOK_SECONDS + min(job.looks, job.setup.collects) * COLD_SECONDS
    collecting = job.draining + looking + result.busy
    collectors = job.looks + drains + (ceil(result.tasks / TASKS_TOGETHER) if result.is_large else 0)
    invocations = uploads + processors + collectors
    puts, gets = s3(job)
    prices, disk = job.prices, job.busy * max(0.0, job.stack.disk_gb - _FREE_DISK_GB)
    traces = min(invocations, job.processed + _TRACED * invocations)
    asked = sqs(job)
    fair = sum(count for what, count in asked.items() if what.endswith("publish"))
    return [
        *(row(prices, "SQS", what, "sqs_requests", count) for what, count in asked.items()),
        row(prices, "SQS", "fair queues", "sqs_fair_requests", fair),
        *function(prices, "uploader", uploads, uploading, job.stack.uploader_mb),
        *function(prices, "processor", processors, job.busy, job.setup.memory),
        row(prices, "Lambda", "processor, disk", "lambda_storage_gb_seconds", disk),
        *function(prices, "downloader", collectors, collecting, job.stack.downloader_mb),
        row(prices, "S3", "requests", "s3_puts", puts),
        row(prices, "S3", "requests", "s3_gets", gets),
        row(prices, "CloudWatch", "logs", "log_gb", invocations * LOG_BYTES / 1e9),
        row(prices, "X-Ray", "traces", "xray_traces", traces),
    ]


def usd(job: Job) -> float:
    """Dollars of the bill."""
    return total(bill(job))


def keeping(job: Job) -> list[Row]:
    """The cost of storing the file and its result for a month."""
    sizes = {"the file": job.known.stored, "the result": job.output_bytes}
    return [row(job.prices, "S3", what, "s3_gb_months", size / 1e9) for what, size in sizes.items()]
