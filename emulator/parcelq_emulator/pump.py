"""The event pump: passes messages from the local server to the Lambda functions, as event source mappings do on AWS."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from json import loads
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from parcelq.aws.batching import batches
from parcelq.errors import ParcelqError
from parcelq.limits import MAX_LAMBDA_EVENT_BYTES, MAX_REQUEST_MESSAGES
from parcelq.names import topic_of_arn

from parcelq_emulator.function import Instance, InvocationError
from parcelq_emulator.lambda_events import EventsOfBucket, Mapped, event_bytes, events_of, failed_ids, record_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1
_LOW_TRAFFIC_SECONDS: Final = 20
"""If a mapping has a batching window and few messages, Lambda waits up to this long, even if the window is shorter:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
"""
_ASYNC_RETRIES: Final = 2
"""How often Lambda retries an asynchronous event:
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""
_MOST_BACK_OFF_SECONDS: Final = 30
_HOPELESS: Final = frozenset({"SettingsError", "ImportError", "ModuleNotFoundError", "SyntaxError"})
"""Errors that affect every event, because the deployment itself is wrong."""
_SHOWN: Final = 1024
GIVEN_UP: Final = "ErrorMessage"
"""The attribute that Lambda adds to an event in a dead-letter queue:
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""
_ABANDON_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An object whose event failed in every attempt.

    Attributes:
        key: the key of the object.
        reason: the error of the last attempt.
    """

    key: str
    reason: str


class Pump:
    """Passes messages from topics to instances of Lambda functions, with a thread for each instance.

    Args:
        sqs: a boto3 SQS client.
        on_error: a function that is called when an invocation ends without an answer.

    Attributes:
        given_up: the objects whose events failed in every attempt so far.
    """

    def __init__(self, sqs: SQSClient, on_error: Callable[[InvocationError], None]) -> None:
        self._sqs = sqs
        self._on_error = on_error
        self.given_up: list[GivenUp] = []
        self._stop = threading.Event()
        self._under_way: list[threading.Lock] = []
        self._failure: ParcelqError | None = None

    def add(self, mapped: Mapped, instance: Instance) -> None:
        """Let an instance of a function process a topic's messages."""
        under_way = threading.Lock()
        self._under_way.append(under_way)
        arguments = mapped, instance, under_way
        threading.Thread(target=self._take, args=arguments, name="parcelq-pump", daemon=True).start()

    def stop(self, abandon: Callable[[], object] | None = None) -> None:
        """Start no more invocations, and wait for the running invocations. Polls for messages may last a little longer.

        Args:
            abandon: a function that ends the functions' processes, called repeatedly until no invocation runs; None to
                wait.
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
        """Raise the exception that ended a thread, if a thread ended so."""
        if self._failure:
            raise self._failure

    def _take(self, mapped: Mapped, instance: Instance, under_way: threading.Lock) -> None:
        while not self._stop.is_set():
            try:
                for event in events_of(self._gather(mapped)):
                    with under_way:
                        if not self._stop.is_set():
                            self._invoke(mapped, instance, event)
            except Exception as error:  # noqa: BLE001 - a pump that failed must say so
                if not self._stop.is_set():
                    text = str(error) if isinstance(error, ParcelqError) else repr(error)
                    self._failure = ParcelqError(f"{topic_of_arn(mapped.topic_arn)} stands still: {text}")
                return

    def _gather(self, mapped: Mapped) -> list[dict[str, Any]]:
        """Receive messages until a batch is full, or the batching window after the first message is over. If there is a
        window, it lasts as long as it may last on Lambda.
        """
        records: list[dict[str, Any]] = []
        until = float("inf")
        window = max(mapped.window, _LOW_TRAFFIC_SECONDS) if mapped.window else 0
        size = 0
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
                until = time.monotonic() + window
            records += came
            size += sum(map(event_bytes, came))
            if records and (time.monotonic() >= until or size >= MAX_LAMBDA_EVENT_BYTES):
                break
            if records and not came:
                self._stop.wait(0.05)
        return records

    def _invoke(self, mapped: Mapped, instance: Instance, records: list[dict[str, Any]]) -> None:
        try:
            answer = instance.invoke(mapped.event(records))
        except InvocationError as error:
            self._on_error(error)
            self._failed(mapped, records, error)
            return
        failed = failed_ids(answer, records) if mapped.reports_failures else set()
        done = [record for record in records if record["messageId"] not in failed]
        for batch in batches(done, MAX_REQUEST_MESSAGES):
            entries: list[Any] = [
                {"Id": str(number), "ReceiptHandle": record["receiptHandle"]} for number, record in enumerate(batch)
            ]
            self._sqs.delete_message_batch(QueueUrl=mapped.topic_url, Entries=entries)

    def _failed(self, mapped: Mapped, records: list[dict[str, Any]], error: InvocationError) -> None:
        if isinstance(mapped, EventsOfBucket):
            (record,) = records
            if _receives(record) > _ASYNC_RETRIES:
                self._give_up(mapped, record, error)
                return
        elif error.kind in _HOPELESS:
            raise error
        self._release(mapped, records)

    def _give_up(self, mapped: EventsOfBucket, record: dict[str, Any], error: InvocationError) -> None:
        """Move a failed event to the dead-letter topic, with the attributes that Lambda adds."""
        if mapped.dead_letters_url:
            texts = {"RequestID": str(uuid.uuid4()), GIVEN_UP: _printable(error.text) or error.kind}
            attributes: Any = {name: {"DataType": "String", "StringValue": text} for name, text in texts.items()}
            attributes["ErrorCode"] = {"DataType": "Number", "StringValue": "200"}
            self._sqs.send_message(
                QueueUrl=mapped.dead_letters_url, MessageBody=record["body"], MessageAttributes=attributes
            )
        (described,) = loads(record["body"])["Records"]
        self.given_up.append(GivenUp(unquote_plus(described["s3"]["object"]["key"]), error.text))
        self._sqs.delete_message(QueueUrl=mapped.topic_url, ReceiptHandle=record["receiptHandle"])

    def _release(self, mapped: Mapped, records: list[dict[str, Any]]) -> None:
        """Let messages be delivered again: at once after their first failure, and with a doubling delay after later
        failures.

        Lambda leaves failed messages locked until their deadline, which would only waste time here.
        """
        for batch in batches(records, MAX_REQUEST_MESSAGES):
            entries: list[Any] = [
                {
                    "Id": str(number),
                    "ReceiptHandle": record["receiptHandle"],
                    "VisibilityTimeout": min(2 ** (min(_receives(record), 9) - 1) - 1, _MOST_BACK_OFF_SECONDS),
                }
                for number, record in enumerate(batch)
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=mapped.topic_url, Entries=entries)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:_SHOWN]


def _receives(record: dict[str, Any]) -> int:
    return int(record["attributes"].get("ApproximateReceiveCount", 1))
