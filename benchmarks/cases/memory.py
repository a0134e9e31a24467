"""Measures the downloader's memory while it drains a topic and writes the result, compared with a small Lambda's
memory.

Each run has its own process (`python -m benchmarks.cases.memory FOLDER ORDER BYTES COUNT`), because Python does not
return memory to the system. The figure is the memory of the whole process, including the interpreter and boto3. Replies
of AWS are simulated behind boto3 in the same process; segments are in a folder.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.awsrequest import AWSResponse
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.limits import KIB, MIB
from parcelq.store.bucket import BucketStore
from parcelq.store.folder import FolderStore
from parcelq.topics.sqs import SqsTopic

from benchmarks.data import lines
from benchmarks.harness import MB, Bench, Figure, Spread, at_most
from benchmarks.processes import begin_peak, peak_bytes
from benchmarks.tools import own_module, run

_MOST: Final = 512 * MB
_TOPIC: Final = "topic"
_SOURCE: Final = "s3://bucket/inbox/lines.txt?etag=0&put=0"
_LARGEST: Final = MIB - KIB
"""The largest body that leaves enough bytes of a message for its attributes."""
_CASES: Final = (("at random", 50_000, 40_000, 2_000), ("in order", _LARGEST, 600, 60))
"""The cases: the order of arrival, the bytes of a message, and the numbers of messages without and with --quick."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    for order, size, full, quick in _CASES:
        count = bench.size(full, quick)
        peaks = []
        for number in range(bench.long_runs):
            folder = bench.folder / f"{size}-{number}"
            command = own_module("benchmarks.cases.memory", str(folder), order, str(size), str(count))
            peaks.append(json.loads(run(command)))
            shutil.rmtree(folder)
        for what in ("draining", "finishing"):
            memory = Spread.of(peak[what] / _MOST for peak in peaks)
            yield Figure(
                f"{what} {size * count / 1e9:.1f} GB from messages of {size / 1000:,.0f} KB, {order}: memory",
                f"{_MOST // MB:,} MB",
                memory,
                f"{memory.median * _MOST / MB:,.0f} MB",
                at_most(1),
            )


def collect(folder: Path, order: str, size: int, count: int) -> dict[str, int]:
    """Drain messages and write their result. Return the peak memory of the process in each of the two phases."""
    aws = _Aws(order, size, count)
    store = FolderStore(folder)
    peaks = {}
    begin_peak()
    drained = Drainer(SqsTopic(aws.client("sqs"), f"http://sqs/1/{_TOPIC}"), store).drain(0)
    peaks["draining"] = peak_bytes("self")
    begin_peak()
    (state,) = Finisher(store, _TOPIC, results=BucketStore(aws.client("s3"), "bucket"), bucket="bucket").finish_all()
    peaks["finishing"] = peak_bytes("self")
    if (drained.messages, bool(state.result), aws.written) != (count, True, size * count):
        raise AssertionError(f"{count:,} messages were published, but not all are in the result")
    return peaks


class _Raw(io.BytesIO):
    """A response as urllib3 returns it."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        while block := self.read(64 * KIB):
            yield block


class _Aws:
    """Simulates the replies of SQS with a number of messages, and of S3, which only counts the bytes written."""

    def __init__(self, order: str, size: int, count: int) -> None:
        self.written = 0
        self._size, self._total = size, size * count
        text = lines(1 + size // 10)[: size - 1].decode()
        self._body = text + "\n"
        self._numbers = list(range(count))
        if order == "at random":
            random.Random(count).shuffle(self._numbers)
        self._numbers.reverse()
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        session: Any = boto3.Session("-", "-", region_name="us-east-1")
        client = session.client(service)
        client.meta.events.register(f"before-send.{service}.*", self._answer)
        return client

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        answer = getattr(self, f"_{operation}", None)
        status, body, headers = answer(request) if answer else (200, b"{}", {})
        told: Any = {"Content-Length": str(len(body)), **headers}
        return AWSResponse(request.url, status, told, _Raw(body))

    def _GetQueueAttributes(self, _: Any) -> tuple[int, bytes, dict[str, str]]:  # noqa: N802
        return 200, b'{"Attributes": {"VisibilityTimeout": "300"}}', {}

    def _ReceiveMessage(self, request: Any) -> tuple[int, bytes, dict[str, str]]:  # noqa: N802
        most = json.loads(request.body)["MaxNumberOfMessages"]
        with self._lock:
            numbers = [self._numbers.pop() for _ in range(min(most, len(self._numbers)))]
        return 200, json.dumps({"Messages": list(map(self._message, numbers))}).encode(), {}

    def _message(self, number: int) -> dict[str, Any]:
        start, size = number * self._size, self._size
        span = f"{start}-{start + size}/{self._total}>0-{size}/{size}:{number:016x}"
        told = {"Source": _SOURCE, "Lineage": span, "Entries": "1000"}
        return {
            "MessageId": str(number),
            "ReceiptHandle": str(number),
            "Body": self._body,
            "MessageAttributes": {name: {"DataType": "String", "StringValue": text} for name, text in told.items()},
        }

    def _HeadObject(self, _: Any) -> tuple[int, bytes, dict[str, str]]:  # noqa: N802
        return 404, b"", {}

    def _CreateMultipartUpload(self, _: Any) -> tuple[int, bytes, dict[str, str]]:  # noqa: N802
        root = "InitiateMultipartUploadResult"
        return 200, f"<{root}><UploadId>1</UploadId></{root}>".encode(), {}

    def _UploadPart(self, request: Any) -> tuple[int, bytes, dict[str, str]]:  # noqa: N802
        size = sum(map(len, iter(partial(request.body.read, 64 * KIB), b"")))
        with self._lock:
            self.written += int(request.headers.get("X-Amz-Decoded-Content-Length", size))
        return 200, b"", {"ETag": '"0"'}

    def _CompleteMultipartUpload(self, _: Any) -> tuple[int, bytes, dict[str, str]]:  # noqa: N802
        return 200, b"<CompleteMultipartUploadResult/>", {}


if __name__ == "__main__":
    print(json.dumps(collect(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
