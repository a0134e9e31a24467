"""Counts the requests and the billed units of 64 KiB that publishing 1 GB takes, compared with the least possible."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from parcelq.limits import BILLING_UNIT_BYTES, MAX_REQUEST_BYTES
from parcelq.lineage.source import Source
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.sources import upload_stream

from benchmarks.data import lines
from benchmarks.harness import MB, Bench, Figure, Spread, at_most

_AS_MANY_AS_FIT = 1_000_000


class _Counter:
    """Counts the requests that an SQS client would send. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.units = 0

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:  # noqa: ARG002, N803
        """Count a request, and reply as boto3's method of this name does."""
        size = sum(map(_size, Entries))
        with self._lock:
            self.requests += 1
            self.units += -(-size // BILLING_UNIT_BYTES)
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}


class _Repeated:
    """A stream of `size` bytes that repeats the same lines."""

    def __init__(self, block: bytes, size: int) -> None:
        self._block = block
        self._left = size

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and at most one block."""
        part = self._block[: min(size, self._left)]
        self._left -= len(part)
        return part


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case once: it counts requests, so its result is the same every time."""
    size = bench.size(1000 * MB, 50 * MB)
    block = lines(20_000)
    for parcel_size, told in (
        (_AS_MANY_AS_FIT, "parcels as large as fit"),
        (2_000, "2,000 lines a parcel"),
        (1_000, "1,000 lines a parcel"),
    ):
        counter = _Counter()
        source = Source.of_object("bucket", "inbox/lines.txt", etag="0" * 32, put="0" * 16)
        topic = SqsTopic(cast(Any, counter), "https://sqs/1/topic")
        upload_stream(topic, _Repeated(block, size), source, parcel_size, total=size)
        least = -(-size // MAX_REQUEST_BYTES), -(-size // BILLING_UNIT_BYTES)
        target = at_most(1.02) if parcel_size == _AS_MANY_AS_FIT else None
        for name, count, possible in zip(
            ("requests", "billing units"), (counter.requests, counter.units), least, strict=True
        ):
            ratio = count / possible
            yield Figure(
                f"publish {size / 1e9:g} GB of 50-byte lines, {told}: {name}",
                "the least possible",
                Spread(ratio, ratio, ratio),
                f"{count:,} beside {possible:,}",
                target,
            )


def _size(entry: Mapping[str, Any]) -> int:
    """Return how many bytes of a message SQS counts; all characters here are ASCII."""
    attributes = entry["MessageAttributes"].items()
    return len(entry["MessageBody"]) + sum(len(n) + len(v["DataType"]) + len(v["StringValue"]) for n, v in attributes)
