"""`parcelq run`: files on one machine, through the same uploader, processor and collector as on AWS."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from parcelq.local.state import JobState, job_records
from parcelq.result_names import STATE

UPPER = """#!/bin/sh
tr a-z A-Z < "$2" > "$4"
"""
FAILS_ON_BAD = """#!/bin/sh
grep -q bad "$2" && { echo "ValueError: bad entry" >&2; exit 1; }
cat "$2" > "$4"
"""
PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def made(name: str, content: str | bytes, mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return made


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "run", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def lines_of(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(count))


def test_a_result_has_every_entry_in_order_and_no_state_is_left(tmp_path, write):
    source = write("lines.txt", lines_of(5000), 0o644)
    done = run(source, "--step", write("upper", UPPER), "--batch-size", 100, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "results/lines.txt\n")
    assert (tmp_path / "results/lines.txt").read_text() == lines_of(5000).upper()
    report = json.loads((tmp_path / "results/lines.txt.report.json").read_text())
    assert (report["complete"], report["entries"]["written"]) == (True, 5000)
    assert job_records(tmp_path / "results" / STATE) == []


def test_several_steps_run_in_a_row(tmp_path, write):
    source = write("lines.txt", lines_of(300), 0o644)
    cut = write("cut", '#!/bin/sh\ngrep -v 7 "$2" > "$4"; true\n')
    done = run(source, "--step", write("upper", UPPER), "--step", cut, "--batch-size", 20, cwd=tmp_path)
    assert done.returncode == 0
    wanted = "".join(one for one in lines_of(300).upper().splitlines(keepends=True) if "7" not in one)
    assert (tmp_path / "results/lines.txt").read_text() == wanted


def test_bad_entries_are_listed_with_their_record_and_reason_and_the_others_come_out(tmp_path, write):
    entries = [f"good {number}\n" for number in range(200)]
    entries[17] = "bad one\n"
    entries[150] = "bad two\n"
    source = write("lines.txt", "".join(entries), 0o644)
    done = run(source, "--step", write("step", FAILS_ON_BAD), "--batch-size", 50, cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "results/lines.txt").read_text() == "".join(one for one in entries if "bad" not in one)
    dead = [json.loads(one) for one in (tmp_path / "results/lines.txt.dead.jsonl").read_text().splitlines()]
    assert [(one["record"], one["line"], one["entry"]) for one in dead] == [
        (18, 18, "bad one\n"),
        (151, 151, "bad two\n"),
    ]
    assert all(one["reason"].startswith("ValueError: bad entry") for one in dead)
    assert "record 18" in done.stderr


def test_a_broken_step_ends_the_job_with_its_reason_and_after_mending_it_the_same_command_gives_everything(
    tmp_path, write
):
    source = write("lines.txt", lines_of(20_000), 0o644)
    step = write("step.py", "import no_such_module\n")
    began = time.monotonic()
    done = run(source, "--step", step, cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in done.stderr
    assert time.monotonic() - began < 60  # without an end it would fail on each of 20,000 entries
    assert not (tmp_path / "results/lines.txt").exists()
    step.write_text("import sys\nopen(sys.argv[4], 'w').write(open(sys.argv[2]).read())\n")
    assert run(source, "--step", step, cwd=tmp_path).returncode == 0
    assert (tmp_path / "results/lines.txt").read_text() == lines_of(20_000)


def test_a_step_that_fails_on_most_first_messages_is_not_taken_for_broken(tmp_path, write):
    entries = [f"{'bad' if number % 10 == 3 else 'good'} {number}\n" for number in range(100)]
    source = write("lines.txt", "".join(entries), 0o644)
    done = run(source, "--step", write("step", FAILS_ON_BAD), "--batch-size", 20, cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "results/lines.txt").read_text() == "".join(one for one in entries if "bad" not in one)


@pytest.mark.parametrize("after", [0.8, 1.6, 2.4])
def test_a_job_that_is_killed_goes_on_where_it_stopped(tmp_path, write, after):
    source = write("lines.txt", lines_of(400), 0o644)
    log = tmp_path / "log"
    step = write("slow", f'#!/bin/sh\nhead -1 "$2" >> {log}\nsleep 0.05\ntr a-z A-Z < "$2" > "$4"\n')
    arguments = ["run", str(source), "--step", str(step), "--batch-size", "5", "--parcel-size", "5", "--quiet"]
    first = subprocess.Popen([*PROGRAM, *arguments], cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    time.sleep(after)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    began = len(log.read_text().splitlines()) if log.exists() else 0
    done = run(*arguments[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/lines.txt").read_text() == lines_of(400).upper()
    runs = len(log.read_text().splitlines())
    if after > 2:
        assert runs < began + 80, "nothing of what the first command stored was used"


def test_two_commands_do_not_run_one_job_at_once(tmp_path, write):
    source = write("lines.txt", lines_of(10), 0o644)
    step = write("upper", UPPER)
    assert run(source, "--step", write("no", "#!/bin/sh\nexit 1\n"), cwd=tmp_path).returncode == 1
    (record,) = job_records(tmp_path / "results" / STATE)
    with JobState(tmp_path / "results" / STATE, record.id).locked():
        done = run(source, "--step", step, cwd=tmp_path)
    assert done.returncode == 1
    assert "another command runs it now" in done.stderr


def test_a_step_that_changed_asks_whether_to_continue_or_to_start_over(tmp_path, write):
    entries = [f"good {number}\n" for number in range(50)] + ["bad\n"]
    source = write("lines.txt", "".join(entries), 0o644)
    step = write("step", FAILS_ON_BAD)
    assert run(source, "--step", step, "--batch-size", 10, cwd=tmp_path).returncode == 1
    step.write_text(UPPER)
    asked = run(source, "--step", step, cwd=tmp_path)
    assert asked.returncode == 1
    assert "--continue" in asked.stderr
    assert "--fresh" in asked.stderr
    assert run(source, "--step", step, "--fresh", cwd=tmp_path).returncode == 0
    assert (tmp_path / "results/lines.txt").read_text() == "".join(entries).upper()


def test_a_file_that_changed_is_another_job(tmp_path, write):
    source = write("lines.txt", "bad\na\n", 0o644)
    step = write("step", FAILS_ON_BAD)
    assert run(source, "--step", step, cwd=tmp_path).returncode == 1
    source.write_text("c\nd\n")
    os.utime(source, (1, 1))  # older than the one before
    assert run(source, "--step", step, cwd=tmp_path).returncode == 0
    assert (tmp_path / "results/lines.txt").read_text() == "c\nd\n"


def test_too_many_dead_entries_stop_the_job(tmp_path, write):
    entries = [f"{'bad' if number % 2 else 'good'} {number}\n" for number in range(400)]
    source = write("lines.txt", "".join(entries), 0o644)
    step = write("step", FAILS_ON_BAD)
    done = run(source, "--step", step, "--batch-size", 10, "--max-dead", 5, cwd=tmp_path)
    assert done.returncode == 1
    assert "entries are dead, more than 5" in done.stderr
    assert not (tmp_path / "results/lines.txt").exists()


@pytest.mark.parametrize("limit", ["x", "-1", "101%", "1.2", "%"])
def test_a_limit_that_is_none_is_refused(tmp_path, write, limit):
    done = run(write("lines.txt", "a\n", 0o644), "--step", "cat", "--max-dead=" + limit, cwd=tmp_path)
    assert done.returncode == 2
    assert "--max-dead" in done.stderr


def test_a_csv_file_comes_out_with_one_header_and_all_its_records(tmp_path, write):
    rows = [[str(number), f'a "quoted"\nfield {number}'] for number in range(40)]
    text = io.StringIO()
    csv.writer(text).writerows([["id", "text"], *rows])
    source = write("orders.csv", text.getvalue(), 0o644)
    step = write(
        "step.py",
        "import csv, sys\n"
        "with open(sys.argv[2], newline='') as f, open(sys.argv[4], 'w', newline='') as g:\n"
        "    out = csv.writer(g)\n"
        "    out.writerow(['id', 'length'])\n"
        "    out.writerows([row['id'], len(row['text'])] for row in csv.DictReader(f))\n",
    )
    done = run(source, "--step", step, "--batch-size", 7, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results/orders.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id", "length"], *([one, str(len(other))] for one, other in rows)]


def test_compressed_files_are_read_and_a_broken_one_stops_no_other(tmp_path, write):
    good = write("good.txt.gz", gzip.compress(b"a\n") + gzip.compress(b"b\n"), 0o644)
    broken = write("broken.txt.gz", gzip.compress(os.urandom(100_000), mtime=0)[:-5000], 0o644)
    done = run(broken, good, "--step", write("upper", UPPER), cwd=tmp_path)
    assert done.returncode == 1
    assert "cut off" in done.stdout
    assert (tmp_path / "results/good.txt.gz.result").read_text() == "A\nB\n"


def test_a_result_never_overwrites_its_source(tmp_path, write):
    source = write("results/lines.txt", "a\n", 0o644)
    done = run(source, "--step", write("upper", UPPER), cwd=tmp_path)
    assert done.returncode != 0
    assert source.read_text() == "a\n"


def test_neither_boto3_nor_a_server_is_needed(tmp_path, write):
    source = write("lines.txt", "a\n", 0o644)
    step = write("upper", UPPER)
    code = (
        "import sys; sys.argv = ['parcelq', 'run', sys.argv[1], '--step', sys.argv[2]]\n"
        "from parcelq_cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'boto3', 'botocore', 'moto', 'werkzeug'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, source, step], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_interrupting_keeps_what_there_is(tmp_path, write):
    source = write("lines.txt", lines_of(2000), 0o644)
    step = write("slow", '#!/bin/sh\nsleep 0.1\ntr a-z A-Z < "$2" > "$4"\n')
    arguments = ["run", str(source), "--step", str(step), "--batch-size", "5", "--parcel-size", "5"]
    command = [
        sys.executable,
        "-P",
        "-c",
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + PROGRAM[-1],
    ]
    first = subprocess.Popen([*command, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "the same command goes on from here" in said
    fast = write("slow", UPPER)
    done = run(source, "--step", fast, "--continue", "--batch-size", 100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/lines.txt").read_text() == lines_of(2000).upper()


def test_interrupting_ends_a_run_that_takes_long_and_loses_nothing(tmp_path, write):
    source = write("lines.txt", lines_of(30), 0o644)
    slow = write("slow", f'#!/bin/sh\n[ -e {tmp_path}/mended ] || sleep 600\ntr a-z A-Z < "$2" > "$4"\n')
    command = [*PROGRAM, "run", str(source), "--step", str(slow), "--batch-size", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        time.sleep(2)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert (running.returncode, err) == (130, "stopped; the same command goes on from here\n")
    (tmp_path / "mended").touch()
    done = run(source, "--step", slow, "--batch-size", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/lines.txt").read_text() == lines_of(30).upper()


def test_a_workflow_of_a_folder_runs_like_its_steps(tmp_path, write):
    source = write("lines.txt", lines_of(300), 0o644)
    write("flow/upper", UPPER)
    write("flow/helper.sh", "MARK=!\n", 0o644)
    write("flow/mark", '#!/bin/sh\n. "$(dirname "$0")/helper.sh"\nsed "s/$/$MARK/" < "$2" > "$4"\n')
    log = tmp_path / "log"
    write("flow/count", f'#!/bin/sh\nwc -l < "$2" >> {log}\ncat "$2" > "$4"\n')
    steps = "[{run: upper}, {run: mark}, {run: count, batch_size: 20}]"
    write("flow/workflow.yaml", f"batch_size: 100\nparcel_size: 50\nsteps: {steps}\n", 0o644)
    done = run(source, "--workflow", "flow", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "results/lines.txt\n")
    assert (tmp_path / "results/lines.txt").read_text() == lines_of(300).upper().replace("\n", "!\n")
    assert max(map(int, log.read_text().split())) == 20


def test_the_limits_of_a_workflow_stop_a_job(tmp_path, write):
    source = write("lines.txt", "good\n" + "bad\n" * 50, 0o644)
    write("flow/step", FAILS_ON_BAD)
    write("flow/workflow.yaml", "batch_size: 5\nlimits: {max_dead: 3}\nsteps: [{run: step}]\n", 0o644)
    done = run(source, "--workflow", "flow", cwd=tmp_path)
    assert (done.returncode, "entries are dead, more than 3" in done.stderr) == (1, True)
    write("flow/step", "#!/bin/sh\nsleep 1\ncat $2 > $4\n")
    write("flow/workflow.yaml", "batch_size: 1\nlimits: {max_seconds: 1}\nsteps: [{run: step}]\n", 0o644)
    done = run(source, "--workflow", "flow", "--fresh", cwd=tmp_path)
    assert (done.returncode, "stopped: it took longer than 1 s" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "give either --step or --workflow"),
        (("--step", "cat", "--workflow", "."), "give either --step or --workflow"),
        (("--workflow", ".", "--settings", "x"), "--settings and --with are for --step"),
        (("--step", "cat", "--max-dead", "lots"), "--max-dead is 'lots', but must be a number such as 10"),
    ],
)
def test_options_that_do_not_fit_together_are_wrong_usage(tmp_path, write, options, problem):
    done = run(write("lines.txt", "a\n", 0o644), *options, cwd=tmp_path)
    assert (done.returncode, problem in done.stderr) == (2, True)


def test_a_workflow_id_does_not_change_the_result(tmp_path, write):
    source = write("lines.txt", lines_of(10), 0o644)
    for name in ("mine", "score@0123456789abcdef"):
        done = run(
            source, "--step", "cat", "--settings", write("f.yaml", "filter: true"), "--workflow-id", name, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "results/lines.txt").read_text() == lines_of(10)


def test_what_steps_print_is_logged_with_the_records_that_it_is_about(tmp_path, write):
    source = write("lines.txt", lines_of(50), 0o644)
    chatty = '#!/bin/sh\nhead -1 "$2"; echo "on stderr" >&2; cat "$2" > "$4"\n'
    done = run(source, "--step", write("step", chatty), "--batch-size", 20, "--parcel-size", 20, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "results/lines.txt.steps.log has what the steps printed" in done.stderr
    log = (tmp_path / "results/lines.txt.steps.log").read_text()
    assert sorted(log.split("--- ")[1:]) == [
        "step step, records 1 to 20, bytes 0 to 150\nline 0\non stderr\n",
        "step step, records 21 to 40, bytes 150 to 310\nline 20\non stderr\n",
        "step step, records 41 to 50, bytes 310 to 390\nline 40\non stderr\n",
    ]
    quiet = write("step", '#!/bin/sh\ncat "$2" > "$4"\n')
    assert run(source, "--step", quiet, cwd=tmp_path).returncode == 0
    assert not (tmp_path / "results/lines.txt.steps.log").exists()


def test_a_broken_step_names_the_command_that_tries_single_records(tmp_path, write):
    source = write("lines.txt", lines_of(5000), 0o644)
    done = run(source, "--step", write("step.py", "import nothing_of_that_name\n"), "--batch-size", 100, cwd=tmp_path)
    assert done.returncode == 1
    assert "No module named 'nothing_of_that_name'" in done.stderr
    assert "'parcelq try' with the same file and --step" in done.stderr
