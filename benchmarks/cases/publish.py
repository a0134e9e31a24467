"""Publishing a file, beside bare boto3 that sends ready-made requests, and beside one line a message."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parcelq.batching import batches
from parcelq.limits import MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES
from parcelq.publish import REQUESTS_IN_FLIGHT
from parcelq.transfer import upload_file

from benchmarks.clients import sqs_of
from benchmarks.data import lines, write_lines
from benchmarks.harness import MB, Bench, Figure, at_least, at_most, side_by_side
from benchmarks.stub import stub_server

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_TOPIC = "/000000000000/topic"
_FULL = 2_000
"""Lines of a parcel with which ten messages make a full request."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    path = write_lines(bench.folder / "lines", bench.size(4_000_000, 100_000))
    with stub_server() as url:
        sqs, topic = sqs_of(url), url + _TOPIC
        bare = partial(send_ready_made, sqs, topic, path.stat().st_size)
        for parcel_size in (_FULL, 1000):
            yield from _beside_bare(bench, partial(_upload, sqs, topic, path, parcel_size), bare, parcel_size)
        naive = partial(_one_line_a_message, sqs, topic, lines(bench.size(10_000, 1_000)))
        pairs = side_by_side(partial(_upload, sqs, topic, path, 1000), naive, bench.runs)
        one, other = (speed / MB for speed in pairs.medians(lambda sample: sample.speed))
        yield Figure(
            "publish a file, 1,000 lines a parcel: speed",
            "boto3, one line a message in batches of 10",
            pairs.ratio(lambda sample: sample.speed),
            f"{one:.0f} beside {other:.2f} MB/s",
            at_least(250),
        )


def _beside_bare(bench: Bench, ours: Any, bare: Any, parcel_size: int) -> Iterator[Figure]:
    pairs = side_by_side(ours, bare, bench.runs)
    beside = f"bare boto3, ready-made 1 MiB requests, {REQUESTS_IN_FLIGHT} threads"
    one, other = (speed / MB for speed in pairs.medians(lambda sample: sample.speed))
    yield Figure(
        f"publish a file, {parcel_size:,} lines a parcel: speed",
        beside,
        pairs.ratio(lambda sample: sample.speed),
        f"{one:.0f} beside {other:.0f} MB/s",
        at_least(0.9),
    )
    one, other = pairs.medians(lambda sample: sample.cpu / sample.amount * 1e9)
    yield Figure(
        f"publish a file, {parcel_size:,} lines a parcel: CPU",
        beside,
        pairs.ratio(lambda sample: sample.cpu / sample.amount),
        f"{one:.1f} beside {other:.1f} s a GB",
        at_most(1.15),
    )


def _upload(sqs: SQSClient, topic: str, path: Path, parcel_size: int) -> float:
    upload_file(sqs, topic, path, parcel_size)
    return path.stat().st_size


def send_ready_made(sqs: SQSClient, topic: str, size: int) -> float:
    """Send at least so many bytes in full requests of ten messages that are there already, and return how many."""
    body = lines(MAX_REQUEST_BYTES // MAX_REQUEST_MESSAGES // 30)[: MAX_REQUEST_BYTES // MAX_REQUEST_MESSAGES].decode()
    entries: Any = [{"Id": str(number), "MessageBody": body} for number in range(MAX_REQUEST_MESSAGES)]
    requests = -(-size // (len(body) * MAX_REQUEST_MESSAGES))
    with ThreadPoolExecutor(REQUESTS_IN_FLIGHT) as pool:
        sent = [pool.submit(sqs.send_message_batch, QueueUrl=topic, Entries=entries) for _ in range(requests)]
        for one in sent:
            one.result()
    return requests * len(body) * MAX_REQUEST_MESSAGES


def _one_line_a_message(sqs: SQSClient, topic: str, data: bytes) -> float:
    """What most code does."""
    for batch in batches(data.decode().splitlines(), MAX_REQUEST_MESSAGES):
        entries: Any = [{"Id": str(number), "MessageBody": line} for number, line in enumerate(batch)]
        sqs.send_message_batch(QueueUrl=topic, Entries=entries)
    return len(data)
