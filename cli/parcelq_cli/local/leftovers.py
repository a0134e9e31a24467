"""Ending what a killed function left running: Lambda ends its whole sandbox, so the embedded stack must too."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from parcelq.containment import MARK


def end_processes_below(folder: Path) -> list[int]:
    """Kill every process of a step whose run had its folder below this one, with all that it started.

    Steps run in process groups of their own, and are nobody's children any more once their function is gone; the
    mark in their environment is what they keep. Needs /proc; where there is none, nothing is found.

    Returns:
        The ids of those that were killed.
    """
    mark = f"{MARK}={folder}".encode()
    killed = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if int(entry.name) != os.getpid() and _has(entry.joinpath("environ").read_bytes(), mark):
                os.kill(int(entry.name), signal.SIGKILL)
                killed.append(int(entry.name))
    return killed


def _has(environ: bytes, mark: bytes) -> bool:
    return any(one == mark or one.startswith(mark + b"/") for one in environ.split(b"\0"))
