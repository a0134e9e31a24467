"""Draining a topic: its messages into segments, acknowledged as soon as they are stored."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from parcelq.errors import InvalidValueError, MessageError, ParcelqError
from parcelq.lease import Lease
from parcelq.limits import MAX_LONG_POLL_SECONDS, MIB
from parcelq.message import DEAD, WORKFLOW, Message, Pulled
from parcelq.names import Source, topic_of_url
from parcelq.plan import Work
from parcelq.pull import acknowledge, pull
from parcelq.segments import NO_SOURCE, Piece, write_segment
from parcelq.store import Store
from parcelq.topics import Topics

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from parcelq.overflow import Overflow

_log = logging.getLogger(__name__)
RECEIVERS: Final = 4
"""Each holds at most what is below; so all of them hold a bounded number of messages and bytes."""
PULLED_TOGETHER: Final = 100
"""Messages that a receiver takes at a time, at most."""
SEGMENT_MESSAGES: Final = 5_000
SEGMENT_BYTES: Final = 16 * MIB
"""A receiver stores what it has when it is so many messages, or bytes."""
_SEGMENT_SECONDS: Final = 60.0
_FOREVER: Final = float("inf")


@dataclass(slots=True)
class Drained:
    """What was collected from a topic.

    Attributes:
        messages: messages that were stored and acknowledged.
        entries: entries of theirs.
        segments: segments that were written.
        exhausted: whether draining ended because nothing came any more, rather than for lack of time.
    """

    messages: int = 0
    entries: int = 0
    segments: int = 0
    exhausted: bool = True


@dataclass(slots=True)
class _Held:
    """What a receiver has pulled and not stored yet."""

    since: float
    first: datetime
    pulled: list[Pulled] = field(default_factory=list)
    pieces: defaultdict[str, list[Piece]] = field(default_factory=lambda: defaultdict(list))
    workflows: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    size: int = 0

    def add(self, one: Pulled, message: Message) -> None:
        """Take a message in."""
        work = Work.of(one, message)
        source = work.source if _is_source(work.source) else NO_SOURCE
        dead = message.attributes.get(DEAD, "") if source else ""
        name = str(work.lineage) if source else one.message_id
        self.pieces[source].append(Piece(name, message.body, work.entries, dead))
        if workflow := message.attributes.get(WORKFLOW):
            self.workflows[source].add(workflow)
        self.pulled.append(one)
        self.size += len(message.body)


@dataclass(frozen=True, slots=True)
class Drainer:
    """Collects a topic's messages.

    Attributes:
        sqs: a boto3 SQS client.
        topic_url: URL of the topic.
        store: where segments go.
        overflow: where bodies lie that are too large for a message.
        receivers: how many receive together.
        clock: tells a time in seconds.
        now: tells the time of day.
    """

    sqs: SQSClient
    topic_url: str
    store: Store
    overflow: Overflow | None = None
    receivers: int = RECEIVERS
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def drain(
        self,
        receive_message_timeout: float,
        time_left: Callable[[], float] = lambda: _FOREVER,
        on_progress: Callable[[int, int], None] = lambda _messages, _entries: None,
    ) -> Drained:
        """Store and acknowledge messages until nothing comes, or time is up.

        Args:
            receive_message_timeout: seconds with nothing coming after which the topic counts as exhausted.
            time_left: tells the seconds until this should have ended.
            on_progress: told how many messages and entries were just stored.

        Raises:
            AwsError, TopicNotFoundError, OSError: SQS or the store refused. What was not acknowledged comes again.
        """
        deadline = int(Topics(self.sqs).attributes(self.topic_url)["VisibilityTimeout"])
        drained = Drained()
        with ThreadPoolExecutor(self.receivers, thread_name_prefix="parcelq-drain") as pool:
            receive = [
                pool.submit(self._receive, receive_message_timeout, time_left, on_progress, deadline)
                for _ in range(self.receivers)
            ]
            for one in receive:
                part = one.result()
                drained.messages += part.messages
                drained.entries += part.entries
                drained.segments += part.segments
                drained.exhausted &= part.exhausted
        return drained

    def _receive(
        self,
        receive_message_timeout: float,
        time_left: Callable[[], float],
        on_progress: Callable[[int, int], None],
        deadline: int,
    ) -> Drained:
        drained = Drained()
        quiet_since = self.clock()
        held = _Held(self.clock(), self.now())
        with Lease(self.sqs, self.topic_url, timeout=deadline, at_once=False) as lease:
            while True:
                quiet = self.clock() - quiet_since
                wait = max(0.0, min(MAX_LONG_POLL_SECONDS, receive_message_timeout - quiet, time_left()))
                pulled = pull(self.sqs, self.topic_url, 1, PULLED_TOGETHER, wait, clock=self.clock)
                if pulled:
                    lease.add(pulled)
                    self._take(pulled, held)
                    quiet_since = self.clock()
                out_of_time = time_left() <= 0
                ended = out_of_time or (not pulled and self.clock() - quiet_since >= receive_message_timeout)
                if held.pulled and (ended or not pulled or self._is_full(held)):
                    drained.segments += self._store(held, lease)
                    drained.messages += len(held.pulled)
                    entries = sum(one.entries for pieces in held.pieces.values() for one in pieces if not one.dead)
                    drained.entries += entries
                    on_progress(len(held.pulled), entries)
                    held = _Held(self.clock(), self.now())
                if ended:
                    drained.exhausted = not out_of_time
                    return drained

    def _take(self, pulled: Sequence[Pulled], held: _Held) -> None:
        for one in pulled:
            try:
                held.add(one, (self.overflow.load(one) if self.overflow else one).message())
            except MessageError as error:  # left to the topic's redrive policy, so that it is not lost
                _log.warning("message %s cannot be read: %s", one.message_id, error)

    def _is_full(self, held: _Held) -> bool:
        return (
            held.size >= SEGMENT_BYTES
            or len(held.pulled) >= SEGMENT_MESSAGES
            or self.clock() - held.since >= _SEGMENT_SECONDS
        )

    def _store(self, held: _Held, lease: Lease) -> int:
        topic = topic_of_url(self.topic_url)
        for source, pieces in held.pieces.items():
            write_segment(self.store, topic, source, pieces, held.workflows[source], held.first, self.now())
        try:
            left = acknowledge(self.sqs, self.topic_url, held.pulled)
        except ParcelqError as error:  # they come again, and are known by their lineage then
            _log.warning("stored, but not acknowledged: %s", error)
        else:
            if left:
                _log.warning("%d of %d stored messages were not acknowledged", len(left), len(held.pulled))
        lease.drop(held.pulled)
        return len(held.pieces)


def _is_source(text: str) -> bool:
    """Whether a source can be told by it; if not, nobody knows what to call its result."""
    try:
        Source.parse(text)
    except InvalidValueError:
        return False
    return True
