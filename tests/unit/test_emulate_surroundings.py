"""What the emulator's processes get of the user's surroundings, and whose temporary files it deletes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from parcelq_emulator.pipeline import environment
from parcelq_emulator.scratch import clear_abandoned, scratch_folder
from parcelq_emulator.surroundings import inherited, python, without_the_users

HOSTILE = {
    "AWS_PROFILE": "unknown",
    "AWS_DEFAULT_PROFILE": "",
    "AWS_CONFIG_FILE": "BROKEN",
    "AWS_SHARED_CREDENTIALS_FILE": "BROKEN",
    "AWS_RETRY_MODE": "bogus",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_ENDPOINT_URL_S3": "http://192.0.2.1",
    "AWS_S3_USE_ARN_REGION": "bogus",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_STS_REGIONAL_ENDPOINTS": "bogus",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "bogus",
    "AWS_DATA_PATH": "BROKEN",
    "AWS_SESSION_TOKEN": "stale",
    "BOTO_CONFIG": "BROKEN",
    "HTTP_PROXY": "http://192.0.2.1:9",
    "https_proxy": "nonsense",
    "ALL_PROXY": "socks5://192.0.2.1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_setting_of_the_user_reaches_a_client_or_a_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "config"
    broken.write_text("[default\nregion")
    monkeypatch.setenv(name, HOSTILE[name].replace("BROKEN", str(broken)))
    before = dict(os.environ)
    with without_the_users():
        for service in ("s3", "sqs", "lambda", "cloudformation"):
            client = boto3.Session("x", "x", region_name="us-east-1").client(service, endpoint_url="http://127.0.0.1:1")
            assert client.meta.endpoint_url == "http://127.0.0.1:1"
            assert client._endpoint.http_session._proxy_config.proxy_url_for("http://127.0.0.1:1") is None
    assert dict(os.environ) == before
    assert inherited().get(name) in {None, os.devnull}
    assert environment("http://127.0.0.1:1").get(name) in {None, os.devnull}


def test_a_process_gets_the_language_and_the_libraries_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_TIME", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "SECRET"):
        monkeypatch.setenv(name, "value")
    assert {"LC_ALL", "LC_TIME", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"} <= inherited().keys()
    assert "SECRET" not in inherited()


@pytest.mark.parametrize("path", ["", ".", "..:.", "HERE", ":OTHER"])
def test_no_file_of_the_working_directory_is_imported(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tokenize", "queue", "yaml", "boto3", "parcelq", "moto"):
        (tmp_path / f"{module}.py").write_text("open('imported', 'w')\n")
    monkeypatch.chdir(tmp_path)
    other = tmp_path.parent / "other-modules"
    monkeypatch.setenv("PYTHONPATH", path.replace("HERE", str(tmp_path)).replace("OTHER", str(other)))
    code = "import tokenize, queue, yaml, boto3, parcelq, moto, sys; print(sys.path)"
    done = subprocess.run(python("-c", code), env=inherited(), capture_output=True, text=True, check=True)
    assert not (tmp_path / "imported").exists()
    assert (str(other) in done.stdout) == ("OTHER" in path)


def test_folders_of_dead_processes_are_deleted_at_the_next_start_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = (
        "import os, signal\nfrom parcelq_emulator.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'file').touch()\n    print(folder, flush=True)\n    input()\n"
    )
    processes = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        processes.append((process, Path(process.stdout.readline().strip())))
    (killed, abandoned), (alive, used) = processes
    killed.kill()
    killed.wait()
    foreign = tmp_path / "parcelq-of-somebody-else"
    foreign.mkdir()
    with scratch_folder() as own:
        assert not abandoned.exists()
        assert {used, foreign, own} == set(tmp_path.iterdir())
        assert clear_abandoned() == []
    alive.communicate("\n", timeout=20)
    assert set(tmp_path.iterdir()) == {foreign}
