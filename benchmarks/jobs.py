"""Runs the same job with each compared tool: it reads a file of lines and writes the lines in upper case."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.tools import ROOT, STEPS, environment, program, python_with, run

TR: Final = ("tr", "a-z", "A-Z")
_SETTINGS: Final = ROOT / "examples" / "upper" / "settings.yaml"
_START_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A file of lines that a job converts to upper case.

    Attributes:
        source: the path of the file.
        size: how many lines the file has.
        expected: the path of the expected result.
        folder: a folder for results.
    """

    source: Path
    size: int
    expected: Path
    folder: Path

    @classmethod
    def of(cls, source: Path, size: int) -> Job:
        """Return the job of a file, and write its expected result into the same folder."""
        expected = source.with_name("expected")
        with source.open("rb") as stdin, expected.open("wb") as stdout:
            subprocess.run(TR, stdin=stdin, stdout=stdout, check=True)
        folder = source.with_name("out")
        folder.mkdir(exist_ok=True)
        return cls(source, size, expected, folder)

    @classmethod
    def copied(cls, source: Path, size: int) -> Job:
        """Return a job whose expected result is the source itself."""
        folder = source.with_name("out")
        folder.mkdir(exist_ok=True)
        return cls(source, size, source, folder)

    def check(self, result: Path) -> float:
        """Check that a result is right, delete it, and return its number of lines."""
        if not filecmp.cmp(result, self.expected, shallow=False):
            raise AssertionError(f"{result} differs from the expected bytes")
        result.unlink()
        return self.size


def local_command(job: Job, parcel_size: int = 1000) -> list[str]:
    """Return the command that runs the job with `parcelq emulate`."""
    parcelq = str(Path(sys.executable).with_name("parcelq"))
    size = str(parcel_size)
    chosen = ["--parcel-size", size, "--batch-size", size, "--output", str(job.folder)]
    return [parcelq, "emulate", str(job.source), "--step", TR[0], "--settings", str(_SETTINGS), *chosen]


def parcelq_local(job: Job, parcel_size: int = 1000) -> Path:
    """Run the job with `parcelq emulate`, including the start and end of the stack."""
    run(local_command(job, parcel_size), stdout=subprocess.DEVNULL)
    return job.folder / job.source.name


def run_command(
    job: Job, parcel_size: int = 1000, step: str | Path = TR[0], settings: Path | None = _SETTINGS
) -> list[str]:
    """Return the command that runs the job with `parcelq run`."""
    parcelq = str(Path(sys.executable).with_name("parcelq"))
    sizes = ["--parcel-size", str(parcel_size), "--batch-size", str(parcel_size)]
    chosen = ["--settings", str(settings)] if settings else []
    return [parcelq, "run", str(job.source), "--step", str(step), *chosen, *sizes, "--output", str(job.folder), "-q"]


def parcelq_run(
    job: Job,
    parcel_size: int = 1000,
    step: str | Path = TR[0],
    settings: Path | None = _SETTINGS,
    dead: int = 0,
) -> Path:
    """Run the job with `parcelq run`, including the command's start. Exactly `dead` entries must be listed as bad."""
    shutil.rmtree(job.folder, ignore_errors=True)
    ended = subprocess.run(
        run_command(job, parcel_size, step, settings), env=environment(), capture_output=True, check=False
    )
    if ended.returncode != (1 if dead else 0):
        raise RuntimeError(f"parcelq run exited with {ended.returncode}: {ended.stderr.decode()[-500:]}")
    if dead:
        records = [json.loads(line)["record"] for line in (job.folder / f"{job.source.name}.dead.jsonl").open()]
        if records != sorted(set(records)) or len(records) != dead:
            raise AssertionError(f"{len(records)} dead entries are listed, but {dead} are bad")
    return job.folder / job.source.name


def pool_imap(job: Job, lines: int) -> Path:
    """Call a function for each line in worker processes of `multiprocessing`, with `lines` lines per chunk."""
    job.folder.mkdir(exist_ok=True)
    target = job.folder / "pool"
    run([sys.executable, str(STEPS / "pool.py"), str(job.source), str(target), str(lines)], env=environment())
    return target


def smiles_loop(job: Job, target: Path) -> Path:
    """Do the work of the step `mass.py` in one loop over the file."""
    target.parent.mkdir(exist_ok=True)
    run([sys.executable, str(STEPS / "mass_loop.py"), str(job.source), str(target)], env=environment())
    return target


def gnu_parallel(job: Job, *options: str, command: Sequence[str] = TR) -> Path:
    """Run the job with GNU parallel, which keeps the order of the lines."""
    job.folder.mkdir(exist_ok=True)
    return _piped(job, [program("parallel"), "--will-cite", "--pipe", "--keep-order", *options, *command])


def bare(job: Job) -> Path:
    """Run the step once over the whole file."""
    return _piped(job, TR)


def celery(job: Job, broker: str) -> Path:
    """Run the job with Celery, with a thousand lines per task; the workers are already running."""
    job.folder.mkdir(exist_ok=True)
    target = job.folder / "celery"
    _celery(broker, "benchmarks.celery_job", str(job.source), str(target))
    return target


def celery_python() -> str:
    """Return the path of an interpreter that has Celery and its Redis client.

    Raises:
        MissingToolError: if Redis or Celery is not installed.
    """
    program("redis-server")
    return python_with("celery", "redis")


@contextmanager
def celery_workers(folder: Path) -> Iterator[str]:
    """Run a Redis server and a Celery worker process per CPU while the context lasts; yield the broker's URL.

    Raises:
        MissingToolError: if Redis or Celery is not installed.
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
