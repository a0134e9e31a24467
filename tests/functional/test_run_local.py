"""`parcelq run`: files on one machine, through the same uploader, processor and collector as on AWS."""

from __future__ import annotations

import csv
import gzip
import io
import os
import signal
import subprocess
import sys
import time

import pytest
from local_world import FAILS_ON_BAD, UPPER, World, lines_of


def test_a_result_has_every_entry_in_order_and_no_state_is_left(world: World) -> None:
    source = world.write("lines.txt", lines_of(5000), 0o644)
    done = world.run(source, "--step", world.write("upper", UPPER), "--batch-size", 100)
    assert (done.returncode, done.stdout) == (0, "results/lines.txt\n")
    assert world.read("lines.txt") == lines_of(5000).upper()
    report = world.report("lines.txt")
    assert (report["complete"], report["entries"]["written"]) == (True, 5000)
    assert not world.state.exists()


def test_the_report_and_its_page_name_the_steps_and_options(world: World) -> None:
    source = world.write("lines.txt", lines_of(50), 0o644)
    step = world.write("upper", UPPER)
    assert world.run(source, "--step", step, "--batch-size", 100).returncode == 0
    assert world.report("lines.txt")["recipe"] == {"steps": [str(step)], "batch_size": 100}
    page = world.read("lines.txt.report.html")
    assert f"<dt>Steps</dt><dd>{step}</dd>" in page
    assert "<dt>Options</dt><dd>batch size: 100</dd>" in page


def test_run_sends_the_results_of_each_step_to_the_next(world: World) -> None:
    source = world.write("lines.txt", lines_of(300), 0o644)
    cut = world.write("cut", '#!/bin/sh\ngrep -v 7 "$2" > "$4"; true\n')
    done = world.run(source, "--step", world.write("upper", UPPER), "--step", cut, "--batch-size", 20)
    assert done.returncode == 0
    wanted = "".join(one for one in lines_of(300).upper().splitlines(keepends=True) if "7" not in one)
    assert world.read("lines.txt") == wanted


def test_bad_entries_are_listed_with_their_record_and_reason_and_the_others_come_out(world: World) -> None:
    entries = [f"good {number}\n" for number in range(200)]
    entries[17] = "bad one\n"
    entries[150] = "bad two\n"
    source = world.write("lines.txt", "".join(entries), 0o644)
    done = world.run(source, "--step", world.write("step", FAILS_ON_BAD), "--batch-size", 50)
    assert done.returncode == 1
    assert world.read("lines.txt") == "".join(one for one in entries if "bad" not in one)
    dead = world.dead("lines.txt")
    assert [(one["record"], one["line"], one["entry"]) for one in dead] == [
        (18, 18, "bad one\n"),
        (151, 151, "bad two\n"),
    ]
    assert all(one["reason"].startswith("ValueError: bad entry") for one in dead)
    assert "record 18" in done.stderr


def test_a_broken_step_ends_the_job_with_its_reason_and_after_mending_it_the_same_command_gives_everything(
    world: World,
) -> None:
    source = world.write("lines.txt", lines_of(20_000), 0o644)
    step = world.write("step.py", "import no_such_module\n")
    done = world.run(source, "--step", step)  # which would take too long if it ran every single entry
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in done.stderr
    assert not (world.results / "lines.txt").exists()
    step.write_text("import sys\nopen(sys.argv[4], 'w').write(open(sys.argv[2]).read())\n")
    assert world.run(source, "--step", step).returncode == 0
    assert world.read("lines.txt") == lines_of(20_000)


def test_a_failed_run_says_which_results_are_still_those_of_an_earlier_run(world: World) -> None:
    sources = [world.write(f"{name}.txt", lines_of(10), 0o644) for name in "ab"]
    assert world.run(*sources, "--step", "cat").returncode == 0
    broken = world.write("step.py", "import no_such_module\n")
    done = world.run(*sources, "--step", broken, "--batch-size", 2, "--parcel-size", 2, "--fresh")
    assert (done.returncode, done.stdout) == (1, "")
    assert "results/a.txt and 1 more are still the results of an earlier run\n" in done.stderr
    assert world.read("a.txt") == lines_of(10)
    done = world.run(sources[0], "--step", "cat")
    assert (done.returncode, "earlier run" in done.stderr) == (0, False)


