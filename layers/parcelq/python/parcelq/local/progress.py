"""The progress of a job on one machine, for which messages are counted when they are published and acknowledged."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from parcelq.lineage.lineage import Lineage
from parcelq.topics.attributes import SOURCE
from parcelq.topics.message import Message

_FEW: Final = 64
"""If at most this many messages are in progress, threads that wait are woken whenever a message is done."""


class Progress(NamedTuple):
    """The progress of a job at one moment.

    Attributes:
        share: the fraction of the source's bytes that is done, from 0 to 1. This value never falls.
        entries: how many entries the last step has read so far.
        entries_per_second: how many entries per second the last step reads; 0 while unknown.
        seconds_left: how many seconds the remaining work takes at the present rate; None while unknown.
        dead: how many entries are dead.
        reason: why the newest dead entry failed; empty if no entry is dead.
        seconds: for how many seconds the job has run.
        map: the states of many equal parts of the source (see `source_map.KINDS`); empty if unknown.
    """

    share: float
    entries: int
    entries_per_second: float
    seconds_left: float | None
    dead: int
    reason: str
    seconds: float = 0.0
    map: str = ""


class WorkMeter:
    """Adds up the finished work of a job. Any thread may call its methods.

    Args:
        totals: maps each source to its number of bytes, or to an estimate.
        done: how many bytes of the sources had results when this run began.
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
        """Count bytes of the source that are done, and the entries that the last step read."""
        with self._lock:
            self._bytes += done_bytes
            self._entries += entries

    def add_dead(self, entries: int, reason: str) -> None:
        """Count dead entries."""
        with self._lock:
            self._dead += entries
            self._reason = reason

    def expect(self, source: str, total: int) -> None:
        """Set how many bytes a source has, or the best estimate so far."""
        with self._lock:
            self._total += total - self._totals[source]
            self._totals[source] = total

    def now(self) -> Progress:
        """Return the progress of the job."""
        with self._lock:
            self._shown = max(self._shown, min(1.0, self._bytes / max(1, self._total)))
            seconds = self._clock() - self._began
            gained = self._bytes - self._before
            left = (self._total - self._bytes) * seconds / gained if gained > 0 and seconds > 1 else None
            rate = self._entries / seconds if seconds > 0.2 else 0.0
            left = None if left is None else max(0.0, left)
            return Progress(self._shown, self._entries, rate, left, self._dead, self._reason, seconds)


def source_bytes(lineage: Lineage) -> float:
    """Return from how many bytes of the source a message was made; the messages of a split output share these bytes."""
    share = float(len(lineage.root))
    for output in lineage.outputs:
        total = output.span.total or len(output.span)
        share *= len(output.span) / total if total else 1.0
    return share


class Ledger:
    """Counts, for each source, the messages that are in progress on all topics of a job.

    A message is added before it is published, and removed after it is acknowledged. A message is acknowledged only
    after its outputs are published. So after the end of the upload, a count of 0 means that no message of the source is
    in progress.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._changed = threading.Condition()

    def note(self, message: Message, change: int) -> None:
        """Add 1 for a message that is about to be published, or -1 for a message that was acknowledged.

        While many messages are in progress, this wakes no waiting thread, because waking a thread for each message
        would take too much time.
        """
        with self._changed:
            self._counts[message.attributes.get(SOURCE, "")] += change
            self._total += change
            if change < 0 and self._total <= _FEW:
                self._changed.notify_all()

    def count(self, source: str) -> int:
        """Return how many messages of a source are in progress."""
        with self._changed:
            return self._counts[source]

    def total(self) -> int:
        """Return how many messages of all sources are in progress."""
        with self._changed:
            return self._total

    def wait(self, seconds: float) -> None:
        """Wait until a message is removed when few messages are in progress, or until `seconds` have passed."""
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """Wake all threads that are in `wait`."""
        with self._changed:
            self._changed.notify_all()
