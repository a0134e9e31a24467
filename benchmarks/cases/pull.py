"""Pulling and downloading from the local server, beside bare boto3 that receives and deletes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parcelq.download import download
from parcelq.limits import MAX_REQUEST_MESSAGES
from parcelq.pull import acknowledge, pull
from parcelq.transfer import upload_file
from parcelq_cli.local.server import Server

from benchmarks.clients import our_sqs
from benchmarks.data import write_lines
from benchmarks.harness import Bench, Figure, at_least, side_by_side, speeds

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_THREADS: Final = 8
_PULLED: Final = 100


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    path = write_lines(bench.folder / "lines", bench.size(3_000_000, 50_000))
    with Server() as server:
        sqs = our_sqs(server.url)
        topic = sqs.create_queue(QueueName="topic")["QueueUrl"]
        targets = (bench.folder / f"downloaded-{number}" for number in itertools.count())
        for name, ours in (
            ("pull and acknowledge", partial(_pull, sqs, topic)),
            ("download into a file", lambda: _download(sqs, topic, next(targets))),
        ):
            fill = partial(upload_file, sqs, topic, path)
            pairs = side_by_side(ours, partial(_bare, sqs, topic), bench.long_runs, fill)
            yield Figure(
                f"{name}, messages of 50 KB: speed",
                f"bare boto3 receive and delete, {_THREADS} threads",
                pairs.ratio(lambda sample: sample.speed),
                f"{speeds(pairs, 1)} messages a second",
                at_least(0.9),
            )


def _pull(sqs: SQSClient, topic: str) -> float:
    count = 0
    while pulled := pull(sqs, topic, 1, _PULLED, 0):
        acknowledge(sqs, topic, pulled)
        count += len(pulled)
    return count


def _download(sqs: SQSClient, topic: str, target: Path) -> float:
    return download(sqs, topic, target, receive_message_timeout=0).messages


def _bare(sqs: SQSClient, topic: str) -> float:
    def take(_: int) -> int:
        count = 0
        while messages := sqs.receive_message(
            QueueUrl=topic, MaxNumberOfMessages=MAX_REQUEST_MESSAGES, MessageAttributeNames=["All"]
        ).get("Messages"):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(messages)
            ]
            sqs.delete_message_batch(QueueUrl=topic, Entries=entries)
            count += len(messages)
        return count

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(take, range(_THREADS)))
