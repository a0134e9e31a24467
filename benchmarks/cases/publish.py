"""Measures publishing a file, compared with bare boto3 that sends prepared requests, or one message per line."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from parcelq.aws.batching import batches
from parcelq.limits import MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES
from parcelq.topics.publish import REQUESTS_IN_FLIGHT
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.files import upload_files

from benchmarks.clients import bare_sqs, our_sqs
from benchmarks.data import LINE_BYTES, lines, write_lines
from benchmarks.harness import MB, Bench, Figure, Pairs, Target, at_least, at_most, side_by_side, speeds
from benchmarks.stub import stub_server

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_TOPIC: Final = "/000000000000/topic"
_FULL: Final = 2_000
"""With this many lines in a parcel, ten messages fill a request."""
_USUAL: Final = 1_000
"""How many lines a parcel has by default."""


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    path = write_lines(bench.folder / "lines", bench.size(2_000_000, 100_000))
    size = path.stat().st_size
    with stub_server() as url:
        topic = url + _TOPIC
        sqs, bare = our_sqs(url), bare_sqs(url)

        def upload(parcel_size: int) -> float:
            upload_files(SqsTopic(sqs, topic), [path], parcel_size)
            return size

        full = MAX_REQUEST_BYTES // MAX_REQUEST_MESSAGES
        pairs = side_by_side(
            partial(upload, _FULL), partial(_ready_made, bare, topic, full, size), bench.size(21, bench.runs)
        )
        yield from _figures(pairs, _FULL, "ready-made requests of 1 MiB", at_least(0.9), at_most(1.15))
        same = _USUAL * LINE_BYTES
        pairs = side_by_side(partial(upload, _USUAL), partial(_ready_made, bare, topic, same, size), bench.runs)
        yield from _figures(pairs, _USUAL, "ready-made requests of as many bytes")
        naive = partial(_one_line_a_message, bare, topic, lines(bench.size(10_000, 1_000)))
        pairs = side_by_side(partial(upload, _FULL), naive, bench.runs)
        yield Figure(
            f"publish a file, {_FULL:,} lines a parcel: speed",
            "boto3, one line a message, batches of 10",
            pairs.ratio(lambda sample: sample.speed),
            f"{speeds(pairs, MB)} MB/s",
            at_least(250),
        )


def _figures(
    pairs: Pairs,
    parcel_size: int,
    what: str,
    speed: Target | None = None,
    cpu: Target | None = None,
) -> Iterator[Figure]:
    ours, beside = f"publish a file, {parcel_size:,} lines a parcel", f"bare boto3, {what}, as many threads"
    fast = pairs.ratio(lambda sample: sample.speed)
    yield Figure(f"{ours}: speed", beside, fast, f"{speeds(pairs, MB)} MB/s", speed)
    one, other = pairs.medians(lambda sample: sample.cpu / sample.amount * 1e9)
    ratio = pairs.ratio(lambda sample: sample.cpu / sample.amount)
    yield Figure(f"{ours}: CPU", beside, ratio, f"{one:.1f} beside {other:.1f} s a GB", cpu)


def _ready_made(sqs: SQSClient, topic: str, body_bytes: int, size: int) -> float:
    """Send at least `size` bytes in requests of ten prepared messages, and return the number of messages."""
    body = lines(body_bytes)[:body_bytes].decode()
    entries: Any = [{"Id": str(number), "MessageBody": body} for number in range(MAX_REQUEST_MESSAGES)]
    requests = -(-size // (body_bytes * MAX_REQUEST_MESSAGES))
    with ThreadPoolExecutor(REQUESTS_IN_FLIGHT) as pool:
        sent = [pool.submit(sqs.send_message_batch, QueueUrl=topic, Entries=entries) for _ in range(requests)]
        for one in sent:
            one.result()
    return requests * body_bytes * MAX_REQUEST_MESSAGES


def _one_line_a_message(sqs: SQSClient, topic: str, data: bytes) -> float:
    """Publish as most programs do, with one message per line."""
    for batch in batches(data.decode().splitlines(), MAX_REQUEST_MESSAGES):
        entries: Any = [{"Id": str(number), "MessageBody": line} for number, line in enumerate(batch)]
        sqs.send_message_batch(QueueUrl=topic, Entries=entries)
    return len(data)
