"""Stopping a worker by a signal without losing what it has in hand."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Thread
from types import FrameType, TracebackType
from typing import Any, Final

from parcelq.process.processor import Outcome, Processor
from parcelq.topics.message import Pulled

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked to stop, and nothing is in hand."""


class Stopper:
    """A context manager that turns SIGINT and SIGTERM into an end after the round in hand.

    While messages are waited for, `Stopped` is raised at once. A second signal during a round raises KeyboardInterrupt.

    Args:
        on_signal: told, from a thread, that a round has to end first.
    """

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._waiting = False
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        self._before = {one: signal.signal(one, self._signalled) for one in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def begin_waiting(self) -> None:
        """From here on, a signal raises Stopped; also one that has come already."""
        self._waiting = True
        if self._asked:
            raise Stopped

    def begin_round(self) -> None:
        """From here on, a signal has to wait."""
        self._waiting = False

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what signal.signal calls
        if self._waiting:
            raise Stopped
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        # Printing right here could meet a print that the signal has interrupted.
        Thread(target=self._on_signal, daemon=True).start()


@dataclass(frozen=True)
class StoppableProcessor(Processor):
    """A processor that tells when a round begins."""

    stopper: Stopper = field(kw_only=True)

    def handle(self, pulled: Iterable[Pulled], time_left: Callable[[], float] = lambda: float("inf")) -> Outcome:
        """As Processor does."""
        self.stopper.begin_round()
        return Processor.handle(self, pulled, time_left)
