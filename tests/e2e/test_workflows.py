"""Workflows on a stack, as a user runs them: `parcelq emulate --keep` stands for AWS, and the same words give the same
bytes on this machine and there."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from doc_pages import ON_AWS, matches, run

ROOT = Path(__file__).parents[2]
BUCKET = "parcelq-123456789012-us-east-1"
PARCELQ = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
MARK = '#!/bin/sh\nsed "s/$/!/" < "$2" > "$4"\n'
MANY_MISTAKES = """
formt: csv
format: cvs
parcel_size: 0
batch_size: true
limits: {max_dead: lots, max_secs: 3}
steps:
  - {run: ../x.py, batch_size: 1.5, packages: rdkit}
  - {stage: a-b}
  - 7
"""


@dataclass(frozen=True)
class Cloud:
    """A running stack, and the variables with which commands speak to it."""

    environment: Mapping[str, str]

    def __call__(self, *words: object, cwd: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command in a folder."""
        command = [*PARCELQ, *map(str, words)]
        return subprocess.run(
            command, cwd=cwd, env=dict(self.environment), capture_output=True, text=True, check=False, timeout=seconds
        )

    def client(self, service: str):
        url = self.environment["AWS_ENDPOINT_URL"]
        return boto3.client(
            service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    home = tmp_path_factory.mktemp("emulated")
    printed = home / "printed"
    with printed.open("wb") as out, (home / "log").open("wb") as log:
        process = subprocess.Popen([*PARCELQ, "emulate", "--keep"], cwd=home, stdout=out, stderr=log)
        try:
            give_up = time.monotonic() + 120
            while "AWS_DEFAULT_REGION" not in printed.read_text():
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < give_up
                time.sleep(0.2)
            lines = [shlex.split(line) for line in printed.read_text().splitlines()]
            assert all(words[0] == "export" for words in lines)
            variables = dict(words[1].split("=", 1) for words in lines)
            yield Cloud({**os.environ, **variables})
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"line {number}\n" for number in range(2500)))
    return path


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """A workflow of two steps, with a file beside them."""
    folder = tmp_path / "shout"
    folder.mkdir()
    (folder / "workflow.yaml").write_text("batch_size: 300\nsteps: [{run: tr a-z A-Z}, {run: mark}]\n")
    (folder / "mark").write_text(MARK)
    (folder / "mark").chmod(0o755)
    return folder


