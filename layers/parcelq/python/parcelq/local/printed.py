"""Logs the output that steps print when they succeed, in a file beside each result."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from parcelq.limits import MIB
from parcelq.process.plan import Work
from parcelq.topics.attributes import FIRST

_log = logging.getLogger(__name__)
MAX_LOG_BYTES: Final = 16 * MIB
"""The most bytes of a log. Further output is dropped, and the log's last line says so."""
_FULL: Final = b"--- more was printed; this log is full\n"
_COUNTED_FROM_START: Final = re.compile("([0-9]+),[0-9]+")
"""Matches an attribute `First` whose record number is counted from the start of the source."""


class PrintLogs:
    """The logs for the sources of one command. Any thread may write to the logs.

    Args:
        paths: maps each source to the path of its log. A log is created when a run first prints something.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._full: set[str] = set()

    def add(self, step: str, works: Sequence[Work], text: str) -> None:
        """Append the output of a run to the logs, below a line that says which records the run processed."""
        source = works[0].source
        if source not in self._paths or source in self._full:
            return
        data = f"--- step {step}, {place_of(works)}\n{text}".encode("utf-8", "backslashreplace")
        path = self._paths[source]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, path.open("ab") as file:
                if file.tell() + len(data) > MAX_LOG_BYTES:
                    self._full.add(source)
                    data = _FULL
                file.write(data)
        except OSError as error:  # a result must not fail because its log cannot be written
            self._full.add(source)
            _log.warning("the output of steps cannot be logged: %s", error)


def place_of(works: Sequence[Work]) -> str:
    """Return a text that says which records of the source a run processed, or else which bytes."""
    roots = [work.lineage.root for work in works if work.lineage]
    at = f"bytes {min(one.start for one in roots)} to {max(one.end for one in roots)}" if roots else "no known place"
    first = works[0].message.attributes.get(FIRST, "")
    entries = sum(work.entries for work in works)
    if (found := _COUNTED_FROM_START.fullmatch(first)) and entries:
        number = int(found[1])
        return f"records {number} to {number + entries - 1}, {at}" if entries > 1 else f"record {number}, {at}"
    return at
