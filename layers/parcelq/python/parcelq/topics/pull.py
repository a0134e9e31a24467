"""Pulls messages, acknowledges them, and sets their acknowledgement deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from parcelq.aws.batching import batches
from parcelq.aws.clients import translated
from parcelq.aws.parallel import in_flight
from parcelq.aws.replies import needed, reconcile
from parcelq.errors import AwsError, InvalidValueError
from parcelq.limits import MAX_DEADLINE_SECONDS, MAX_LONG_POLL_SECONDS, MAX_REQUEST_MESSAGES
from parcelq.topics.message import Pulled

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_log = logging.getLogger(__name__)
_REQUESTS: Final = 8
_ATTEMPTS: Final = 3
_TOO_MANY_LOCKED: Final = "OverLimit"
"""SQS's error code when 120,000 messages of a topic are locked, so that no more are delivered until some are
acknowledged.
"""
_TICK: Final = 0.01
"""A first request that starts within this many seconds still polls for the full number of seconds."""


def pull(
    sqs: SQSClient,
    topic_url: str,
    min_messages: int = 1,
    max_messages: int = 10,
    receive_message_timeout: float = 300,
    *,
    deadline: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Pulled]:
    """Pull messages, which are then locked until the topic's acknowledgement deadline.

    Polls, at most 20 s a request, until at least `min_messages` have arrived or the timeout has passed. An empty reply
    does not mean that the topic is empty: SQS asks only some of its servers, delivers nothing while 120,000 messages
    are locked, and locked messages may return later. More than ten messages are requested in parallel.

    See `Topic.pull`; `sleep` is used only for the part of a second that no poll can wait.
    """
    if not 1 <= min_messages <= max_messages:
        raise InvalidValueError("min_messages", min_messages, f"from 1 to max_messages, which is {max_messages}")
    if receive_message_timeout < 0:
        raise InvalidValueError("receive_message_timeout", receive_message_timeout, "0 or more seconds")
    receive = partial(_receive, sqs, topic_url, deadline, sleep)
    until = clock() + receive_message_timeout
    pulled: list[MessageTypeDef] = []
    while True:
        remaining = max(0.0, until - clock())
        most = min(MAX_REQUEST_MESSAGES, max_messages - len(pulled))
        wait = min(MAX_LONG_POLL_SECONDS, int(remaining + _TICK))
        came = receive(most, wait)
        pulled += came
        if came and len(pulled) < max_messages:
            pulled += _receive_at_hand(receive, max_messages - len(pulled), len(came) / most)
        if len(pulled) >= min_messages or clock() >= until:
            return [Pulled.from_sqs(one) for one in pulled]
        if wait == 0:
            sleep(max(0.0, until - clock()))


def acknowledge(sqs: SQSClient, topic_url: str, messages: Iterable[Pulled]) -> list[Pulled]:
    """Delete messages, and return those whose deletion SQS does not confirm; see `Topic.acknowledge`."""

    def entry(message: Pulled) -> dict[str, Any]:
        return {"ReceiptHandle": message.receipt_handle}

    return _in_batches(sqs.delete_message_batch, "DeleteMessageBatch", topic_url, messages, entry)


def refresh_deadline(sqs: SQSClient, topic_url: str, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
    """Set the acknowledgement deadline of messages; see `Topic.refresh_deadline`."""
    if not 0 <= timeout <= MAX_DEADLINE_SECONDS:
        raise InvalidValueError("timeout", timeout, f"0 to {MAX_DEADLINE_SECONDS} seconds")

    def entry(message: Pulled) -> dict[str, Any]:
        return {"ReceiptHandle": message.receipt_handle, "VisibilityTimeout": timeout}

    operation = "ChangeMessageVisibilityBatch"
    return _in_batches(sqs.change_message_visibility_batch, operation, topic_url, messages, entry)


def _receive(
    sqs: SQSClient,
    topic_url: str,
    deadline: int | None,
    sleep: Callable[[float], None],
    most: int,
    wait_seconds: int,
) -> list[MessageTypeDef]:
    locked: dict[str, Any] = {} if deadline is None else {"VisibilityTimeout": deadline}
    try:
        with translated(topic_url):
            reply = sqs.receive_message(
                QueueUrl=topic_url,
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
        sleep(min(1.0, wait_seconds))
        return []
    messages = reply.get("Messages") or []
    for one in messages:
        for member in ("MessageId", "ReceiptHandle", "Body"):
            needed(one, "ReceiveMessage", member)
    return messages


def _receive_at_hand(
    receive: Callable[[int, int], list[MessageTypeDef]], most: int, filled: float
) -> list[MessageTypeDef]:
    """Receive the messages that are already waiting, until a round returns none.

    Requests are parallel only while they return at least half of what they could. When messages arrive slowly, most
    parallel requests would be empty and still cost money.

    Args:
        receive: receives up to a number of messages, and waits some seconds for the first.
        most: most messages to receive.
        filled: how full the previous reply was, from 0 to 1.
    """
    pulled: list[MessageTypeDef] = []
    while filled and (missing := most - len(pulled)):
        full, rest = divmod(missing, MAX_REQUEST_MESSAGES)
        sizes = ([MAX_REQUEST_MESSAGES] * full + [rest] * bool(rest))[: _REQUESTS if filled >= 0.5 else 1]
        before = len(pulled)
        for messages in in_flight(lambda size: receive(size, 0), sizes, _REQUESTS):
            pulled += messages
        filled = (len(pulled) - before) / sum(sizes)
    return pulled


def _in_batches(
    request: Callable[..., Any],
    operation: str,
    topic_url: str,
    messages: Iterable[Pulled],
    entry: Callable[[Pulled], dict[str, Any]],
) -> list[Pulled]:
    """Send requests of a batch operation, and return the messages for which no reply confirms success."""

    def send(batch: Sequence[Pulled]) -> list[Pulled]:
        rest = list(batch)
        given_up: list[Pulled] = []
        for attempt in range(_ATTEMPTS):
            asked = {str(number): message for number, message in enumerate(rest)}
            entries = [{"Id": name, **entry(message)} for name, message in asked.items()]
            try:
                with translated(topic_url):
                    reply = request(QueueUrl=topic_url, Entries=entries)
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

    failed: list[Pulled] = []
    for lost in in_flight(send, batches(messages, MAX_REQUEST_MESSAGES), _REQUESTS):
        failed += lost
    return failed
