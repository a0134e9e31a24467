"""What a file costs on the stack, and what the stack costs that does nothing: quantities times prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from parcelq.collect.drain import RECEIVERS
from parcelq.limits import MAX_LONG_POLL_SECONDS

from parcelq_cli.estimate.duration import BYTES_PER_SECOND, COLD_SECONDS, COLLECT_SECONDS, QUIET_SECONDS, Duration
from parcelq_cli.estimate.prices import Prices
from parcelq_cli.estimate.traffic import LOOKED_UP, s3, sqs
from parcelq_cli.estimate.work import Work

_FUNCTION_MB: Final = 1769
"""Of the uploader and the downloader, in the template."""
_FREE_STORAGE_GB: Final = 0.5
_STORAGE_GB: Final = 2.0
"""Disk of a processor, in the template, and how much of that is free."""
_LOG_BYTES: Final = 1_500
"""What an invocation writes to its log: Lambda's own lines, the metrics, and one line of its own."""
_TRACED: Final = 0.05
"""Of invocations, beside one a second: https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html"""
_MONTH_SECONDS: Final = 30 * 24 * 3600
_POLLERS: Final = 5
"""Of an event source mapping, each in long polls, also where nothing comes; with a limit to its concurrency never
fewer: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""
_MAPPINGS: Final = 2
ALARMS: Final = 14
"""In the template, with one stage."""
_METRICS: Final = 3
"""That the downloader tells at every invocation."""
GB: Final = 1e9
_GIB_MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a bill.

    Attributes:
        service: whose it is.
        what: what for.
        quantity: how much is billed.
        unit: of what.
        usd: dollars.
    """

    service: str
    what: str
    quantity: float
    unit: str
    usd: float


def total(rows: Sequence[Row]) -> float:
    """Dollars of all rows."""
    return sum(row.usd for row in rows)


@dataclass(frozen=True, slots=True)
class Till:
    """Makes rows of bills."""

    prices: Prices

    def row(self, service: str, what: str, price: str, quantity: float) -> Row:
        """A row of a bill, by the name of the price."""
        return Row(
            service, what, quantity, price.partition("_")[2].replace("_", " "), quantity * self.prices.of[price].usd
        )

    def lambdas(self, what: str, invocations: float, seconds: float, memory: int, storage: float = 0.5) -> list[Row]:
        """Rows for invocations that take so many seconds together, with `memory` MB each and `storage` GB of disk."""
        rows = [
            self.row("Lambda", what, "lambda_requests", invocations),
            self.row("Lambda", what, "lambda_gb_seconds", seconds * memory / _GIB_MB),
        ]
        if storage > _FREE_STORAGE_GB:
            more = seconds * (storage - _FREE_STORAGE_GB)
            rows.append(self.row("Lambda", f"{what}, disk", "lambda_storage_gb_seconds", more))
        return rows


def file_costs(work: Work, duration: Duration, prices: Prices) -> list[Row]:
    """What running a file costs, without what it costs to keep it."""
    till = Till(prices)
    collections = duration.collections
    rows = [till.row("SQS", what, "sqs_requests", asked.units) for what, asked in sqs(work, duration).items()]
    uploads, processors = 1 + work.ranges, float(work.invocations)
    if work.splits:
        processors += work.came.count / work.together
    processors += work.run.count * work.again.runs
    uploading = max(1, work.ranges) * duration.upload + bool(work.ranges) * COLD_SECONDS
    collecting = 2 * work.output_bytes / BYTES_PER_SECOND + collections * QUIET_SECONDS
    collecting += duration.writers * duration.assembly
    rows += till.lambdas("uploader", uploads, uploading, _FUNCTION_MB)
    rows += till.lambdas("processor", processors, duration.busy, work.setup.memory, _STORAGE_GB)
    rows += till.lambdas("downloader", collections, collecting, _FUNCTION_MB)
    puts, gets = s3(work, duration)
    rows += [till.row("S3", "requests", "s3_puts", puts), till.row("S3", "requests", "s3_gets", gets)]
    invocations = uploads + processors + collections
    traced = min(invocations, duration.processed + _TRACED * invocations)
    return [
        *rows,
        till.row("CloudWatch", "logs", "log_gb", invocations * _LOG_BYTES / GB),
        till.row("X-Ray", "traces", "xray_traces", traced),
    ]


def keeping_costs(work: Work, prices: Prices) -> list[Row]:
    """What it costs to keep a file and its result for a month."""
    till = Till(prices)
    return [
        till.row("S3", "the file", "s3_gb_months", work.known.size / GB),
        till.row("S3", "the result", "s3_gb_months", work.output_bytes / GB),
    ]


def idle_costs(prices: Prices) -> list[Row]:
    """What a stack of one stage costs in a month in which nothing is processed."""
    till = Till(prices)
    collections = _MONTH_SECONDS / COLLECT_SECONDS
    polls = _MAPPINGS * _POLLERS * _MONTH_SECONDS / MAX_LONG_POLL_SECONDS
    looks = collections * (LOOKED_UP["downloader"] + RECEIVERS)
    return [
        till.row("SQS", "Lambda looking for messages", "sqs_requests", polls),
        till.row("SQS", "downloader looking for messages", "sqs_requests", looks),
        *till.lambdas("downloader, on its schedule", collections, collections * QUIET_SECONDS, _FUNCTION_MB),
        till.row("S3", "downloader looking for segments", "s3_puts", collections),
        till.row("CloudWatch", "logs", "log_gb", collections * _LOG_BYTES / GB),
        till.row("CloudWatch", "alarms", "alarm_months", ALARMS),
        till.row("CloudWatch", "metrics", "metric_months", _METRICS),
        till.row("CloudWatch", "dashboard", "dashboard_months", 1),
        till.row("X-Ray", "traces", "xray_traces", collections),
    ]
