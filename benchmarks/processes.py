"""Measures the memory of processes, from Linux's /proc."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.tools import see_that_it_worked

_LOOK_SECONDS: Final = 0.2
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_NOW: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
_RESET_PEAK: Final = "5"
"""The text that resets the peak if it is written to `clear_refs`: https://docs.kernel.org/filesystems/proc.html"""


def peak_bytes(process: int | str) -> int:
    """Return the peak memory of a process so far; 0 if the process has ended."""
    return _told(process, _PEAK)


def begin_peak() -> int:
    """Reset this process's peak memory to its present memory, and return the present memory."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    return _told("self", _NOW)


@dataclass(slots=True)
class Peaks:
    """The memory in bytes of a program and all its descendant processes, and the program's duration.

    Attributes:
        largest: the peak memory of the largest process.
        together: the largest sum of the peak memories of all processes that ran at the same time.
        seconds: how long the program took.
    """

    largest: int = 0
    together: int = 0
    seconds: float = 0.0

    def add(self, peaks: dict[int, int], before: dict[int, int]) -> None:
        """Add an observation: the peak memory of each process now, and at the observation before.

        Only processes of both observations are added up. A process that is just starting still shares its parent's
        memory, which would count twice.
        """
        self.largest = max([self.largest, *peaks.values()])
        self.together = max(self.together, sum(peak for process, peak in peaks.items() if process in before))


def run_watched(command: Sequence[str]) -> Peaks:
    """Run a program, and return the peak memory of the program and its descendant processes.

    Raises:
        RuntimeError: if the program failed.
    """
    most = Peaks()
    ended = threading.Event()
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:

        def watch() -> None:
            before: dict[int, int] = {}
            while not ended.wait(_LOOK_SECONDS):
                peaks = {one: peak_bytes(one) for one in (process.pid, *_below(process.pid))}
                most.add(peaks, before)
                before = peaks

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            _, error = process.communicate()
            most.seconds = time.perf_counter() - began
        finally:
            ended.set()
            watcher.join()
    see_that_it_worked(command, process.returncode, error)
    return most


def _told(process: int | str, what: re.Pattern[str]) -> int:
    try:
        found = what.search(Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _below(process: int) -> Iterator[int]:
    """Yield the ids of all descendants of a process."""
    for child in _children(process):
        yield child
        yield from _below(child)


def _children(process: int) -> list[int]:
    try:
        return [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
