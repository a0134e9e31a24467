"""Explains why a run failed, as an error for users."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from parcelq.errors import StepError
from parcelq.steps.containment import Ended
from parcelq.steps.find import Step
from parcelq.steps.folder import open_regular

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})
"""Error numbers that are about the machine and not about the entries."""


def failure_of(step: Step, ended: Ended, limit: float | None, tail: str) -> StepError:
    """Return the error of a run that did not succeed.

    Args:
        step: the step.
        ended: the report of the run.
        limit: its time limit in seconds; None for none.
        tail: the end of its stderr.
    """
    code = ended.code
    if ended.kind == "refused":
        return StepError(step.name, f"could not be started: {os.strerror(code)}", no_room=code in _NO_ROOM)
    if ended.kind == "time":
        return StepError(step.name, f"timed out after {limit:g} s and was killed", timed_out=True, stderr_tail=tail)
    reasons = {
        "large": f"wrote more than {step.settings.max_output_bytes} bytes of output and was killed; max_output_bytes "
        "in its settings sets that",
        "lost": "killed the process that supervises it",
        "deaf": "closed the socket on which it gets its runs",
    }
    if ended.kind in reasons:
        return StepError(step.name, reasons[ended.kind], stderr_tail=tail)
    if code:
        reason = f"was ended by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
    else:
        reason = (
            "exited with 0 instead of waiting for the next run; "
            "a warm step must be a function of parcelq.step that main() runs"
        )
    return StepError(step.name, reason, exit_code=code, stderr_tail=tail)


@contextmanager
def or_step_error(step: Step, what: str) -> Iterator[None]:
    """Raise an error of the system as an error of the step; `what` says what the step could not do."""
    try:
        yield
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        raise StepError(step.name, reason, no_room=error.errno in _NO_ROOM) from None


def size_of_output(step: Step, output: Path) -> int:
    """Return the size of the file that a run wrote.

    Raises:
        StepError: the file does not exist, or is a link, a folder, a pipe or a device.
    """
    try:
        descriptor = open_regular(output)
    except FileNotFoundError:
        raise StepError(step.name, "exited with 0 but wrote no output file", exit_code=0) from None
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        reason = f"exited with 0 but wrote no output file that can be read: {why}"
        raise StepError(step.name, reason, exit_code=0, no_room=error.errno in _NO_ROOM) from None
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal; most of them have no name
        return f"signal {number}"
