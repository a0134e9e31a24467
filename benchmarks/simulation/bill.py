"""What a simulated job costs, at the prices of `parcelq estimate`."""

from __future__ import annotations

from parcelq_cli.estimate.arithmetic import Row, function, row
from parcelq_cli.estimate.model import Job
from parcelq_cli.estimate.stack import LOG_BYTES

from benchmarks.simulation.case import Outcome


def bill(job: Job, outcome: Outcome) -> list[Row]:
    """Return the rows of a bill for the resources that were used."""
    prices, used = job.prices, outcome.used
    memory = {"uploader": job.stack.uploader_mb, "processor": job.setup.memory, "downloader": job.stack.downloader_mb}
    invocations = sum(one.invocations for one in used.values())
    rows = [
        row(prices, "SQS", "requests", "sqs_requests", outcome.sqs),
        row(prices, "SQS", "fair queues", "sqs_fair_requests", outcome.fair),
    ]
    for name, one in used.items():
        rows += function(prices, name, one.invocations, one.seconds, memory[name])
    disk = used["processor"].seconds * max(0.0, job.stack.disk_gb - 0.5)
    return [
        *rows,
        row(prices, "Lambda", "processor, disk", "lambda_storage_gb_seconds", disk),
        row(prices, "S3", "requests", "s3_puts", outcome.s3.puts),
        row(prices, "S3", "requests", "s3_gets", outcome.s3.gets),
        row(prices, "CloudWatch", "logs", "log_gb", invocations * LOG_BYTES / 1e9),
        row(prices, "X-Ray", "traces", "xray_traces", min(invocations, outcome.result + 0.05 * invocations)),
    ]
