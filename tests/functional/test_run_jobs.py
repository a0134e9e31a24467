"""`parcelq jobs`, `dead`, `redrive` and `resume` for jobs on this machine."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest
from local_world import FAILS_ON_BAD, UPPER, World, lines_of
from parcelq.errors import JobError

TEXTS = [f"{'bad' if number in {17, 18, 150} else 'good'} {number}\n" for number in range(200)]


@pytest.fixture
def job(world: World) -> str:
    """The id of a job with three dead entries; two of them lie side by side."""
    world.write("lines.txt", "".join(TEXTS), 0o644)
    done = world.run("lines.txt", "--step", world.write("step", FAILS_ON_BAD), "--batch-size", 50)
    assert done.returncode == 1
    (found,) = world.jobs.all()
    assert f"parcelq redrive {found.record.id[:12]}" in done.stderr
    return found.record.id


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestListing:
    def test_a_redrive_with_another_number_of_steps_than_the_job_has_is_refused(self, world: World) -> None:
        source = world.write("lines.txt", "good\nbad\n", 0o644)
        fails = world.write("step", FAILS_ON_BAD)
        assert world.run(source, "--step", fails, "--step", "sed s/$/!/").returncode == 1
        (job,) = world.jobs.all()
        done = world.call("redrive", job.record.id, "--step", "cat")
        assert done.returncode == 1
        assert "it has 2 steps, but 1 step was given; give one for each step of the job" in done.stderr
        done = world.call("redrive", job.record.id, "--step", "cat", "--step", "sed s/$/!/")
        assert done.returncode == 0
        assert world.read("lines.txt") == "good!\nbad!\n"

    def test_a_job_that_a_limit_stopped_is_resumed_without_the_limit(self, world: World) -> None:
        source = world.write("lines.txt", "bad\n" * 40 + "good\n" * 40, 0o644)
        options = ["--step", world.write("step", FAILS_ON_BAD), "--batch-size", "1", "--parcel-size", "1"]
        done = world.run(source, *options, "--max-dead", "3", "--keep-going")
        assert "records failed, more than 3" in done.stderr
        (job,) = world.jobs.all()
        done = world.call("resume", job.record.id)
        assert "lacks 40 records that failed" in done.stdout
        assert world.read("lines.txt") == "good\n" * 40

    @pytest.mark.parametrize("options", [["--name", "a", "--combine", "b"], ["--fresh", "--continue"]])
    def test_options_that_contradict_each_other_are_refused(self, world: World, options: list[str]) -> None:
        done = world.run(world.write("lines.txt", "one\n", 0o644), "--step", "cat", *options)
        assert done.returncode == 2
        assert f"give either {options[0]}" in done.stderr

    def test_a_job_with_dead_entries_is_listed_until_it_is_whole(self, world: World, job: str) -> None:
        (told,) = documents(world.call("jobs", "--json").stdout)
        assert (told["job"], told["state"], told["dead"], told["percent"]) == (job, "finished", 3, 100.0)
        assert (told["files"], told["result"]) == (["lines.txt"], "results/lines.txt")
        first, drawn = world.call("jobs").stdout.splitlines()
        assert first == f"{job}  finished, 100%, 3 dead  results/lines.txt"
        assert drawn.strip() == told["map"]
        assert told["map"].count("▒") == 2
        assert world.call("redrive", job, "--step", world.write("upper", UPPER)).returncode == 0
        done = world.call("jobs", "--json")
        assert (done.returncode, done.stdout) == (0, "")
        assert "no incomplete job in results\n" in done.stderr
        assert (
            "no incomplete job in nowhere: there is no such folder" in world.call("jobs", "--output", "nowhere").stderr
        )
        assert not world.state.exists()

    def test_jobs_of_another_folder_are_found_with_its_name(self, world: World) -> None:
        world.write("x.txt", "bad\n", 0o644)
        assert world.run("x.txt", "--step", world.write("step", FAILS_ON_BAD), "--output", "out").returncode == 1
        assert world.call("jobs").stdout == ""
        (told,) = documents(world.call("jobs", "--output", "out", "--json").stdout)
        assert told["result"] == "out/x.txt"
        assert len(world.call("dead", told["job"], "--output", "out").stdout.splitlines()) == 1


class TestDead:
    def test_dead_entries_are_listed_with_file_record_and_reason(self, world: World, job: str) -> None:
        listed = documents(world.call("dead", job, "--json").stdout)
        assert [(one["job"], one["file"], one["record"], one["entry"]) for one in listed] == [
            (job, "lines.txt", 18, "bad 17\n"),
            (job, "lines.txt", 19, "bad 18\n"),
            (job, "lines.txt", 151, "bad 150\n"),
        ]
        first = world.call("dead", job[:8]).stdout.splitlines()[0]
        assert first.startswith("lines.txt, record 18: 'bad 17\\n': ValueError: bad entry")

    def test_dead_names_an_id_that_no_job_has(self, world: World, job: str) -> None:
        done = world.call("dead", "0123456789abcdef")
        assert done.returncode == 1
        assert "job 0123456789abcdef: there is no such job in 'results'" in done.stderr

    def test_a_job_or_a_topic_has_to_be_given_and_not_both(self, world: World) -> None:
        for arguments in ([], ["x", "--topic", "y"]):
            done = world.call("dead", *arguments)
            assert done.returncode == 2
            assert "the id of a job or a topic" in done.stderr


class TestRedrive:
    def test_dead_entries_run_again_into_their_places_with_a_mended_step(self, world: World, job: str) -> None:
        step, log = world.logging_step()
        done = world.call("redrive", job, "--step", step)
        assert (done.returncode, done.stdout) == (0, "results/lines.txt\n")
        assert log.read_text() in {"bad 17\nbad 18\nbad 150\n", "bad 150\nbad 17\nbad 18\n"}
        assert world.read("lines.txt") == "".join(one.upper() if "bad" in one else one for one in TEXTS)
        report = world.report("lines.txt")
        assert (report["complete"], report["dead"], report["dead_list"]) == (True, [], "")
        assert len(set(report["workflows"])) == 2  # both versions of the step
        assert (report["entries"]["read"], report["entries"]["dead"]) == (200, 0)
        assert not (world.results / "lines.txt.dead.jsonl").exists()
        assert not world.state.exists()

    def test_a_step_that_was_mended_in_its_place_needs_no_option(self, world: World, job: str) -> None:
        (world.folder / "step").write_text(UPPER)
        assert world.call("redrive", job).returncode == 0
        assert world.read("lines.txt").count("BAD") == 3

    def test_an_entry_that_dies_again_is_dead_once_with_its_new_reason(self, world: World, job: str) -> None:
        fails = '#!/bin/sh\ngrep -q "18\\|150" "$2" && { echo "KeyError: again" >&2; exit 1; }\ncat "$2" > "$4"\n'
        for _ in range(3):
            done = world.call("redrive", job, "--step", world.write("other", fails))
            assert done.returncode == 1
            assert [(one["record"], one["reason"][:15]) for one in world.dead("lines.txt")] == [
                (19, "KeyError: again"),
                (151, "KeyError: again"),
            ]
            assert world.read("lines.txt") == "".join(
                one for number, one in enumerate(TEXTS) if number not in {18, 150}
            )
            report = world.report("lines.txt")
            assert (report["complete"], report["entries"]["dead"]) == (False, 2)
            assert len(report["dead"]) == 2
        assert [one.dead for one in world.jobs.all()] == [2]
        assert world.call("redrive", job, "--step", world.write("upper", UPPER)).returncode == 0

    def test_a_step_is_not_taken_for_broken_because_all_that_died_dies_again(self, world: World) -> None:
        entries = [f"{'bad' if number % 10 == 0 else 'good'} {number}\n" for number in range(200)]
        world.write("lines.txt", "".join(entries), 0o644)
        assert world.run("lines.txt", "--step", world.write("step", FAILS_ON_BAD)).returncode == 1
        (found,) = world.jobs.all()
        done = world.call("redrive", found.record.id)
        assert done.returncode == 1
        assert "broken" not in done.stderr
        assert [one["record"] for one in world.dead("lines.txt")] == list(range(1, 200, 10))

    def test_a_redrive_that_is_killed_loses_nothing(self, world: World, job: str) -> None:
        slow = world.write("slow", "#!/bin/sh\nsleep 0.5\n" + UPPER.removeprefix("#!/bin/sh\n"))
        for seconds in (0.4, 0.8, 1.2, 1.6):
            process = world.start(job, "--step", slow, command="redrive")
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            world.wait_until_steps_end()
            if not world.jobs.all():
                break
            assert all(0 < one.dead <= 3 or one.share == 1 for one in world.jobs.all())
        if world.jobs.all():
            # When it was killed after all of them were run again, none is dead, and only the end is left to do.
            command = "redrive" if any(one.dead for one in world.jobs.all()) else "resume"
            done = world.call(command, job, *(["--step", slow] if command == "redrive" else []))
            assert done.returncode == 0, done.stderr
        assert world.read("lines.txt") == "".join(one.upper() if "bad" in one else one for one in TEXTS)
        # It may have been killed while it deleted what it kept. The next command does the rest.
        world.write("other.txt", "a\n", 0o644)
        assert world.run("other.txt", "--step", "cat").returncode == 0
        assert not world.state.exists()

    def test_entries_of_a_later_step_run_again_from_the_first_step_on(self, world: World) -> None:
        world.write("lines.txt", "".join(TEXTS), 0o644)
        first = world.write("first", '#!/bin/sh\nsed "s/^/x /" "$2" > "$4"\n')
        dies = world.write("dies", FAILS_ON_BAD)
        done = world.run("lines.txt", "--step", first, "--step", dies, "--batch-size", 50, "--parcel-size", 50)
        assert done.returncode == 1
        (found,) = world.jobs.all()
        assert found.dead == 3
        dies.write_text(UPPER)
        done = world.call("redrive", found.record.id)
        assert done.returncode == 0, done.stderr
        words = [line.lower() for line in world.read("lines.txt").splitlines(keepends=True)]
        assert words == [f"x {one}" for one in TEXTS]
        assert world.report("lines.txt")["entries"]["dead"] == 0

    def test_a_changed_source_is_refused_and_named(self, world: World, job: str) -> None:
        with (world.folder / "lines.txt").open("a") as file:
            file.write("more\n")
        done = world.call("redrive", job)
        assert done.returncode == 1
        assert f"job {job}: it cannot continue: file 'lines.txt' changed" in done.stderr
        assert len(world.dead("lines.txt")) == 3

    def test_a_job_without_dead_entries_is_refused(self, world: World) -> None:
        world.write("lines.txt", lines_of(4000), 0o644)
        step, _ = world.logging_step('sleep 0.1\ntr a-z A-Z < "$2" > "$4"')
        first = world.start("lines.txt", "--step", step, "--batch-size", 2, "--parcel-size", 2)
        until = time.monotonic() + 60
        while not world.stored(lines_of(4000).encode()) and time.monotonic() < until:
            time.sleep(0.1)
        first.kill()
        first.wait()
        (found,) = world.jobs.all()
        done = world.call("redrive", found.record.id)
        assert done.returncode == 1
        assert "it has no dead entries" in done.stderr

    @pytest.mark.parametrize("command", ["redrive", "resume"])
    def test_redrive_and_resume_refuse_a_text_that_is_no_id(self, world: World, command: str) -> None:
        done = world.call(command, "my-topic")
        assert done.returncode == 1
        assert "JOB is 'my-topic', but must be a job's id" in done.stderr


class TestResume:
    def test_a_stopped_job_goes_on_from_any_folder_as_it_was_begun(self, world: World) -> None:
        world.write("lines.txt", lines_of(400), 0o644)
        settings = world.write("settings.yaml", "environment: {WORD: there}\n", 0o644)
        world.logging_step('sleep 0.1\nsed "s/line/$WORD/" "$2" > "$4"')
        options = ["--step", "./logging", "--settings", settings, "--batch-size", 5, "--parcel-size", 5]
        first = world.start("lines.txt", *options)
        until = time.monotonic() + 60
        while not world.stored(lines_of(400).encode()) and time.monotonic() < until:
            time.sleep(0.1)
        first.kill()
        first.wait()
        (found,) = world.jobs.all()
        assert found.state == "stopped"
        elsewhere = World(world.folder / "elsewhere")
        elsewhere.folder.mkdir()
        done = elsewhere.call("resume", found.record.id[:10], "--output", world.results)
        assert done.returncode == 0, done.stderr
        assert world.read("lines.txt") == lines_of(400).replace("line", "there")
        assert not world.state.exists()

    def test_resuming_a_finished_job_with_dead_entries_writes_the_same_again(self, world: World, job: str) -> None:
        before = world.read("lines.txt")
        done = world.call("resume", job)
        assert done.returncode == 1
        assert world.read("lines.txt") == before
        assert len(world.dead("lines.txt")) == 3


def test_the_beginning_of_an_id_must_fit_one_job(world: World, job: str) -> None:
    assert world.jobs.find(job[:6]).id == job
    with pytest.raises(JobError, match="no such job"):
        world.jobs.find(job[:5])