def printed(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_same_command_gives_the_same_bytes_here_and_on_a_stack(cloud, tmp_path, lines, flow):
    words = ["run", lines, "--workflow", flow]
    assert printed(cloud(*words, cwd=tmp_path)) == ["results/lines.txt"]
    assert printed(cloud(*words, "--stack", "parcelq", "--output", "cloud", cwd=tmp_path)) == ["cloud/lines.txt"]
    assert (tmp_path / "cloud/lines.txt").read_bytes() == (tmp_path / "results/lines.txt").read_bytes()
    assert (tmp_path / "cloud/lines.txt").read_text() == lines.read_text().upper().replace("\n", "!\n")
    assert json.loads((tmp_path / "cloud/lines.txt.report.json").read_text())["complete"] is True


@pytest.mark.parametrize("steps", [("each.py",), ("cat", "each.py", "cat")])
def test_csv_has_its_header_once_through_any_steps(cloud, tmp_path, steps):
    (tmp_path / "each.py").write_text(
        "from parcelq.step import step\n@step(each=True)\ndef upper(record): return record.upper()\n"
        "if __name__ == '__main__': upper.main()\n"
    )
    words = ["run", ROOT / "examples/orders.csv", "--batch-size", "100", *(f"--step={step}" for step in steps)]
    printed(cloud(*words, cwd=tmp_path))
    printed(cloud(*words, "--stack", "parcelq", "--output", "cloud", cwd=tmp_path))
    result = (tmp_path / "cloud/orders.csv").read_bytes()
    assert result == (tmp_path / "results/orders.csv").read_bytes()
    assert result.count(b"item,quantity") + result.count(b"ITEM,QUANTITY") == 1


def test_a_step_with_rdkit_from_inline_metadata_gives_the_same_bytes_here_and_on_a_stack(cloud, tmp_path):
    source = tmp_path / "molecules.smi"
    molecules = (ROOT / "examples/molecules.smi").read_text().splitlines(keepends=True)[:200]
    source.write_text("".join([*molecules[:100], "C1CC broken\n", *molecules[100:]]))
    words = ["run", source, "--step", ROOT / "examples/rdkit/score.py", "--batch-size", "50"]
    here = cloud(*words, cwd=tmp_path)
    there = cloud(*words, "--stack", "parcelq", "--output", "cloud", cwd=tmp_path)
    assert here.returncode == there.returncode == 1, here.stderr + there.stderr
    for name in ("molecules.smi", "molecules.smi.dead.jsonl"):
        assert (tmp_path / "cloud" / name).read_bytes() == (tmp_path / "results" / name).read_bytes()
    (dead,) = map(json.loads, (tmp_path / "cloud/molecules.smi.dead.jsonl").read_text().splitlines())
    assert (dead["record"], dead["reason"]) == (101, "RDKit cannot read the SMILES 'C1CC'")
    assert "lacks 1 record that failed" in there.stdout


def test_a_workflow_is_put_listed_shown_used_and_deleted(cloud, tmp_path, lines, flow):
    (inbox,) = printed(cloud("workflows", "put", flow, "--stack", "parcelq", "--name", "life", cwd=tmp_path))
    bucket = inbox.removeprefix("s3://").partition("/")[0]
    assert inbox == f"s3://{bucket}/inbox/life/"
    listed = [
        json.loads(line) for line in printed(cloud("workflows", "list", "--stack", "parcelq", "--json", cwd=tmp_path))
    ]
    (life,) = (one for one in listed if one["workflow"] == "life")
    shown = json.loads(printed(cloud("workflows", "show", "life", "--stack", "parcelq", "--json", cwd=tmp_path))[0])
    assert (shown["version"], shown["batch_size"]) == (life["current"], 300)
    assert [step["run"] for step in shown["steps"]] == ["tr a-z A-Z", "mark"]
    again = cloud("workflows", "put", flow, "--stack", "parcelq", "--name", "life", cwd=tmp_path)
    assert (again.returncode, "this version was already current" in again.stderr) == (0, True)

    cloud.client("s3").upload_file(str(lines), bucket, "inbox/life/lines.txt")  # as any client of S3 does it
    done = cloud("wait", "life/lines.txt", "--stack", "parcelq", cwd=tmp_path)
    assert printed(done) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text().upper().replace("\n", "!\n")

    assert printed(cloud("workflows", "delete", "life", "--yes", "--stack", "parcelq", cwd=tmp_path))
    cloud.client("s3").upload_file(str(lines), bucket, "inbox/life/other.txt")
    done = cloud("wait", "life/other.txt", "--stack", "parcelq", cwd=tmp_path)
    assert (done.returncode, "there is no workflow of that name" in done.stdout) == (1, True)


def test_run_with_detach_prints_the_name_with_which_wait_brings_the_result(cloud, tmp_path, lines):
    words = ["run", lines, "--step", "tr a-z A-Z", "--stack", "parcelq"]
    (name,) = printed(cloud(*words, "--detach", cwd=tmp_path))
    assert name.startswith("tr@")
    assert printed(cloud("wait", name, "--stack", "parcelq", cwd=tmp_path)) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text().upper()

    (tmp_path / "slow").write_text('#!/bin/sh\nsleep 10\ncp "$2" "$4"\n')
    (tmp_path / "slow").chmod(0o755)
    command = [*PARCELQ, "run", lines, "--step", "./slow", "--stack", "parcelq"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=dict(cloud.environment), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    for line in process.stderr:
        if "%" in line and not line.startswith("uploading"):
            break  # it follows the job now, which takes longer
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    (come_back,) = (line for line in told.splitlines() if "waits for the results and downloads them" in line)
    words = shlex.split(come_back[come_back.index("parcelq wait") : come_back.index(" waits for the results")])[1:]
    assert printed(cloud(*words, cwd=tmp_path)) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text()


def test_run_takes_an_object_of_another_bucket_as_a_file(cloud, tmp_path, lines):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="elsewhere")
    s3.upload_file(str(lines), "elsewhere", "a folder/lines.txt")
    step = ["--step", "tr a-z A-Z", "--stack", "parcelq"]
    assert printed(cloud("run", "s3://elsewhere/a folder/lines.txt", *step, cwd=tmp_path)) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text().upper()
    done = cloud("run", "s3://elsewhere/nothing", *step, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "parcelq: there is no s3://elsewhere/nothing")


def begun(cloud: Cloud, *files: str) -> list[dict[str, Any]]:
    """The records of the jobs of files, once all of them have begun, in the order of the files."""
    s3, give_up = cloud.client("s3"), time.monotonic() + 60
    while time.monotonic() < give_up:
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="jobs/").get("Contents", ())
        records = [json.load(s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"]) for one in listed]
        jobs = {file: one for file in files for one in records if f"/inbox/{quote(file)}?" in one["source"]}
        if len(jobs) == len(files):
            return [jobs[file] for file in files]
    raise AssertionError(f"{files} did not begin")


def test_a_small_job_does_not_wait_for_large_ones_and_each_keeps_the_version_it_began_with(cloud, tmp_path, flow):
    """The last message of the large job waits until the small one has ended."""
    gate, late = tmp_path / "gate", tmp_path / "late"
    wait = f"for i in $(seq 600); do [ -e {gate} ] && break; [ $i = 600 ] && touch {late}; sleep .1; done"
    (flow / "mark").write_text(MARK.replace("\n", f'\ngrep -q gate "$2" && {wait}\n', 1))
    (flow / "workflow.yaml").write_text("batch_size: 10\nparcel_size: 10\nsteps: [{run: mark}]\n")
    (inbox,) = printed(cloud("workflows", "put", flow, "--stack", "parcelq", "--name", "change", cwd=tmp_path))
    assert inbox == f"s3://{BUCKET}/inbox/change/"
    s3 = cloud.client("s3")
    texts = {
        name: "".join(f"{name} {number}\n" for number in range(count)) + end
        for name, count, end in (("large", 500, "gate\n"), ("middle", 200, ""), ("small", 10, ""))
    }
    for name in ("large", "middle"):
        s3.put_object(Bucket=BUCKET, Key=f"inbox/change/{name}.txt", Body=texts[name].encode())
    begun(cloud, "change/large.txt", "change/middle.txt")
    (flow / "mark").write_text(MARK.replace("$/!/", "$/?/"))
    printed(cloud("workflows", "put", flow, "--stack", "parcelq", "--name", "change", cwd=tmp_path))
    s3.put_object(Bucket=BUCKET, Key="inbox/change/small.txt", Body=texts["small"].encode())
    printed(cloud("wait", "change/small.txt", "--stack", "parcelq", cwd=tmp_path))
    large, small = begun(cloud, "change/large.txt", "change/small.txt")
    assert (large["state"] in {"uploading", "running"}, small["state"], late.exists()) == (True, "finished", False)
    gate.touch()
    printed(cloud("wait", large["id"], "change/middle.txt", "--stack", "parcelq", cwd=tmp_path))
    for name, mark in (("large", "!"), ("middle", "!"), ("small", "?")):
        assert (tmp_path / "results" / f"{name}.txt").read_text() == texts[name].replace("\n", f"{mark}\n")


def test_a_job_is_cancelled_and_resumed_by_its_id(cloud, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {number}\n" for number in range(600)))
    gate = tmp_path / "gate"
    (tmp_path / "waits").write_text(
        f'#!/bin/sh\ngrep -q "^line 0$" "$2" || for i in $(seq 300); do [ -e {gate} ] && break; sleep .1; done\n'
        'cat "$2" > "$4"\n'
    )
    (tmp_path / "waits").chmod(0o755)
    words = ["--step", "./waits", "--batch-size", "20", "--parcel-size", "20", "--stack", "parcelq"]
    (name,) = printed(cloud("run", lines, *words, "--detach", cwd=tmp_path))
    job = begun(cloud, name)[0]["id"]
    (told,) = printed(cloud("cancel", job[:12], "--stack", "parcelq", cwd=tmp_path))
    assert told == f"cancelled {job}"
    gate.touch()
    done = cloud("wait", job, "--stack", "parcelq", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "lines.txt: no result: it was cancelled\n")
    report = json.loads((tmp_path / "results/lines.txt.report.json").read_text())
    assert (report["complete"], bool(report["holes"])) == (False, True)
    assert not (tmp_path / "results/lines.txt").exists()
    again = cloud("cancel", job, "--stack", "parcelq", cwd=tmp_path)
    assert again.stderr == f"parcelq: job {job}: it is cancelled already\n"
    printed(cloud("resume", job, "--stack", "parcelq", cwd=tmp_path))
    assert printed(cloud("wait", job, "--stack", "parcelq", cwd=tmp_path)) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text()


PICKY = """
import parcelq
from parcelq.step import step

@step(each=True)
def picky(line):
    if line.strip().endswith("7"):
        raise ValueError("it ends in seven")
    return line.upper()

if __name__ == "__main__":
    for stack in ("", "parcelq"):
        job = parcelq.run(picky, "lines.txt", output=f"from{stack}", stack=stack)
        assert [one.whole for one in job.wait(120)] == [False]
        (result,), dead = job.results(), list(job.dead())
        print(result, job.progress().share, len(dead), dead[0])
"""


def test_a_python_program_gets_the_same_from_both_and_dead_entries_run_again_with_a_mended_step(cloud, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {number}\n" for number in range(400)))
    (tmp_path / "picky.py").write_text(PICKY)
    done = subprocess.run(
        [sys.executable, "picky.py"],
        cwd=tmp_path,
        env=dict(cloud.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    here, there = printed(done)
    assert here == there.replace("fromparcelq/", "from/")
    assert here.startswith("from/lines.txt 1.0 40 DeadEntry(file='lines.txt', record=8, line=8, entry='line 7\\n'")
    for name in ("lines.txt", "lines.txt.dead.jsonl"):
        assert (tmp_path / "fromparcelq" / name).read_bytes() == (tmp_path / "from" / name).read_bytes()
    listed = map(json.loads, printed(cloud("jobs", "--stack", "parcelq", "--json", cwd=tmp_path)))
    (job,) = (one for one in listed if one["workflow"] == "picky")
    assert (job["state"], job["dead"], set(job["map"]), job["percent"]) == ("finished", 40, {"█", "▒"}, 100.0)
    assert len(printed(cloud("dead", job["job"], "--stack", "parcelq", cwd=tmp_path))) == 40
    (tmp_path / "mended.py").write_text(
        "from parcelq.step import step\n@step(each=True)\ndef up(line): return line.upper()\n"
    )
    with (tmp_path / "mended.py").open("a") as file:
        file.write("if __name__ == '__main__': up.main()\n")
    words = ["redrive", job["job"], "--step", "mended.py", "--stack", "parcelq", "--json"]
    assert json.loads(printed(cloud(*words, cwd=tmp_path))[0]) == {"job": job["job"], "redriven": 40}
    printed(cloud("wait", job["job"], "--stack", "parcelq", cwd=tmp_path))
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text().upper()
    report = json.loads((tmp_path / "results/lines.txt.report.json").read_text())
    assert (report["complete"], len(report["workflows"])) == (True, 2)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "lines.txt", "--step", "cat", "--stack", "nothing"), "there is no stack 'nothing' in us-east-1"),
        (("workflows", "list", "--stack", "nothing"), "there is no stack 'nothing' in us-east-1"),
        (("workflows", "put", "nowhere", "--stack", "parcelq"), "the folder has no workflow.yaml"),
        (("workflows", "put", "many", "--stack", "parcelq"), "steps[2] is 7, but must be a mapping of keys to values"),
        (("workflows", "put", "staged", "--stack", "parcelq"), "stage is 'heavy', but must be one of step"),
        (("workflows", "put", "large", "--stack", "parcelq"), "deploy it with ProcessorStorage="),
        (
            ("workflows", "put", "staged", "--name", "parcelq-x", "--stack", "parcelq"),
            "reserved for the stack's topics",
        ),
        (("workflows", "show", "nothing", "--stack", "parcelq"), "there is no workflow 'nothing'"),
        (("workflows", "delete", "nothing", "--yes", "--stack", "parcelq"), "there is no workflow 'nothing'"),
        (("wait", "nothing/x", "--stack", "parcelq"), "parcelq run --detach prints the names"),
        (("jobs", "--stack", "nothing"), "there is no stack 'nothing' in us-east-1"),
        (("cancel", "abcdef", "--stack", "parcelq"), "job abcdef: there is no such job"),
        (("run", "lines.txt", "--step", "old.py", "--stack", "parcelq"), "requires-python is '<3'"),
    ],
)
def test_a_command_that_a_stack_cannot_carry_out_ends_with_one_sentence(cloud, tmp_path, lines, words, sentence):
    for name, text in {
        "many": MANY_MISTAKES,
        "staged": "steps: [{run: cat, stage: heavy}]",
        "large": "steps: [{run: cat}]",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "workflow.yaml").write_text(text)
    with (tmp_path / "large/weights").open("wb") as file:
        file.truncate(1200 << 20)
    (tmp_path / "old.py").write_text('# /// script\n# requires-python = "<3"\n# ///\n')
    done = cloud(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_commands_of_the_tutorial_about_aws_give_the_output_that_it_shows(cloud, tmp_path):
    variables = {name: value for name, value in cloud.environment.items() if name.startswith("AWS_")}
    for shown in run(ON_AWS.read_text(), tmp_path, variables):
        assert matches(shown.expected, shown.actual), f"$ {shown.command}\n{shown.actual}"
