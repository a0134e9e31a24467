"""Reports say how many entries came out for how many, and what that makes doubtful."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from parcelq.records import parse
from parcelq.topics.memory import MemoryTopic
from record_world import World

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
EATS_FIRST = """
import sys
lines = open(sys.argv[2]).readlines()
if any("bad" in line for line in lines):
    sys.exit("ValueError: bad")
open(sys.argv[4], "w").writelines(lines[1:])
"""
"""Takes the first line of each input for a header, and leaves it out."""
SHRINKS = """
import sys
lines = open(sys.argv[2]).readlines()
if "bad\\n" in lines and len(lines) > 30:
    sys.exit("too much at once")
open(sys.argv[4], "w").writelines(lines[6:] if len(lines) < 30 else lines)
"""
"""Needs halves of some parcels, and makes less of these."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, parcel_size=40, batch_size=40)


def lines_of(count: int, bad: int = -1) -> bytes:
    return b"".join(b"bad\n" if number == bad else b"line %d\n" % number for number in range(count))


def test_a_step_that_eats_the_first_record_of_every_run_is_doubted(world: World) -> None:
    world.step(EATS_FIRST)
    result = world.run("lines.txt", lines_of(200, bad=79))
    report = result.report
    assert report["entries"] == {"read": 200, "done": 199, "dead": 1, "missing": 0, "written": result.body.count(b"\n")}
    (doubt,) = report["doubts"]
    assert "over a single record wrote nothing, but 4 runs over many wrote 156 for 160" in doubt
    assert report["warnings"] == report["doubts"]
    assert report["complete"] is False


@pytest.mark.parametrize("stages", [1, 2])
def test_without_dead_entries_a_doubt_alone_keeps_a_report_from_claiming_completeness(
    world: World, stages: int
) -> None:
    for _ in range(stages):
        world.step(EATS_FIRST)
    result = world.run("lines.txt", lines_of(200))
    report = result.report
    assert report["entries"]["dead"] == report["entries"]["missing"] == 0
    assert f"each of 5 runs wrote {stages} record" in report["doubts"][0]
    assert report["complete"] is False
    assert result.state.report == report


def test_outputs_that_shrink_after_halving_are_doubted_although_nothing_is_dead(world: World) -> None:
    world.step(SHRINKS)
    whole = world.run("whole.txt", lines_of(160)).report
    assert (whole["complete"], whole["doubts"]) == (True, [])
    world.output = MemoryTopic("output")
    halves = world.run("lines.txt", lines_of(160, bad=50)).report
    assert halves["entries"] == {"read": 160, "done": 160, "dead": 0, "missing": 0, "written": 148}
    assert halves["complete"] is False
    assert "2 runs over fewer records, such as halves, wrote 28 for 40" in halves["doubts"][0]


def test_a_csv_file_that_is_taken_for_lines_is_doubted(world: World) -> None:
    world.step(
        "import csv, sys\n"
        "rows = csv.DictReader(open(sys.argv[2], newline=''))\n"
        "open(sys.argv[4], 'w').writelines(','.join(row.values()) + '\\n' for row in rows)\n"
    )
    report = world.run("rows.csv", b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(159)), parse("lines")).report
    assert report["entries"]["written"] == 156
    assert report["complete"] is False
    assert "each of 4 runs wrote 1 record fewer than it got" in report["doubts"][0]


def test_run_says_what_is_doubtful_and_does_not_exit_with_success(tmp_path: Path) -> None:
    step, source = tmp_path / "step.py", tmp_path / "rows.txt"
    step.write_text(EATS_FIRST)
    source.write_bytes(lines_of(200))
    command = [*PROGRAM, "run", source, "--step", step, "--batch-size", "40", "--parcel-size", "40", "--json"]
    for _ in range(2):  # the second time the result is there already
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        (told,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert (told["complete"], told["format"], told["format_chosen_by"]) == (False, "lines", "name")
        assert told["entries"] == {"read": 200, "done": 200, "dead": 0, "missing": 0, "written": 195}
        assert "warning: each of 5 runs wrote 1 record fewer than it got" in done.stderr
        assert "rows.txt: 200 records in, 195 out; format lines" in done.stderr


def test_the_report_says_what_chose_the_format(tmp_path: Path) -> None:
    step, source = tmp_path / "step.sh", tmp_path / "rows.dat"
    step.write_text('#!/bin/sh\ncp "$2" "$4"\n')
    step.chmod(0o755)
    source.write_bytes(b"a\nb\nc\nd\n")
    told = {}
    for fmt in ("", "lines=2"):
        options = ["--format", fmt] if fmt else []
        command = [*PROGRAM, "run", source, "--step", step, "--json", "--output", f"out{fmt}", *options]
        subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
        report = json.loads((tmp_path / f"out{fmt}/rows.dat.report.json").read_bytes())
        told[report["format"]] = report["format_chosen_by"], report["one_stream"]
    assert told == {"lines": ("name", ""), "lines=2": ("option", "")}
