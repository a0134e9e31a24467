"""The whole job, a file of lines into the same lines in upper case, in each of the ways that are compared."""

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

    @classmethod
    def copied(cls, source: Path, size: int) -> Job:
        """With the source itself as what is expected."""
        folder = source.with_name("out")
        folder.mkdir(exist_ok=True)
        return cls(source, size, source, folder)

    def check(self, result: Path) -> float:
        """See that a result is right, remove it, and return the lines that were done."""
        if not filecmp.cmp(result, self.expected, shallow=False):
            raise AssertionError(f"{result} differs from the expected bytes")
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


def run_command(
    job: Job, parcel_size: int = 1000, step: str | Path = TR[0], settings: Path | None = _SETTINGS
) -> list[str]:
    """How `parcelq run` does it."""
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
    """Do it with `parcelq run`, from the command to its end; `dead` entries must be listed as bad, each once."""
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
    """Call a function of each line in the worker processes of `multiprocessing`; a chunk has `lines` lines."""
    job.folder.mkdir(exist_ok=True)
    target = job.folder / "pool"
    run([sys.executable, str(STEPS / "pool.py"), str(job.source), str(target), str(lines)], env=environment())
    return target


def smiles_loop(job: Job, target: Path) -> Path:
    """Do with molecules what the step `mass.py` does, in one loop over the file."""
    target.parent.mkdir(exist_ok=True)
    run([sys.executable, str(STEPS / "mass_loop.py"), str(job.source), str(target)], env=environment())
    return target


def gnu_parallel(job: Job, *options: str, command: Sequence[str] = TR) -> Path:
    """Do it with GNU parallel, the lines in order."""
    job.folder.mkdir(exist_ok=True)
    return _piped(job, [program("parallel"), "--will-cite", "--pipe", "--keep-order", *options, *command])


def bare(job: Job) -> Path:
    """Run the step once over the whole file."""
    return _piped(job, TR)


def celery(job: Job, broker: str) -> Path:
    """Do it with Celery, one task for a thousand lines; its workers are there already."""
    job.folder.mkdir(exist_ok=True)
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
