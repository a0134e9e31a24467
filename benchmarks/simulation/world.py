"""Simulates time, topics, and functions that Lambda invokes with the messages of topics."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from parcelq_cli.estimate.facts import COLD_SECONDS, MORE_PER_SECOND, POLLERS, SQS_SECONDS

FIRST_BACK_OFF: Final = 1.0
LAST_BACK_OFF: Final = 60.0
"""After how many seconds an event source retries a throttled batch. AWS says that the time grows, and that retries
continue until the acknowledgement deadline:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html. The
numbers are assumptions.
"""
Batch = list[tuple[Any, int]]
"""Groups of equal messages: for each group, the content of its messages, and their number."""


class World:
    """The simulated time in seconds, and the events that will happen. All random choices come from one seed."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.is_ended = False
        self.chance = random.Random(seed)
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function after `seconds` seconds of simulated time."""
        heappush(self._waiting, (self.now + seconds, next(self._numbers), call))

    def run(self) -> None:
        """Run events until the simulation ends. Raises RuntimeError if no event is left."""
        while not self.is_ended:
            if not self._waiting:
                raise RuntimeError(f"nothing happens any more after {self.now:,.0f} s")
            self.now, _, call = heappop(self._waiting)
            call()


@dataclass(slots=True)
class Topic:
    """A simulated topic. A batch for which no function is free stays locked for `deadline` seconds.

    A message is visible, locked because an invocation has it, or delayed because it is not due yet.
    """

    world: World
    deadline: float
    visible: int = 0
    locked: int = 0
    most_locked: int = 0
    delayed: int = 0
    published: int = 0
    on_message: Callable[[], object] = lambda: None
    _queue: deque[tuple[Any, int]] = field(default_factory=deque)

    @property
    def is_empty(self) -> bool:
        """Return whether all three counts of SQS are zero."""
        return not self.visible + self.locked + self.delayed

    def publish(self, number: int = 1, text: Any = None, delay: float = 0.0) -> None:
        """Publish `number` equal messages."""
        if number:
            self.published += number
            self.delayed += number
            self.world.after(max(delay, SQS_SECONDS), lambda: self._arrive([(text, number)], "delayed"))

    def take(self, most: int) -> Batch:
        """Lock up to `most` messages."""
        taken: Batch = []
        while self._queue and most:
            text, number = self._queue.popleft()
            if number > most:
                self._queue.appendleft((text, number - most))
                number = most
            taken.append((text, number))
            most -= number
        self.visible -= size(taken)
        self.locked += size(taken)
        self.most_locked = max(self.most_locked, self.locked)
        return taken

    def acknowledge(self, number: int) -> None:
        """Delete `number` locked messages."""
        self.locked -= number

    def release(self, batch: Batch, seconds: float) -> None:
        """Let the messages of a batch be delivered again after `seconds` seconds."""
        self.world.after(seconds, lambda: self._arrive(batch, "locked"))

    def _arrive(self, batch: Batch, before: str) -> None:
        setattr(self, before, getattr(self, before) - size(batch))
        self.visible += size(batch)
        self._queue.extend(batch)
        self.on_message()


def size(batch: Batch) -> int:
    """Return how many messages a batch has."""
    return batch[0][1] if len(batch) == 1 else sum(number for _, number in batch)


@dataclass(slots=True)
class Account:
    """The concurrent invocations that the account allows; `throttled` counts refused invocations."""

    limit: int
    running: int = 0
    most: int = 0
    throttled: int = 0

    def begin(self, number: int) -> bool:
        """Begin `number` invocations and return True, or return False if the account refuses the invocations."""
        if self.running + number > self.limit:
            self.throttled += number
            return False
        self.running += number
        self.most = max(self.most, self.running)
        return True


@dataclass(slots=True)
class Used:
    """The resources that a function used: the number of invocations, the total and the longest seconds, and the peak
    memory in bytes.
    """

    invocations: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    memory: float = 0.0
    lost: int = 0

    def add(self, number: int, seconds: float) -> None:
        """Count `number` invocations that lasted `seconds` seconds each."""
        self.invocations += number
        self.seconds += number * seconds
        self.longest = max(self.longest, seconds)


@dataclass(slots=True)
class Function:
    """A simulated function and its event source.

    Attributes:
        account: the account's concurrency.
        topic: the topic whose messages the function gets.
        work: a function that begins an invocation. Its arguments are the messages, the number of invocations that it
            simulates, and a function to call at the end.
        most: the event source's `MaximumConcurrency`.
        together: the most messages of an invocation.
        at_once: how many invocations are simulated as one, to save time.
        lost: the share of invocations that die.
        back: after how many seconds the messages of an invocation that died are delivered again.
        used: the resources that the function used.
    """

    account: Account
    topic: Topic
    work: Callable[[Batch, int, Callable[[float], None]], None]
    most: int
    together: int
    at_once: int = 1
    lost: float = 0.0
    back: float = 60.0
    used: Used = field(default_factory=Used)
    _running: int = 0
    _warm: int = 0
    _since: float = 0.0
    _is_growing: bool = False

    def __post_init__(self) -> None:
        self.topic.on_message = self.poll

    def poll(self) -> None:
        """Begin as many invocations as the messages need and the event source allows."""
        world = self.topic.world
        if not self._running and not self._is_growing:
            self._since = world.now
        while self.topic.visible:
            allowed = min(self.most, POLLERS + MORE_PER_SECOND * (world.now - self._since))
            room = min(self.at_once, int(allowed) - self._running)
            if room < min(self.at_once, self.most, POLLERS):
                self._poll_later()
                return
            batch = self.topic.take(room * self.together)
            number = -(-size(batch) // self.together)
            self._running += number
            self._begin(batch, number, FIRST_BACK_OFF, world.now + self.topic.deadline)

    def _poll_later(self) -> None:
        """Poll again when the event source may have grown; if the event source cannot grow, the end of an invocation
        polls.
        """
        if self._running < self.most and not self._is_growing:
            self._is_growing = True
            self.topic.world.after(self.at_once / MORE_PER_SECOND, self._grown)

    def _grown(self) -> None:
        self._is_growing = False
        self.poll()

    def _begin(self, batch: Batch, number: int, back_off: float, until: float) -> None:
        world = self.topic.world
        if not self.account.begin(number):
            if world.now + back_off >= until:  # SQS delivers the batch again
                self._running -= number
                self.topic.release(batch, max(0.0, until - world.now))
            else:
                later = min(LAST_BACK_OFF, 2 * back_off)
                wait = back_off * (0.5 + world.chance.random())
                world.after(wait, lambda: self._begin(batch, number, later, until))
            return
        cold = max(0, number - self._warm)
        self._warm = max(0, self._warm - number)
        start = COLD_SECONDS * cold / number

        def end(seconds: float) -> None:
            """End an invocation that worked for `seconds` seconds."""
            self.used.add(number, seconds + start)
            self.topic.acknowledge(size(batch))
            self._ended(number)

        if self.lost and world.chance.random() < self.lost:
            self.used.lost += number
            self.used.add(number, start)
            self.topic.release(batch, self.back)
            world.after(start, lambda: self._ended(number))
        else:
            world.after(start, lambda: self.work(batch, number, end))

    def _ended(self, number: int) -> None:
        self._running -= number
        self._warm += number
        self.account.running -= number
        self.poll()
