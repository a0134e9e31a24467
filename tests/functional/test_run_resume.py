"""Jobs that are stopped at any moment go on where they stopped: exactly, and without running again what is stored."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_world import FAILS_ON_BAD, UPPER, World, lines_of
from parcelq.errors import ParcelqError
from parcelq.local.recipe import Recipe

THOROUGH = "PARCELQ_THOROUGH" in os.environ
CHANGES = range(1, 60, 1 if THOROUGH else 3)
"""The changes to files that a command is killed before: all, until it makes no more, or every third one."""
SLOW = 'sleep 0.1\ntr a-z A-Z < "$2" > "$4"'
CRASHING = """
import os, signal, sys
left = int(sys.argv.pop(1))

def crashing(name):
    call = getattr(os, name)

    def counted(path, *arguments, **options):
        global left
        folder = options.get("dir_fd")
        whole = os.readlink(f"/proc/self/fd/{folder}") if folder is not None else os.fspath(path)
        if "/results" in whole or whole.startswith("results"):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return call(path, *arguments, **options)

    setattr(os, name, counted)

for name in ("replace", "unlink", "rmdir"):
    crashing(name)
from parcelq_cli.main import main
main()
"""
"""Kills itself before it renames or deletes a file of the folder of results, at a chosen one."""

INTERRUPTED = """
import sys, threading
left, start = int(sys.argv.pop(1)), threading.Thread.start

def interrupted(thread):
    global left
    left -= threading.current_thread() is threading.main_thread()
    if not left:
        left = -1
        raise KeyboardInterrupt
    start(thread)

threading.Thread.start = interrupted
from parcelq_cli.main import main
main()
"""
"""A command that is interrupted when its main thread starts another thread, at a chosen one."""


def wait_for(what: object, seconds: float = 60) -> None:
    """Wait until a function returns something true."""
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.05)
    assert what()  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(4 if THOROUGH else 1))
def test_a_job_that_is_stopped_again_and_again_is_exact_and_runs_nothing_twice_that_was_stored(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    data = lines_of(300).encode()
    source = world.write("lines.txt", data, 0o644)
    step, log = world.logging_step('sleep 0.03\ntr a-z A-Z < "$2" > "$4"')
    arguments = [source, "--step", step, "--batch-size", 3, "--parcel-size", 3, "--quiet"]
    signals = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    for number in signals:
        process = world.start(*arguments)
        time.sleep(chance.uniform(0.4, 1.4))
        os.kill(process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode in {0, 130, -number}
        world.wait_until_steps_end()
        stored = world.stored(data)
        log.write_bytes(b"")
        # What is stored now must not be run from here on.
        process = world.start(*arguments)
        time.sleep(chance.uniform(0.3, 0.9))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        world.wait_until_steps_end()
        assert not stored & set(log.read_bytes().splitlines(keepends=True))
    stored = world.stored(data)
    log.write_bytes(b"")
    done = world.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert not stored & set(log.read_bytes().splitlines(keepends=True))
    assert world.read("lines.txt") == lines_of(300).upper()
    assert not world.state.exists()


def test_a_command_may_be_interrupted_while_it_starts_any_thread(world: World) -> None:
    world.write("lines.txt", "one\n", 0o644)
    options = ["lines.txt", "--step", "cat"]
    for count in range(1, 100):
        command = [sys.executable, "-P", "-c", INTERRUPTED, str(count), "run", *options]
        done = subprocess.run(command, cwd=world.folder, capture_output=True, text=True, timeout=60, check=False)
        if not done.returncode:
            break
        assert done.returncode == 130, done.stderr
        assert done.stderr == "stopped; the same command continues after the last finished batch of records\n"
    assert count > 3
    assert world.read("lines.txt") == "one\n"


def test_a_command_may_be_killed_before_any_change_to_a_file(tmp_path: Path) -> None:
    """An earlier result is there. It stays until the new one takes its place, and no report speaks for another one."""
    before, after = "old 1\nold 2\n", "new 1\nbad\nnew 2\n"
    first = World(tmp_path / "first")
    first.write("lines.txt", before, 0o644)
    assert first.run("lines.txt", "--step", first.write("step", FAILS_ON_BAD)).returncode == 0
    results = {before, "new 1\nnew 2\n"}
    killed = 0
    for count in CHANGES:
        folder = tmp_path / str(count)
        shutil.copytree(first.folder, folder)
        world = World(folder)
        world.write("lines.txt", after, 0o644)
        step, log = world.logging_step(FAILS_ON_BAD.removeprefix("#!/bin/sh\n").strip())
        options = ["lines.txt", "--step", str(step), "--batch-size", "1", "--parcel-size", "1", "--quiet"]
        command = [sys.executable, "-P", "-c", CRASHING, str(count), "run", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
        if done.returncode == 1:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        assert world.read("lines.txt") in results
        report = world.results / "lines.txt.report.json"
        if report.exists():
            told = json.loads(report.read_text())
            if told["complete"]:
                assert world.read("lines.txt") == before
        stored = world.stored(after.encode())
        log.write_bytes(b"")
        again = world.run(*options)
        assert again.returncode == 1, again.stderr
        assert world.read("lines.txt") == "new 1\nnew 2\n"
        assert [(one["record"], one["entry"]) for one in world.dead("lines.txt")] == [(2, "bad\n")]
        assert world.report("lines.txt")["complete"] is False
        assert not stored & set(log.read_bytes().splitlines(keepends=True))
    assert killed > 2


def test_a_command_may_be_killed_while_it_deletes_the_state_of_a_whole_job(tmp_path: Path) -> None:
    killed = 0
    for count in CHANGES:
        world = World(tmp_path / str(count))
        world.write("lines.txt", lines_of(2), 0o644)
        step, log = world.logging_step()
        options = ["lines.txt", "--step", str(step), "--batch-size", "1", "--parcel-size", "1", "--quiet"]
        command = [sys.executable, "-P", "-c", CRASHING, str(count), "run", *options]
        done = subprocess.run(command, cwd=world.folder, capture_output=True, timeout=60, check=False)
        if done.returncode == 0:
            break
        killed += 1
        stored = world.stored(lines_of(2).encode())
        was_whole = (world.results / "lines.txt.report.json").exists()
        log.write_bytes(b"")
        again = world.run(*options)
        assert (again.returncode, again.stdout) == (0, "results/lines.txt\n")
        assert world.read("lines.txt") == lines_of(2).upper()
        assert world.report("lines.txt")["entries"]["read"] == 2
        runs = set(log.read_bytes().splitlines(keepends=True))
        assert not stored & runs
        if was_whole and not runs:
            assert world.report("lines.txt")["complete"] is True
        assert not world.state.exists()
    assert killed > 2


EACH = """from parcelq.step import step

