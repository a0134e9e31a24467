"""`parcelq run`: files on one machine, through the same uploader, processor and collector as on AWS."""

from __future__ import annotations

import csv
import gzip
import io
import os
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


def test_several_steps_run_in_a_row(world: World) -> None:
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
    began = time.monotonic()
    done = world.run(source, "--step", step)
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in done.stderr
    assert time.monotonic() - began < 60  # without an end it would fail on each of 20,000 entries
    assert not (world.results / "lines.txt").exists()
    step.write_text("import sys\nopen(sys.argv[4], 'w').write(open(sys.argv[2]).read())\n")
    assert world.run(source, "--step", step).returncode == 0
    assert world.read("lines.txt") == lines_of(20_000)


def test_a_step_that_fails_on_most_first_messages_is_not_taken_for_broken(world: World) -> None:
    entries = [f"{'bad' if number % 10 == 3 else 'good'} {number}\n" for number in range(100)]
    source = world.write("lines.txt", "".join(entries), 0o644)
    done = world.run(source, "--step", world.write("step", FAILS_ON_BAD), "--batch-size", 20)
    assert done.returncode == 1
    assert world.read("lines.txt") == "".join(one for one in entries if "bad" not in one)


def test_too_many_dead_entries_stop_the_job(world: World) -> None:
    entries = [f"{'bad' if number % 2 else 'good'} {number}\n" for number in range(400)]
    source = world.write("lines.txt", "".join(entries), 0o644)
    step = world.write("step", FAILS_ON_BAD)
    done = world.run(source, "--step", step, "--batch-size", 10, "--max-dead", 5)
    assert done.returncode == 1
    assert "entries are dead, more than 5" in done.stderr
    assert not (world.results / "lines.txt").exists()


@pytest.mark.parametrize("limit", ["x", "-1", "101%", "1.2", "%"])
def test_a_limit_that_is_none_is_refused(world: World, limit: str) -> None:
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
    assert "cut off" in done.stdout
    assert world.read("good.txt.gz.result") == "A\nB\n"


def test_a_result_never_overwrites_its_source(world: World) -> None:
    source = world.write("results/lines.txt", "a\n", 0o644)
    done = world.run(source, "--step", world.write("upper", UPPER))
    assert done.returncode != 0
    assert source.read_text() == "a\n"


def test_neither_boto3_nor_a_server_is_needed(world: World) -> None:
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
