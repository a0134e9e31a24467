"""`parcelq.run`: jobs on this machine from a Python program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import parcelq
import pytest
from local_world import FAILS_ON_BAD, UPPER, World, lines_of
from parcelq.errors import InvalidValueError, ParcelqError, SettingsError


@pytest.fixture(autouse=True)
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.folder.mkdir(exist_ok=True)
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.folder / "cache"))


def test_a_job_gives_its_results_and_its_progress(world: World) -> None:
    world.write("a.txt", lines_of(50), 0o644)
    world.write("b.txt", lines_of(20), 0o644)
    job = parcelq.run(world.write("upper", UPPER), ["a.txt", Path("b.txt")], batch_size=10)
    assert [(one.file, one.whole) for one in job.wait(60)] == [("a.txt", True), ("b.txt", True)]
    assert job.results() == [Path("results/a.txt"), Path("results/b.txt")]
    assert world.read("a.txt") == lines_of(50).upper()
    assert list(job.dead()) == []
    assert (job.progress().share, job.progress().entries) == (1.0, 70)


def test_dead_entries_come_with_file_number_and_reason(world: World) -> None:
    world.write("a.txt", b"good\nbad\n", 0o644)
    world.write("b.txt", b"bad \xff\n", 0o644)
    job = parcelq.run(world.write("step", FAILS_ON_BAD), ["a.txt", "b.txt"], combine="all.txt")
    assert [(one.file, one.record, one.line, one.entry) for one in job.dead()] == [
        ("a.txt", 2, 2, "bad\n"),
        ("b.txt", 1, 1, b"bad \xff\n"),
    ]
    assert all("bad entry" in one.reason for one in job.dead())
    assert [one.whole for one in job.wait()] == [False]
    assert job.results() == [Path("results/all.txt")]


def test_a_cancelled_job_keeps_what_is_done_and_the_same_call_goes_on(world: World) -> None:
    world.write("lines.txt", lines_of(300), 0o644)
    step, log = world.logging_step('sleep 0.05\ntr a-z A-Z < "$2" > "$4"')
    job = parcelq.run(step, "lines.txt", batch_size=3, parcel_size=3)
    with pytest.raises(TimeoutError):
        job.wait(0.1)
    while job.progress().entries < 30:
        pass
    job.cancel()
    with pytest.raises(ParcelqError, match="it was cancelled"):
        job.wait()
    stored = world.stored(lines_of(300).encode())
    assert len(stored) >= 30
    log.write_bytes(b"")
    assert parcelq.run(step, "lines.txt", batch_size=3, parcel_size=3).wait(120)[0].whole
    assert not stored & set(log.read_bytes().splitlines(keepends=True))
    assert world.read("lines.txt") == lines_of(300).upper()


def test_arguments_that_make_no_sense_are_refused_at_once(world: World) -> None:
    world.write("a.txt", "a\n", 0o644)
    upper = world.write("upper", UPPER)
    with pytest.raises(InvalidValueError, match="fresh is True, but must be omitted for a stack"):
        parcelq.run(upper, "a.txt", stack="parcelq", fresh=True)
    with pytest.raises(SettingsError, match="there is no such file"):
        parcelq.run("./nothing", "a.txt")
    with pytest.raises(InvalidValueError, match="name is 'a', but must be omitted with combine"):
        parcelq.run(upper, "a.txt", name="a", combine="b")
    with pytest.raises(InvalidValueError, match="go_on is True, but must be omitted with fresh"):
        parcelq.run(upper, "a.txt", fresh=True, go_on=True)
    with pytest.raises(InvalidValueError, match="max-dead is 'x'"):
        parcelq.run(upper, "a.txt", max_dead="x")
    with pytest.raises(InvalidValueError, match="decorated with @step"):
        parcelq.run(str.upper, "a.txt")  # type: ignore[arg-type]
    with pytest.raises(ParcelqError, match=r"file 'b\.txt' cannot be read"):
        parcelq.run(upper, "b.txt").wait()


def test_a_function_that_cannot_be_found_again_is_refused(world: World) -> None:
    @parcelq.step(each=True)
    def inner(entry: str) -> str:
        return entry

    with pytest.raises(InvalidValueError, match="a function at the top of a module"):
        parcelq.run(inner, "a.txt")


def test_a_second_job_on_the_same_file_is_refused_in_one_program_too(world: World) -> None:
    world.write("lines.txt", lines_of(1000), 0o644)
    step, log = world.logging_step('sleep 0.1\ncat "$2" > "$4"')
    first = parcelq.run(step, "lines.txt", batch_size=3, parcel_size=3)
    while not log.stat().st_size:
        pass
    with pytest.raises(ParcelqError, match="another command runs"):
        parcelq.run(step, "lines.txt").wait()
    first.cancel()


def test_a_program_runs_its_own_function_and_its_main_part_runs_once(world: World) -> None:
    world.write("a.txt", lines_of(2000), 0o644)
    program = """
import parcelq
from parcelq.step import step

WORD = "!"


@step(each=True)
def mark(entry):
    if entry.endswith("7"):
        raise ValueError("a seven")
    return entry + WORD


if __name__ == "__main__":
    print("main")
    job = parcelq.run(mark, "a.txt", batch_size=100)
    print(sum(1 for _ in job.dead()), job.results()[0])
"""
    path = world.write("a program.py", program)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "main\n200 results/a.txt\n"), done.stderr
    assert world.read("a.txt") == "".join(f"line {n}!\n" for n in range(2000) if n % 10 != 7)


def test_a_call_that_each_step_would_repeat_is_refused_by_the_step(world: World) -> None:
    script = (
        "import parcelq\n"
        "from parcelq.step import step\n"
        "@step(each=True)\n"
        "def same(entry):\n"
        "    return entry\n"
        "parcelq.run(same, 'lines.txt').wait()\n"
    )
    world.write("lines.txt", "a\nb\n", 0o644)
    done = subprocess.run(
        [sys.executable, world.write("script.py", script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "put the call of parcelq.run under if __name__ == '__main__'" in done.stderr