def test_a_broken_step_does_not_replace_the_results_of_short_files(world: World) -> None:
    sources = [world.write(f"{name}.txt", f"{name}\n{name}\n", 0o644) for name in "abc"]
    assert world.run(*sources, "--step", "cat").returncode == 0
    broken = world.write("step.py", "import no_such_module\n")
    for some in (sources[:1], sources):
        done = world.run(*some, "--step", broken, "--fresh")
        assert (done.returncode, done.stdout) == (1, "")
        assert "so it is broken: ModuleNotFoundError" in done.stderr
        assert [world.read(f"{name}.txt") for name in "abc"] == ["a\na\n", "b\nb\n", "c\nc\n"]
        assert not list(world.results.glob("*.dead.jsonl"))


def test_a_file_without_a_new_result_is_named_if_it_still_has_an_old_one(world: World) -> None:
    source = world.write("rows.csv", "id\n1\n2\n", 0o644)
    assert world.run(source, "--step", "cat").returncode == 0
    world.write("rows.csv", 'id\n1\n"2\n', 0o644)
    done = world.run(source, "--step", "cat")
    assert (done.returncode, "rows.csv: no result: " in done.stdout) == (1, True)
    assert "results/rows.csv is the result of another run\n" in done.stderr


def test_a_step_that_fails_on_a_source_with_only_a_header_is_reported_with_its_reason(world: World) -> None:
    source = world.write("people.csv", "name,born\n", 0o644)
    step = world.write("step.py", "import csv\nraise ValueError('no rows')\n")
    done = world.run(source, "--step", step)
    assert (done.returncode, world.read("people.csv")) == (1, "")
    assert "people.csv: ValueError: no rows" in done.stderr
    assert (
        done.stdout == "results/people.csv is empty, because the step failed on the header, and there are no records\n"
    )


def test_a_step_that_rejects_every_record_of_a_short_file_for_one_reason_looks_broken(world: World) -> None:
    source = world.write("lines.txt", lines_of(4), 0o644)
    step = world.write(
        "step.py",
        "from parcelq.step import step\n\n@step(each=True)\ndef run(entry):\n"
        "    return misspelt(entry) if entry != 'line 3' or {0} else entry\n\nrun.main()\n",
    )
    text = step.read_text()
    step.write_text(text.format("True"))
    done = world.run(source, "--step", step)
    assert (done.returncode, len(world.dead("lines.txt"))) == (1, 4)
    looks_broken = "lines.txt: every record failed with the same reason, so the step looks broken; 'parcelq try' "
    assert looks_broken in done.stderr
    step.write_text(text.format("False"))
    done = world.run(source, "--step", step, "--fresh")
    assert len(world.dead("lines.txt")) == 3
    assert "broken" not in done.stderr


def test_records_that_all_fail_for_reasons_of_their_own_do_not_make_the_step_look_broken(world: World) -> None:
    source = world.write("lines.txt", lines_of(3), 0o644)
    step = world.write(
        "step.py", "from parcelq.step import step\n\n@step(each=True)\ndef run(e): int(e)\n\nrun.main()\n"
    )
    done = world.run(source, "--step", step)
    assert len(world.dead("lines.txt")) == 3
    assert "broken" not in done.stderr


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_with_nul_bytes_gets_a_warning_unless_its_format_is_named(world: World, packed: bool) -> None:
    data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    source = world.write("some.png", gzip.compress(data) if packed else data, 0o644)
    done = world.run(source, "--step", "cat")
    assert (done.returncode, world.report("some.png")["complete"]) == (0, True)
    assert (world.results / "some.png").read_bytes() == data
    (warning,) = world.report("some.png")["warnings"]
    assert "has NUL bytes, so it looks like a binary file or UTF-16 text" in warning
    assert warning in done.stderr
    done = world.run(source, "--step", "cat", "--format", "lines", "--fresh")
    assert (world.report("some.png")["warnings"], "NUL" in done.stderr) == ([], False)


