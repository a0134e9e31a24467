"""Celery's part of the comparison: a task runs the step over a thousand lines, as Celery's documentation recommends."""

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
    """Answer, to show that a worker is running."""
