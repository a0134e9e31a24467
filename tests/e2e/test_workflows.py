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

import boto3
import pytest
from doc_pages import ON_AWS, matches, run

ROOT = Path(__file__).parents[2]
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


def test_the_same_words_give_the_same_bytes_here_and_on_a_stack(cloud, tmp_path, lines, flow):
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


def test_rdkit_from_inline_metadata_gives_what_it_gives_here(cloud, tmp_path):
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
    assert "lacks 1 entry that failed" in there.stdout


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
    assert (again.returncode, "this version was the current one already" in again.stderr) == (0, True)

    cloud.client("s3").upload_file(str(lines), bucket, "inbox/life/lines.txt")  # as any client of S3 does it
    done = cloud("wait", "life/lines.txt", "--stack", "parcelq", cwd=tmp_path)
    assert printed(done) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text().upper().replace("\n", "!\n")

    assert printed(cloud("workflows", "delete", "life", "--yes", "--stack", "parcelq", cwd=tmp_path))
    cloud.client("s3").upload_file(str(lines), bucket, "inbox/life/other.txt")
    done = cloud("wait", "life/other.txt", "--stack", "parcelq", cwd=tmp_path)
    assert (done.returncode, "there is no workflow of that name" in done.stdout) == (1, True)


def test_detaching_prints_what_brings_the_result(cloud, tmp_path, lines):
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
        if "uploading lines.txt" in line or "uploading /" in line:
            break
    time.sleep(3)  # it follows the job now, which takes longer
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    (come_back,) = (line for line in told.splitlines() if "waits for it and brings the results" in line)
    words = shlex.split(come_back[come_back.index("parcelq wait") : come_back.index(" waits for it")])[1:]
    assert printed(cloud(*words, cwd=tmp_path)) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text()


def test_an_object_of_another_bucket_is_a_file_too(cloud, tmp_path, lines):
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="elsewhere")
    s3.upload_file(str(lines), "elsewhere", "a folder/lines.txt")
    step = ["--step", "tr a-z A-Z", "--stack", "parcelq"]
    assert printed(cloud("run", "s3://elsewhere/a folder/lines.txt", *step, cwd=tmp_path)) == ["results/lines.txt"]
    assert (tmp_path / "results/lines.txt").read_text() == lines.read_text().upper()
    done = cloud("run", "s3://elsewhere/nothing", *step, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "parcelq: there is no s3://elsewhere/nothing")


def test_jobs_keep_their_versions_while_a_workflow_changes(cloud, tmp_path, flow):
    (inbox,) = printed(cloud("workflows", "put", flow, "--stack", "parcelq", "--name", "change", cwd=tmp_path))
    bucket = inbox.removeprefix("s3://").partition("/")[0]
    s3 = cloud.client("s3")
    old = "".join(f"line {number}\n" for number in range(30_000))

    def begun() -> int:
        """How many jobs have a version."""
        return s3.list_objects_v2(Bucket=bucket, Prefix="segments/.versions/").get("KeyCount", 0)

    before = begun()
    s3.put_object(Bucket=bucket, Key="inbox/change/old.txt", Body=old.encode())
    give_up = time.monotonic() + 60
    while begun() == before:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    (flow / "mark").write_text(MARK.replace("$/!/", "$/?/"))
    printed(cloud("workflows", "put", flow, "--stack", "parcelq", "--name", "change", cwd=tmp_path))
    s3.put_object(Bucket=bucket, Key="inbox/change/new.txt", Body=b"one\n")
    printed(cloud("wait", "change/old.txt", "change/new.txt", "--stack", "parcelq", cwd=tmp_path))
    assert (tmp_path / "results/new.txt").read_text() == "ONE?\n"
    assert (tmp_path / "results/old.txt").read_text() == old.upper().replace("\n", "!\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "lines.txt", "--step", "cat", "--stack", "nothing"), "there is no stack 'nothing' in us-east-1"),
        (("workflows", "list", "--stack", "nothing"), "there is no stack 'nothing' in us-east-1"),
        (("workflows", "put", "nowhere", "--stack", "parcelq"), "the folder has no workflow.yaml"),
        (("workflows", "put", "many", "--stack", "parcelq"), "steps[2] is 7, but must be keys with values"),
        (("workflows", "put", "staged", "--stack", "parcelq"), "stage is 'heavy', but must be one of step"),
        (("workflows", "put", "large", "--stack", "parcelq"), "deploy it with ProcessorStorage="),
        (("workflows", "put", "staged", "--name", "parcelq-x", "--stack", "parcelq"), "those of the stack's topics"),
        (("workflows", "show", "nothing", "--stack", "parcelq"), "there is no workflow 'nothing'"),
        (("workflows", "delete", "nothing", "--yes", "--stack", "parcelq"), "there is no workflow 'nothing'"),
        (("wait", "nothing/x", "--stack", "parcelq"), "parcelq run --detach prints the names"),
        (("run", "lines.txt", "--step", "old.py", "--stack", "parcelq"), "requires-python is '<3'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(cloud, tmp_path, lines, words, sentence):
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
