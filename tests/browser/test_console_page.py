"""The console in a real browser: jobs that run, are stopped and resumed, and failed records that run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
STEP = """import os, time
from parcelq.step import step
@step(each=True)
def score(line):
    word = line.partition(" ")[0]
    while word in ("first", "later") and not os.path.exists(os.path.join(FOLDER, word)):
        time.sleep(0.02)
    if word in ("bad", "odd") and not os.path.exists(os.path.join(FOLDER, word)):
        raise ValueError(f"{word} record {line.strip()!r}")
    return line.upper()
if __name__ == "__main__":
    score.main()
"""
"""It waits at words, or fails at them, as long as there is no file of that name in its folder."""
HELD = [b"%s %05d\n" % (word, number) for word in (b"plain", b"first", b"later") for number in range(200)]
FAILING = [b"line %04d\n" % number for number in range(400)]
for number, word in ((10, b"bad"), (100, b"bad"), (200, b"odd"), (300, b"odd"), (399, b"odd")):
    FAILING[number] = word + b" <i>%d</i>\n" % number
SMALL = ("--batch-size", "20", "--parcel-size", "20")


@contextmanager
def begun(folder: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A command while it runs, and the first result that it printed."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments, "--json"],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=60)


def write_step(folder: Path) -> Path:
    path = folder / "step.py"
    path.write_text(STEP.replace("FOLDER", repr(str(folder))))
    return folder


class TestOneMachine:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Iterator[Callable[[list[bytes]], subprocess.Popen[bytes]]]:
        with ExitStack() as ended:

            def start(entries: list[bytes]) -> subprocess.Popen[bytes]:
                (write_step(tmp_path) / "lines.txt").write_bytes(b"".join(entries))
                command = [*PROGRAM, "run", "lines.txt", "--step", "step.py", "--quiet", *SMALL]
                nothing = subprocess.DEVNULL
                run = ended.enter_context(subprocess.Popen(command, cwd=tmp_path, stdout=nothing, stderr=nothing))
                ended.callback(run.terminate)
                return run

            yield start

    @pytest.fixture
    def console(self, tmp_path: Path) -> Iterator[str]:
        with begun(tmp_path, "console") as (_, printed):
            yield printed["url"]

    def test_a_job_becomes_whole_record_by_record_group_by_group(self, run, console, visit, tmp_path):
        assert run(FAILING).wait(200) == 1
        opened = visit(console)
        row = opened.text("#jobs tbody tr").split()
        assert (row[0], *row[2:]) == ("lines.txt", "finished", "100.0%", "5")
        become_whole(opened, "lines.txt", tmp_path)
        assert (tmp_path / "results/lines.txt").read_bytes() == b"".join(FAILING).upper()

    def test_a_running_job_moves_and_one_that_is_resumed_can_be_stopped_again(self, run, console, visit, tmp_path):
        started = run(HELD)
        opened = visit(console)
        opened.wait_for("main", "lines.txt")
        opened.page.get_by_role("link", name="lines.txt").click()
        first = share_above(opened, 0)
        assert {"done", "missing"} == set(opened.kinds())
        assert opened.counts()["Failed"] == "0"
        (tmp_path / "first").touch()
        share_above(opened, max(first, 34))
        assert opened.page.locator("button.act").count() == 0  # it is another command that runs it
        opened.check("http://127.0.0.1")
        started.terminate()
        started.wait(30)
        opened.wait_for("#verdict", "Stopped.")
        stop_and_resume(opened, tmp_path)
        opened.wait_for("#verdict", "All 600 records are in the result.")
        assert (tmp_path / "results/lines.txt").read_bytes() == b"".join(HELD).upper()
        opened.check("http://127.0.0.1")

    def test_without_jobs_it_says_so(self, console, visit):
        opened = visit(console)
        assert "All jobs are complete" in opened.text("main")
        opened.check("http://127.0.0.1")


@dataclass(frozen=True)
class Stack:
    """An emulated stack: the folder of its step, a client of its S3, its bucket, and the address of its console."""

    folder: Path
    s3: Any
    bucket: str
    url: str

    def put(self, name: str, entries: list[bytes]) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=f"inbox/{name}", Body=b"".join(entries))

    def result(self, name: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=f"results/{name}")["Body"].read())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = write_step(tmp_path_factory.mktemp("stack"))
    with ExitStack() as opened:
        emulate = begun(folder, "emulate", "--keep", "--step", "step.py", *SMALL)
        printed = opened.enter_context(emulate)[1]
        environment = printed["environment"]
        console = opened.enter_context(begun(folder, "console", "--stack", printed["stack"], **environment))[1]
        session = boto3.Session("local", "local", region_name=environment["AWS_REGION"])
        s3 = session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"])
        names = [one["Name"] for one in s3.list_buckets()["Buckets"]]
        (bucket,) = [name for name in names if name.startswith(f"{printed['stack']}-1")]
        yield Stack(folder, s3, bucket, console["url"])


class TestStack:
    def test_a_job_becomes_whole_record_by_record_group_by_group(self, stack: Stack, visit):
        stack.put("failing.txt", FAILING)
        opened = visit(stack.url)
        opened.wait_for("main", "finished")
        row = opened.text("#jobs tbody tr").split()
        assert (row[0], *row[2:]) == ("failing.txt", "finished", "100.0%", "5")
        become_whole(opened, "failing.txt", stack.folder)
        assert stack.result("failing.txt") == b"".join(FAILING).upper()

    def test_a_running_job_is_cancelled_and_resumed(self, stack: Stack, visit):
        stack.put("held.txt", HELD)
        opened = visit(stack.url)
        opened.wait_for("main", "held.txt")
        opened.page.get_by_role("link", name="held.txt").click()
        share_above(opened, 0)
        assert {"done", "missing"} == set(opened.kinds())
        assert opened.counts()["Failed"] == "0"
        opened.check("http://127.0.0.1")
        (stack.folder / "first").touch()
        opened.page.locator("button.act[data-action=cancel]").focus()
        share_above(opened, 34)
        assert opened.page.evaluate("document.activeElement.dataset.action") == "cancel"  # the page was replaced
        opened.press("button.act[data-action=cancel]")
        opened.wait_for("#verdict", "Cancelled.")
        stop_and_resume(opened, stack.folder, "Cancelled.")
        opened.wait_for("#verdict", "All 600 records are in the result.")
        assert stack.result("held.txt") == b"".join(HELD).upper()
        opened.check("http://127.0.0.1")


def become_whole(opened: Any, name: str, folder: Path) -> None:
    """Run the five failed records of a job again: one of them, those of one reason, and then all."""
    opened.check("http://127.0.0.1")
    opened.page.get_by_role("link", name=name).click()
    opened.wait_for("#verdict", "5 of 400 records failed; the other 395 are in the result.")
    assert opened.counts()["Failed"] == "5"
    assert [row.split("\t")[1] for row in opened.page.locator("#reasons tbody tr").all_inner_texts()] == ["3", "2"]
    opened.check("http://127.0.0.1")

    (folder / "bad").touch()
    opened.choose(6)
    opened.page.locator("#chosen button.act").click()
    opened.check("http://127.0.0.1")  # of the dialog
    opened.page.keyboard.press("Escape")
    assert opened.press("#chosen button.act", "No") == "Run this record again: bad <i>10</i>"
    opened.press("#chosen button.act")
    opened.wait_for("#verdict", "4 of 400 records failed")

    (folder / "odd").touch()
    question = opened.press('#reasons button.act[data-kind*="odd record"]')
    assert question.startswith("Run the 3 records again that failed with: ValueError: odd record …")
    opened.wait_for("#verdict", "1 of 400 records failed")

    assert opened.press("#verdict button.act") == "Run the failed records again (1 record)?"
    opened.wait_for("#verdict", "All 400 records are in the result.")
    assert opened.page.locator("button.act").count() == 0
    assert len([url for url in opened.requests if url.endswith("/act")]) == 3  # none for Escape and for No
    opened.check("http://127.0.0.1")
    opened.page.get_by_role("link", name="All jobs").click()
    row = opened.text("#jobs tbody tr").split()
    assert (row[0], row[2]) == (name, "whole")


def stop_and_resume(opened: Any, folder: Path, stopped: str = "Stopped.") -> None:
    """Resume a stopped job, stop it while it waits, and resume it again."""
    assert opened.press("button.act[data-action=resume]") == "Continue with what is missing?"
    opened.wait_for("#verdict", "Running.")
    opened.press("button.act[data-action=cancel]")
    opened.wait_for("#verdict", stopped)
    (folder / "later").touch()
    opened.press("button.act[data-action=resume]")


def share_above(opened: Any, least: float) -> float:
    """Wait until more of a running job is done than so many percent; return how much."""
    shown = opened.page.wait_for_function(
        """least => {
            const share = parseFloat(document.querySelector("#verdict").innerText.match(/([0-9.]+)% done/)?.[1]);
            return share > least && share;
        }""",
        arg=least,
        timeout=120_000,
    )
    return float(shown.json_value())
