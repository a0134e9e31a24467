"""What tests of `parcelq run` have in common: a folder of their own, the command, and steps that say what they ran."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from parcelq.local.jobs import missing_of
from parcelq.local.kept import Kept
from parcelq.local.manage import LocalJobs

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
UPPER = """#!/bin/sh
tr a-z A-Z < "$2" > "$4"
"""
FAILS_ON_BAD = """#!/bin/sh
grep -q bad "$2" && { echo "ValueError: bad entry" >&2; exit 1; }
cat "$2" > "$4"
"""


def lines_of(count: int) -> str:
    """A number of lines that all differ."""
    return "".join(f"line {number}\n" for number in range(count))


class World:
    """A folder in which `parcelq` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.started: list[subprocess.Popen[str]] = []

    def write(self, name: str, content: str | bytes, mode: int = 0o755) -> Path:
        """Write a file, and the folders that it needs."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def call(self, *arguments: object, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Call `parcelq` with these arguments, and wait until it has ended."""
        command = [*PROGRAM, *map(str, arguments)]
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False, timeout=120, **source)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    def run(self, *arguments: object, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Call `parcelq run`."""
        return self.call("run", *arguments, data=data)

    def start(self, *arguments: object, command: str = "run") -> subprocess.Popen[str]:
        """Start a command of `parcelq` in a session of its own."""
        words = [*PROGRAM, command, *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # The shell that runs the tests may ignore SIGINT, which its children inherit.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(words, cwd=self.folder, start_new_session=True, text=True, **pipes)  # type: ignore[call-overload]
        finally:
            signal.signal(signal.SIGINT, before)
        self.started.append(process)
        return process  # type: ignore[no-any-return]

    def wait_until_steps_end(self) -> None:
        """Wait until no process works in the folder any more: the steps of a killed command end a moment after it."""
        until = time.monotonic() + 60
        while (found := _processes_with(str(self.folder))) and time.monotonic() < until:
            time.sleep(0.02)
        assert not found

    def stop_all(self) -> None:
        """Kill what was started and still runs."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def read(self, name: str) -> str:
        """Read a file of the folder of results."""
        return (self.results / name).read_text()

    def report(self, name: str) -> dict[str, Any]:
        """Read the report of a result."""
        return json.loads(self.read(f"{name}.report.json"))  # type: ignore[no-any-return]

    def dead(self, name: str) -> list[dict[str, Any]]:
        """Read the list of dead entries of a result."""
        return [json.loads(line) for line in self.read(f"{name}.dead.jsonl").splitlines()]

    def logging_step(self, does: str = 'tr a-z A-Z < "$2" > "$4"') -> tuple[Path, Path]:
        """A step that also writes down what it was given; returns it and the file that it writes to."""
        log = self.folder / "log"
        log.touch()
        return self.write("logging", f'#!/bin/sh\ncat "$2" >> {log}\n{does}\n'), log

    def stored(self, source: bytes) -> set[bytes]:
        """The lines of the only source whose results are stored, or that are dead."""
        lines: set[bytes] = set()
        kept = Kept.beside(self.results)
        for record in kept.state.records():
            if collected := kept.collected(record.id):
                missing = missing_of(collected, collected.resolve())
                at = 0
                for start, end in [*missing, (len(source), len(source))]:
                    lines |= set(source[at:start].splitlines(keepends=True))
                    at = end
        return lines

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.results / ".parcelq"

    @property
    def jobs(self) -> LocalJobs:
        """The jobs that are not whole."""
        return LocalJobs(self.results)


def _processes_with(text: str) -> list[int]:
    """Ids of other processes with a text in their command line or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if text.encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.stop_all()
