"""Sends a file to Celery in tasks of a thousand lines each, and writes the results in order.

`celery_job SOURCE TARGET` runs the job; `celery_job --wait` only waits until a worker answers.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from celery.result import AsyncResult

from benchmarks.celery_tasks import nothing, upper

LINES = 1000
MOST_WAITING = 500
"""How many tasks are in progress at a time, so that the broker does not have to store the whole file."""


def run(source: Path, target: Path) -> None:
    """Run the job: read `source`, and write `target`."""
    waiting: deque[AsyncResult] = deque()
    with target.open("w") as file, source.open() as lines:
        for chunk in _chunks(lines):
            waiting.append(upper.delay(chunk))
            if len(waiting) >= MOST_WAITING:
                _write(waiting.popleft(), file)
        while waiting:
            _write(waiting.popleft(), file)


def _write(result: AsyncResult, file: IO[str]) -> None:
    file.write(result.get())
    result.forget()


def _chunks(lines: Iterator[str]) -> Iterator[str]:
    while chunk := "".join(islice(lines, LINES)):
        yield chunk


if __name__ == "__main__":
    if sys.argv[1] == "--wait":
        nothing.delay().get(timeout=60)
    else:
        run(Path(sys.argv[1]), Path(sys.argv[2]))
