"""Watching what other processes take: from Linux's /proc."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_LOOK_SECONDS: Final = 0.2
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def peak_bytes(process: int | str) -> int:
    """The most memory that a process had so far, which it does not share with what started it; 0 if it is gone."""
    try:
        found = _PEAK.search(Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def run_watched(command: Sequence[str]) -> int:
    """Run a program, and return the most memory that it or any single process below it had, in bytes."""
    most = 0
    ended = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:

        def watch() -> None:
            nonlocal most
            while not ended.wait(_LOOK_SECONDS):
                most = max([most, *map(peak_bytes, [process.pid, *_below(process.pid)])])

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            _, error = process.communicate()
        finally:
            ended.set()
            watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}: {error[-1000:]}")
    return most


def _below(process: int) -> list[int]:
    """All processes that a process started, and those that these did."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return children + [one for child in children for one in _below(child)]
