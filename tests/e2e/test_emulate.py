"""`parcelq emulate`, run as a user runs it: files in, results out."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from parcelq_emulator.command import LOGS

linux = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime emulator runs on Linux alone")
PARCELQ = [sys.executable, "-c", "from parcelq_cli.main import main; main()"]
STRICT_STEP = """#!/bin/sh
exec awk '/BAD/ { print "cannot parse: " $0 > "/dev/stderr"; exit 1 } { print toupper($0) }'
"""

WAITS_ONCE = """
import sys, time
text = sys.stdin.read()
try:
    open("{started}", "x").close()
    time.sleep(600)
except FileExistsError:
    sys.stdout.write(text)
"""

WARM_STEP = """
import os
from parcelq.steps.function import step

@step
def run(entries):
    for entry in entries:
        if "BAD" in entry:
            raise ValueError(f'cannot parse {entry}')
        yield f"{entry} {os.getpid()}"

if __name__ == "__main__":
    run.main()
"""


def emulate(*arguments: str | Path, expected: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PARCELQ, "emulate", *map(str, arguments)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == expected, done.stderr[-3000:]
    assert not [line for line in done.stderr.splitlines() if line.startswith("Traceback")]
    return done


@pytest.fixture
def filter_settings(tmp_path: Path) -> Path:
    path = tmp_path / "filter.yaml"
    path.write_text("filter: true\n")
    return path


def report_of(result: Path) -> dict:
    return json.loads(Path(f"{result}.report.json").read_bytes())


def test_odd_bytes_and_names_come_back_byte_for_byte(tmp_path: Path) -> None:
    odd = tmp_path / "a b+c%20 é ü.txt"
    odd.write_bytes(
        b"\n\nfirst\r\n\0nul\n\xff\xfe bad utf-8\n"
        + "😀 \uffff\n".encode()
        + b"x" * 3_000_000
        + b"\n\n\nno newline at the end"
    )
    empty = tmp_path / "empty.txt"
    empty.touch()
    done = emulate(odd, empty, "--step", "cat -u", "--output", tmp_path / "out", "--json")
    assert (tmp_path / "out" / odd.name).read_bytes() == odd.read_bytes()
    assert (tmp_path / "out" / empty.name).read_bytes() == b""
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["entries"]["read"] for one in printed] == [10, 0]


BAD = (0, 304, 305, 1249, 1250, 1777, 2499)
"""Numbers of the lines that the step cannot take: neighbours, those on both sides of a parcel's end, first and last."""
BAD_LINES = [f"line {number} {'BAD' if number in BAD else 'good'}\n" for number in range(2500)]
SEVEN_DEAD = "2,500 entries in, 2,493 out, 7 dead"


