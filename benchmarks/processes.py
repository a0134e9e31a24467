"""Watching what processes take: from Linux's /proc."""

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
"""What https://docs.kernel.org/filesystems/proc.html says to write for that."""


def peak_bytes(process: int | str) -> int:
    """The most memory that a process had so far; 0 if it is gone."""
    return _told(process, _PEAK)


def begin_peak() -> int:
    """Forget this process's peak, so that it is what it has now, and return that."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    return _told("self", _NOW)


@dataclass(slots=True)
class Peaks:
    """Memory of a program and of all processes below it, in bytes; and its time.

    Attributes:
        largest: the most that any single one of them had.
        together: the most that all of those had which ran at the same time: the sum of the peaks of each.
        seconds: how long the program took.
    """

    largest: int = 0
    together: int = 0
    seconds: float = 0.0

    def add(self, peaks: dict[int, int], before: dict[int, int]) -> None:
        """Add what was seen: the peak of each process, now and at the look before.

        Into the sum goes only who was there at both. A process that is just being started still has all memory of who
        starts it, which would count twice.
        """
        self.largest = max([self.largest, *peaks.values()])
        self.together = max(self.together, sum(peak for process, peak in peaks.items() if process in before))


def run_watched(command: Sequence[str]) -> Peaks:
    """Run a program, and return the most memory that it and the processes below it had.

    Raises:
        RuntimeError: it failed.
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
    """All processes that a process started, and those that these did."""
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
