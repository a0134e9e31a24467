"""Ends processes that a killed function left running. On AWS, Lambda would end these processes with the function's
sandbox.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from parcelq.steps.containment import MARK
from parcelq.steps.processes import is_running

from parcelq_emulator.surroundings import inherited, python

_MODULE: Final = "parcelq_emulator.leftovers"
_PROC: Final = Path("/proc")
_END_SECONDS: Final = 5.0
"""How long to wait for the end of killed processes."""


@contextmanager
def ending_processes_below(folder: Path) -> Iterator[None]:
    """When the context ends, end all processes whose `TMPDIR` is in a folder, even if this process is killed.

    A separate process ends these processes as soon as its own standard input ends.
    """
    guard = subprocess.Popen(
        python("-m", _MODULE, str(folder)),
        env=inherited(),
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the command line
    )
    try:
        yield
    finally:
        guard.communicate()


def end_processes_below(folder: Path) -> set[int]:
    """Kill all processes of Lambda functions whose `TMPDIR` is in a folder, and the processes of their steps. Wait
    until these processes have ended.

    Steps run in process groups of their own, and lose their parent when their function dies. Such a step is identified
    only by a variable in its environment. A function that runs a step hides its environment from other processes, so
    the function is found as a child. Without /proc, no process is found.

    Returns:
        The ids of the killed processes.
    """
    marks = tuple(f"{name}={folder}".encode() for name in ("TMPDIR", MARK))
    killed: set[int] = set()
    while found := _with_children(marks) - killed:  # repeated, because a process may have started another
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        killed |= found
    until = time.monotonic() + _END_SECONDS
    while any(map(is_running, killed)) and time.monotonic() < until:
        time.sleep(0.002)
    return killed


def _with_children(marks: tuple[bytes, ...]) -> set[int]:
    """Return the ids of the processes that have one of `marks` in their environment, and of all their descendants."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in _PROC.glob("[0-9]*"):
        process = int(entry.name)
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: pid (name) state parent …
            parents[process] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            if any(_is_below(variable, marks) for variable in (entry / "environ").read_bytes().split(b"\0")):
                found.add(process)
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _is_below(variable: bytes, marks: tuple[bytes, ...]) -> bool:
    return any(variable == mark or variable.startswith(mark + b"/") for mark in marks)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_processes_below(Path(sys.argv[1]))
