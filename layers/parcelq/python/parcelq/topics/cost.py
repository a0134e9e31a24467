"""The cost of work: counted in each invocation, and carried by output messages.

A message's attribute `Cost` is the cost of making it, plus what its instance used since the message before. So the
messages of an instance carry all costs except those after the last message. A segment adds up the costs of its
messages. The attribute is a list of whole numbers in JSON, in the order of the members of `Cost`; the last member is a
list that alternates classes and counts.
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
"""The name of the attribute."""
_SQS_BYTES: Final = 64 * 1024
"""SQS charges each 64 KiB of a payload as a request: https://aws.amazon.com/sqs/pricing/"""
_FREE: Final = ("Delete", "Abort")
"""Prefixes of the requests that are free in S3: https://aws.amazon.com/s3/pricing/"""


class Cost(NamedTuple):
    """Resources used.

    Attributes:
        invocations: invocations of functions.
        ms: their milliseconds.
        mb_ms: their milliseconds, each multiplied by the megabytes of its function.
        requests: requests to AWS; retries of one request count once.
        sqs: requests to SQS, in units of 64 KiB.
        puts: requests to S3 at the price of PUT: writing and listing.
        gets: requests to S3 at the price of GET.
        run_ms: milliseconds of successful runs of steps.
        runs: number of these runs by `duration_class`.
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
        """Return the cost of one run with a duration."""
        ms = round(1000 * seconds)
        return cls(run_ms=ms, runs={duration_class(ms): 1})

    @classmethod
    def parse(cls, told: object) -> Cost:
        """Read a text or list made by `str` or `numbers`; return an empty cost if it is invalid, because no work
        depends on it.
        """
        try:
            *numbers, runs = json.loads(told) if isinstance(told, str) else told  # type: ignore[misc]
            is_whole = len(numbers) == len(cls._fields) - 1
            if is_whole and all(type(one) is int and 0 <= one < 1 << 60 for one in (*numbers, *runs)):
                return cls._make([*numbers, dict(zip(runs[::2], runs[1::2], strict=True))])
        except (ValueError, TypeError, RecursionError):
            pass
        return NOTHING

    def numbers(self) -> list[Any]:
        """The members in order, as JSON values."""
        runs = [number for pair in sorted(self.runs.items()) for number in pair]
        return [*self[:-1], runs]

    def __str__(self) -> str:
        return json.dumps(self.numbers(), separators=(",", ":"))

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override] # costs are added, not joined as tuples
        if other is NOTHING or self is NOTHING:  # called once for each message
            return self if other is NOTHING else other
        runs = dict(self.runs)
        for number, count in other.runs.items():
            runs[number] = runs.get(number, 0) + count
        return Cost._make([*map(add, self[:-1], other[:-1]), runs])


NOTHING: Final = Cost()


def duration_class(ms: int) -> int:
    """Return the class of a duration: two classes for each doubling; class `n` ends at `class_end(n)` milliseconds."""
    return floor(2 * log2(ms + 1))


def class_end(number: int) -> float:
    """Return the milliseconds at which a class of durations ends and the next one begins."""
    return float(2 ** ((number + 1) / 2) - 1)


class Meter:
    """Counts the resources that a process uses. Each call of `take` returns what was used since the call before."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spent = NOTHING
        self._counts = [0, 0, 0, 0]
        self._since: float | None = None
        self._megabytes = 0

    def watch(self, *clients: Any) -> None:
        """Count the requests of boto3 clients; those of a client that is already watched are counted once."""
        for client in clients:
            client.meta.events.register("before-call", self._note, unique_id="parcelq-meter")

    @contextmanager
    def invocation(self, megabytes: int) -> Iterator[None]:
        """Count an invocation of a function with this memory, and its duration."""
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
        """Add resources that were used elsewhere."""
        if cost != NOTHING:
            with self._lock:
                self._spent += cost

    def take(self) -> Cost:
        """Return the resources used since the last call."""
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
"""The meter of this process; all clients of a function's instance use it."""
