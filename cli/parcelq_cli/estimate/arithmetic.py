"""Rows of bills; times and costs of requests that do not depend on a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt

from parcelq.limits import BILLING_UNIT_BYTES, MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES
from parcelq.prices import Prices

from parcelq_cli.estimate.facts import MORE_PER_SECOND, POLLERS


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a bill: a service's price times a quantity, and what it is for."""

    service: str
    what: str
    quantity: float
    unit: str
    usd: float


def row(prices: Prices, service: str, what: str, price: str, quantity: float) -> Row:
    """A row of a bill, by the name of the price."""
    return Row(service, what, quantity, price.partition("_")[2].replace("_", " "), quantity * prices.of[price].usd)


def function(prices: Prices, what: str, invocations: float, seconds: float, memory: float) -> list[Row]:
    """Rows for the invocations of a function with `memory` MB, given their total seconds."""
    return [
        row(prices, "Lambda", what, "lambda_requests", invocations),
        row(prices, "Lambda", what, "lambda_gb_seconds", seconds * memory / 1024),
    ]


def total(rows: Sequence[Row]) -> float:
    """Dollars of all rows."""
    return sum(one.usd for one in rows)


def units(size: float) -> int:
    """Requests that SQS bills for one request with a payload of `size` bytes: https://aws.amazon.com/sqs/pricing/"""
    return max(1, ceil(size / BILLING_UNIT_BYTES))


def billed(count: float, size: float, together: float = inf) -> float:
    """Requests that SQS bills for messages of one size, sent in full requests."""
    most = max(1, min(MAX_REQUEST_MESSAGES, together, MAX_REQUEST_BYTES // max(1, size)))
    full, rest = divmod(count, most)
    return full * units(most * size) + (units(rest * size) if rest else 0)


def run_seconds(wall: float, cpu: float, vcpus: float) -> float:
    """Seconds of a run on fewer processors, if it took `wall` seconds with all the processors it wanted.

    Waiting time stays the same. The `cpu` seconds of work take longer if there is less than one processor, or fewer
    than the run used.
    """
    return max(0.0, wall - cpu) + max(min(wall, cpu), cpu / vcpus)


def ramp_seconds(busy: float, each: float, concurrency: int) -> float:
    """Duration of concurrent invocations, as SQS event source mappings scale up.

    Args:
        busy: total seconds of all invocations.
        each: seconds of one invocation.
        concurrency: most at a time.
    """
    first = min(POLLERS, concurrency)
    growing = (concurrency - first) / MORE_PER_SECOND
    done = growing * (first + concurrency) / 2
    if busy >= done:
        seconds = growing + (busy - done) / concurrency
    else:
        seconds = (sqrt(first**2 + 2 * MORE_PER_SECOND * busy) - first) / MORE_PER_SECOND
    return max(seconds, each)
