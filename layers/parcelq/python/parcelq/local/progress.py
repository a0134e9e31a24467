"""How far a job on one machine is: counted as messages come and go, never looked up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from parcelq.lineage.lineage import Lineage

_FEW: Final = 64
"""When no more messages than this are under way, the end of each wakes waiting threads."""


class Progress(NamedTuple):
    """How far a job is at one moment.

    Attributes:
        share: how much of the source's bytes is done, from 0 to 1; it never falls.
        entries: entries that the last step has taken so far.
        entries_per_second: how many of them it takes a second; 0 while that is unknown.
        seconds_left: how long the rest takes at the rate so far; None while that is unknown.
        dead: entries that are dead.
        reason: why the newest of them failed; empty if there is none.
        seconds: how long it has taken so far.
        map: what became of equal parts of the source, a letter for each, where that is known; see `source_map.KINDS`.
    """

    share: float
    entries: int
    entries_per_second: float
    seconds_left: float | None
    dead: int
    reason: str
    seconds: float = 0.0
    map: str = ""


class Meter:
    """Adds up what is done of a job. All methods may be called from any thread.

    Args:
        totals: bytes of each source, or a first guess of them, by the source.
        done: bytes whose results were there when this run began.
        clock: returns a time in seconds.
    """

    def __init__(self, totals: Mapping[str, int], done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._totals = dict(totals)
        self._total = sum(totals.values())
        self._before = self._bytes = float(done)
        self._entries = self._dead = 0
        self._reason = ""
        self._clock = clock
        self._began = clock()
        self._shown = 0.0

    def add(self, done_bytes: float, entries: int) -> None:
        """Count bytes of the source that are done, and the entries that the last step took for them."""
        with self._lock:
            self._bytes += done_bytes
            self._entries += entries

    def add_dead(self, entries: int, reason: str) -> None:
        """Count entries that are dead."""
        with self._lock:
            self._dead += entries
            self._reason = reason

    def expect(self, source: str, total: int) -> None:
        """Set how many bytes a source has, as far as that is known now."""
        with self._lock:
            self._total += total - self._totals[source]
            self._totals[source] = total

    @property
    def dead(self) -> int:
        """Entries that are dead so far."""
        return self._dead

    def now(self) -> Progress:
        """Return how far the job is."""
        with self._lock:
            self._shown = max(self._shown, min(1.0, self._bytes / max(1, self._total)))
            seconds = self._clock() - self._began
            gained = self._bytes - self._before
            left = (self._total - self._bytes) * seconds / gained if gained > 0 and seconds > 1 else None
            rate = self._entries / seconds if seconds > 0.2 else 0.0
            left = None if left is None else max(0.0, left)
            return Progress(self._shown, self._entries, rate, left, self._dead, self._reason, seconds)


def source_bytes(lineage: Lineage) -> float:
    """Return how many bytes of the source a message stands for: its share of every output that it was cut from."""
    share = float(len(lineage.root))
    for output in lineage.outputs:
        total = output.span.total or len(output.span)
        share *= len(output.span) / total if total else 1.0
    return share


class Ledger:
    """Counts the messages of each source that are on any topic of a job.

    A message is counted before it is published and counted off after it is acknowledged, and whatever it led to is
    published before that. So after the end of the upload, a count of 0 means that no message of the source is under
    way.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._changed = threading.Condition()

    def add(self, source: str) -> None:
        """Count a message that is about to be published."""
        with self._changed:
            self._counts[source] += 1
            self._total += 1

    def remove(self, sources: Iterable[str]) -> None:
        """Count off messages that are gone.

        As long as many messages are under way, this wakes nobody: a thread that wakes for each takes the time of those
        that work.
        """
        with self._changed:
            for source in sources:
                self._counts[source] -= 1
                self._total -= 1
            if self._total <= _FEW:
                self._changed.notify_all()

    def count(self, source: str) -> int:
        """Return how many messages of a source are under way."""
        with self._changed:
            return self._counts[source]

    def total(self) -> int:
        """Return how many messages of all sources are under way."""
        with self._changed:
            return self._total

    def wait(self, seconds: float) -> None:
        """Wait until few messages are under way and one is counted off, for a number of seconds at most."""
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """End all waiting."""
        with self._changed:
            self._changed.notify_all()
