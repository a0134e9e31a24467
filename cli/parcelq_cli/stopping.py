"""Lets a signal stop a worker after the worker has finished the messages that it is processing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from types import FrameType
from typing import Any

from parcelq.process.apply import Outcome
from parcelq.process.processor import Processor

from parcelq_cli.interrupts import is_interruptible, signal_later


class Stopped(KeyboardInterrupt):
    """A signal asked the worker to stop, and the worker is processing no message."""


class Stopper:
    """Lets SIGINT and SIGTERM end the worker after the current round.

    While the worker waits for messages, a signal raises `Stopped` at once. During a round, `on_signal` is called in a
    thread, and a second signal raises KeyboardInterrupt.
    """

    def __init__(self, on_signal: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._waiting = False
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals while the context lasts."""
        before = {one: signal.signal(one, self._signalled) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def begin_waiting(self) -> None:
        """From now on, let a signal raise Stopped. If a signal has already arrived, raise Stopped at once."""
        self._waiting = True
        if self._asked:
            raise Stopped

    def begin_round(self) -> None:
        """From now on, let a signal take effect only at the end of the round."""
        self._waiting = False

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._waiting and not is_interruptible(frame):
            signal_later(number)
        elif self._waiting:
            raise Stopped
        elif self._asked:
            raise KeyboardInterrupt
        else:
            self._asked = True
            # Printing here could conflict with a print that the signal interrupted.
            Thread(target=self._on_signal, daemon=True).start()


@dataclass(eq=False)
class StoppableProcessor(Processor):
    """A processor that informs its `Stopper` when a round begins."""

    stopper: Stopper = field(kw_only=True)

    def handle(self, *arguments: Any, **options: Any) -> Outcome:
        """Process messages; see `Processor.handle`."""
        self.stopper.begin_round()
        return super().handle(*arguments, **options)
