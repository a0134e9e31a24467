"""The messages of a topic in memory, the states of these messages, and the timers that change the states."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Condition, RLock
from typing import Final

from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import Counts

Wait = Callable[[Condition, float], object]
"""A function that waits for a condition, but at most for a number of seconds."""

_LONGEST_WAIT: Final = 3600.0
_OVERHEAD: Final = 512
"""The approximate bytes of memory that a message takes besides its body and attributes."""
_STALE: Final = 1000
_NO_MESSAGE: Final = Message(b"")


class _State(IntEnum):
    READY = 0
    HELD = 1
    DELAYED = 2
    GONE = 3


class Item:
    """A message of the queue. `receipt` is the receipt of the message's latest delivery, and `due` is the time when the
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
        self.state = _State.GONE


class Queue:
    """The messages of a topic. Each message has one state. Each change of a message's state updates the count of
    messages in that state.

    `MemoryTopic.create` describes the arguments.
    """

    def __init__(
        self,
        deadline_seconds: float,
        max_bytes: int,
        max_receive_count: int,
        dead_letters: Queue | None,
        clock: Callable[[], float] | None,
        wait: Wait,
    ) -> None:
        self._dead_letters = dead_letters
        self._deadline = deadline_seconds
        self._max_bytes = max_bytes
        self._max_receive_count = max_receive_count if dead_letters else 0
        self._clock = clock or time.monotonic
        self._epoch = 0.0 if clock else time.time() - time.monotonic()
        self._wait = wait
        self._lock = RLock()
        self._filled = Condition(self._lock)
        self._emptied = Condition(self._lock)
        self._closed = False
        self._name = uuid.uuid4().hex  # message ids differ between topics, and between runs of a program
        self._numbers = count()
        self._items: dict[str, Item] = {}
        self._ready: deque[Item] = deque()
        self._timers: list[tuple[float, int, Item]] = []
        self._timer_numbers = count()
        self._counts = [0, 0, 0, 0]
        self.size = 0

    def put(self, message: Message, delay: float, *, wait: bool) -> None:
        """Add a message that becomes visible after `delay` seconds. If `wait` is true, first wait until the queue has
        space.
        """
        size = len(message.body) + _OVERHEAD
        for name, value in message.attributes.items():
            size += len(name) + len(value)
        with self._lock:
            while wait and self.size and self.size + size > self._max_bytes and not self._closed:
                self._wait(self._emptied, _LONGEST_WAIT)
            now = self._clock()
            item = Item(message, f"{self._name}-{next(self._numbers)}", now + self._epoch, size)
            self._add(item, now, delay)

    def adopt(self, item: Item) -> None:
        """Add a message from another topic without changing the time at which the message was published."""
        with self._lock:
            moved = Item(item.message, f"{self._name}-{next(self._numbers)}", item.sent, item.size)
            self._add(moved, self._clock(), 0)

    def take(self, least: int, most: int, timeout: float, deadline: float | None) -> list[Pulled]:
        """Wait up to `timeout` seconds for `least` messages, then deliver and lock at most `most` messages."""
        with self._lock:
            until = self._clock() + timeout
            pulled: list[Pulled] = []
            while True:
                now = self._clock()
                self._release(now)
                self._deliver(pulled, most, now + (self._deadline if deadline is None else deadline))
                if len(pulled) >= least or now >= until or self._closed:
                    return pulled
                next_timer = self._timers[0][0] if self._timers else until
                self._wait(self._filled, min(_LONGEST_WAIT, min(until, next_timer) - now))

    def remove(self, messages: Iterable[Pulled]) -> list[Pulled]:
        """Delete messages, and return the messages that were not deleted because they have been delivered again."""
        failed: list[Pulled] = []
        with self._lock:
            for pulled in messages:
                item = self._items.get(pulled.message_id)
                if item is not None and item.receipt != pulled.receipt_handle:
                    failed.append(pulled)
                elif item is not None:
                    self._drop(item)
            if len(self._timers) > 2 * len(self._items) + _STALE:
                self._timers[:] = [one for one in self._timers if self._is_valid(one)]
                heapify(self._timers)
            self._emptied.notify_all()
        return failed

    def hold(self, messages: Iterable[Pulled], timeout: float) -> list[Pulled]:
        """Set the deadline of locked messages, and return the messages whose receipts are no longer valid."""
        failed: list[Pulled] = []
        with self._lock:
            now = self._clock()
            self._release(now)
            for pulled in messages:
                item = self._items.get(pulled.message_id)
                if item is None or item.receipt != pulled.receipt_handle or item.state is not _State.HELD:
                    failed.append(pulled)
                else:
                    self._set_timer(item, now + timeout)
            self._release(now)
        return failed

    def counts(self) -> Counts:
        """Count the visible, locked and delayed messages."""
        with self._lock:
            self._release(self._clock())
            return Counts(*self._counts[:3])

    def close(self) -> None:
        """End all waiting for messages or space, and never wait again."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()
            self._emptied.notify_all()

    def _add(self, item: Item, now: float, delay: float) -> None:
        self._items[item.message_id] = item
        self.size += item.size
        if delay > 0:
            self._move(item, _State.DELAYED)
            self._set_timer(item, now + delay)
        else:
            self._move(item, _State.READY)
            self._ready.append(item)
            self._filled.notify()

    def _deliver(self, pulled: list[Pulled], most: int, due: float) -> None:
        while self._ready and len(pulled) < most:
            item = self._ready.popleft()
            if item.state is not _State.READY:
                continue
            if self._max_receive_count and item.received >= self._max_receive_count and self._dead_letters:
                # The message moves under this queue's lock, so that no count misses it. Dead-letter topics never form a
                # cycle.
                self._dead_letters.adopt(item)
                self._drop(item)
                continue
            item.received += 1
            item.receipt = f"{item.message_id}.{item.received}"
            self._move(item, _State.HELD)
            self._set_timer(item, due)
            pulled.append(Pulled(item.message_id, item.receipt, item.received, item.message, item.sent))

    def _release(self, now: float) -> None:
        """Make messages visible if their timers have expired."""
        while self._timers and self._timers[0][0] <= now:
            timer = heappop(self._timers)
            if self._is_valid(timer):
                item = timer[2]
                self._move(item, _State.READY)
                self._ready.append(item)
                self._filled.notify()

    def _set_timer(self, item: Item, due: float) -> None:
        item.due = due
        if not self._timers or due < self._timers[0][0]:
            self._filled.notify_all()  # threads that wait for the next timer must wake for this earlier timer
        heappush(self._timers, (due, next(self._timer_numbers), item))

    def _is_valid(self, timer: tuple[float, int, Item]) -> bool:
        due, _, item = timer
        return item.due == due and item.state in {_State.HELD, _State.DELAYED}

    def _move(self, item: Item, state: _State) -> None:
        self._counts[item.state] -= 1
        self._counts[state] += 1
        item.state = state

    def _drop(self, item: Item) -> None:
        del self._items[item.message_id]
        self.size -= item.size
        self._move(item, _State.GONE)
        item.message = _NO_MESSAGE  # a timer may still refer to the item
