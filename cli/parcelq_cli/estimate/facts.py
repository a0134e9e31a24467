"""The numbers that estimates use: facts about AWS with their sources, and measured times of Parcelq's code."""

from __future__ import annotations

from typing import Final

# ---- AWS.

VCPU_MB: Final = 1769
"""The memory in MB for which a function gets one vCPU:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
"""
BYTES_PER_SECOND: Final = 78_000_000
"""The network bandwidth of a function, assumed to be about 625 Mbit/s."""
COLD_SECONDS: Final = 1.0
"""How many seconds a new instance with one vCPU needs to start. AWS says from under 100 ms to over a second:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""
POLLERS: Final = 5
MORE_PER_SECOND: Final = 5.0
"""An event source mapping has 5 pollers, begins with 5 invocations at a time, and adds up to 300 a minute:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""
SQS_SECONDS: Final = 0.02
"""How many seconds a request to SQS takes. Half of all messages reach a function after 16 ms, and 99 % after 105 ms:
https://bitesizedserverless.com/bite/serverless-messaging-latency-compared/
"""
S3_SECONDS: Final = 0.1
"""After how many seconds the reply to a request to S3 begins. AWS says 100 to 200 ms for small objects:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
"""
S3_GETS: Final = 5_500
"""How many GET requests per second a prefix of a bucket supports at least, according to the same page."""
LISTED: Final = 1_000
"""How many keys one listing returns: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
EVENT_SECONDS: Final = 1.0
"""How many seconds pass from a put until S3 invokes the uploader. AWS says "typically in seconds":
https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html
"""

# ---- Parcelq's code, in CPU seconds of a processor: an Intel Xeon with Python 3.11, in November 2026, measured by the
# functions of benchmarks/cases/collector.py and memory.py, one message a run, in random order.

DRAINED_MESSAGE: Final = 0.4e-3
DRAINED_BYTE: Final = 8e-9
"""How many seconds of CPU draining a message takes, and how many seconds each of its bytes takes."""
MERGED: Final = 1_400_000
"""How many rows per second are merged into an index run."""
RESOLVED: Final = 560_000
"""How many rows per second a look (a check of a job) reads to find the holes."""
LOCATED: Final = 250_000
"""How many rows per second are read to plan the result."""
DRAWN: Final = 480_000
"""How many rows per second are read to write the report's web page."""
ASSEMBLED: Final = 240_000_000
"""How many bytes per second are read from segments and written as a result."""
UPLOADED_BYTE: Final = 11e-9
"""How many seconds of CPU the upload of a byte takes: "publish a file, 1,000 lines a parcel: CPU" in
benchmarks/README.md.
"""
LOOK_SECONDS: Final = 0.6
"""How many seconds a look at a small job takes. The look drains, lists, updates the job record, and waits for AWS."""

TASKS_TOGETHER: Final = 10
"""How many tasks for parts of a large result an invocation gets at most. This is the event source's batch size, which
also limits looks.
"""
EXTENT: Final = 24
"""How many bytes the plan of a large result contains for each message."""
LOG_BYTES: Final = 1_500
"""How many bytes an invocation writes to its log."""
INPUT_ATTRIBUTES: Final = 200
OUTPUT_ATTRIBUTES: Final = 300
"""About how many bytes the attributes of a message have that the uploader or the processor publishes."""
