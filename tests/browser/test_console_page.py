"""The console in a real browser: a job that runs, one with dead records that becomes whole, and one that is stopped."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
STEP = """import os, sys, time
from parcelq.step import step
@step(each=True)
def score(line):
    if os.path.exists(FOLDER + "/slow"):
        time.sleep(0.005)
    for word in ("bad", "odd"):
        if word in line and not os.path.exists(FOLDER + "/mended-" + word):
            raise ValueError(f"{word} record {line.strip()!r}")
    return line.upper()
if __name__ == "__main__":
    score.main()
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    def start(entries: list[bytes], *options: str) -> subprocess.Popen[bytes]:
        (tmp_path / "lines.txt").write_bytes(b"".join(entries))
        (tmp_path / "step.py").write_text(STEP.replace("FOLDER", repr(str(tmp_path))))
        command = [*PROGRAM, "run", "lines.txt", "--step", "step.py", "--quiet", *options]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return start


@pytest.fixture
def console(tmp_path: Path) -> Iterator[str]:
    """Address of a console of the results in the test's folder."""
    command = [*PROGRAM, "console"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=30)


def wait_for(opened, selector: str, text: str, seconds: float = 60) -> None:
    opened.page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
        arg=[selector, text],
        timeout=1000 * seconds,
    )


def press(opened, button: str, answer: str = "Yes") -> str:
    """Press a button and answer what it asks; returns the question."""
    opened.page.locator(button).first.click()
    question = opened.text("dialog p")
    opened.page.get_by_role("button", name=answer, exact=True).click()
    return question


def test_a_job_becomes_whole_record_by_record_group_by_group(run, console, visit, tmp_path):
    entries = [b"line %04d\n" % number for number in range(2000)]
    for number, word in ((10, b"bad"), (700, b"bad"), (1200, b"odd"), (1900, b"odd"), (1999, b"odd")):
        entries[number] = word + b" <i>%d</i>\n" % number
    assert run(entries).wait(200) == 1
    opened = visit(console)
    assert opened.text("#jobs tbody tr").split()[:3] == ["lines.txt", "finished", "100.0%"]
    opened.check("http://127.0.0.1")
    opened.page.get_by_role("link", name="lines.txt").click()
    wait_for(opened, "#verdict", "5 of 2,000 records failed; the other 1,995 are in the result.")
    assert opened.counts()["Failed"] == "5"
    opened.check("http://127.0.0.1")

    (tmp_path / "mended-bad").touch()
    opened.choose(1)
    assert press(opened, "#chosen button.act", "No") == "Run this record again: bad <i>10</i>"
    time.sleep(2)
    assert opened.counts()["Failed"] == "5"
    press(opened, "#chosen button.act")
    wait_for(opened, "#verdict", "4 of 2,000 records failed")

    (tmp_path / "mended-odd").touch()
    question = press(opened, '#reasons button.act[data-kind*="odd record"]')
    assert question.startswith("Run the 3 records again that failed with: ValueError: odd record …")
    wait_for(opened, "#verdict", "1 of 2,000 records failed")
    assert b"ODD <I>1200</I>" in (tmp_path / "results/lines.txt").read_bytes()

    assert press(opened, "#verdict button.act") == "Run the failed records again (1 record)?"
    wait_for(opened, "#verdict", "All 2,000 records are in the result.")
    assert (tmp_path / "results/lines.txt").read_bytes() == b"".join(entries).upper()
    assert opened.page.locator("button.act").count() == 0
    opened.check("http://127.0.0.1")
    opened.page.get_by_role("link", name="All jobs").click()
    assert opened.text("#jobs tbody tr").split()[:2] == ["lines.txt", "whole"]


def test_a_running_job_moves_and_one_that_is_resumed_can_be_stopped_again(run, console, visit, tmp_path):
    (tmp_path / "slow").touch()
    started = run([b"line %05d\n" % number for number in range(6000)], "--batch-size", "20", "--parcel-size", "20")
    opened = visit(console)
    wait_for(opened, "main", "lines.txt")
    opened.page.get_by_role("link", name="lines.txt").click()
    wait_for(opened, "#verdict", "records a second")
    first = re.search(r"([\d.]+)% done", opened.text("#verdict"))
    assert first
    time.sleep(4)
    second = re.search(r"([\d.]+)% done", opened.text("#verdict"))
    assert second
    assert float(second[1]) > float(first[1])
    assert {"done", "missing"} <= set(opened.kinds())
    assert opened.page.locator("button.act").count() == 0  # it is another command that runs it
    started.terminate()
    started.wait(30)
    wait_for(opened, "#verdict", "Stopped.")
    assert press(opened, "button.act[data-action=resume]") == "Continue with what is missing?"
    wait_for(opened, "#verdict", "Running.")
    press(opened, "button.act[data-action=cancel]")
    wait_for(opened, "#verdict", "Stopped.")
    (tmp_path / "slow").unlink()
    press(opened, "button.act[data-action=resume]")
    wait_for(opened, "#verdict", "All 6,000 records are in the result.")
    assert (tmp_path / "results/lines.txt").read_bytes() == b"".join(b"LINE %05d\n" % number for number in range(6000))
    opened.check("http://127.0.0.1")


def test_without_jobs_it_says_so(console, visit):
    opened = visit(console)
    assert "All jobs are complete" in opened.text("main")
    opened.check("http://127.0.0.1")
