"""`parcelq try`: what the first records of a file become, shown side by side."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()", "try"]
DOUBLE = """
from parcelq.step import reject, step

@step(each=True)
def double(entry):
    if entry.startswith("#"):
        reject(entry, "it is a comment")
    if entry != "1":
        print("saw", entry)
    return str(int(entry) * 2)

if __name__ == "__main__":
    double.main()
"""


def tried(*arguments: object, cwd: Path, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, input=given, capture_output=True, check=False, timeout=60)
    assert b"Traceback" not in done.stderr
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def documents(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def step(tmp_path: Path) -> Path:
    path = tmp_path / "double.py"
    path.write_text(DOUBLE)
    return path


def test_try_prints_input_output_time_and_memory_side_by_side_and_failures_in_full(tmp_path, step):
    (tmp_path / "numbers.txt").write_text("1\n#\nx\n4\ny\n6\n")
    done = tried("numbers.txt", "--step", step, "-n", 4, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "parcelq: 2 records of 4 failed\n")
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["record", "input", "output", "time", "memory"]
    assert lines[0].split()[:3] == ["1", "1", "2"]
    assert lines[0].split()[4:] == ["ms", lines[0].split()[5], "MB"]
    assert [line.split()[:3] for line in lines if "ms" in line] == [
        ["1", "1", "2"],
        ["2", "#", "failed"],
        ["3", "x", "failed"],
        ["4", "4", "8"],
    ]
    assert "        it is a comment" in lines
    assert "        printed: saw x" in lines
    assert "        ValueError: invalid literal for int() with base 10: 'x'" in lines
    assert "          double.py, line 10, in double" in lines
    assert not (tmp_path / "results").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["double.py", "numbers.txt"]


def test_try_with_json_prints_a_document_for_each_record(tmp_path, step):
    (tmp_path / "numbers.txt").write_text("1\n#\n4\n")
    one, two, three = documents(tried("numbers.txt", "--step", step, "--json", cwd=tmp_path))
    assert (one["record"], one["line"], one["input"], one["output"]) == (1, 1, "1\n", "2\n")
    assert one["seconds"] > 0
    assert one["memory_bytes"] > 1e6
    assert "reason" not in one
    assert (two["output"], two["reason"]) == (None, "it is a comment")
    assert three["steps"][0]["printed"] == "saw 4\n"


def test_try_with_several_steps_shows_what_each_of_them_made(tmp_path, step):
    (tmp_path / "numbers.txt").write_text("1\n2\n")
    done = tried("numbers.txt", "--step", step, "--step", "sed s/^/n/", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()[-6:-4]) for line in done.stdout.splitlines() if "ms" in line] == [
        "double.py: 2",
        "sed: n2",
        "double.py: 4",
        "sed: n4",
    ]


@pytest.mark.parametrize(
    ("name", "content", "entries"),
    [
        ("x.csv", 'a,b\n1,"x\ny"\n2,z\n', ['1,"x\ny"\n', "2,z\n"]),
        ("x.fasta", ">p\nAC\nGT\n>q\nA\n", [">p\nAC\nGT\n", ">q\nA\n"]),
        ("x.jsonl", '{"a": 1}\n{"a": 2}\n', ['{"a": 1}\n', '{"a": 2}\n']),
    ],
)
def test_try_cuts_records_in_the_format_that_the_name_says(tmp_path, name, content, entries):
    (tmp_path / name).write_text(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    for path in (name, f"{name}.gz"):
        found = documents(tried(path, "--step", "cat -", "--json", cwd=tmp_path))
        assert [one["input"] for one in found] == [one["output"] for one in found] == entries
    (tmp_path / "plain").write_text(content)
    fmt = name.partition(".")[2]
    found = documents(tried("plain", "--step", "cat -", "--json", "--format", fmt, cwd=tmp_path))
    assert [one["input"] for one in found] == entries


def test_try_counts_lines_with_the_header(tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,"x\ny"\n2,z\n')
    found = documents(tried("x.csv", "--step", "cat -", "--json", cwd=tmp_path))
    assert [(one["record"], one["line"]) for one in found] == [(1, 2), (2, 4)]


def test_a_header_that_differs_fails_in_try_as_in_a_run(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "step").write_text('#!/bin/sh\ntail -1 "$2" > "$4"\n')
    (tmp_path / "step").chmod(0o755)
    done = tried("x.csv", "--step", "./step", cwd=tmp_path)
    assert done.returncode == 1
    assert "set output_header: false" in done.stdout


def test_try_takes_records_from_a_pipe(tmp_path, step):
    for more in ((), ("-",)):
        done = tried(*more, "--step", step, cwd=tmp_path, given=b"1\n4\n")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 4


def test_try_shows_the_same_reason_once(tmp_path):
    (tmp_path / "step.py").write_text("import nothing_of_that_name\n")
    done = tried("--step", "step.py", cwd=tmp_path, given=b"a\nb\nc\n")
    assert done.returncode == 1
    assert done.stdout.count("No module named 'nothing_of_that_name'") == 1
    assert [line.strip() for line in done.stdout.splitlines() if "as record" in line] == ["as record 1", "as record 1"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("none.txt", "--step", "cat"), 1, "none.txt"),
        (("--step", "cat"), 1, "'stdin' has no records"),
        (("--step", "no-such-step"), 1, "no-such-step"),
        ((), 2, "--step"),
        (("--step", "cat", "-n", "0"), 2, "--records"),
        (("--step", "cat", "-n", str(10**30)), 2, "--records"),
        (("--step", "cat", "--workflow-id", "\udcff"), 1, "--workflow-id is '\\udcff', but must be UTF-8"),
        (("--step", "cat", "--format", "nonsense"), 2, "nonsense"),
    ],
)
def test_a_mistake_in_the_options_of_try_is_one_sentence(tmp_path, arguments, code, said):
    done = tried(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert said in done.stderr


def test_try_prints_no_text_that_could_change_the_terminal(tmp_path):
    (tmp_path / "step").write_text("#!/bin/sh\nprintf '\\033[2J' >&2; printf '\\033[2J' > \"$4\"\n")
    (tmp_path / "step").chmod(0o755)
    done = tried("--step", "./step", cwd=tmp_path, given=b"\x1b[31mred\n")
    assert "\x1b" not in done.stdout
    assert r"\x1b[31mred" in done.stdout


def test_a_full_disk_is_a_fault_of_stdout_and_not_of_the_file_that_is_read(tmp_path):
    (tmp_path / "numbers.txt").write_text("1\n")
    with open("/dev/full", "wb") as full:
        command = [*PROGRAM, "numbers.txt", "--step", "cat"]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"parcelq: cannot write to stdout: No space left on device\n"