def test_bad_lines_are_listed_with_their_reasons_and_sent_back_when_the_step_is_mended(
    tmp_path: Path, filter_settings: Path
) -> None:
    """The step fails whenever a line is bad, whatever else there is."""
    file, out, step = tmp_path / "lines.txt", tmp_path / "out", tmp_path / "strict"
    file.write_text("".join(BAD_LINES))
    step.write_text(STRICT_STEP)
    step.chmod(0o755)
    arguments = [file, "--step", step, "--settings", filter_settings, "--output", out, "--keep"]
    arguments += ["--parcel-size", "250", "--batch-size", "250"]
    running = subprocess.Popen([*PARCELQ, "emulate", *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(100, running.kill)
    watchdog.start()
    try:
        said = until(running, "still running")
        assert any(SEVEN_DEAD in line for line in said)
        url = said[-1].partition("AWS_ENDPOINT_URL=")[2].split()[0]
        assert (out / "lines.txt").read_text() == "".join(line.upper() for line in BAD_LINES if "BAD" not in line)
        reasons = [f"cannot parse: line {number} BAD (step 'strict' exited with 1)" for number in BAD]
        named = [f"dead: 'line {number} BAD': {why}\n" for number, why in zip(BAD, reasons, strict=True)]
        assert sorted(line for line in said if line.startswith("dead: ")) == sorted(named)
        report = report_of(out / "lines.txt")
        assert report["entries"] == {"read": 2500, "done": 2493, "dead": 7, "missing": 0, "written": 2493}
        assert not report["complete"]
        starts = [len("".join(BAD_LINES[:number])) for number in BAD]
        assert [(dead["start"], dead["reason"]) for dead in report["dead"]] == list(zip(starts, reasons, strict=True))
        letters = [json.loads(line) for line in parcelq_at(url, "dead", "parcelq-step", "--json").splitlines()]
        told = sorted((one["line"], one["entry"], one["reason"]) for one in letters)
        wanted = [(number + 1, f"line {number} BAD\n", why) for number, why in zip(BAD, reasons, strict=True)]
        assert told == wanted
        step.write_text(STRICT_STEP.replace("exit 1", "bad += 1"))
        assert parcelq_at(url, "topics", "redrive", "parcelq-step") == "sent 7 messages back to parcelq-step\n"
        until(running, "lines.txt: 2,500 out, 0 dead")
        assert (out / "lines.txt").read_text() == "".join(BAD_LINES).upper()
        assert report_of(out / "lines.txt")["complete"]
        assert parcelq_at(url, "dead", "parcelq-step") == ""
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    finally:
        watchdog.cancel()
        running.kill()
        running.communicate()


def until(running: subprocess.Popen[str], text: str) -> list[str]:
    """Read what a process says to the line that has a text in it, and return it."""
    said = []
    assert running.stderr
    for line in running.stderr:
        said.append(line)
        if text in line:
            return said
    raise AssertionError("".join(said)[-3000:])


def parcelq_at(url: str, *arguments: str) -> str:
    """Run a command on what listens at a URL, and return what it prints."""
    access = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "local")
    environment = {**os.environ, **access, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(
        [*PARCELQ, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


KEEP_EVEN = "$2 % 2 == 0"
"""Drops half of the lines."""
MAKE_SEVERAL = "{ print $1; print $2 }"
"""Makes several lines of each."""


def test_a_hostile_stack_gives_the_same_result(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"molecule {number} {'ab ' * (number % 7)}\n" for number in range(10_000)))
    steps: list[str | Path] = []
    for number, program in enumerate((KEEP_EVEN, MAKE_SEVERAL)):
        settings = tmp_path / f"{number}.yaml"
        settings.write_text(json.dumps({"filter": True, "arguments": [program]}))
        steps += ["--step", "awk", "--settings", settings]
    sizes = ["--parcel-size", "200", "--batch-size", "200", "--range-bytes", "50000"]
    for seed in ("12", "13", "14", "15"):  # About one run in twenty has so few invocations that none is killed.
        out = tmp_path / f"out{seed}"
        done = emulate(file, *steps, *sizes, "--output", out, "--chaos", seed)
        assert (out / "lines.txt").read_text() == "".join(f"molecule\n{number}\n" for number in range(0, 10_000, 2))
        assert report_of(out / "lines.txt")["complete"]
        told = re.search(
            r"chaos: (\d+) of (\d+) invocations killed, ([\d,]+) messages and (\d+) S3 events delivered twice",
            done.stderr,
        )
        assert told, done.stderr
        killed, invocations, messages, events = (int(text.replace(",", "")) for text in told.groups())
        assert messages > 0
        assert events == 1
        if killed:
            break
    assert 0 < killed < invocations


def test_a_warm_step_serves_many_messages_and_ends_with_them(tmp_path: Path) -> None:
    file, step, settings, out = (tmp_path / name for name in ("lines.txt", "warm.py", "warm.yaml", "out"))
    file.write_text("".join(f"{number}{' BAD' * (number == 1111)}\n" for number in range(3000)))
    step.write_text(WARM_STEP)
    settings.write_text("warm: true\n")
    arguments = [file, "--step", step, "--settings", settings, "--output", out, "--parcel-size", "100"]
    done = emulate(*arguments, expected=1)
    assert "1 entry failed for good" in done.stderr
    said = [line.split() for line in (out / "lines.txt").read_text().splitlines()]
    assert [number for number, _ in said] == [str(number) for number in range(3000) if number != 1111]
    failures = 1 + 7 * 2  # a message of 100 is halved about seven times, and each failure costs a process
    assert len({pid for _, pid in said}) <= (os.cpu_count() or 1) ** 2 + failures
    (dead,) = report_of(out / "lines.txt")["dead"]
    assert dead["reason"].startswith("ValueError: cannot parse 1111 BAD (step 'warm.py' exited with 1)")
    assert "raise ValueError(f'cannot parse {entry}')" in dead["reason"]
    assert not processes_with(str(step))


def test_a_processor_that_is_killed_loses_nothing(tmp_path: Path, filter_settings: Path) -> None:
    file, step, out, started = (tmp_path / name for name in ("lines.txt", "waits.py", "out", "started"))
    file.write_text("".join(f"line {number}\n" for number in range(1000)))
    step.write_text(WAITS_ONCE.format(started=started))
    arguments = [file, "--step", step, "--settings", filter_settings, "--output", out, "--parcel-size", "100"]
    running = subprocess.Popen([*PARCELQ, "emulate", *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    try:
        while not started.exists():
            time.sleep(0.05)
        processors = set(processes_with("functions/processor")) & set(processes_with("runtime.py"))
        for process in processors:
            os.kill(process, signal.SIGKILL)
        _, stderr = running.communicate(timeout=120)
    finally:
        running.kill()
    assert processors
    assert running.returncode == 0, stderr
    assert (out / "lines.txt").read_bytes() == file.read_bytes()


@linux
def test_emulate_with_the_runtime_of_aws_gives_the_same_result(tmp_path: Path, filter_settings: Path) -> None:
    file, out = tmp_path / "lines.txt", tmp_path / "out"
    file.write_text("".join(f"line {number}\n" for number in range(3000)))
    steps = ["--step", "cat", "--settings", filter_settings, "--step", "rev", "--settings", filter_settings]
    emulate(file, *steps, "--range-bytes", "10000", "--output", out, "--runtime", "rie")
    assert (out / "lines.txt").read_text() == "".join(f"{line[::-1]}\n" for line in file.read_text().splitlines())
    assert report_of(out / "lines.txt")["complete"]
    assert "REPORT RequestId" in (out / LOGS / "parcelq-processor-step2-1.log").read_text()
    wrong = emulate(file, *steps, "--output", out, "--runtime", "rie", "--chaos", "1", expected=2)
    assert "--chaos" in wrong.stderr


@pytest.mark.parametrize("runtime", ["embedded", pytest.param("rie", marks=linux)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_emulate_leaves_no_process_behind_however_it_ends(
    tmp_path: Path, filter_settings: Path, runtime: str, number: signal.Signals
) -> None:
    file, step, started = tmp_path / "lines.txt", tmp_path / "endless.py", tmp_path / "started"
    file.write_text("a line\n")
    step.write_text(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(1000)\n")
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    arguments = [file, "--step", step, "--settings", filter_settings, "--output", tmp_path / "out"]
    command = [*PARCELQ, "emulate", *map(str, arguments), "--runtime", runtime]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 60
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(processes_with(str(step))) > 1
    running.send_signal(number)
    _, stderr = running.communicate(timeout=30)
    if number == signal.SIGINT:
        assert running.returncode == 130, stderr.decode()
        assert not processes_with(str(tmp_path))
        assert list((tmp_path / "tmp").iterdir()) == []
    deadline = time.monotonic() + 30
    while processes_with(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_with(str(tmp_path))


def test_a_faulty_step_is_reported_before_anything_runs(tmp_path: Path) -> None:
    file, settings = tmp_path / "lines.txt", tmp_path / "settings.yaml"
    file.write_text("a line\n")
    settings.write_text("filtre: true\ntimeout: soon\n")
    done = emulate(file, "--step", "cat", "--settings", settings, "--output", tmp_path / "out", expected=1)
    assert "filtre" in done.stderr
    assert "timeout is 'soon'" in done.stderr
    done = emulate(file, "--step", tmp_path / "nothing.py", "--output", tmp_path / "out", expected=1)
    assert "there is no such file" in done.stderr


def processes_with(text: str) -> list[int]:
    """Ids of processes with a text in their command line, environment or working directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        said = b""
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # gone, or one whose environment is closed to others
                said += (entry / name).read_bytes()
        with contextlib.suppress(OSError):
            said += os.readlink(entry / "cwd").encode()
        if text.encode() in said and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
