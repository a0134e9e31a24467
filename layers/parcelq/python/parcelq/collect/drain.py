"""Drains a topic: stores the topic's messages in segments, and acknowledges each message as soon as it is stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Final

from parcelq.aws.parallel import in_flight
from parcelq.collect.held import Held, Room
from parcelq.collect.segments import JobKey, write_segment
from parcelq.errors import ConflictError, MessageError, ParcelqError
from parcelq.limits import MAX_LONG_POLL_SECONDS, MAX_REQUEST_MESSAGES, MIB
from parcelq.lineage.source import workflow_name
from parcelq.store.store import Store
from parcelq.topics.attributes import HEADER, LINEAGE, OLD_SIZE_ELSEWHERE, SIZE_ELSEWHERE, SOURCE, WORKFLOW, parse_count
from parcelq.topics.cost import METER, NOTHING
from parcelq.topics.header import Headers, key_of_stage
from parcelq.topics.lease import Lease
from parcelq.topics.message import Message, Pulled
from parcelq.topics.pieces import Piece
from parcelq.topics.topic import Topic

_log = logging.getLogger(__name__)
RECEIVERS: Final = 4
"""How many receivers drain a topic. The constants below limit the memory that each receiver uses."""
PULLED_TOGETHER: Final = 30
"""How many messages a receiver pulls at most at a time. These messages fit into memory even at the largest size."""
PULLED_BYTES: Final = 4 * MIB
"""A receiver pulls fewer messages if, judging by recent messages, their bytes would exceed this number."""
SEGMENT_MESSAGES: Final = 5_000
SEGMENT_BYTES: Final = 16 * MIB
"""A receiver stores its messages in memory as soon as it has this many messages, or this many bytes."""
ELSEWHERE_BYTES: Final = 32 * MIB
"""Bodies in S3 are fetched in parallel, together at most this many bytes. A larger body is fetched alone."""
DEADLINE_SECONDS: Final = 60
"""If a receiver dies, its messages are delivered again after this time. A receiver that still works renews it."""
_SEGMENT_SECONDS: Final = 15.0
"""Messages are in memory for at most this long before they are stored, so most are stored before their deadline must be
renewed.
"""


@dataclass(slots=True)
class Drained:
    """The outcome of draining a topic. It is `exhausted` if no more messages arrived before the time was up."""

    messages: int = 0
    entries: int = 0
    segments: int = 0
    exhausted: bool = True
    jobs: set[JobKey] = field(default_factory=set)


class _Pace:
    """Decides how many messages a receiver pulls at a time, from the size of recent messages of all receivers."""

    def __init__(self) -> None:
        self._size = 0.0

    @property
    def most(self) -> int:
        """How many messages a receiver may pull now."""
        if not self._size:
            return min(PULLED_TOGETHER, MAX_REQUEST_MESSAGES)
        return max(1, min(PULLED_TOGETHER, int(PULLED_BYTES / self._size)))

    def saw(self, size: float) -> None:
        """Adapt to the mean size of received messages: at once if the size grew, gradually if the size shrank."""
        self._size = max(1.0, size, (self._size + size) / 2)


@dataclass(frozen=True, slots=True)
class Drainer:
    """Collects a topic's messages.

    Attributes:
        deadline: for how many seconds pulled messages are hidden from other receivers; renewed if storing takes longer.
        keeps_headers: whether to store the headers that messages carry. This is needed if the processors that sent the
            messages do not use the same store as this drainer.
    """

    topic: Topic
    store: Store
    receivers: int = RECEIVERS
    deadline: int = DEADLINE_SECONDS
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    keeps_headers: bool = False
    _kept: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def keep_header(self, message: Message) -> None:
        """If `keeps_headers`, store the header of a step's outputs, which a message carries as an attribute. Raises
        MessageError if the header cannot be read, or differs from the header of earlier outputs.
        """
        attributes = message.attributes
        if not (self.keeps_headers and HEADER in attributes and ">" in attributes.get(LINEAGE, ">")):
            return
        header = Headers().read(attributes[HEADER])
        job = JobKey(attributes.get(SOURCE, ""), workflow_name(attributes.get(WORKFLOW, "")))
        key = key_of_stage(job.id, self.topic.name)
        if key not in self._kept:
            with suppress(ConflictError):
                self.store.put(key, header, if_absent=True)
            self._kept[key] = self.store.read(key)
        # guard[False]: outputs with another header than those before are not collected
        if self._kept[key] != header:
            raise MessageError("its header differs from that of earlier outputs")

    def drain(
        self,
        receive_message_timeout: float,
        time_left: Callable[[], float] = lambda: inf,
        on_progress: Callable[[int, int], None] = lambda _messages, _entries: None,
    ) -> Drained:
        """Store and acknowledge messages until no more arrive for `receive_message_timeout` seconds, or `time_left`
        returns 0 or less. `on_progress` is called with the numbers of messages and entries that were just stored.

        Messages that were not stored are delivered again, also if an error is raised.
        """
        drained = Drained()
        with ThreadPoolExecutor(self.receivers, thread_name_prefix="parcelq-drain") as pool:
            pace, room = _Pace(), Room(ELSEWHERE_BYTES)
            receivers = [
                _Receiver(self, receive_message_timeout, time_left, on_progress, pace, room)
                for _ in range(self.receivers)
            ]
            for one in [pool.submit(receiver.receive) for receiver in receivers]:
                part = one.result()
                drained.messages += part.messages
                drained.entries += part.entries
                drained.segments += part.segments
                drained.exhausted &= part.exhausted
                drained.jobs |= part.jobs
        return drained


@dataclass(slots=True)
class _Receiver:
    """One of several receivers of a topic, each in its own thread; see `Drainer.drain`."""

    drainer: Drainer
    receive_message_timeout: float
    time_left: Callable[[], float]
    on_progress: Callable[[int, int], None]
    pace: _Pace
    room: Room
    drained: Drained = field(default_factory=Drained)
    held: Held = field(init=False)

    def __post_init__(self) -> None:
        self._hold_nothing()

    def receive(self) -> Drained:
        """Store and acknowledge messages until no more arrive or time is up."""
        clock, topic, deadline = self.drainer.clock, self.drainer.topic, self.drainer.deadline
        quiet_since = clock()
        with Lease(topic, timeout=deadline, at_once=False) as lease:
            while True:
                quiet = clock() - quiet_since
                segment_due = self.held.since + _SEGMENT_SECONDS - clock() if self.held.pulled else inf
                longest = min(MAX_LONG_POLL_SECONDS, self.receive_message_timeout - quiet, segment_due)
                wait = max(0.0, min(longest, self.time_left()))
                pulled = topic.pull(1, self.pace.most, wait, deadline=deadline)
                came = bool(pulled)
                if came:
                    lease.add(one.receipt() for one in pulled)
                    self.pace.saw(sum(one.size for one in pulled) / len(pulled))
                    pulled.reverse()
                    while pulled:
                        if self._take(pulled.pop(), lease):
                            quiet_since = clock()
                out_of_time = self.time_left() <= 0
                ended = out_of_time or (not came and clock() - quiet_since >= self.receive_message_timeout)
                if ended or not came or self._is_full():
                    self._store(lease)
                if ended:
                    self.drained.exhausted = not out_of_time
                    return self.drained

    def _take(self, one: Pulled, lease: Lease) -> bool:
        """Keep a message in memory. If the messages in memory are enough for a segment, store all of them. Return
        whether the message can be read.
        """
        if not self.held.pulled:
            self.held.since = self.drainer.clock()
        elsewhere = SIZE_ELSEWHERE in one.attributes or OLD_SIZE_ELSEWHERE in one.attributes
        # A message that fills a segment is stored while its memory is still reserved. So the largest messages, which
        # reserve all memory, are in memory one at a time.
        with self.room.taken(_size_elsewhere(one)) if elsewhere else nullcontext():
            try:
                message = self.drainer.topic.read(one)
                self.drainer.keep_header(message)
                self.held.add(one, message)
            except MessageError as error:
                # The message is neither refreshed nor acknowledged. So the topic's redrive policy moves the message to
                # the dead-letter topic, and the message is not lost.
                # guard[self.held.pulled.append(one)]: a message that nobody can read stays on the output topic
                lease.drop([one])
                _log.warning("message %s cannot be read: %s", one.message_id, error)
                return False
            if self._is_full():
                self._store(lease)
        return True

    def _is_full(self) -> bool:
        return (
            self.held.size >= SEGMENT_BYTES
            or self.held.count >= SEGMENT_MESSAGES
            or self.drainer.clock() - self.held.since >= _SEGMENT_SECONDS
        )

    def _store(self, lease: Lease) -> None:
        """Store and acknowledge the messages in memory; do nothing if no messages are in memory."""
        held, drainer = self.held, self.drainer
        if held.pulled:
            # guard[topic = drainer.topic.name; self._acknowledge(held.pulled)]: messages are acknowledged only after
            # they are stored
            topic = drainer.topic.name
            for _ in in_flight(partial(self._write, topic), held.pieces.items()):
                pass
            self._acknowledge(held.pulled)
            lease.drop(held.pulled)
            entries = sum(one.entries for pieces in held.pieces.values() for one in pieces if not one.dead)
            self.drained.segments += len(held.pieces)
            self.drained.jobs |= held.pieces.keys()
            self.drained.messages += len(held.pulled)
            self.drained.entries += entries
            self.on_progress(len(held.pulled), entries)
        self._hold_nothing()

    def _write(self, topic: str, held: tuple[JobKey, list[Piece]]) -> None:
        job, pieces = held
        store, versions, now = self.drainer.store, self.held.versions.get(job, ()), self.drainer.now()
        cost = self.held.costs.get(job, NOTHING)
        write_segment(store, topic, job, pieces, versions, self.held.first, now, cost, METER.take())

    def _hold_nothing(self) -> None:
        self.held = Held(self.drainer.clock(), self.drainer.now())

    def _acknowledge(self, stored: list[Pulled]) -> None:
        try:
            left = self.drainer.topic.acknowledge(stored)
        except ParcelqError as error:  # the messages are delivered again, but their lineage marks the duplicates
            _log.warning("stored, but not acknowledged: %s", error)
        else:
            if left:
                _log.warning("%d of %d stored messages were not acknowledged", len(left), len(stored))


def _size_elsewhere(pulled: Pulled) -> int:
    """Return how many bytes a body in S3 has, according to the message; `ELSEWHERE_BYTES` if unknown."""
    sizes = (parse_count(pulled.attributes.get(name, "")) for name in (SIZE_ELSEWHERE, OLD_SIZE_ELSEWHERE))
    return next((size for size in sizes if size is not None), ELSEWHERE_BYTES)