def test_a_step_that_fails_on_most_first_messages_is_not_taken_for_broken(world: World) -> None:
    entries = [f"{'bad' if number % 10 == 3 else 'good'} {number}\n" for number in range(100)]
    source = world.write("lines.txt", "".join(entries), 0o644)
    done = world.run(source, "--step", world.write("step", FAILS_ON_BAD), "--batch-size", 20)
    assert done.returncode == 1
    assert world.read("lines.txt") == "".join(one for one in entries if "bad" not in one)


def test_a_step_is_not_taken_for_broken_because_single_records_lack_their_header(world: World) -> None:
    rows = "".join(f"{number},{'bad' if number % 5 == 4 else 'good'}\n" for number in range(40))
    source = world.write("rows.csv", f"id,word\n{rows}", 0o644)
    step = world.write(
        "step.py",
        "import csv, sys\n"
        "rows = list(csv.DictReader(open(sys.argv[2])))\n"
        "assert not any(row['word'] == 'bad' for row in rows)\n"
        "open(sys.argv[4], 'w').write('id\\n' + ''.join(row['id'] + '\\n' for row in rows))\n",
    )
    done = world.run(source, "--step", step, "--batch-size", 10, "--parcel-size", 10)
    assert "broken" not in done.stderr
    assert [one["record"] for one in world.dead("rows.csv")] == list(range(5, 41, 5))
    assert world.read("rows.csv") == "id\n" + "".join(f"{number}\n" for number in range(40) if number % 5 != 4)


def test_too_many_dead_entries_stop_the_job(world: World) -> None:
    entries = [f"{'bad' if number % 2 else 'good'} {number}\n" for number in range(400)]
    source = world.write("lines.txt", "".join(entries), 0o644)
    step = world.write("step", FAILS_ON_BAD)
    done = world.run(source, "--step", step, "--batch-size", 10, "--max-dead", 5)
    assert done.returncode == 1
    assert "records failed, more than 5" in done.stderr
    assert not (world.results / "lines.txt").exists()


def test_a_limit_counts_the_dead_entries_of_earlier_commands_too(world: World) -> None:
    entries = [f"{'bad' if number % 5 == 0 else 'good'} {number}\n" for number in range(400)]
    options = world.write("lines.txt", "".join(entries), 0o644), "--step", world.write("step", FAILS_ON_BAD)
    for limit in (49, 49, "13%"):
        done = world.run(*options, "--batch-size", 5, "--max-dead", limit)
        assert done.returncode == 1
        assert ("records failed, more than 49" in done.stderr) == (limit == 49)
    assert len(world.dead("lines.txt")) == 80


@pytest.mark.parametrize("limit", ["x", "-1", "101%", "1.2", "%"])
def test_run_refuses_an_invalid_limit(world: World, limit: str) -> None:
    done = world.run(world.write("lines.txt", "a\n", 0o644), "--step", "cat", "--max-dead=" + limit)
    assert done.returncode == 2
    assert "--max-dead" in done.stderr


def test_a_csv_file_comes_out_with_one_header_and_all_its_records(world: World) -> None:
    rows = [[str(number), f'a "quoted"\nfield {number}'] for number in range(40)]
    text = io.StringIO()
    csv.writer(text).writerows([["id", "text"], *rows])
    source = world.write("orders.csv", text.getvalue(), 0o644)
    step = world.write(
        "step.py",
        "import csv, sys\n"
        "with open(sys.argv[2], newline='') as f, open(sys.argv[4], 'w', newline='') as g:\n"
        "    out = csv.writer(g)\n"
        "    out.writerow(['id', 'length'])\n"
        "    out.writerows([row['id'], len(row['text'])] for row in csv.DictReader(f))\n",
    )
    done = world.run(source, "--step", step, "--batch-size", 7)
    assert done.returncode == 0, done.stderr
    with (world.results / "orders.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id", "length"], *([one, str(len(other))] for one, other in rows)]


