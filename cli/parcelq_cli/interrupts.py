"""Ctrl-C: raises KeyboardInterrupt in code that can handle it, or else a moment later.

An exception that a signal raises within an import, or in Python code that a C library calls, does not reach the
command: it is printed with a traceback and forgotten, or leaves a module half imported.
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
"""Packages whose Python code is called by C code that prints exceptions."""
_CALLED_BY_PYTHON: Final = frozenset({"__del__", "_remove"})
"""Functions that the interpreter calls when an object is deleted, here and in `weakref`."""


def is_interruptible(frame: FrameType | None) -> bool:
    """Return whether an exception that is raised in a frame reaches the command."""
    while frame:
        code = frame.f_code
        if code.co_filename.startswith(_IMPORTS) or code.co_name in _CALLED_BY_PYTHON:
            return False
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _CALLED_BY_C:
            return False
        frame = frame.f_back
    return True


def signal_later(number: int) -> None:
    """Send a signal to the main thread again, in a moment."""

    def send() -> None:
        time.sleep(_RETRY_SECONDS)
        ident = threading.main_thread().ident
        if ident is not None:
            signal.pthread_kill(ident, number)  # it ends what the thread waits for, too

    threading.Thread(target=send, daemon=True).start()


@contextmanager
def interruptible() -> Iterator[None]:
    """Handle Ctrl-C as long as the context lasts. After it, Ctrl-C ends the process at once and prints nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is not signal.default_int_handler:  # such as ignored, by the parent process
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


def interrupted(number: int, frame: FrameType | None) -> None:
    """Handle a signal: raise KeyboardInterrupt, now or in a moment."""
    if is_interruptible(frame):
        raise KeyboardInterrupt
    signal_later(number)
