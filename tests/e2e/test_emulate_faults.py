"""`parcelq emulate` with files that are odd, many or broken, in surroundings that are hostile."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import time
from pathlib import Path

import boto3
from parcelq_emulator.surroundings import without_the_users
from test_emulate import PARCELQ, emulate, filter_settings, until

__all__ = ["filter_settings"]


def test_every_kind_of_gz_gives_its_lines_and_a_broken_one_fails_alone(tmp_path: Path, filter_settings: Path) -> None:
    out = tmp_path / "out"
    lines = {
        "two members.txt.gz": gzip.compress(b"a\n") + gzip.compress(b"b\n"),
        "empty.txt.gz": gzip.compress(b""),
        "empty member.TXT.GZ": gzip.compress(b"a\n") + gzip.compress(b"") + gzip.compress(b"b\n"),
        "padded.txt.gz": gzip.compress(b"a\nb\n") + b"\0" * 512,
        "truncated.txt.gz": gzip.compress(os.urandom(50_000))[:20_000],
        "no gzip.txt.gz": b"plain\n",
        "gzip inside.txt": gzip.compress(b"a\n"),
        "plain.txt": b"a\nb\n",
    }
    for name, content in lines.items():
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in lines]
    done = emulate(*files, "--step", "cat", "--settings", filter_settings, "--output", out, expected=1)
    results = {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.suffix not in {".json", ".html"} and path.is_file()
    }
    assert results == {
        "two members.txt.gz.result": b"a\nb\n",
        "empty.txt.gz.result": b"",
        "padded.txt.gz.result": b"a\nb\n",
        "empty member.TXT.GZ.result": b"a\nb\n",
        "gzip inside.txt": b"a\n",
        "plain.txt": b"a\nb\n",
    }
    for name in ("truncated.txt.gz", "no gzip.txt.gz"):
        assert f"not uploaded: {name}: " in done.stderr
        assert name in done.stderr.splitlines()[-1]


def test_each_of_many_small_files_gives_its_result(tmp_path: Path, filter_settings: Path) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(40)]
    for file in files:
        file.write_text(f"line of {file.name}\n")
    out = tmp_path / "out"
    done = emulate(*files, "--step", "cat", "--settings", filter_settings, "--output", out)
    assert [(out / file.name).read_text() for file in files] == [file.read_text() for file in files]
    assert "published again" not in done.stderr


def test_emulate_works_whatever_the_environment_and_the_folder_of_the_user_are(
    tmp_path: Path, filter_settings: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for module in ("tokenize", "queue", "yaml", "json", "boto3", "parcelq", "app", "moto", "email"):
        (here / f"{module}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({module!r})\n")
    (here / "broken").write_text("[default\n")
    (here / "lines.txt").write_text("a\nb\n")
    hostile = {
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "AWS_ENDPOINT_URL"), "http://192.0.2.1:9"),
        "AWS_PROFILE": "unknown",
        "AWS_CONFIG_FILE": "broken",
        "AWS_SHARED_CREDENTIALS_FILE": "broken",
        "AWS_RETRY_MODE": "bogus",
        "AWS_MAX_ATTEMPTS": "x",
        "AWS_CA_BUNDLE": "/nowhere",
    }
    command = [str(Path(PARCELQ[0]).with_name("parcelq")), "emulate", "lines.txt", "--step", "cat"]
    done = subprocess.run(
        [*command, "--settings", str(filter_settings)],
        cwd=here,
        env={**os.environ, **hostile},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (here / "results" / "lines.txt").read_text() == "a\nb\n"
    assert not (tmp_path / "executed").exists()


def test_emulate_reads_settings_and_files_that_come_through_pipes(tmp_path: Path) -> None:
    script = '"$@" <(printf "a\\nb\\n") --step tr --settings <(printf "filter: true\\narguments: [a-z, A-Z]\\n")'
    command = ["bash", "-c", script, "bash", *PARCELQ, "emulate", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (report,) = (tmp_path / "out").glob("*.report.json")
    assert Path(str(report).removesuffix(".report.json")).read_text() == "A\nB\n"


def test_emulate_refuses_wrong_settings_from_a_pipe_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a\n")
    script = '"$@" --settings <(printf "timeout: soon\\n")'
    command = ["bash", "-c", script, "bash", *PARCELQ, "emulate", str(tmp_path / "lines.txt"), "--step", "cat"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "timeout is 'soon'" in done.stderr


def test_an_object_with_an_odd_name_does_not_stop_others(tmp_path: Path, filter_settings: Path) -> None:
    file, out = tmp_path / "lines.txt", tmp_path / "out"
    file.write_text("a\n")
    arguments = [file, "--step", "cat", "--settings", filter_settings, "--output", out, "--keep"]
    running = subprocess.Popen([*PARCELQ, "emulate", *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    try:
        url = until(running, "still running")[-1].partition("AWS_ENDPOINT_URL=")[2].split()[0]
        with without_the_users():
            s3 = boto3.Session("x", "x", region_name="us-east-1").client("s3", endpoint_url=url)
        (bucket,) = (one["Name"] for one in s3.list_buckets()["Buckets"] if "code" not in one["Name"])
        odd = ("nul\0", "x" * 300, "logs", "parcelq-step/x", "parcelq-step/x/y", "odd.gz", "after")
        for name in odd:
            s3.put_object(Bucket=bucket, Key=f"inbox/{name}", Body=f"{name}\n".encode())
        end = time.monotonic() + 60
        while not (out / "after").exists() and time.monotonic() < end:
            time.sleep(0.2)
        assert (out / "after").read_text() == "after\n"
        s3.put_object(Bucket=bucket, Key="inbox/last", Body=b"last\n")
        said = "".join(until(running, f"{out}/last"))
        running.send_signal(signal.SIGHUP)
        assert running.wait(30) == 130
        assert (out / "parcelq-step" / "x").read_text() == "parcelq-step/x\n"
        for part in ("without NUL", "parcelq-step/x/y", "not uploaded: odd.gz: "):
            assert part in said
    finally:
        running.kill()
        running.communicate()


def test_a_run_that_was_hung_up_leaves_nothing_in_the_temporary_folder(tmp_path: Path, filter_settings: Path) -> None:
    file, tmp = tmp_path / "lines.txt", tmp_path / "tmp"
    file.write_text("a\n")
    tmp.mkdir()
    arguments = [file, "--step", "cat", "--settings", filter_settings, "--output", tmp_path / "out", "--keep"]
    environment = {**os.environ, "TMPDIR": str(tmp)}
    command = [*PARCELQ, "emulate", *map(str, arguments)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        until(running, "still running")
        running.kill()
        running.wait(30)
        assert list(tmp.iterdir())
        again = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        until(again, "still running")
        again.send_signal(signal.SIGHUP)
        assert again.wait(30) == 130
        assert list(tmp.iterdir()) == []
    finally:
        for process in (running, again):
            process.kill()
            process.communicate()


def test_emulate_refuses_two_files_with_one_result_before_anything_runs(tmp_path: Path) -> None:
    name = "same.txt"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    done = emulate(
        tmp_path / "a" / name, tmp_path / "b" / name, "--step", "cat", "--output", tmp_path / "o", expected=1
    )
    assert name in done.stderr
    assert not (tmp_path / "o").exists()


def test_emulate_refuses_to_overwrite_an_input_with_its_result(tmp_path: Path, filter_settings: Path) -> None:
    file = tmp_path / "data.txt"
    file.write_text("a\n")
    done = emulate(file, "--step", "tr", "--settings", filter_settings, "--output", tmp_path, expected=1)
    assert "is a source and would be overwritten" in done.stderr
    assert file.read_text() == "a\n"
