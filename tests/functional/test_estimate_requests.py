"""That the arithmetic of `parcelq estimate` counts the requests that the functions really make, on moto."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient
from parcelq.collect.drain import PULLED_TOGETHER, RECEIVERS
from parcelq.steps.find import local_step
from parcelq.steps.run import Runner
from parcelq.topics.pull import pull
from parcelq_cli.estimate.duration import Duration
from parcelq_cli.estimate.known import Measured
from parcelq_cli.estimate.measure import measure
from parcelq_cli.estimate.sample import read_sample
from parcelq_cli.estimate.traffic import (
    IN_VAIN_AFTER_FEW,
    IN_VAIN_AFTER_MANY,
    LOOKED_UP,
    Requests,
    drained,
    failures,
    s3,
    sqs,
    units,
)
from parcelq_cli.estimate.work import Setup, work

if TYPE_CHECKING:
    from test_functions import Stack

pytest_plugins = ["test_functions"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

LINES, LINE_BYTES = 4000, 400
PARCEL, RANGE_BYTES = 500, 1000 * LINE_BYTES
PUTS = {"PutObject", "ListObjectsV2", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}
GETS = {"GetObject", "HeadObject"}
NO_TIME = Duration(run=0, invocation=0, upload=0, processed=0, assembly=0, busy=0)


class Asked:
    """What AWS was asked, by operation: how often, and the units of 64 KiB that SQS bills."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.units: Counter[str] = Counter()

    def note(self, operation: str, params: dict[str, Any], answer: dict[str, Any]) -> None:
        self.requests[operation] += 1
        entries = params.get("Entries", []) if operation == "SendMessageBatch" else answer.get("Messages", [])
        self.units[operation] += units(sum(map(size_of, entries)))

    def of(self, *operations: str) -> Requests:
        return Requests(sum(self.requests[one] for one in operations), sum(self.units[one] for one in operations))

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


def test_the_uploader_asks_what_was_reckoned(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any]
) -> None:
    of_file = work(known, Setup(PARCEL, PARCEL, range_bytes=RANGE_BYTES))
    reckoned = sqs(of_file, NO_TIME)
    ranges = of_file.ranges
    event = stack.put(file.read_bytes())
    with counting() as asked:
        stack.call("uploader", event)
    assert ranges == 4
    assert asked.of("SendMessageBatch") == Requests(1, 1)  # all the tasks
    assert asked.requests["GetQueueUrl"] == LOOKED_UP["uploader"]
    assert reckoned["range topic"].requests == 1 + 2 * ranges  # and each received and deleted
    with counting() as asked:
        delivered = stack.deliver("parcelq-ranges")["Records"]
        for record in delivered:
            stack.call("uploader", {"Records": [record]})
    assert len(delivered) == ranges
    assert asked.of("SendMessageBatch") == reckoned["input topic, publish"]
    assert asked.requests["GetQueueUrl"] == LOOKED_UP["uploader"] * ranges
    assert (asked.requests["PutObject"], asked.requests["GetObject"]) == (ranges, ranges)


def run_all(stack: Stack, counting: Callable[[], Any]) -> list[Asked]:
    """Let the processor do all, and tell what was asked for each invocation: by it, and in Lambda's place for it."""
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


def together(invocations: list[Asked], *operations: str) -> Requests:
    return Requests(0, 0).plus(*(one.of(*operations) for one in invocations))


def test_the_processor_asks_what_was_reckoned(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any]
) -> None:
    upload(stack, file.read_bytes())
    of_file = work(known, Setup(PARCEL, PARCEL, range_bytes=RANGE_BYTES))
    reckoned = sqs(of_file, NO_TIME)
    invocations = run_all(stack, counting)
    assert len(invocations) == of_file.invocations
    assert together(invocations, "SendMessageBatch") == reckoned["output topic, publish"]
    assert together(invocations, "ReceiveMessage", "DeleteMessageBatch") == reckoned["input topic, receive and delete"]
    assert together(invocations, "GetQueueUrl").requests == LOOKED_UP["processor"]
    assert "input topic, re-parcel" not in reckoned


def test_re_parcelling_asks_what_was_reckoned(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any], settings: Callable[..., None]
) -> None:
    settings(BATCH_SIZE=100)
    upload(stack, file.read_bytes())
    of_file = work(known, Setup(PARCEL, 100, range_bytes=RANGE_BYTES))
    reckoned = sqs(of_file, NO_TIME)
    split, *runs = run_all(stack, counting)  # the parcels all fit into the first invocation
    assert len(runs) == of_file.invocations == 4
    assert split.of("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch") == reckoned["input topic, re-parcel"]
    assert together(runs, "SendMessageBatch") == reckoned["output topic, publish"]
    assert together(runs, "ReceiveMessage", "DeleteMessageBatch") == reckoned["input topic, receive and delete"]


