"""That the arithmetic of `parcelq estimate` counts the requests that the functions really make, on moto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient
from parcelq.prices import load_prices
from parcelq.steps.find import local_step
from parcelq.steps.run import Runner
from parcelq_cli.estimate.bill import IDLE_LISTINGS, IDLE_REQUESTS, s3, sqs, units
from parcelq_cli.estimate.measure import Measured, measure
from parcelq_cli.estimate.model import Estimate
from parcelq_cli.estimate.sample import read_sample
from parcelq_cli.estimate.stack import Setup, StackFacts

if TYPE_CHECKING:
    from function_world import Stack

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

LINES, LINE_BYTES = 4000, 400
PARCEL, RANGE_BYTES = 500, 1000 * LINE_BYTES
PUTS = {"PutObject", "ListObjectsV2", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}
GETS = {"GetObject", "HeadObject"}


class Asked:
    """What AWS was asked, by operation: how often, and the units of 64 KiB that SQS bills."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.units: Counter[str] = Counter()

    def note(self, operation: str, params: dict[str, Any], answer: dict[str, Any]) -> None:
        self.requests[operation] += 1
        entries = params.get("Entries", []) if operation == "SendMessageBatch" else answer.get("Messages", [])
        self.units[operation] += units(sum(map(size_of, entries)))

    def billed(self, *operations: str) -> int:
        """Units that SQS bills for these operations."""
        return sum(self.units[one] for one in operations)

    def count(self, operations: set[str]) -> int:
        return sum(self.requests[one] for one in operations)


def size_of(message: dict[str, Any]) -> int:
    """Bytes of a message as SQS counts them."""
    body = message.get("MessageBody") or message["Body"]
    attributes = message.get("MessageAttributes", {}).items()
    return len(body) + sum(len(name) + len(one["DataType"]) + len(one["StringValue"]) for name, one in attributes)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Counts what all clients ask while the context lasts."""
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    @contextmanager
    def count() -> Iterator[Asked]:
        asked = Asked()

        def call(client: Any, operation: str, params: dict[str, Any]) -> Any:
            answer = real(client, operation, params)
            asked.note(operation, params, answer)
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(BaseClient, "_make_api_call", call)
            yield asked

    return count


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Lines of one length, so that every message of a kind is as large as another."""
    path = tmp_path / "lines.txt"
    path.write_bytes(b"".join(b"%0*d\n" % (LINE_BYTES - 1, number) for number in range(LINES)))
    return path


@pytest.fixture
def known(file: Path, upper: None, tmp_path: Path) -> Measured:
    return measure(file.name, read_sample(file, 200), Runner(local_step(str(tmp_path / "step" / "step"))))


@pytest.fixture
def stack(stack: Stack, settings: Callable[..., None]) -> Stack:
    settings(PARCEL_SIZE=PARCEL, BATCH_SIZE=PARCEL, RANGE_BYTES=RANGE_BYTES)
    return stack


def upload(stack: Stack, data: bytes) -> None:
    stack.call("uploader", stack.put(data))
    while (delivered := stack.deliver("parcelq-ranges"))["Records"]:
        for record in delivered["Records"]:  # an invocation gets one range
            answer = stack.call("uploader", {"Records": [record]})
            stack.acknowledge("parcelq-ranges", {"Records": [record]}, answer)


def job(known: Measured, batch_size: int = PARCEL) -> Estimate:
    stack = replace(StackFacts(), range_bytes=RANGE_BYTES)
    return Estimate(known, Setup(PARCEL, batch_size), load_prices(), stack)


def together(invocations: list[Asked], *operations: str) -> int:
    return sum(one.billed(*operations) for one in invocations)


