"""Publishes messages on an SQS queue: fills requests, sends several in parallel, and checks every `Failed` list."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from parcelq.aws.batching import sized_batches
from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.aws.replies import needed, reconcile
from parcelq.aws.text import is_legal
from parcelq.errors import AwsError, InvalidValueError, MessageError
from parcelq.limits import MAX_ATTRIBUTES, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES
from parcelq.lineage.source import job_id, workflow_name
from parcelq.names import topic_of_url
from parcelq.topics.attributes import SOURCE, WORKFLOW
from parcelq.topics.message import Message, Wire
from parcelq.topics.topic import FailedMessage, Published

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from parcelq.topics.overflow import Overflow

REQUESTS_IN_FLIGHT: Final = 8
"""An SQS connection handles about 50 requests a second. Eight connections with full requests use a Lambda's 625 Mbit/s.
"""
_ATTEMPTS: Final = 6
_FIRST_PAUSE: Final = 0.2
"""Seconds before the first retry. The pause doubles for each further retry, and a random factor varies it."""
_FAULTS_OF_CONTENT: Final = frozenset(
    {"InvalidMessageContents", "InvalidParameterValue", "BatchRequestTooLong", "InvalidAttributeValue"}
)


class _Ready(NamedTuple):
    message: Message
    wire: Wire
    size: int
    group: str = ""

    def request(self) -> dict[str, Any]:
        """The members of a SendMessage request that contain the body and the attributes."""
        return {**self.wire.request(), **({"MessageGroupId": self.group} if self.group else {})}


@dataclass(frozen=True, slots=True)
class SqsPublisher:
    """A `Publisher` that sends messages to an SQS queue.

    Attributes:
        overflow: stores bodies that are too large for a message; if None, messages with such bodies fail.
        fair: whether the messages of a job have the job's id as `MessageGroupId`, so that one large job does not delay
            other jobs (fair queues).
    """

    sqs: SQSClient
    url: str
    overflow: Overflow | None = None
    fair: bool = True
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.url.endswith(".fifo"):
            wanted = "a standard queue; a FIFO queue confirms messages with equal bodies, but delivers only one of them"
            raise InvalidValueError("topic", self.url, wanted)

    @property
    def name(self) -> str:
        """The queue's name."""
        return topic_of_url(self.url)

    def publish_one(self, message: Message) -> str:
        """Publish one message and return the id that SQS gave it.

        Raises MessageError if the message is too large, or has too many or illegal attributes; and AwsError or
        TopicNotFoundError if SQS did not accept it.
        """
        ready = self._prepare(message)
        with translated(self.url):
            reply = self.sqs.send_message(QueueUrl=self.url, **ready.request())
        return str(needed(reply, "SendMessage", "MessageId"))

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        """Publish messages from an iterable of any length, in as few requests as SQS's limits allow.

        If SQS says that SQS is at fault, a failed message is sent again after growing pauses. If the sender is at
        fault, the failed message is returned, and all remaining messages are still sent. Only the messages of a few
        requests are in memory at a time. Raises AwsError or TopicNotFoundError if SQS does not answer, or refuses all
        requests.
        """
        failed: list[FailedMessage] = []
        ready = self._prepare_all(messages, failed)
        requests = sized_batches(ready, lambda item: item.size, MAX_REQUEST_MESSAGES, MAX_REQUEST_BYTES)
        count = 0
        for sent, lost in in_flight(lambda batch: self._send(batch, delay_seconds), requests, REQUESTS_IN_FLIGHT):
            count += sent
            failed += lost
        return Published(count, failed)

    def _prepare(self, message: Message) -> _Ready:
        wire, overflow = message.wire(), self.overflow
        if wire.is_pointer and overflow is not None:
            # guard[pass]: a body in S3 is copied when its pointer is published again
            wire = overflow.renew(wire)
        for name, value in wire.attributes.items():
            if not is_legal(name.encode("utf-8", "surrogatepass")):
                raise MessageError(f"the name of an attribute is {name!r}, but must be a text that SQS accepts")
            if not value or not is_legal(value.encode("utf-8", "surrogatepass")):
                raise MessageError(f"attribute {name!r} is {value!r}, but must be a text that is not empty")
        size = wire.size
        if size > MAX_MESSAGE_BYTES:
            if overflow is None or not overflow.bucket:
                raise MessageError(
                    f"the message has {size} bytes with its attributes, more than the {MAX_MESSAGE_BYTES} "
                    "that SQS allows, and no bucket was given for large entries"
                )
            wire = overflow.offload(wire)
            size = wire.size
            if size > MAX_MESSAGE_BYTES:
                raise MessageError(f"the attributes alone have more than the {MAX_MESSAGE_BYTES} bytes that SQS allows")
        if len(wire.attributes) > MAX_ATTRIBUTES:
            raise MessageError(f"the message has {len(wire.attributes)} attributes; SQS allows {MAX_ATTRIBUTES}")
        return _Ready(message, wire, size, _group_of(message) if self.fair else "")

    def _prepare_all(self, messages: Iterable[Message], failed: list[FailedMessage]) -> Iterator[_Ready]:
        for message in messages:
            try:
                yield self._prepare(message)
            except MessageError as error:
                failed.append(FailedMessage(message, type(error).__name__, str(error), sender_fault=True))

    def _send(self, batch: list[_Ready], delay_seconds: int) -> tuple[int, list[FailedMessage]]:
        """Send the messages of one request, and send each message again that failed by SQS's fault."""
        sent, rest = 0, batch
        lost: list[FailedMessage] = []
        delay = {"DelaySeconds": delay_seconds} if delay_seconds else {}
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            entries: list[Any] = [{"Id": str(number), **item.request(), **delay} for number, item in enumerate(rest)]
            try:
                with translated(self.url):
                    reply = self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
            except AwsError as error:
                # guard[False]: a message for which SQS refuses a whole request does not fail the others
                if error.code in _FAULTS_OF_CONTENT:
                    more, others = self._send_singly(rest, error, delay_seconds)
                    return sent + more, lost + others
                # guard[True]: a request that is throttled is sent again
                if not error.server_fault or last:
                    raise
            else:
                confirmed = reconcile("SendMessageBatch", reply, [entry["Id"] for entry in entries])
                sent += len(confirmed.done)
                again = []
                for name, one in confirmed.failed.items():
                    item = rest[int(name)]
                    # guard[True]: an entry that failed by SQS's fault is sent again
                    if one["SenderFault"] or last:
                        lost.append(FailedMessage(item.message, one["Code"], one["Message"], bool(one["SenderFault"])))
                    else:
                        again.append(item)
                rest = again
                if not rest:
                    break
            if not last:
                self.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # nosec B311 # jitter is no secret
        return sent, lost

    def _send_singly(self, batch: list[_Ready], error: AwsError, delay_seconds: int) -> tuple[int, list[FailedMessage]]:
        """Send each message of a refused request in a separate request, so that only the message that SQS refuses
        fails.
        """
        if len(batch) == 1:
            return 0, [FailedMessage(batch[0].message, error.code, str(error), sender_fault=True)]
        outcomes = [self._send([item], delay_seconds) for item in batch]
        return sum(sent for sent, _ in outcomes), [one for _, lost in outcomes for one in lost]


def _group_of(message: Message) -> str:
    """Return the message group for a message, which is the id of its job.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
    """
    source = message.attributes.get(SOURCE)
    return _job_id(source, message.attributes.get(WORKFLOW, "")) if source else ""


@lru_cache(64)
def _job_id(source: str, workflow: str) -> str:
    return job_id(source, workflow_name(workflow))