def test_the_downloader_asks_no_more_than_was_reckoned(
    stack: Stack, known: Measured, file: Path, counting: Callable[[], Any], polls: list[int], clock: Any
) -> None:
    upload(stack, file.read_bytes())
    stack.run("processor", "parcelq-step")
    of_file = work(known, Setup(PARCEL, PARCEL, range_bytes=RANGE_BYTES))
    took = replace(NO_TIME, processed=1.0)
    with counting() as asked:
        answer = stack.call("downloader", {"receive_message_timeout": 0})
    assert answer["finished_count"] == 1
    assert asked.requests["GetQueueUrl"] + asked.requests["GetQueueAttributes"] == LOOKED_UP["downloader"]
    reckoned = drained(of_file, took)
    really = asked.of("ReceiveMessage", "DeleteMessageBatch")
    least = 2 * math.ceil(of_file.output_messages / 10)
    assert least <= really.requests <= reckoned.requests
    assert really.units <= reckoned.units
    puts, gets = s3(of_file, took)
    notes = max(1, of_file.ranges)  # which the uploader put, and it read the object as often
    assert notes <= asked.count(PUTS) + notes <= puts
    assert notes <= asked.count(GETS) + notes <= gets


def test_a_downloader_that_finds_nothing_asks_what_is_reckoned_for_an_idle_stack(
    stack: Stack, counting: Callable[[], Any]
) -> None:
    with counting() as asked:
        stack.call("downloader", {"receive_message_timeout": 0})
    assert asked.requests["ReceiveMessage"] == RECEIVERS
    assert asked.requests["GetQueueUrl"] + asked.requests["GetQueueAttributes"] == LOOKED_UP["downloader"]
    assert (asked.count(PUTS), asked.count(GETS)) == (1, 0)


@pytest.mark.parametrize(("few", "in_vain"), [(1, IN_VAIN_AFTER_FEW), (4, IN_VAIN_AFTER_FEW), (5, IN_VAIN_AFTER_MANY)])
def test_a_receiver_asks_so_often_in_vain(
    counting: Callable[[], Any], sqs: Any, make_topic: Callable[[str], str], few: int, in_vain: int
) -> None:
    url = make_topic("few")
    for number in range(few):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    with counting() as asked:
        assert len(pull(sqs, url, 1, PULLED_TOGETHER, 0)) == few
    assert asked.requests["ReceiveMessage"] == 1 + in_vain


def test_one_bad_line_brings_about_the_runs_and_requests_that_were_reckoned(
    stack: Stack,
    known: Measured,
    tmp_path: Path,
    counting: Callable[[], Any],
    settings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, most = 64, 6
    ran = tmp_path / "ran"
    step = tmp_path / "step" / "step"
    step.write_text(f'#!/bin/sh\necho run >> {ran}\ngrep -q bad "$2" && exit 3\ntr a-z A-Z < "$2" > "$4"\n')
    settings(PARCEL_SIZE=lines, BATCH_SIZE=lines, BACK_OFF_SECONDS=1)
    monkeypatch.setattr("parcelq.process.processor.refresh_deadline", release)
    stack.call("uploader", stack.put(b"good\n" * (lines - 1) + b"bad\n"))
    own = 0
    with counting() as asked:
        while (delivered := stack.deliver("parcelq-step"))["Records"]:
            own += 1 + len(delivered["Records"])  # the receive, and each delete
            stack.acknowledge("parcelq-step", delivered, stack.call("processor", delivered))
    one = replace(work(known, Setup(lines, lines)), again=exactly_one(lines))
    again = one.again
    assert again.runs == 2 * most + 1
    assert len(ran.read_text().splitlines()) == 1 + again.runs
    # What was reckoned has every part travel alone, and here some go together.
    single = replace(one, run=replace(one.run, parts=1, full=1, last=0, entries=lines, size=lines * 5))
    assert own <= failures(single).requests
    assert asked.requests["SendMessageBatch"] <= failures(single).requests
    assert stack.messages() > 0


def exactly_one(lines: int) -> Any:
    """What one bad entry of so many brings about: at every size, one part that fails."""
    from parcelq_cli.estimate.work import Again

    sizes = [lines >> level for level in range(int(math.log2(lines)) + 1)]
    return Again(runs=2 * (len(sizes) - 1) + 1, entries=sum(sizes), failures=len(sizes), dead=1)


def release(sqs: Any, url: str, messages: Any, timeout: int = 0) -> list[Any]:
    """Makes what failed visible at once, where it would be after the back-off."""
    for one in messages:
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=one.receipt_handle, VisibilityTimeout=0)
    return []
