"""Dead letters: reads dead letters, and publishes them again on the topic from which they came.

SQS's own StartMessageMoveTask is not used, because it moves either all messages or none, and does not report which
messages it moved.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from parcelq.errors import ParcelqError
from parcelq.jobs.jobs import wake
from parcelq.process.dead import failure_of
from parcelq.topics.attributes import FAILURE, FAILURES, FIRST, LINEAGE, REASON, SOURCE, WORKFLOW
from parcelq.topics.lease import Lease
from parcelq.topics.message import Message, Pulled, with_attributes
from parcelq.topics.topic import Topic

_log = logging.getLogger(__name__)
_PULLED_TOGETHER: Final = 50
"""How many dead letters are pulled at a time, at most: 50 MiB."""
_QUIET_SECONDS: Final = 2
_HELD_SECONDS: Final = 300
"""How many seconds dead letters are locked. The lock is renewed after half of this time, because dead-letter topics
have short deadlines.
"""
_PULLS_IN_VAIN: Final = 3
"""Reading ends after this many consecutive pulls without new messages. A redrive also ends after this many consecutive
pulls without messages that were sent before the redrive began.
"""


def peek(topic: Topic, most: int | None = None) -> list[Pulled]:
    """Read messages without removing them: the messages are pulled, and unlocked at once.

    SQS counts each such read as a receive, but messages of a dead-letter topic may be received any number of times.
    Raises AwsError or TopicNotFoundError if SQS refuses a request.
    """
    with _Hold(topic) as hold:
        return [one for batch in _all(hold, most) for one in batch]


def redrive(
    dead_letters: Topic,
    topic: Topic,
    only: Collection[str] | None = None,
    *,
    looks: Topic | None = None,
    now: Callable[[], float] = time.time,
) -> int:
    """Publish dead letters again on their topic, no matter whether SQS or Parcelq moved the messages to the dead-letter
    topic.

    A few dead letters are pulled, published and acknowledged before more dead letters are pulled. So after a crash only
    these few messages can be on both topics, and lineage shows which messages are duplicates. Dead letters that arrive
    meanwhile stay, because they may come from messages that were just published again.

    Args:
        looks: the stack's topic of looks (messages that schedule a check of a job), if there is this topic. Looks are
            published on this topic, so that ended jobs continue.

    Returns:
        The number of messages that were published again and deleted from the dead-letter topic.

    Raises:
        AwsError, TopicNotFoundError: SQS refused a request.
    """
    moved = in_vain = 0
    missing = None if only is None else set(only)
    began = now()
    places: set[str] = set()
    with _Hold(dead_letters) as hold:
        for number, batch in enumerate(_all(hold)):
            if number == 0 and batch and all(one.sent > began for one in batch):
                began = max(one.sent for one in batch)  # because this machine's clock is behind the topic's clock
            if missing is None:
                chosen = [one for one in batch if one.sent <= began and _place(one) not in places]
            else:
                chosen = [one for one in batch if one.message_id in missing]
                missing.difference_update(one.message_id for one in chosen)
            if looks is not None:
                wake(looks, ((one.attributes.get(SOURCE, ""), one.attributes.get(WORKFLOW, "")) for one in chosen))
            moved += _publish_again(hold, topic, chosen)
            places.update(filter(None, map(_place, chosen)))
            in_vain = 0 if any(one.sent <= began for one in batch) else in_vain + 1
            if in_vain == _PULLS_IN_VAIN or (missing is not None and not missing):
                break
    return moved


class _Hold:
    """A context manager that pulls messages, and keeps them locked until they are acknowledged or the context ends. The
    bodies of the messages are not kept.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._lease = Lease(topic, timeout=_HELD_SECONDS, at_once=False)
        self._held: dict[str, Pulled] = {}

    def __enter__(self) -> _Hold:
        self._lease.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._lease.__exit__(*raised)
        try:
            self.topic.refresh_deadline(self._held.values(), 0)  # other processes can receive the messages at once
        except ParcelqError as refused:
            _log.warning("messages stay locked for up to %d seconds: %s", _HELD_SECONDS, refused)

    def pull(self, most: int) -> tuple[list[Pulled], int]:
        """Pull messages. Return the messages that were not held before, and the number of all messages that came."""
        came = self.topic.pull(1, most, _QUIET_SECONDS, deadline=_HELD_SECONDS)
        latest = {one.message_id: one for one in came}
        new = [one for name, one in latest.items() if name not in self._held]
        self._lease.drop(self._held[name] for name in latest if name in self._held)
        self._held.update((name, one.receipt()) for name, one in latest.items())
        self._lease.add(self._held[name] for name in latest)
        return new, len(came)

    def acknowledge(self, messages: Sequence[Pulled]) -> int:
        """Acknowledge held messages, and return how many were deleted."""
        kept = {one.message_id for one in self.topic.acknowledge(messages)}
        gone = [one for one in messages if one.message_id not in kept]
        self._lease.drop(gone)
        for one in gone:
            del self._held[one.message_id]
        return len(gone)


def _all(hold: _Hold, most: int | None = None) -> Iterator[list[Pulled]]:
    """Pull all messages, or up to `most` messages. A message that is delivered a second time is left out.

    A pull that returns no messages is the last pull, because SQS asks all of its servers in a long poll.
    """
    left = math.inf if most is None else most
    in_vain = 0
    while left > 0 and in_vain < _PULLS_IN_VAIN:
        new, came = hold.pull(int(min(_PULLED_TOGETHER, left)))
        if not came:
            return
        in_vain = 0 if new else in_vain + 1
        left -= len(new)
        yield new


def _publish_again(hold: _Hold, topic: Topic, chosen: Sequence[Pulled]) -> int:
    """Publish dead letters on their topic. Acknowledge each dead letter if its publication is confirmed, and return how
    many dead letters were deleted.

    If several dead letters have the same lineage, only one is published, because a dead-letter topic may have
    duplicates.
    """
    places: dict[str, list[Pulled]] = {}
    for one in chosen:
        places.setdefault(_place(one) or one.message_id, []).append(one)
    messages = {place: _revived(copies[0]) for place, copies in places.items()}
    refused = {id(one.message): one.reason for one in topic.publish(messages.values()).failed}
    done = []
    for place, copies in places.items():
        reason = refused.get(id(messages[place]))
        # guard[True]: a dead letter is acknowledged only when it is published again
        if reason is None:
            done += copies
        else:
            _log.warning("a dead letter stays dead, because its topic refuses the message: %s", reason)
    return hold.acknowledge(done)


def _revived(dead: Pulled) -> Message:
    """Return the message as it was before it failed, with the same body. If the body is in S3, publishing copies it, so
    that S3 keeps the body long enough.
    """
    message = dead.as_it_is()
    changed: dict[str, str | None] = {REASON: None, FAILURE: None, FAILURES: None}
    first = failure_of(message.attributes).get("first")
    if first and isinstance(first, str):
        changed[FIRST] = first
    return with_attributes(message, **changed) if changed.keys() & message.attributes.keys() else message


def _place(dead: Pulled) -> str:
    """Return a dead letter's source and lineage; empty if the dead letter has no lineage."""
    source, lineage = dead.attributes.get(SOURCE), dead.attributes.get(LINEAGE)
    return f"{source} {lineage}" if source and lineage else ""