def test_compressed_files_are_read_and_a_broken_one_stops_no_other(world: World) -> None:
    good = world.write("good.txt.gz", gzip.compress(b"a\n") + gzip.compress(b"b\n"), 0o644)
    broken = world.write("broken.txt.gz", gzip.compress(os.urandom(100_000), mtime=0)[:-5000], 0o644)
    done = world.run(broken, good, "--step", world.write("upper", UPPER))
    assert done.returncode == 1
    assert "truncated" in done.stdout
    assert world.read("good.txt.gz.result") == "A\nB\n"


def test_run_refuses_to_overwrite_a_source_with_its_result(world: World) -> None:
    source = world.write("results/lines.txt", "a\n", 0o644)
    done = world.run(source, "--step", world.write("upper", UPPER))
    assert done.returncode != 0
    assert source.read_text() == "a\n"


def test_run_needs_neither_boto3_nor_a_server(world: World) -> None:
    source = world.write("lines.txt", "a\n", 0o644)
    step = world.write("upper", UPPER)
    code = (
        "import sys; sys.argv = ['parcelq', 'run', sys.argv[1], '--step', sys.argv[2]]\n"
        "from parcelq_cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'boto3', 'botocore', 'moto', 'werkzeug'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, source, step], cwd=world.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_interrupting_ends_a_run_that_takes_long_and_loses_nothing(world: World) -> None:
    source = world.write("lines.txt", lines_of(30), 0o644)
    mended = world.folder / "mended"
    begun = world.folder / "begun"
    slow = world.write("slow", f'#!/bin/sh\ntouch {begun}\n[ -e {mended} ] || sleep 600\ntr a-z A-Z < "$2" > "$4"\n')
    running = world.start(source, "--step", slow, "--batch-size", 1)
    until = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said == "stopped; the same command continues after the last finished batch of records\n"
    mended.touch()
    done = world.run(source, "--step", slow, "--batch-size", 1)
    assert done.returncode == 0, done.stderr
    assert world.read("lines.txt") == lines_of(30).upper()


def test_a_workflow_of_a_folder_runs_like_its_steps(world: World) -> None:
    source = world.write("lines.txt", lines_of(300), 0o644)
    world.write("flow/upper", UPPER)
    world.write("flow/helper.sh", "MARK=!\n", 0o644)
    world.write("flow/mark", '#!/bin/sh\n. "$(dirname "$0")/helper.sh"\nsed "s/$/$MARK/" < "$2" > "$4"\n')
    log = world.folder / "log"
    world.write("flow/count", f'#!/bin/sh\nwc -l < "$2" >> {log}\ncat "$2" > "$4"\n')
    steps = "[{run: upper}, {run: mark}, {run: count, batch_size: 20}]"
    world.write("flow/workflow.yaml", f"batch_size: 100\nparcel_size: 50\nsteps: {steps}\n", 0o644)
    done = world.run(source, "--workflow", "flow")
    assert (done.returncode, done.stdout) == (0, "results/lines.txt\n")
    assert world.read("lines.txt") == lines_of(300).upper().replace("\n", "!\n")
    assert max(map(int, log.read_text().split())) == 20


def test_the_limits_of_a_workflow_stop_a_job(world: World) -> None:
    source = world.write("lines.txt", "good\n" + "bad\n" * 50, 0o644)
    world.write("flow/step", FAILS_ON_BAD)
    world.write("flow/workflow.yaml", "batch_size: 5\nlimits: {max_dead: 3}\nsteps: [{run: step}]\n", 0o644)
    done = world.run(source, "--workflow", "flow")
    assert (done.returncode, "records failed, more than 3" in done.stderr) == (1, True)
    world.write("flow/step", "#!/bin/sh\nsleep 1\ncat $2 > $4\n")
    world.write("flow/workflow.yaml", "batch_size: 1\nlimits: {max_seconds: 1}\nsteps: [{run: step}]\n", 0o644)
    done = world.run(source, "--workflow", "flow", "--fresh")
    assert (done.returncode, "the job took longer than 1 s" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "give either --step or --workflow"),
        (("--step", "cat", "--workflow", "."), "give either --step or --workflow"),
        (("--workflow", ".", "--settings", "x"), "--settings and --with are for --step"),
        (("--step", "cat", "--max-dead", "lots"), "--max-dead is 'lots', but must be a number such as 10"),
        (("--step", "cat", "--env", "NO_SUCH"), "--env is 'NO_SUCH', but must be the name of a variable that is set"),
        (("--step", "cat", "--format", "doc"), "--format is 'doc', but must be"),
        (("--step", "cat", "--detach"), "--detach is for runs on a stack"),
        (("--step", "cat", "--stack", "x", "--combine", "y"), "--combine is for runs on this machine"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(world: World, options: tuple[str, ...], problem: str) -> None:
    done = world.run(world.write("lines.txt", "a\n", 0o644), *options)
    assert (done.returncode, problem in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("name", ["mine", "score@0123456789abcdef"])
def test_a_workflow_id_does_not_change_the_result(world: World, name: str) -> None:
    source = world.write("lines.txt", lines_of(10), 0o644)
    done = world.run(source, "--step", "cat", "--workflow-id", name)
    assert done.returncode == 0, done.stderr
    assert world.read("lines.txt") == lines_of(10)


def test_text_that_steps_print_is_logged_with_the_records_that_it_is_about(world: World) -> None:
    source = world.write("lines.txt", lines_of(50), 0o644)
    chatty = world.write("step", '#!/bin/sh\nhead -1 "$2"; echo "on stderr" >&2; cat "$2" > "$4"\n')
    done = world.run(source, "--step", chatty, "--batch-size", 20, "--parcel-size", 20)
    assert done.returncode == 0, done.stderr
    assert "results/lines.txt.steps.log contains the output that the steps printed" in done.stderr
    log = world.read("lines.txt.steps.log")
    assert sorted(log.split("--- ")[1:]) == [
        "step step, records 1 to 20, bytes 0 to 150\nline 0\non stderr\n",
        "step step, records 21 to 40, bytes 150 to 310\nline 20\non stderr\n",
        "step step, records 41 to 50, bytes 310 to 390\nline 40\non stderr\n",
    ]
    quiet = world.write("step", '#!/bin/sh\ncat "$2" > "$4"\n')
    assert world.run(source, "--step", quiet).returncode == 0
    assert not (world.results / "lines.txt.steps.log").exists()


def test_a_reason_of_one_line_is_printed_once(world: World) -> None:
    done = world.run(world.write("lines.txt", lines_of(5000), 0o644), "--step", "false")
    assert done.returncode == 1
    assert done.stderr.count("step 'false' exited with 1") == 1


def test_a_broken_step_shows_its_reason_and_names_the_command_that_tries_single_records(world: World) -> None:
    source = world.write("lines.txt", lines_of(5000), 0o644)
    step = world.write("step.py", "import nothing_of_that_name\n")
    done = world.run(source, "--step", step, "--batch-size", 100)
    assert done.returncode == 1
    assert "warning" not in done.stderr
    assert "\n  File " in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "parcelq: the step failed in each of 9 runs with a single record, so it is broken: ModuleNotFoundError: "
        "No module named 'nothing_of_that_name' (step 'step.py' exited with 1); 'parcelq try' with the "
        "same file and step shows the result of single records, and parcelq run --keep-going runs all others"
    )


def test_a_command_that_names_a_file_of_this_folder_gets_a_warning_that_says_what_helps(world: World) -> None:
    world.write("lines.txt", "good 1\ngood 2\n", 0o644)
    patterns = world.write("patterns", "good\n", 0o644)
    said = "a command runs in a folder of its own, without patterns; give its full path"
    done = world.run("lines.txt", "--step", "grep -f patterns")
    assert done.returncode == 1
    assert said in done.stderr
    done = world.run("lines.txt", "--step", f"grep -f {patterns}", "--fresh")
    assert (done.returncode, said in done.stderr) == (0, False)
    assert world.read("lines.txt") == "good 1\ngood 2\n"
