"""The cost of work on AWS: each invocation of a function measures its cost, and sends the cost with its output
messages.

A message's attribute `Cost` is the cost in the attributes of the messages from which it was made, plus the cost of all
work that an instance of a function did since its previous message. So only the work after an instance's last message is
missing. A segment adds up the costs of its messages. The attribute is a list of whole numbers in JSON, in the order of
the members of `Cost`. The last member is a list of pairs without brackets: the number of a class of durations, then a
count of runs.
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

from parcelq.limits import BILLING_UNIT_BYTES

COST: Final = "Cost"
"""The name of the attribute."""
_LAST_CLASS: Final = 127
"""The largest class of durations; it contains durations of 64 bits."""
_FREE: Final = ("Delete", "Abort")
"""Prefixes of the requests that are free in S3: https://aws.amazon.com/s3/pricing/"""


class Cost(NamedTuple):
    """The AWS resources that work has used.

    Attributes:
        ms: how many milliseconds the invocations lasted together.
        mb_ms: the sum over all invocations of milliseconds times the megabytes of the function's memory.
        requests: how many requests were sent to AWS; a request and its retries count as one.
        sqs: how many requests SQS charges, which is one per 64 KiB of a payload.
        puts: how many requests to S3 write or list, which have the price of PUT.
        gets: how many requests to S3 have the price of GET.
        run_ms: how many milliseconds successful runs of steps lasted together.
        runs: how many successful runs were in each class of durations; see `duration_class`.
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
        """Return the cost of one run of a step that lasted `seconds`."""
        ms = round(1000 * seconds)
        return cls(run_ms=ms, runs={duration_class(ms): 1})

    @classmethod
    def parse(cls, value: object) -> Cost:
        """Read a cost from a text made by `str` or a list made by `numbers`. An invalid value gives an empty cost,
        because no work depends on costs.
        """
        try:
            *numbers, runs = json.loads(value) if isinstance(value, str) else value  # type: ignore[misc]
            is_whole = len(numbers) == len(cls._fields) - 1
            numbers_fit = all(type(one) is int and 0 <= one < 1 << 60 for one in (*numbers, *runs))
            if is_whole and numbers_fit and max(runs[::2], default=0) <= _LAST_CLASS:
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
    """Return the number of the class of a duration; see `class_end`."""
    return floor(2 * log2(ms + 1))


def class_end(number: int) -> float:
    """Return the milliseconds at which a class of durations ends. They double every two classes."""
    return float(2 ** ((number + 1) / 2) - 1)


class Meter:
    """Counts the resources that a process uses. Each call of `take` returns the cost since the previous call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spent = NOTHING
        self._counts = [0, 0, 0, 0]
        self._since: float | None = None
        self._megabytes = 0

    def watch(self, *clients: Any) -> None:
        """Count the requests of boto3 clients from now on. Watching a client twice changes nothing."""
        for client in clients:
            client.meta.events.register("before-call", self._note, unique_id="parcelq-meter")

    @contextmanager
    def invocation(self, megabytes: int) -> Iterator[None]:
        """Count an invocation of a Lambda function with `megabytes` of memory that lasts as long as this context."""
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
        """Add a cost to the next result of `take`."""
        if cost != NOTHING:
            with self._lock:
                self._spent += cost

    def take(self) -> Cost:
        """Return the cost of the work since the last call of `take`."""
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
            sqs = max(1, -(-len((params or {}).get("body") or b"") // BILLING_UNIT_BYTES))
        elif not name.startswith(_FREE):
            gets = name.startswith(("Get", "Head"))
            puts = not gets
        with self._lock:
            self._counts = [one + more for one, more in zip(self._counts, (1, sqs, puts, gets), strict=True)]


METER: Final = Meter()
"""The meter of this process; all clients of a function's instance use it."""
