"""Calculates how many entries were collected over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, NamedTuple

from parcelq.collect.resolution import Collected
from parcelq.collect.rows import ENTRIES, FLAG, OFFSET_BITS, WHERE

_BINS: Final = 60
_FEWEST_SECONDS: Final = 2.0
"""A rate over time is shown only if the job took at least this many seconds."""


class Rate(NamedTuple):
    """How many entries of the result were collected in each period of a job."""

    begin: datetime
    seconds: float
    entries: tuple[float, ...]


def begin_of(collected: Collected) -> datetime | None:
    """Return when the first message of a job was collected; None if the job's segments do not say this."""
    try:
        return min(datetime.fromisoformat(index.first) for index in collected.indexes)
    except ValueError:
        return None


def rate_of(collected: Iterable[tuple[datetime | None, int]], begin: datetime | None) -> Rate | None:
    """Calculate how many entries were collected over time; None if the job was too short or has too few segments.

    Entries that were stored at one time are assumed to have arrived evenly since the previous entries were stored.
    """
    stored = sorted((time, entries) for time, entries in collected if time is not None)
    if begin is None or len(stored) < 3 or (stored[-1][0] - begin).total_seconds() < _FEWEST_SECONDS:
        return None
    times = [0.0, *(max(0.0, (time - begin).total_seconds()) for time, _ in stored)]
    sums = [0.0, *accumulate(float(entries) for _, entries in stored)]
    bins = min(_BINS, len(stored))
    seconds = times[-1] / bins
    edges = [_between(times, sums, number * seconds) for number in range(bins)] + [sums[-1]]
    return Rate(begin.astimezone(UTC), seconds, tuple(edges[one + 1] - edges[one] for one in range(bins)))


def entries_of_segments(collected: Collected) -> list[int]:
    """Return how many entries of the result each segment contains."""
    counts = [0] * len(collected.segments)
    for choice in collected.choices():
        entries, wheres = choice.columns[ENTRIES], choice.columns[WHERE]
        for number in choice.rows:
            if entries[number] < FLAG:
                counts[wheres[number] >> OFFSET_BITS] += entries[number]
    return counts


def _between(times: Sequence[float], sums: Sequence[float], time: float) -> float:
    """Return how many entries were collected until a time, interpolated between known times."""
    number = next(number for number, one in enumerate(times) if one >= time)
    if not number or times[number] == time:
        return sums[number]
    before, after = times[number - 1], times[number]
    share = (time - before) / (after - before)
    return sums[number - 1] + share * (sums[number] - sums[number - 1])
