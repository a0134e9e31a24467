"""Dead letters: looking at them, and sending them back to the topic that they came from.

SQS's own StartMessageMoveTask is not used: it moves all or nothing, and tells neither which nor, exactly, how many.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final

from parcelq.aws.clients import translated
from parcelq.errors import ParcelqError
from parcelq.limits import MAX_ATTRIBUTES, MAX_MESSAGE_BYTES
from parcelq.process.dead import ABOUT_DEATH
from parcelq.topics.lease import Lease
from parcelq.topics.message import ALONE, HALVED, RECEIVED_BEFORE, Message, Pulled
from parcelq.topics.publish import publish_many
from parcelq.topics.pull import acknowledge, pull_raw, refresh_deadline
from parcelq.topics.sqs import SqsTopic

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_log = logging.getLogger(__name__)
_PULLED_TOGETHER: Final = 50
"""Letters of one pull: 50 MiB at most."""
_QUIET_SECONDS: Final = 2
_HELD_SECONDS: Final = 300
"""How long a letter is locked, and again after half of it; dead-letter topics have no deadline worth mentioning."""
_PULLS_IN_VAIN: Final = 3
"""Pulls in a row that bring only what is of no use, before there is nothing else to be had."""
_LATER: Final = frozenset({*ABOUT_DEATH, ALONE, RECEIVED_BEFORE})
"""What a message is told on its way to its death, and need not know when it begins anew."""


def peek(sqs: SQSClient, topic_url: str, most: int | None = None) -> list[Pulled]:
    """Look at messages without taking them: they are pulled, and unlocked again at once.

    SQS counts that as a receive; the messages of a dead-letter topic may be received as often as one likes.

    Args:
        sqs: a boto3 SQS client.
        topic_url: URL of the topic.
        most: how many to look at; None for all that can be seen.

    Raises:
        AwsError, TopicNotFoundError: SQS refused.
    """
    with _Hold(sqs, topic_url) as hold:
        return [letter.pulled for letters in _all(hold, most) for letter in letters]


def redrive(sqs: SQSClient, dead_letter_url: str, topic_url: str, only: Collection[str] | None = None) -> int:
    """Send dead letters back to their topic, whether SQS moved them or Parcelq sent them with a reason.

    Some are pulled, published, and acknowledged then, before the next are pulled; so a crash leaves at worst those few
    in both places, which their lineage makes good. Letters that come while this goes on, perhaps of what it sent back,
    are left there, unless they are chosen.

    Args:
        sqs: a boto3 SQS client.
        dead_letter_url: URL of the dead-letter topic.
        topic_url: URL of the topic.
        only: ids of the messages to send back; None for all.

    Returns:
        How many were sent back and are gone from the dead-letter topic.

    Raises:
        AwsError, TopicNotFoundError: SQS refused.
    """
    moved = in_vain = 0
    missing = None if only is None else set(only)
    began = _end_of_this_second(sqs, dead_letter_url)
    with _Hold(sqs, dead_letter_url) as hold:
        for letters in _all(hold):
            old = [one for one in letters if one.sent <= began]
            if missing is None:
                chosen = [one.pulled for one in old]
            else:
                chosen = [one.pulled for one in letters if one.pulled.message_id in missing]
                missing.difference_update(one.message_id for one in chosen)
            moved += _send_back(sqs, hold, topic_url, chosen)
            in_vain = 0 if old else in_vain + 1
            if in_vain == _PULLS_IN_VAIN or (missing is not None and not missing):
                break
    return moved


@dataclass(frozen=True, slots=True)
class _Letter:
    """A dead letter, and when it was published, in seconds of the epoch; SQS moving it does not change that."""

    pulled: Pulled
    sent: float


class _Hold:
    """A context manager that pulls messages and keeps them locked until they are acknowledged, or until it is left.

    Then they are unlocked, so that others can have them at once. It keeps no bodies.
    """

    def __init__(self, sqs: SQSClient, topic_url: str) -> None:
        self.sqs = sqs
        self.topic_url = topic_url
        self._lease = Lease(SqsTopic(sqs, topic_url), timeout=_HELD_SECONDS, at_once=False)
        self._held: dict[str, Pulled] = {}

    def __enter__(self) -> _Hold:
        self._lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.__exit__(kind, error, trace)
        try:
            refresh_deadline(self.sqs, self.topic_url, self._held.values(), 0)
        except ParcelqError as refused:
            _log.warning("messages stay locked for up to %d seconds: %s", _HELD_SECONDS, refused)

    def pull(self, most: int) -> tuple[list[_Letter], int]:
        """Pull messages; returns those that are not held already, and how many came in all."""
        raw = pull_raw(self.sqs, self.topic_url, 1, most, _QUIET_SECONDS, deadline=_HELD_SECONDS)
        came = {
            one["MessageId"]: _Letter(
                Pulled.from_sqs(one), int(one.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
            )
            for one in raw
        }
        fresh = [letter for name, letter in came.items() if name not in self._held]
        self._keep(letter.pulled for letter in came.values())
        return fresh, len(raw)

    def acknowledge(self, messages: Sequence[Pulled]) -> int:
        """Acknowledge messages that are held; returns how many SQS forgot."""
        left = {one.message_id for one in acknowledge(self.sqs, self.topic_url, messages)}
        gone = [one for one in messages if one.message_id not in left]
        self._lease.drop(gone)
        for one in gone:
            del self._held[one.message_id]
        return len(gone)

    def _keep(self, messages: Iterable[Pulled]) -> None:
        without_body = [one.receipt() for one in messages]
        self._lease.drop(self._held[one.message_id] for one in without_body if one.message_id in self._held)
        self._lease.add(without_body)
        self._held.update((one.message_id, one) for one in without_body)


def _all(hold: _Hold, most: int | None = None) -> Iterator[list[_Letter]]:
    """Pull everything that is to be had, or as much as is wanted; what comes a second time is left out.

    A pull that brings nothing is the end: it waits, and then SQS asks all of its servers.
    """
    left = math.inf if most is None else most
    in_vain = 0
    while left > 0 and in_vain < _PULLS_IN_VAIN:
        fresh, came = hold.pull(int(min(_PULLED_TOGETHER, left)))
        if not came:
            return
        in_vain = 0 if fresh else in_vain + 1
        left -= len(fresh)
        yield fresh


def _send_back(sqs: SQSClient, hold: _Hold, topic_url: str, chosen: Sequence[Pulled]) -> int:
    """Publish letters on their topic and acknowledge those that are confirmed; returns how many are gone."""
    letters = [_revived(one) for one in chosen]
    _, failed = publish_many(sqs, topic_url, letters)
    for one in failed:
        _log.warning("a letter stays, for SQS refuses it on its topic: %s", one.reason)
    refused = {id(one.message) for one in failed}
    sent = [one for one, letter in zip(chosen, letters, strict=True) if id(letter) not in refused]
    return hold.acknowledge(sent)


def _revived(dead: Pulled) -> Message:
    """The message as it was before it died, to be run alone, so that its result takes its own place."""
    message = dead.as_it_is()
    attributes = {name: value for name, value in message.attributes.items() if name not in _LATER}
    alone = Message(message.body, {HALVED: "0", **attributes})
    if len(alone.attributes) <= MAX_ATTRIBUTES and alone.wire().size <= MAX_MESSAGE_BYTES:
        return alone
    return Message(message.body, attributes)  # which is better than not at all


def _end_of_this_second(sqs: SQSClient, topic_url: str) -> float:
    """When the second ends that SQS's clock is in: what was there before this request was not sent later.

    By SQS's clock, since that is what messages are dated by; it tells no more than seconds.
    """
    with translated(topic_url):
        reply = sqs.get_queue_attributes(QueueUrl=topic_url, AttributeNames=["QueueArn"])
    date = reply["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return math.floor(parsedate_to_datetime(date).timestamp() if date else time.time()) + 1
