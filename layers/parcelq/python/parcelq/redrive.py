"""Dead letters: looking at them, and sending them back to the topic that they came from.

SQS's own StartMessageMoveTask is not used: it moves all or nothing, and tells neither which nor, exactly, how many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from parcelq.dead import ABOUT_DEATH
from parcelq.limits import MAX_ATTRIBUTES
from parcelq.message import ALONE, HALVED, Message, Pulled
from parcelq.publish import publish_many
from parcelq.pull import acknowledge, pull, refresh_deadline

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_PULLED_TOGETHER: Final = 100
_QUIET_SECONDS: Final = 2


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
    seen: list[Pulled] = []
    try:
        for pulled in _all(sqs, topic_url, most):
            seen += pulled
    finally:
        refresh_deadline(sqs, topic_url, seen, 0)
    return seen


def redrive(sqs: SQSClient, dead_letter_url: str, topic_url: str, only: Collection[str] | None = None) -> int:
    """Send dead letters back to their topic, whether SQS moved them or Parcelq sent them with a reason.

    Each is published first and acknowledged then, so that a crash in between leaves it in both places, which its
    lineage makes good. Letters that come while this goes on, perhaps of what it sent back, are left there.

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
    moved = 0
    kept: list[Pulled] = []
    try:
        for pulled in list(_all(sqs, dead_letter_url, None)):
            chosen = [one for one in pulled if only is None or one.message_id in only]
            kept += [one for one in pulled if only is not None and one.message_id not in only]
            letters = [_revived(one) for one in chosen]
            _, failed = publish_many(sqs, topic_url, letters)
            refused = {id(one.message) for one in failed}
            sent = [one for one, letter in zip(chosen, letters, strict=True) if id(letter) not in refused]
            kept += [one for one, letter in zip(chosen, letters, strict=True) if id(letter) in refused]
            moved += len(sent) - len(acknowledge(sqs, dead_letter_url, sent))
    finally:
        refresh_deadline(sqs, dead_letter_url, kept, 0)
    return moved


def _all(sqs: SQSClient, topic_url: str, most: int | None) -> Iterator[list[Pulled]]:
    """Pull everything once; what comes a second time, since its lock ran out, is left out."""
    seen: set[str] = set()
    while most is None or len(seen) < most:
        room = _PULLED_TOGETHER if most is None else min(_PULLED_TOGETHER, most - len(seen))
        pulled = pull(sqs, topic_url, 1, room, _QUIET_SECONDS)
        fresh = {one.message_id: one for one in pulled if one.message_id not in seen}
        if not fresh:
            return
        seen.update(fresh)
        yield list(fresh.values())


def _revived(dead: Pulled) -> Message:
    """The message as it was before it died, to be run alone, so that its result takes its own place."""
    message = dead.as_it_is()
    attributes = {name: value for name, value in message.attributes.items() if name not in {*ABOUT_DEATH, ALONE}}
    if len(attributes) < MAX_ATTRIBUTES:
        attributes = {HALVED: "0", **attributes}
    return Message(message.body, attributes)
