"""What work costs: counted in each invocation, and carried by the messages that the work leads to.

A message's attribute `Cost` is what it cost to make it, and what its instance spent since the message before it: so the
messages of an instance carry all that it spent, but for what follows the very last of them. A segment adds up what the
messages in it carry. An attribute is a list of whole numbers in JSON, in the order of the members of `Cost`; the last
one is a list of classes and counts in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import floor, log2
from operator import add
from threading import Lock
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, NamedTuple

COST: Final = "Cost"
"""The attribute."""
_SQS_BYTES: Final = 64 * 1024
"""Each 64 KiB of a payload are charged as a request: https://aws.amazon.com/sqs/pricing/"""
_FREE: Final = ("Delete", "Abort")
"""Names of requests begin with this that S3 asks nothing for: https://aws.amazon.com/s3/pricing/"""


class Cost(NamedTuple):
    """What was spent.

    Attributes:
        invocations: invocations of functions.
        ms: milliseconds that they took.
        mb_ms: the same, each times the megabytes of its function.
        requests: requests to AWS; retries of one request count once.
        sqs: those to SQS, in units of 64 KiB that were sent.
        puts: those to S3 at the price of PUT: writing and listing.
        gets: those to S3 at the price of GET.
        run_ms: milliseconds of runs of steps that succeeded.
        runs: how many of those took how long, by `duration_class`.
    """

    invocations: int = 0
    ms: int = 0
    mb_ms: int = 0
    requests: int = 0
    sqs: int = 0
    puts: int = 0
    gets: int = 0
    run_ms: int = 0
    runs: Mapping[int, int] = MappingProxyType({})

    @classmethod
    def of_run(cls, seconds: float) -> Cost:
        """A run that took so long."""
        ms = round(1000 * seconds)
        return cls(run_ms=ms, runs={duration_class(ms): 1})

    @classmethod
    def parse(cls, told: object) -> Cost:
        """Read what `numbers` or `str` made; nothing where it cannot be that: nobody's work depends on it."""
        try:
            *numbers, runs = json.loads(told) if isinstance(told, str) else told  # type: ignore[misc]
            is_whole = len(numbers) == len(cls._fields) - 1
            if is_whole and all(type(one) is int and 0 <= one < 1 << 60 for one in (*numbers, *runs)):
                return cls._make([*numbers, dict(zip(runs[::2], runs[1::2], strict=True))])
        except (ValueError, TypeError, RecursionError):
            pass
        return NOTHING

    def numbers(self) -> list[Any]:
        """The members in order, as JSON holds them."""
        runs = [number for pair in sorted(self.runs.items()) for number in pair]
        return [*self[:-1], runs]

    def __str__(self) -> str:
        return json.dumps(self.numbers(), separators=(",", ":"))

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override] # costs are added, not joined as tuples
        if other is NOTHING or self is NOTHING:  # there is one addition a message
            return self if other is NOTHING else other
        runs = dict(self.runs)
        for number, count in other.runs.items():
            runs[number] = runs.get(number, 0) + count
        return Cost._make([*map(add, self[:-1], other[:-1]), runs])


NOTHING: Final = Cost()


def duration_class(ms: int) -> int:
    """The class of a duration: two for each doubling, so that class `n` ends at `class_end(n)` milliseconds."""
    return floor(2 * log2(ms + 1))


def class_end(number: int) -> float:
    """Milliseconds at which a class of durations ends; so the one after it begins."""
    return float(2 ** ((number + 1) / 2) - 1)


class Meter:
    """Counts what a process spends. What nobody has taken yet is there for the next one who does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spent = NOTHING
        self._counts = [0, 0, 0, 0]
        self._since: float | None = None
        self._megabytes = 0

    def watch(self, *clients: Any) -> None:
        """Count the requests of boto3 clients; those of a client that is watched already are counted once."""
        for client in clients:
            client.meta.events.register("before-call", self._note, unique_id="parcelq-meter")

    @contextmanager
    def invocation(self, megabytes: int) -> Iterator[None]:
        """Count an invocation of a function with this memory, and the time that it takes."""
        with self._lock:
            self._since, self._megabytes = monotonic(), int(megabytes)
            self._spent += Cost(invocations=1)
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._since = None

    def add(self, cost: Cost) -> None:
        """Add what is spent elsewhere, to be taken here."""
        if cost != NOTHING:
            with self._lock:
                self._spent += cost

    def take(self) -> Cost:
        """Return what was spent since this was asked last."""
        with self._lock:
            self._count()
            spent, self._spent = self._spent, NOTHING
        return spent

    def _count(self) -> None:
        requests, self._counts = self._counts, [0, 0, 0, 0]
        ms = 0
        if self._since is not None:
            ms = int(1000 * (monotonic() - self._since))
            self._since += ms / 1000
        if ms or any(requests):
            total, sqs, puts, gets = requests
            self._spent += Cost(0, ms, ms * self._megabytes, total, sqs, puts, gets)

    def _note(self, model: Any = None, params: Mapping[str, Any] | None = None, **_: Any) -> None:
        sqs = puts = gets = 0
        name = str(getattr(model, "name", ""))
        if model is not None and model.service_model.service_name == "sqs":
            sqs = max(1, -(-len((params or {}).get("body") or b"") // _SQS_BYTES))
        elif not name.startswith(_FREE):
            gets = name.startswith(("Get", "Head"))
            puts = not gets
        with self._lock:
            self._counts = [one + more for one, more in zip(self._counts, (1, sqs, puts, gets), strict=True)]


METER: Final = Meter()
"""That of this process: an instance of a function has one set of clients."""
