"""A topic that is an SQS queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from parcelq.aws.batching import batches
from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.aws.replies import needed, reconcile
from parcelq.errors import AwsError
from parcelq.limits import MAX_LONG_POLL_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.topics.admin import Topics
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.publish import SqsPublisher
from parcelq.topics.topic import Counts, check_deadline, check_pull

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_log = logging.getLogger(__name__)
_REQUESTS: Final = 8
_ATTEMPTS: Final = 3
_TOO_MANY_LOCKED: Final = "OverLimit"
"""SQS's error code when 120,000 messages of a topic are locked. SQS then delivers no further message until one of them
is acknowledged or unlocked.
"""
_TICK: Final = 0.01
"""If the first request of a pull starts within this many seconds, it still polls for the full timeout."""


@dataclass(frozen=True, slots=True)
class SqsTopic(SqsPublisher):
    """A `Topic` that is an SQS queue. `clock` is a function that returns a time in seconds."""

    clock: Callable[[], float] = time.monotonic

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """Pull messages. Until the acknowledgement deadline, no other receiver gets these messages; see `Topic.pull`.

        This method polls SQS until at least `min_messages` have arrived or the timeout has passed. An empty reply does
        not mean that the topic is empty: SQS asks only some of its servers, and delivers no message while 120,000
        messages are locked. Locked messages may become visible later. If `max_messages` exceeds ten, several requests
        run in parallel.
        """
        check_pull(min_messages, max_messages, receive_message_timeout)
        until = self.clock() + receive_message_timeout
        pulled: list[MessageTypeDef] = []
        while True:
            remaining = max(0.0, until - self.clock())
            most = min(MAX_REQUEST_MESSAGES, max_messages - len(pulled))
            wait = min(MAX_LONG_POLL_SECONDS, int(remaining + _TICK))
            came = self._receive(most, wait, deadline)
            pulled += came
            if came and len(pulled) < max_messages:
                pulled += self._receive_at_hand(max_messages - len(pulled), len(came) / most, deadline)
            if len(pulled) >= min_messages or self.clock() >= until:
                return [Pulled.from_sqs(one) for one in pulled]
            if wait == 0:  # a poll cannot wait for a fraction of a second
                self.sleep(max(0.0, until - self.clock()))

    def read(self, pulled: Pulled) -> Message:
        """Decode a pulled message and return it. Raises MessageError if the message cannot be read."""
        is_sent = isinstance(pulled.content, Wire)
        return (self.overflow.load(pulled) if self.overflow and is_sent else pulled).message()

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages, and return the messages whose deletion SQS does not confirm: they may be delivered again."""
        return self._in_batches(self.sqs.delete_message_batch, "DeleteMessageBatch", messages, {})

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        """Set the acknowledgement deadline to `timeout` seconds from now. Return the messages whose deadline was not
        set.
        """
        check_deadline(timeout)
        request = self.sqs.change_message_visibility_batch
        return self._in_batches(request, "ChangeMessageVisibilityBatch", messages, {"VisibilityTimeout": timeout})

    def counts(self) -> Counts:
        """Return approximate numbers of messages, which become right about 60 s after the last send."""
        return Topics(self.sqs).counts(self.url)

    def dead_letter_topic(self) -> Self | None:
        """Return the topic for messages that failed for good; None if there is none. It is the queue that this queue's
        RedrivePolicy names, or else the queue with the matching name.
        """
        url = Topics(self.sqs).dead_letter_url(self.url)
        return replace(self, url=url) if url else None

    def _receive(self, most: int, wait_seconds: int, deadline: int | None) -> list[MessageTypeDef]:
        locked: dict[str, Any] = {} if deadline is None else {"VisibilityTimeout": deadline}
        try:
            with translated(self.url):
                reply = self.sqs.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=most,
                    WaitTimeSeconds=wait_seconds,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                    **locked,
                )
        except AwsError as error:
            if error.code != _TOO_MANY_LOCKED:
                raise
            _log.warning("%s", error)
            self.sleep(min(1.0, wait_seconds))
            return []
        messages = reply.get("Messages") or []
        for one in messages:
            for member in ("MessageId", "ReceiptHandle", "Body"):
                needed(one, "ReceiveMessage", member)
        return messages

    def _receive_at_hand(self, most: int, filled: float, deadline: int | None) -> list[MessageTypeDef]:
        """Receive up to `most` messages that already wait, and stop when a round of requests returns no message.

        Requests run in parallel only while they are at least half full. `filled` says how full the previous reply was,
        from 0 to 1. If messages arrive slowly, most parallel requests would be empty and still cost money.
        """
        pulled: list[MessageTypeDef] = []
        while filled and (missing := most - len(pulled)):
            full, rest = divmod(missing, MAX_REQUEST_MESSAGES)
            sizes = ([MAX_REQUEST_MESSAGES] * full + [rest] * bool(rest))[: _REQUESTS if filled >= 0.5 else 1]
            before = len(pulled)
            for messages in in_flight(lambda size: self._receive(size, 0, deadline), sizes, _REQUESTS):
                pulled += messages
            filled = (len(pulled) - before) / sum(sizes)
        return pulled

    def _in_batches(
        self, request: Callable[..., Any], operation: str, messages: Iterable[Pulled], members: dict[str, Any]
    ) -> list[Pulled]:
        """Send requests of a batch operation, and return the messages for which no reply confirms success."""

        def send(batch: Sequence[Pulled]) -> list[Pulled]:
            rest = list(batch)
            given_up: list[Pulled] = []
            for attempt in range(_ATTEMPTS):
                asked = {str(number): message for number, message in enumerate(rest)}
                entries = [
                    {"Id": name, "ReceiptHandle": message.receipt_handle, **members} for name, message in asked.items()
                ]
                try:
                    with translated(self.url):
                        reply = request(QueueUrl=self.url, Entries=entries)
                except AwsError as error:
                    if not error.server_fault or attempt == _ATTEMPTS - 1:
                        raise
                    continue
                failed = reconcile(operation, reply, asked).failed
                # guard[pass]: a message that SQS refuses to delete is not acknowledged
                given_up += [asked[name] for name, one in failed.items() if one["SenderFault"]]
                # guard[rest = []]: an acknowledgement that failed by SQS's fault is tried again
                rest = [asked[name] for name, one in failed.items() if not one["SenderFault"]]
                if not rest:
                    break
            return [*given_up, *rest]

        sent = (one for one in messages if isinstance(one.content, Wire))  # the others never left this process
        batched = batches(sent, MAX_REQUEST_MESSAGES)
        return [one for lost in in_flight(send, batched, _REQUESTS) for one in lost]
