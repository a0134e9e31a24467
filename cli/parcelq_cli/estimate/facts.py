"""The numbers behind estimates: facts about AWS, each with its source, and measured times of our code."""

from __future__ import annotations

from typing import Final

# ---- AWS.

VCPU_MB: Final = 1769
"""Memory that comes with one vCPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
BYTES_PER_SECOND: Final = 78_000_000
"""The network bandwidth of a function, about 625 Mbit/s. An assumption."""
COLD_SECONDS: Final = 1.0
"""Seconds until a new instance has started, at one vCPU. It takes from under 100 ms to over a second:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""
POLLERS: Final = 5
MORE_PER_SECOND: Final = 5.0
"""An event source mapping begins with 5 invocations at a time and adds up to 300 a minute, and polls with 5 pollers:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""
SQS_SECONDS: Final = 0.02
"""Seconds of a request to SQS. Half of all messages reach a function 16 ms after they are sent, and 99 % after 105 ms:
https://bitesizedserverless.com/bite/serverless-messaging-latency-compared/
"""
S3_SECONDS: Final = 0.1
"""Seconds until the first byte of a request to S3; for small objects 100 to 200 ms:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
"""
S3_GETS: Final = 5_500
"""GET requests per second that one prefix of a bucket supports at least, from the same page."""
LISTED: Final = 1_000
"""Keys of one listing: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
EVENT_SECONDS: Final = 1.0
"""Seconds from a put until S3 invokes the uploader. S3 says "typically in seconds":
https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html
"""

# ---- Our code, in CPU seconds of one processor: an Intel Xeon with Python 3.11, in November 2026, measured by the
# functions of benchmarks/cases/collector.py and memory.py, one message a run, in random order.

DRAINED_MESSAGE: Final = 0.4e-3
DRAINED_BYTE: Final = 8e-9
"""Seconds to drain a message, and seconds for each byte of it."""
MERGED: Final = 1_400_000
"""Rows per second that are merged into an index run."""
RESOLVED: Final = 560_000
"""Rows per second when a look finds the holes."""
LOCATED: Final = 250_000
"""Rows per second when the result is planned."""
DRAWN: Final = 480_000
"""Rows per second when the report's page is written."""
ASSEMBLED: Final = 240_000_000
"""Bytes per second that are read from segments and written as a result."""
UPLOADED_BYTE: Final = 11e-9
"""Seconds to upload a byte: "publish a file, 1,000 lines a parcel: CPU" in benchmarks/README.md."""
LOOK_SECONDS: Final = 0.6
"""Seconds of a look at a small job: it drains, lists, reads and writes the record, and mostly waits for S3 and SQS."""

TASKS_TOGETHER: Final = 10
"""Tasks for parts of a large result that an invocation gets at most; the event source's batch size, which also limits
looks.
"""
EXTENT: Final = 24
"""Bytes that the plan of a large result has for each message."""
LOG_BYTES: Final = 1_500
"""Bytes that an invocation writes to its log."""
