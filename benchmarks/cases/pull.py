"""Measures pulling and downloading from the local server, compared with bare boto3 that receives and deletes."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parcelq.collect.download import download
from parcelq.limits import MAX_REQUEST_MESSAGES
from parcelq.lineage.lineage import Lineage
from parcelq.topics.attributes import LINEAGE
from parcelq.topics.message import Pulled
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.files import upload_files
from parcelq_emulator.server import Server

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
        taken = _Taken(path, bench.folder / "downloaded")
        for name, ours in (
            ("pull and acknowledge", partial(_pull, sqs, topic, taken)),
            ("download into a file", partial(_download, sqs, topic, taken)),
        ):
            fill = partial(upload_files, SqsTopic(sqs, topic), [path])
            pairs = side_by_side(ours, partial(_bare, sqs, topic, taken), bench.long_runs, fill, taken.check)
            yield Figure(
                f"{name}, messages of 50 KB: speed",
                f"bare boto3 receive and delete, {_THREADS} threads",
                pairs.ratio(lambda sample: sample.speed),
                f"{speeds(pairs, 1)} messages a second",
                at_least(0.9),
            )


class _Taken:
    """The messages that a run pulled from the topic, or the file that it downloaded.

    Args:
        uploaded: the file that was uploaded, with the expected content.
        downloaded: the path of the downloaded file.
    """

    def __init__(self, uploaded: Path, downloaded: Path) -> None:
        self.uploaded = uploaded
        self.downloaded = downloaded
        self.messages: list[Pulled] = []
        self.raw: list[Any] = []

    def check(self) -> None:
        """Check that every uploaded byte was received exactly once, and prepare the next run."""
        if self.downloaded.exists():
            same = filecmp.cmp(self.downloaded, self.uploaded, shallow=False)
            self.downloaded.unlink()
        else:
            same = self._joined() == self.uploaded.read_bytes()
        if not same:
            raise AssertionError("the messages taken from the topic are not those that were uploaded")

    def _joined(self) -> bytes:
        """Return the bodies of all messages, joined in the order of the source."""
        messages = [*self.messages, *map(Pulled.from_sqs, self.raw)]
        self.messages, self.raw = [], []
        messages.sort(key=lambda one: Lineage.parse(one.attributes[LINEAGE]).order)
        return b"".join(one.wire.body() for one in messages)


def _pull(sqs: SQSClient, topic: str, taken: _Taken) -> float:
    queue = SqsTopic(sqs, topic)
    while pulled := queue.pull(1, _PULLED, 0):
        queue.acknowledge(pulled)
        taken.messages.extend(pulled)
    return len(taken.messages)


def _download(sqs: SQSClient, topic: str, taken: _Taken) -> float:
    return download(SqsTopic(sqs, topic), taken.downloaded, receive_message_timeout=0).messages


def _bare(sqs: SQSClient, topic: str, taken: _Taken) -> float:
    def take(_: int) -> None:
        while messages := sqs.receive_message(
            QueueUrl=topic, MaxNumberOfMessages=MAX_REQUEST_MESSAGES, MessageAttributeNames=["All"]
        ).get("Messages"):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(messages)
            ]
            sqs.delete_message_batch(QueueUrl=topic, Entries=entries)
            taken.raw.extend(messages)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(take, range(_THREADS)))
    return len(taken.raw)
