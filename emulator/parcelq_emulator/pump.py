"""The event pump: what Lambda's event source mappings do, between the local server and the functions' processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from json import dumps, loads
from typing import TYPE_CHECKING, Any, Final

from parcelq.aws.batching import batches, sized_batches
from parcelq.errors import ParcelqError
from parcelq.limits import MAX_LAMBDA_EVENT_BYTES, MAX_REQUEST_MESSAGES

from parcelq_emulator.function import Instance, InvocationError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1
_ABANDON_SECONDS: Final = 0.2
_ENVELOPE_BYTES: Final = 4096
"""What a record takes in an event beside its body, at the most."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """An event source mapping: a topic whose messages go to a function.

    Attributes:
        topic_url: URL of the topic.
        topic_arn: its ARN, as records name it.
        batch_size: most messages of an event.
        window: seconds to gather them for.
        reports_failures: whether the function answers which messages failed.
    """

    topic_url: str
    topic_arn: str
    batch_size: int
    window: float
    reports_failures: bool

    def event(self, records: list[dict[str, Any]]) -> Any:
        """What the function is given for records."""
        return {"Records": records}


class EventsOfBucket(Mapped):
    """A topic that a bucket tells its events to: the function gets them as S3 itself would give them, one at a time."""

    def event(self, records: list[dict[str, Any]]) -> Any:
        """The body of the only record."""
        (record,) = records
        return loads(record["body"])


class Pump:
    """Moves messages of topics to instances of functions, one thread for each instance.

    Args:
        sqs: a boto3 SQS client.
        on_error: told when an invocation ended without an answer.
    """

    def __init__(self, sqs: SQSClient, on_error: Callable[[InvocationError], None]) -> None:
        self._sqs = sqs
        self._on_error = on_error
        self._stop = threading.Event()
        self._under_way: list[threading.Lock] = []
        self._failure: ParcelqError | None = None

    def add(self, mapped: Mapped, instance: Instance) -> None:
        """Let an instance of a function take a topic's messages."""
        under_way = threading.Lock()
        self._under_way.append(under_way)
        arguments = mapped, instance, under_way
        threading.Thread(target=self._take, args=arguments, name="parcelq-pump", daemon=True).start()

    def stop(self, abandon: Callable[[], object] | None = None) -> None:
        """Begin no more invocations, and wait for those under way; polls for messages may last a little longer.

        Args:
            abandon: ends the functions' processes, where nobody wants to wait; called until no invocation is left.
        """
        self._stop.set()
        for under_way in self._under_way:
            if abandon:
                abandon()
            while not under_way.acquire(timeout=_ABANDON_SECONDS):
                if abandon:
                    abandon()
            under_way.release()

    def check(self) -> None:
        """Raise what stopped a thread, if anything did."""
        if self._failure:
            raise self._failure

    def _take(self, mapped: Mapped, instance: Instance, under_way: threading.Lock) -> None:
        while not self._stop.is_set():
            try:
                for event in _events(self._gather(mapped)):
                    with under_way:
                        if not self._stop.is_set():
                            self._invoke(mapped, instance, event)
            except Exception as error:  # noqa: BLE001 - a pump that stands still must say so
                if not self._stop.is_set():
                    self._failure = ParcelqError(f"the pump of {mapped.topic_arn} stopped: {error}")
                return

    def _gather(self, mapped: Mapped) -> list[dict[str, Any]]:
        """Receive up to a batch, for as long as the window lasts once the first message is there."""
        records: list[dict[str, Any]] = []
        until = float("inf")
        while len(records) < mapped.batch_size and not self._stop.is_set():
            answer = self._sqs.receive_message(
                QueueUrl=mapped.topic_url,
                MaxNumberOfMessages=min(MAX_REQUEST_MESSAGES, mapped.batch_size - len(records)),
                WaitTimeSeconds=0 if records else _POLL_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            came = [record_of(raw, mapped.topic_arn) for raw in answer.get("Messages", [])]
            if came and not records:
                until = time.monotonic() + mapped.window
            records += came
            if records and time.monotonic() >= until:
                break
            if records and not came:
                self._stop.wait(0.05)
        return records

    def _invoke(self, mapped: Mapped, instance: Instance, records: list[dict[str, Any]]) -> None:
        try:
            answer = instance.invoke(mapped.event(records))
        except InvocationError as error:
            self._on_error(error)
            # Lambda leaves them locked until the visibility timeout is over; here nobody wants to wait for that.
            self._release(mapped, records)
            return
        failed = failed_ids(answer, records) if mapped.reports_failures else set()
        done = [record for record in records if record["messageId"] not in failed]
        for batch in batches(done, MAX_REQUEST_MESSAGES):
            entries: list[Any] = [
                {"Id": str(number), "ReceiptHandle": record["receiptHandle"]} for number, record in enumerate(batch)
            ]
            self._sqs.delete_message_batch(QueueUrl=mapped.topic_url, Entries=entries)

    def _release(self, mapped: Mapped, records: list[dict[str, Any]]) -> None:
        for batch in batches(records, MAX_REQUEST_MESSAGES):
            entries: list[Any] = [
                {"Id": str(number), "ReceiptHandle": record["receiptHandle"], "VisibilityTimeout": 0}
                for number, record in enumerate(batch)
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=mapped.topic_url, Entries=entries)


def failed_ids(answer: Any, records: list[dict[str, Any]]) -> set[str]:
    """Ids of the messages that an answer reports as failed.

    As Lambda reads it: no answer or an empty list is success; an answer that cannot be understood, or an id that is
    empty or not in the batch, fails the whole batch.
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    everything = {record["messageId"] for record in records}
    if answer is None or answer == {}:
        return set()
    if not isinstance(answer, Mapping):
        return everything
    try:
        failed = {failure["itemIdentifier"] for failure in answer.get("batchItemFailures") or []}
    except (TypeError, KeyError):
        return everything
    return failed if failed <= everything else everything


def _events(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split a batch so that no event is larger than Lambda takes."""

    def size(record: dict[str, Any]) -> int:
        return len(dumps(record["body"])) + _ENVELOPE_BYTES

    return sized_batches(records, size, max(1, len(records)), MAX_LAMBDA_EVENT_BYTES)


def record_of(raw: Mapping[str, Any], topic_arn: str) -> dict[str, Any]:
    """A received message as the record of an event; its members are spelled differently there."""
    attributes = {
        name: {
            "stringValue": value.get("StringValue"),
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": value["DataType"],
        }
        for name, value in raw.get("MessageAttributes", {}).items()
    }
    return {
        "messageId": raw["MessageId"],
        "receiptHandle": raw["ReceiptHandle"],
        "body": raw["Body"],
        "attributes": raw.get("Attributes", {}),
        "messageAttributes": attributes,
        "md5OfBody": raw.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": topic_arn,
        "awsRegion": topic_arn.split(":")[3],
    }
