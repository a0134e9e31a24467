"""The events of Lambda functions, made of messages, and what the functions answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import dumps, loads
from typing import Any, Final

from parcelq.aws.batching import sized_batches
from parcelq.limits import MAX_LAMBDA_EVENT_BYTES

_ENVELOPE_BYTES: Final = 4096
"""The most bytes of an item of an event, without the message's body."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """An event source mapping: a topic whose messages go to a function.

    Attributes:
        topic_url: the URL of the topic.
        topic_arn: the topic's ARN, as in the items of events.
        batch_size: the most messages of an event.
        window: how many seconds the batching window lasts.
        reports_failures: whether the function's answer lists the messages that failed.
    """

    topic_url: str
    topic_arn: str
    batch_size: int
    window: float
    reports_failures: bool

    def event(self, records: list[dict[str, Any]]) -> Any:
        """Return the Lambda event that contains the given items."""
        return {"Records": records}


@dataclass(frozen=True, slots=True)
class EventsOfBucket(Mapped):
    """A topic that gets a bucket's events. The Lambda function gets one event at a time, as from S3 itself.

    Attributes:
        dead_letters_url: the URL of the topic for events that failed too often; empty if there is none.
    """

    dead_letters_url: str = ""

    def event(self, records: list[dict[str, Any]]) -> Any:
        """Return the S3 event, which is the body of the only item."""
        (record,) = records
        return loads(record["body"])


def events_of(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split a batch so that no event exceeds Lambda's size limit."""
    return sized_batches(records, event_bytes, max(1, len(records)), MAX_LAMBDA_EVENT_BYTES)


def event_bytes(record: dict[str, Any]) -> int:
    """Return how many bytes an item of an event has at most."""
    return len(dumps(record["body"])) + _ENVELOPE_BYTES


def failed_ids(answer: Any, records: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the messages that a function's answer reports as failed.

    Lambda's rules apply: no answer or an empty list is success. An invalid answer, or an id that is empty or not in the
    batch, fails the whole batch.
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


def record_of(raw: Mapping[str, Any], topic_arn: str) -> dict[str, Any]:
    """Convert a message of ReceiveMessage to an item of a Lambda event, in which the names of members are spelt
    differently.
    """
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
