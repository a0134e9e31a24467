"""The whole job, a file of lines into the same lines in upper case, in each of the ways that are compared."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.tools import ROOT, program, python_with, run

TR: Final = ("tr", "a-z", "A-Z")
_SETTINGS: Final = ROOT / "examples" / "upper" / "settings.yaml"
_START_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Job:
    """Lines to be put into upper case.

    Attributes:
        source: the file.
        size: lines of it.
        expected: what is to come out.
        folder: for what comes out.
    """

    source: Path
    size: int
    expected: Path
    folder: Path

    @classmethod
    def of(cls, source: Path, size: int) -> Job:
        """With what is expected, in the same folder."""
        expected = source.with_name("expected")
        with source.open("rb") as stdin, expected.open("wb") as stdout:
            subprocess.run(TR, stdin=stdin, stdout=stdout, check=True)
        folder = source.with_name("out")
        folder.mkdir(exist_ok=True)
        return cls(source, size, expected, folder)

    def check(self, result: Path) -> float:
        """See that a result is right, remove it, and return the lines that were done."""
        if not filecmp.cmp(result, self.expected, shallow=False):
            raise AssertionError(f"{result} is not what it should be")
        result.unlink()
        return self.size


def local_command(job: Job, parcel_size: int = 1000) -> list[str]:
    """How `parcelq emulate` does it."""
    parcelq = str(Path(sys.executable).with_name("parcelq"))
    size = str(parcel_size)
    chosen = ["--parcel-size", size, "--batch-size", size, "--output", str(job.folder)]
    return [parcelq, "emulate", str(job.source), "--step", TR[0], "--settings", str(_SETTINGS), *chosen]


def parcelq_local(job: Job, parcel_size: int = 1000) -> Path:
    """Do it with `parcelq emulate`, from nothing: the stack is made and taken down again."""
    run(local_command(job, parcel_size), stdout=subprocess.DEVNULL)
    return job.folder / job.source.name


def gnu_parallel(job: Job, *options: str) -> Path:
    """Do it with GNU parallel, the lines in order."""
    return _piped(job, [program("parallel"), "--will-cite", "--pipe", "--keep-order", *options, *TR])


def bare(job: Job) -> Path:
    """Run the step once over the whole file."""
    return _piped(job, TR)


def celery(job: Job, broker: str) -> Path:
    """Do it with Celery, one task for a thousand lines; its workers are there already."""
    target = job.folder / "celery"
    _celery(broker, "benchmarks.celery_job", str(job.source), str(target))
    return target


def celery_python() -> str:
    """The interpreter that has Celery and what it needs to talk to Redis.

    Raises:
        MissingToolError: Redis or Celery is not there.
    """
    program("redis-server")
    return python_with("celery", "redis")


@contextmanager
def celery_workers(folder: Path) -> Iterator[str]:
    """A Redis server and one Celery worker process a CPU, for as long as the context lasts; gives the broker's URL.

    Raises:
        MissingToolError: Redis or Celery is not there.
    """
    python = celery_python()
    socket = folder / "redis.sock"
    in_memory = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    redis = subprocess.Popen([program("redis-server"), *in_memory], stdout=subprocess.DEVNULL)
    try:
        _wait_for(socket.exists)
        broker = f"redis+socket://{socket}"
        command = [
            python,
            "-m",
            "celery",
            "--quiet",
            "-A",
            "benchmarks.celery_tasks",
            "worker",
            "--concurrency",
            str(os.cpu_count()),
        ]
        worker = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_celery_environment(broker),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _celery(broker, "benchmarks.celery_job", "--wait")
            yield broker
        finally:
            worker.terminate()
            worker.wait()
    finally:
        redis.terminate()
        redis.wait()


def _celery(broker: str, module: str, *arguments: str) -> None:
    run([celery_python(), "-m", module, *arguments], cwd=ROOT, env=_celery_environment(broker))


def _celery_environment(broker: str) -> dict[str, str]:
    return {**os.environ, "BENCH_BROKER": broker, "C_FORCE_ROOT": "1"}


def _piped(job: Job, command: Sequence[str]) -> Path:
    target = job.folder / "piped"
    with job.source.open("rb") as stdin, target.open("wb") as stdout:
        run(command, stdin=stdin, stdout=stdout)
    return target


def _wait_for(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + _START_SECONDS
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError("Redis did not start")
        time.sleep(0.05)
