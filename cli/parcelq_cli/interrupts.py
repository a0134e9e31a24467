"""Makes Ctrl-C raise KeyboardInterrupt at once, or a moment later if the running code cannot handle the exception.

An exception that a signal raises during an import may leave a module half imported. An exception in Python code that a
C library called is printed and lost.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_RETRY_SECONDS: Final = 0.05
_IMPORTS: Final = "<frozen importlib"
_CALLED_BY_C: Final = ("awscrt",)
"""Packages whose Python code is called by C code, which prints exceptions and drops them."""
_CALLED_BY_PYTHON: Final = frozenset({"__del__", "_remove"})
"""Functions that the interpreter calls when an object is deleted, in this program and in `weakref`."""


def is_interruptible(frame: FrameType | None) -> bool:
    """Return whether an exception raised in a frame would reach the command."""
    while frame:
        code = frame.f_code
        if code.co_filename.startswith(_IMPORTS) or code.co_name in _CALLED_BY_PYTHON:
            return False
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _CALLED_BY_C:
            return False
        frame = frame.f_back
    return True


def signal_later(number: int) -> None:
    """Send a signal to the main thread again after a moment."""

    def send() -> None:
        time.sleep(_RETRY_SECONDS)
        ident = threading.main_thread().ident
        if ident is not None:
            signal.pthread_kill(ident, number)  # the signal also wakes the thread if it waits

    threading.Thread(target=send, daemon=True).start()


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle Ctrl-C while the context lasts. Afterwards Ctrl-C ends the process at once and prints nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is not signal.default_int_handler:  # for example, the parent process ignores Ctrl-C
        yield
        return

    def unraisable(found: UnraisableHookArgs) -> Any:
        if isinstance(found.exc_value, KeyboardInterrupt):
            signal_later(signal.SIGINT)
        else:
            hook(found)

    signal.signal(signal.SIGINT, interrupted)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def preferring_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt instead of an error that is only a consequence of Ctrl-C, such as a failed cleanup."""
    try:
        yield
    except Exception as error:
        cause = error.__context__
        while cause:
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
            cause = cause.__context__
        raise


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let signals interrupt as Ctrl-C does, unless the process ignores them, for example SIGHUP under `nohup`."""
    before = {one: signal.getsignal(one) for one in signals}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, interrupted)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def interrupted(number: int, frame: FrameType | None) -> None:
    """Handle a signal: raise KeyboardInterrupt now, or after a moment if the frame cannot handle the exception."""
    if is_interruptible(frame):
        raise KeyboardInterrupt
    signal_later(number)
