"""Prints why a function of `parcelq.step` failed: the exception, and the part of the traceback in the user's code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

_MESSAGE_BYTES: Final = 2000
_REASON_BYTES: Final = 3500
"""How many characters an exception's message and a whole reason may have, at most; less than Parcelq keeps of
stderr.
"""
_FRAMES: Final = 5
_OURS: Final = os.path.dirname(__file__) + os.sep


def reason_of_entry(error: BaseException) -> str:
    """Return why an entry is bad: the exception, and the place in the user's code that raised the exception, or that
    called the library that raised it. Libraries are all modules in folders of `sys.path` other than the program's own.
    """
    libraries = ("<frozen ", *(os.path.join(folder, "") for folder in sys.path[1:] if folder))
    place, last, trace = "", "", error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_OURS):
            last = f"\n  {os.path.basename(code.co_filename)}, line {trace.tb_lineno}, in {code.co_name}"
            place = place if code.co_filename.startswith(libraries) else last
        trace = trace.tb_next
    return _message(error) + (place or last)


def explain(error: BaseException) -> int:
    """Print on stderr which exception ended the function. Return the exit code, which is never 0."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, int) and error.code:
            return error.code
        text = str(error.code) if error.code else "sys.exit() was called before the step had finished"
    else:
        text = _traceback(error)
    print_error(text)
    return 1


def print_error(text: str) -> None:
    """Print a text on stderr, even if the function changed `sys.stderr`."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        os.write(2, text.strip().encode("utf-8", "backslashreplace") + b"\n")


def _message(error: BaseException) -> str:
    """Return the text of an exception, as in the last line of its traceback, without the middle of a long message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - str() of the exception failed, which must not end the run
        message = "<no text>"
    name = type(error).__qualname__
    if type(error).__module__ not in {"builtins", "__main__"}:
        name = f"{type(error).__module__}.{name}"
    if len(message) > _MESSAGE_BYTES:
        message = f"{message[: _MESSAGE_BYTES // 2]} … {message[-_MESSAGE_BYTES // 2 :]}"
    return f"{name}: {message}" if message else name


def _traceback(error: BaseException) -> str:
    """Return the part of the traceback in the user's code, if necessary without its first frames, and the exception."""
    from traceback import StackSummary, TracebackException

    whole = TracebackException.from_exception(error)
    part: TracebackException | None = whole
    while part:
        frames = [frame for frame in part.stack if not frame.filename.startswith(_OURS)]
        part.stack = StackSummary.from_list(frames[-_FRAMES:])
        part = part.__cause__ or part.__context__
    lines = list(whole.format()) if whole.stack else []
    last = _message(error) if not isinstance(error, SyntaxError) else "".join(whole.format_exception_only())
    frames_text = "".join(lines[: -len(list(whole.format_exception_only())) or None])
    room = _REASON_BYTES - len(last.encode("utf-8", "backslashreplace"))
    data = frames_text.encode("utf-8", "backslashreplace")
    if len(data) > room:
        kept = data[-max(0, room) :].decode("utf-8", "ignore").partition("\n")[2] if room > 0 else ""
        frames_text = f"Traceback (most recent call last):\n  …\n{kept}"
    return frames_text + last