@step(each=True)
def run(entry):
    return {}

if __name__ == "__main__":
    run.main()
"""


class TestTwoAtOnce:
    def test_a_second_command_on_a_job_is_refused_and_the_job_is_shown_as_running(self, world: World) -> None:
        source = world.write("lines.txt", lines_of(4000), 0o644)
        step, _ = world.logging_step(SLOW)
        arguments = [source, "--step", step]
        first = world.start(*arguments, "--batch-size", 2, "--parcel-size", 2)
        wait_for(lambda: any(one.is_running for one in world.jobs.all()))
        for more in ([], ["--fresh"], ["--workflow-id", "other@1"]):
            done = world.run(*arguments, *more)
            assert done.returncode == 1
            assert "another command runs" in done.stderr
        (job,) = world.jobs.all()
        resumed = world.call("resume", job.record.id)
        assert "another command runs" in resumed.stderr
        assert "running" in world.call("jobs").stdout
        assert first.poll() is None
        first.kill()
        first.wait()
        assert "stopped" in world.call("jobs").stdout
        assert world.run(*arguments).returncode == 0
        assert world.read("lines.txt") == lines_of(4000).upper()

    def test_commands_on_different_files_run_side_by_side_and_the_last_one_deletes_the_state(
        self, world: World
    ) -> None:
        step, _ = world.logging_step(SLOW)
        running = []
        for name in ("a.txt", "b.txt", "c.txt"):
            source = world.write(name, lines_of(20), 0o644)
            running.append(world.start(source, "--step", step, "--batch-size", 5, "--parcel-size", 5))
        for one in running:
            _, said = one.communicate(timeout=60)
            assert one.returncode == 0, said
        assert sorted(path.name for path in world.results.glob("?.txt")) == ["a.txt", "b.txt", "c.txt"]
        assert not world.state.exists()


class TestChanges:
    def test_work_is_not_lost_to_another_file_whose_result_is_called_the_same(self, world: World) -> None:
        first = world.write("a/lines.txt", lines_of(400), 0o644)
        second = world.write("b/lines.txt", "other\n", 0o644)
        step, _ = world.logging_step(SLOW)
        options = ["--step", step, "--batch-size", 5, "--parcel-size", 5]
        process = world.start(first, *options)
        wait_for(lambda: world.stored(lines_of(400).encode()))
        process.kill()
        process.wait()
        (job,) = world.jobs.all()
        done = world.run(second, *options)
        assert done.returncode == 1
        assert f"job {job.record.id}: it is not finished, and its result has the same name 'lines.txt'" in done.stderr
        assert [one.record.id for one in world.jobs.all()] == [job.record.id]
        assert world.run(second, *options, "--name", "second.txt").returncode == 0
        assert world.run(second, *options, "--fresh").returncode == 0
        assert (world.read("lines.txt"), world.read("second.txt")) == ("OTHER\n", "OTHER\n")
        assert not world.state.exists()

    def test_a_source_that_changed_is_another_job_and_its_earlier_result_stays_until_the_new_one_is_there(
        self, world: World
    ) -> None:
        source = world.write("lines.txt", "old\n", 0o644)
        step = world.write("step", UPPER)
        assert world.run(source, "--step", step).returncode == 0
        source.write_text("new\n" * 5)
        os.utime(source, (1, 1))  # older than the one before
        step.write_text("#!/bin/sh\nexit 3\n")
        assert world.run(source, "--step", step, "--batch-size", 1, "--parcel-size", 1).returncode == 1
        assert world.read("lines.txt") == "OLD\n"
        assert world.report("lines.txt")["bytes_read"] == 4  # the report that is there speaks of that
        step.write_text(UPPER)
        assert world.run(source, "--step", step).returncode == 0
        assert world.read("lines.txt") == "NEW\n" * 5

    def test_the_same_file_is_run_again_with_another_step_after_it_is_whole(self, world: World) -> None:
        source = world.write("lines.txt", "a\n", 0o644)
        step = world.write("step", UPPER)
        assert world.run(source, "--step", step).returncode == 0
        step.write_text('#!/bin/sh\nsed s/a/b/ "$2" > "$4"\n')
        assert world.run(source, "--step", step).returncode == 0
        assert world.read("lines.txt") == "b\n"

    @pytest.mark.parametrize("combined", [False, True])
    def test_a_source_that_changes_while_it_runs_has_no_result_and_the_others_have(
        self, world: World, combined: bool
    ) -> None:
        source = world.write("lines.txt", lines_of(100), 0o644)
        other = world.write("other.txt", "a\n", 0o644)
        step, log = world.logging_step(SLOW)
        more = ["--combine", "all.txt"] if combined else []
        first = world.start(source, other, *more, "--step", step, "--batch-size", 5, "--parcel-size", 5)
        wait_for(lambda: log.stat().st_size)
        with source.open("a") as file:
            file.write("one more\n")
        told, said = first.communicate(timeout=60)
        assert first.returncode == 1
        assert f"file {str(source)!r} changed since the job began" in told + said
        assert not (world.results / "lines.txt").exists()
        assert not world.state.exists()
        if not combined:
            assert world.read("other.txt") == "A\n"

    def test_a_step_that_changed_asks_whether_to_continue_or_to_start_over(self, world: World) -> None:
        entries = [f"good {number}\n" for number in range(50)] + ["bad\n"]
        source = world.write("lines.txt", "".join(entries), 0o644)
        step = world.write("step", FAILS_ON_BAD)
        assert world.run(source, "--step", step, "--batch-size", 10).returncode == 1
        step.write_text(UPPER)
        asked = world.run(source, "--step", step)
        assert asked.returncode == 1
        assert "100 % of" in asked.stderr
        assert "--continue" in asked.stderr
        assert "--fresh" in asked.stderr
        assert len(world.dead("lines.txt")) == 1  # nothing was touched
        (job,) = world.jobs.all()
        assert job.dead == 1
        assert world.run(source, "--step", step, "--fresh").returncode == 0
        assert world.read("lines.txt") == "".join(entries).upper()
        assert not (world.results / "lines.txt.dead.jsonl").exists()

    def test_a_command_that_one_file_makes_fail_leaves_the_state_of_others_alone(self, world: World) -> None:
        step = world.write("step", FAILS_ON_BAD)
        world.write("a.txt", "good\nbad\n", 0o644)
        world.write("b.txt", "good\nbad\n", 0o644)
        assert world.run("a.txt", "b.txt", "--step", step).returncode == 1
        before = world.jobs.all()
        step.write_text(UPPER)
        assert world.run("b.txt", "a.txt", "--step", step).returncode == 1
        now = world.jobs.all()
        commands = [one.record.command for one in now]
        assert now == [
            one._replace(record=one.record._replace(command=command))
            for one, command in zip(before, commands, strict=True)
        ]

    def test_a_step_that_changed_before_anything_was_done_goes_on_by_itself(self, world: World) -> None:
        source = world.write("lines.txt", lines_of(20_000), 0o644)
        step = world.write("step", "#!/bin/sh\nexit 3\n")
        assert world.run(source, "--step", step).returncode == 1
        assert world.jobs.all() == []
        step.write_text(UPPER)
        assert world.run(source, "--step", step).returncode == 0
        assert world.read("lines.txt") == lines_of(20_000).upper()

    @pytest.mark.parametrize("name", ["lines.txt", "table.csv"])
    def test_a_corrected_step_starts_over_by_itself_if_every_entry_failed_before(self, world: World, name: str) -> None:
        """A Python function that gets one entry at a time fails for each entry; the run as a whole does not fail."""
        source = world.write(name, "a\nb\nc\n", 0o644)
        step = world.write("step.py", EACH.format("entry.uper()"))
        assert world.run(source, "--step", step).returncode == 1
        step.write_text(EACH.format("entry.upper()"))
        done = world.run(source, "--step", step)
        assert done.returncode == 0, done.stderr
        assert world.read(name) == ("a\nB\nC\n" if name == "table.csv" else "A\nB\nC\n")
        assert world.jobs.all() == []

    def test_continuing_with_another_step_keeps_what_is_done(self, world: World) -> None:
        source = world.write("lines.txt", lines_of(200), 0o644)
        step, _ = world.logging_step(SLOW)
        arguments = [source, "--step", step, "--batch-size", 5, "--parcel-size", 5]
        first = world.start(*arguments)
        wait_for(lambda: world.stored(lines_of(200).encode()))
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 130, said
        assert "the same command continues after the last finished batch of records" in said
        step.write_text('#!/bin/sh\nsed s/line/other/ "$2" > "$4"\n')
        done = world.run(*arguments, "--continue")
        assert done.returncode == 0, done.stderr
        words = [line.split() for line in world.read("lines.txt").splitlines()]
        assert [number for _, number in words] == [str(number) for number in range(200)]
        assert {word for word, _ in words} == {"LINE", "other"}


def vars_of(record: object) -> dict[str, object]:
    """The fields of a record."""
    return {name: getattr(record, name) for name in record.__slots__}  # type: ignore[attr-defined]


def test_files_that_a_killed_command_left_half_written_are_deleted(world: World) -> None:
    source = world.write("lines.txt", "good\nbad\n", 0o644)
    step = world.write("step", FAILS_ON_BAD)
    assert world.run(source, "--step", step).returncode == 1
    left = [
        world.state / name
        for name in ("results/unfinished/x", ".store/unfinished/y", "spool/z.part", "commands/dead", "jobs/a.part")
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert world.run(source, "--step", step).returncode == 1
    assert not [path for path in left if path.exists()]


def test_a_record_that_a_crash_left_empty_begins_the_job_anew(world: World) -> None:
    source = world.write("lines.txt", "good\nbad\n", 0o644)
    step = world.write("step", FAILS_ON_BAD)
    assert world.run(source, "--step", step).returncode == 1
    (record,) = (world.state / "jobs").glob("*.json")
    record.write_bytes(b"")
    done = world.run(source, "--step", step)
    assert done.returncode == 1
    assert [one["record"] for one in world.dead("lines.txt")] == [2]
    assert len(world.jobs.all()) == 1


def test_a_job_whose_record_has_members_of_wrong_types_begins_anew(world: World) -> None:
    source = world.write("lines.txt", "good\nbad\n", 0o644)
    options = [source, "--step", world.write("step", FAILS_ON_BAD)]
    assert world.run(*options).returncode == 1
    (path,) = (world.state / "jobs").glob("*.json")
    record = json.loads(path.read_text())
    for name, value in {"id": 3, "result": None, "versions": [1], "recipe": [], "files": [3], "command": {}}.items():
        path.write_text(json.dumps({**record, name: value}))
        done = world.run(*options)
        assert done.returncode == 1
        assert "is not a record of a job, so the job begins anew" in done.stderr
        assert "bug" not in done.stderr
        assert world.read("lines.txt") == "good\n"


def test_a_note_that_a_crash_damaged_does_not_hide_the_dead_entries(world: World) -> None:
    source = world.write("lines.txt", "good\nbad\n", 0o644)
    assert world.run(source, "--step", world.write("step", FAILS_ON_BAD)).returncode == 1
    (note,) = (world.state / "segments" / ".uploads").glob("*/*.json")
    (job,) = world.jobs.all()
    for damaged in (b"", b"\0" * 100, b"{}"[:1]):
        note.write_bytes(damaged)
        assert [one.entry for one in world.jobs.dead(job.record.id)] == [b"bad\n"]


def test_a_job_whose_state_is_damaged_is_named_and_hides_no_other_job(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    step = world.write("step", FAILS_ON_BAD)
    for name in ("a.txt", "b.txt"):
        world.write(name, "good\nbad\n", 0o644)
    assert world.run("a.txt", "b.txt", "--step", step).returncode == 1
    damaged, other = world.jobs.all()
    for key in damaged.keys:
        (world.state / key).write_bytes(b"")
    assert [one.record for one in world.jobs.all()] == [other.record]
    assert f"job {damaged.record.id} of 'a.txt' cannot be read" in caplog.text
    done = world.run("a.txt", "--step", step)
    assert done.returncode == 1
    assert f"job {damaged.record.id}: its state cannot be read" in done.stderr
    assert "--fresh starts over" in done.stderr


def test_options_of_another_version_are_refused_by_name() -> None:
    with pytest.raises(ParcelqError, match=r"another version of Parcelq stored its options \(colour\)"):
        Recipe.of({"steps": ["cat"], "colour": "red"})


def test_a_workflow_id_does_not_hide_what_comes_out(world: World) -> None:
    source = world.write("lines.txt", "a\n", 0o644)
    for name in ("plain", "name@version"):
        done = world.run(source, "--step", world.write("upper", UPPER), "--workflow-id", name)
        assert done.returncode == 0, done.stdout
    named, version = world.report("lines.txt")["workflows"]
    assert (named, len(version)) == ("name@version", 16)


def test_nohup_keeps_a_command_running(world: World) -> None:
    source = world.write("lines.txt", lines_of(20), 0o644)
    step, log = world.logging_step(SLOW)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        first = world.start(source, "--step", step, "--batch-size", 5, "--parcel-size", 5)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: log.stat().st_size)
    first.send_signal(signal.SIGHUP)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 0, said


class TestSeveralFiles:
    """A command over several files that is stopped does not run its finished files again."""

    @pytest.fixture
    def options(self, world: World) -> list[object]:
        """Stop a command when its first file is finished, and its second is not; returns the command's options."""
        world.write("a.txt", "a\n" * 400, 0o644)
        world.write("b.txt", "b\n" * 1600 + "hold\n" * 400, 0o644)
        hold = world.write("hold", "")
        step, self.log = world.logging_step(
            f'while grep -q hold "$2" && [ -e {hold} ]; do sleep 0.05; done; tr a-z A-Z < "$2" > "$4"'
        )
        options = ["a.txt", "b.txt", "--step", step, "--batch-size", 20]
        started = world.start(*options)
        wait_for((world.results / "a.txt.report.json").exists)
        started.send_signal(signal.SIGINT)
        assert started.wait() == 130
        hold.unlink()
        assert self.runs_of_a() == 400
        return options

    def runs_of_a(self) -> int:
        return self.log.read_text().count("a\n")

    def test_the_same_command_runs_only_what_is_left(self, world: World, options: list[object]) -> None:
        (listed,) = world.call("jobs", "--json").stdout.splitlines()
        assert json.loads(listed)["files"] == ["b.txt"]
        done = world.run(*options)
        assert (done.returncode, done.stdout) == (0, "results/a.txt\nresults/b.txt\n")
        assert self.runs_of_a() == 400
        assert [world.read(f"{name}.txt") for name in "ab"] == ["A\n" * 400, "B\n" * 1600 + "HOLD\n" * 400]
        assert not world.state.exists()

    def test_fresh_runs_finished_files_again(self, world: World, options: list[object]) -> None:
        assert world.run(*options, "--fresh").returncode == 0
        assert self.runs_of_a() == 800

    def test_another_step_runs_finished_files_again(self, world: World, options: list[object]) -> None:
        assert world.run(*options[:3], "cat", *options[4:], "--continue").returncode == 0
        assert world.read("a.txt") == "a\n" * 400

    def test_a_finished_file_is_forgotten_when_the_others_are_done_in_another_way(
        self, world: World, options: list[object]
    ) -> None:
        assert world.run("b.txt", *options[2:]).returncode == 0
        assert not world.state.exists()
