"""Decides how long a run of a step may take, and whether another run may begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Final, NamedTuple

_RESERVED_SHARE: Final = 0.1
_RESERVED_MOST: Final = 10.0
_FAIR_SHARE: Final = 0.5


def reserved(whole: float) -> float:
    """Return how many seconds of an invocation of `whole` seconds are reserved for publishing and for the answer."""
    return min(_RESERVED_MOST, _RESERVED_SHARE * whole)


class Limit(NamedTuple):
    """How many seconds a run may take; None for no limit. The limit is `short` if the run began late and gets less time
    than the step's timeout. If so, running out of time does not count as a failure of the message.
    """

    seconds: float | None
    short: bool


class Budget:
    """The time of one invocation, which must end in `time_left()` seconds."""

    def __init__(self, time_left: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self.time_left = time_left
        self._clock = clock
        self._whole = time_left()
        self._reserve = reserved(self._whole)
        self._longest = 0.0

    def limit(self, step_timeout: float | None) -> Limit | None:
        """Return the time that a run may take if it begins now; None if there is not enough time.

        If less than half of the invocation's time is left, it must be enough for the step's timeout. If the step has no
        timeout, the time must be enough for a run as long as the longest run so far.
        """
        if self._whole == inf:
            return Limit(step_timeout, short=False)
        remaining = self.time_left() - self._reserve
        begins_late = remaining < _FAIR_SHARE * self._whole
        wanted = self._longest if step_timeout is None else step_timeout
        # guard[False]: no run begins when there is no time for it
        if remaining <= 0 or (begins_late and wanted > remaining):
            return None
        seconds = remaining if step_timeout is None else min(step_timeout, remaining)
        return Limit(seconds, short=begins_late and seconds != step_timeout)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure and record the duration of a run."""
        began = self._clock()
        try:
            yield
        finally:
            self._longest = max(self._longest, self._clock() - began)