def run_all(stack: Stack, counting: Callable[[], Any]) -> list[Asked]:
    """Let the processor do everything. Returns what each invocation asked for, Lambda's own requests among it."""
    invocations = []
    while True:
        with counting() as asked:
            delivered = stack.deliver("parcelq-step")
            if delivered["Records"]:
                answer = stack.call("processor", delivered)
        if not delivered["Records"]:
            return invocations
        asked.note("DeleteMessageBatch", {}, {})
        invocations.append(asked)
        stack.acknowledge("parcelq-step", delivered, answer)


def test_the_uploader_makes_the_requests_that_are_predicted(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any]
) -> None:
    of_file = job(known)
    event = stack.put(file.read_bytes())
    with counting() as asked:
        stack.call("uploader", event)
    assert of_file.ranges == 4
    tasks, look = 1, 1
    assert sqs(of_file)["range topic"] - 2 * of_file.ranges == tasks
    assert asked.billed("SendMessageBatch") == tasks + look
    with counting() as asked:
        delivered = stack.deliver("parcelq-ranges")["Records"]
        for record in delivered:
            stack.call("uploader", {"Records": [record]})
    assert len(delivered) == of_file.ranges
    # A range publishes by itself, so its last request is less full than one of the whole file.
    assert asked.billed("SendMessageBatch") == pytest.approx(sqs(of_file)["input topic, publish"], abs=of_file.ranges)
    assert asked.requests["PutObject"] == of_file.ranges
    # Every few seconds an instance also reads whether the job was halted.
    assert of_file.ranges < asked.requests["GetObject"] <= 2 * of_file.ranges


def test_the_processor_makes_the_requests_that_are_predicted(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any]
) -> None:
    upload(stack, file.read_bytes())
    of_file = job(known)
    invocations = run_all(stack, counting)
    assert len(invocations) == of_file.invocations
    assert together(invocations, "SendMessageBatch") == pytest.approx(sqs(of_file)["output topic, publish"], rel=0.1)
    received = together(invocations, "ReceiveMessage", "DeleteMessageBatch")
    assert received == pytest.approx(sqs(of_file)["input topic, receive and delete"], rel=0.1)


def test_re_parcelling_makes_the_requests_that_are_predicted(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any], settings: Callable[..., None]
) -> None:
    upload(stack, file.read_bytes())
    settings(BATCH_SIZE=100)
    of_file = job(known, batch_size=100)
    split, *runs = run_all(stack, counting)  # the parcels all fit into the first invocation
    assert len(runs) == of_file.invocations == 4
    cut = split.billed("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch")
    assert cut == pytest.approx(sqs(of_file)["input topic, re-parcel"], rel=0.1)
    assert together(runs, "SendMessageBatch") == pytest.approx(sqs(of_file)["output topic, publish"], rel=0.1)


def test_the_downloader_makes_no_more_requests_than_are_predicted(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any]
) -> None:
    upload(stack, file.read_bytes())
    stack.run("processor", "parcelq-step")
    of_file = job(known)
    with counting() as asked:
        answer = stack.call("downloader", {"receive_message_timeout": 0})
    assert answer["finished_count"] == 1
    predicted = sqs(of_file)
    most = predicted["output topic, receive and delete"] + predicted["looks"]
    assert (
        predicted["output topic, receive and delete"] / 2 < asked.billed("ReceiveMessage", "DeleteMessageBatch") <= most
    )
    puts, gets = s3(of_file)
    assert 0 < asked.count(PUTS) + of_file.ranges <= puts  # the uploader put a note and read the object for each range
    assert 0 < asked.count(GETS) + of_file.ranges <= gets


def test_a_downloader_that_finds_nothing_makes_the_requests_of_an_idle_stack(
    stack: Stack, counting: Callable[[], Any]
) -> None:
    with counting() as asked:
        stack.call("downloader", {"receive_message_timeout": 0})
    looks = asked.requests["ReceiveMessage"] + asked.requests["GetQueueUrl"] + asked.requests["GetQueueAttributes"]
    assert looks == IDLE_REQUESTS
    assert (asked.count(PUTS), asked.count(GETS)) == (IDLE_LISTINGS, 0)
