"""A topic in the memory of one process, which behaves like SQS but sends no requests and encodes nothing."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Condition, RLock
from typing import Final

from parcelq.errors import InvalidValueError
from parcelq.limits import MAX_ATTRIBUTES, MAX_DELAY_SECONDS, MIB
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import Counts, FailedMessage, Published, check_deadline, check_pull

_READY, _HELD, _DELAYED, _GONE = range(4)
"""The states of a message, in the order of `Counts`; `_GONE` if the topic no longer has the message."""
_LONGEST_WAIT: Final = 3600.0
_OVERHEAD: Final = 512
"""The approximate bytes of memory that a message takes besides its body and attributes."""
_STALE: Final = 1000
_NO_MESSAGE: Final = Message(b"")


class _Item:
    """A message of a topic. `receipt` is the receipt of the message's latest delivery, and `due` is the time when the
    message becomes visible.
    """

    __slots__ = ("due", "message", "message_id", "receipt", "received", "sent", "size", "state")

    def __init__(self, message: Message, message_id: str, sent: float, size: int) -> None:
        self.message = message
        self.message_id = message_id
        self.sent = sent
        self.size = size
        self.received = 0
        self.receipt = ""
        self.due = 0.0
        self.state = _GONE


class MemoryTopic:
    """A `Topic` whose messages are in the memory of this process. Any number of threads may use the topic.

    The topic behaves like SQS. A message is delivered again if it is not acknowledged before its deadline. Deliveries
    are counted. Only the receipt of a message's latest delivery acknowledges the message.

    `publish` never waits, so that a message pulled from a topic can always be published there again. An uploader passes
    its messages through `when_there_is_room` first.

    Args:
        deadline_seconds: the acknowledgement deadline, in seconds, of messages that are pulled without a deadline.
        max_bytes: how many bytes of memory the messages take at most before `when_there_is_room` waits.
        max_receive_count: how often a message is delivered before it goes to the dead-letter topic; 0 for no limit.
        on_change: a function that is called with each message, and 1 before it can be pulled or -1 when it is deleted.
        clock: a function that returns the time in seconds; by default a monotonic clock.
        wait: a function that waits for a condition, but at most for a number of seconds; a test can pass a function
            that advances an artificial clock.

    Attributes:
        size: the approximate bytes of memory that the messages take.
    """

    def __init__(
        self,
        name: str,
        *,
        deadline_seconds: float = 30,
        max_bytes: int = 64 * MIB,
        max_receive_count: int = 0,
        dead_letter_topic: MemoryTopic | None = None,
        on_change: Callable[[Message, int], None] = lambda _message, _change: None,
        clock: Callable[[], float] | None = None,
        wait: Callable[[Condition, float], object] = Condition.wait,
    ) -> None:
        self.name = name
        self.size = 0
        self._deadline = deadline_seconds
        self._max_bytes = max_bytes
        self._max_receive_count = max_receive_count if dead_letter_topic else 0
        self._dead_letters = dead_letter_topic
        self._on_change = on_change
        self._clock = clock or time.monotonic
        self._epoch = 0.0 if clock else time.time() - time.monotonic()
        self._wait = wait
        self._lock = RLock()
        self._filled = Condition(self._lock)
        self._emptied = Condition(self._lock)
        self._closed = False
        self._ids = f"{uuid.uuid4().hex}-"  # message ids differ between topics, and between runs of a program
        self._numbers = count()
        self._items: dict[str, _Item] = {}
        self._ready: deque[_Item] = deque()
        self._timers: list[tuple[float, int, _Item]] = []
        self._counts = [0, 0, 0, 0]

    def publish(self, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        if not 0 <= delay_seconds <= MAX_DELAY_SECONDS:
            raise InvalidValueError("delay_seconds", delay_seconds, f"0 to {MAX_DELAY_SECONDS} seconds")
        published, failed = 0, []
        for message in messages:
            if reason := _refusal(message):
                failed.append(FailedMessage(message, "InvalidAttributeValue", reason, sender_fault=True))
                continue
            with self._lock:
                now = self._clock()
                self._add(message, now + self._epoch, _size_of(message), now, delay_seconds)
            published += 1
        return Published(published, failed)

    def when_there_is_room(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield messages for `publish`, each when the topic's messages take so little memory that it has room."""
        for message in messages:
            size = _size_of(message)
            with self._lock:
                while self.size and self.size + size > self._max_bytes and not self._closed:
                    self._wait(self._emptied, _LONGEST_WAIT)
            yield message

    def pull(
        self,
        min_messages: int = 1,
        max_messages: int = 10,
        receive_message_timeout: float = 300,
        *,
        deadline: int | None = None,
    ) -> list[Pulled]:
        """See `Topic.pull`. The oldest messages usually come first."""
        check_pull(min_messages, max_messages, receive_message_timeout)
        locked = self._deadline if deadline is None else deadline
        with self._lock:
            until = self._clock() + receive_message_timeout
            pulled: list[Pulled] = []
            while True:
                now = self._clock()
                self._release(now)
                self._deliver(pulled, max_messages, now + locked)
                if len(pulled) >= min_messages or now >= until or self._closed:
                    return pulled
                next_timer = self._timers[0][0] if self._timers else until
                self._wait(self._filled, min(_LONGEST_WAIT, min(until, next_timer) - now))

    def read(self, pulled: Pulled) -> Message:
        return pulled.message()

    def acknowledge(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """See `Topic.acknowledge`. Messages that were delivered again are not deleted."""
        failed: list[Pulled] = []
        with self._lock:
            for pulled in messages:
                item = self._items.get(pulled.message_id)
                if item is not None and item.receipt != pulled.receipt_handle:
                    failed.append(pulled)
                elif item is not None:
                    self._drop(item)
            if len(self._timers) > 2 * len(self._items) + _STALE:
                self._timers[:] = [one for one in self._timers if _is_valid(one)]
                heapify(self._timers)
            self._emptied.notify_all()
        return failed

    def refresh_deadline(self, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
        check_deadline(timeout)
        failed: list[Pulled] = []
        with self._lock:
            now = self._clock()
            self._release(now)
            for pulled in messages:
                item = self._items.get(pulled.message_id)
                if item is None or item.receipt != pulled.receipt_handle or item.state != _HELD:
                    failed.append(pulled)
                else:
                    self._set_timer(item, now + timeout)
            self._release(now)
        return failed

    def counts(self) -> Counts:
        """Return the exact numbers of messages."""
        with self._lock:
            self._release(self._clock())
            return Counts(*self._counts[:3])

    def dead_letter_topic(self) -> MemoryTopic | None:
        """The dead-letter topic that this topic was created with."""
        return self._dead_letters

    def close(self) -> None:
        """End all waiting for messages or room, and never wait again."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()
            self._emptied.notify_all()

    def _add(self, message: Message, sent: float, size: int, now: float, delay: float) -> None:
        item = _Item(message, f"{self._ids}{next(self._numbers)}", sent, size)
        self._items[item.message_id] = item
        self.size += size
        self._on_change(message, 1)
        if delay > 0:
            self._move(item, _DELAYED)
            self._set_timer(item, now + delay)
        else:
            self._show(item)

    def _deliver(self, pulled: list[Pulled], most: int, due: float) -> None:
        while self._ready and len(pulled) < most:
            item = self._ready.popleft()
            if item.state != _READY:
                continue
            if self._dead_letters and self._max_receive_count and item.received >= self._max_receive_count:
                # The message moves under this topic's lock, so that no count misses it. Dead-letter topics never form a
                # cycle.
                self._dead_letters._adopt(item)
                self._drop(item)
                continue
            item.received += 1
            item.receipt = f"{item.message_id}.{item.received}"
            self._move(item, _HELD)
            self._set_timer(item, due)
            pulled.append(Pulled(item.message_id, item.receipt, item.received, item.message, item.sent))

    def _adopt(self, item: _Item) -> None:
        """Add a message from another topic without changing the time at which the message was published."""
        with self._lock:
            self._add(item.message, item.sent, item.size, self._clock(), 0)

    def _release(self, now: float) -> None:
        """Make messages visible if their timers have expired."""
        while self._timers and self._timers[0][0] <= now:
            timer = heappop(self._timers)
            if _is_valid(timer):
                self._show(timer[2])

    def _show(self, item: _Item) -> None:
        self._move(item, _READY)
        self._ready.append(item)
        self._filled.notify()

    def _set_timer(self, item: _Item, due: float) -> None:
        item.due = due
        if not self._timers or due < self._timers[0][0]:
            self._filled.notify_all()  # threads that wait for the next timer must wake for this earlier timer
        heappush(self._timers, (due, next(self._numbers), item))

    def _move(self, item: _Item, state: int) -> None:
        self._counts[item.state] -= 1
        self._counts[state] += 1
        item.state = state

    def _drop(self, item: _Item) -> None:
        del self._items[item.message_id]
        self.size -= item.size
        self._move(item, _GONE)
        self._on_change(item.message, -1)
        item.message = _NO_MESSAGE  # a timer may still refer to the item


def _is_valid(timer: tuple[float, int, _Item]) -> bool:
    due, _, item = timer
    return item.due == due and item.state in {_HELD, _DELAYED}


def _size_of(message: Message) -> int:
    size = len(message.body) + _OVERHEAD
    for name, value in message.attributes.items():
        size += len(name) + len(value)
    return size


def _refusal(message: Message) -> str:
    """Return the reason why SQS would refuse a message's attributes; empty if SQS would accept the attributes."""
    attributes = message.attributes
    if len(attributes) > MAX_ATTRIBUTES:
        return f"the message has {len(attributes)} attributes; SQS allows {MAX_ATTRIBUTES}"
    if "" in attributes.values():
        return "an attribute is empty, which SQS refuses"
    return ""
