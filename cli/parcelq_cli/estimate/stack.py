"""The costs of a stack that do not depend on a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parcelq.collect.drain import RECEIVERS
from parcelq.limits import MAX_LONG_POLL_SECONDS
from parcelq.prices import Prices

from parcelq_cli.estimate.arithmetic import Row, function, row
from parcelq_cli.estimate.facts import COLD_SECONDS, POLLERS

LOG_BYTES: Final = 1_500
"""Bytes that an invocation writes to its log."""
IDLE_REQUESTS: Final = RECEIVERS + 5
"""Requests to SQS of a scheduled start with empty topics: receiving, and looking up topics."""
IDLE_LISTINGS: Final = 3
"""Listings of such a start: segments without lineage, all segments, and the records of jobs."""
_IDLE_SECONDS: Final = 1.0 + COLD_SECONDS
"""Seconds of such a start, which is cold and waits a second for messages."""
_MONTH_SECONDS: Final = 30 * 24 * 3600
_METRICS: Final = 3


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack made from this version's template with default parameters; a test compares both.

    Attributes:
        alarms: CloudWatch alarms.
        dashboards: CloudWatch dashboards.
        mappings: event source mappings, which poll SQS.
        collect_seconds: seconds between two scheduled starts of the downloader.
        uploader_mb: memory of the uploader.
        downloader_mb: memory of the downloader.
        disk_gb: /tmp of a processor.
        range_bytes: objects above this size are uploaded in ranges of it.
        together: most messages of an invocation of the processor.
    """

    alarms: int = 17
    dashboards: int = 1
    mappings: int = 3
    collect_seconds: float = 3600
    uploader_mb: int = 1769
    downloader_mb: int = 1769
    disk_gb: float = 2.0
    range_bytes: int = 268435456
    together: int = 10


def idle(stack: Stack, prices: Prices) -> list[Row]:
    """The monthly cost of a stack that processes nothing."""
    collections = _MONTH_SECONDS / stack.collect_seconds
    polls = stack.mappings * POLLERS * _MONTH_SECONDS / MAX_LONG_POLL_SECONDS
    return [
        row(prices, "SQS", "Lambda polling the topics", "sqs_requests", polls),
        row(prices, "SQS", "downloader polling the topics", "sqs_requests", collections * IDLE_REQUESTS),
        *function(prices, "downloader, on its schedule", collections, collections * _IDLE_SECONDS, stack.downloader_mb),
        row(prices, "S3", "downloader listing segments", "s3_puts", collections * IDLE_LISTINGS),
        row(prices, "CloudWatch", "logs", "log_gb", collections * LOG_BYTES / 1e9),
        row(prices, "CloudWatch", "alarms", "alarm_months", stack.alarms),
        row(prices, "CloudWatch", "metrics", "metric_months", _METRICS),
        row(prices, "CloudWatch", "dashboard", "dashboard_months", stack.dashboards),
        row(prices, "X-Ray", "traces", "xray_traces", collections),
    ]
