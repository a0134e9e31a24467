"""The tasks of the comparison with Celery: a task runs the step over a thousand lines, as Celery's documentation
recommends.
"""

from __future__ import annotations

import os
import subprocess

from celery import Celery

app = Celery("benchmarks", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BROKER"])
app.conf.worker_prefetch_multiplier = 16


@app.task
def upper(lines: str) -> str:
    """Run the step over lines."""
    return subprocess.run(["tr", "a-z", "A-Z"], input=lines, capture_output=True, text=True, check=True).stdout


@app.task
def nothing() -> None:
    """Do nothing; a result of this task shows that a worker is running."""
