"""The command line in this process, against a moto server on the loopback."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from parcelq_cli.main import main

_PATIENCE = 1.0
COMMAND = [sys.executable, "-c", "from parcelq_cli.main import main; main()"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """The JSON document of each line of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """Runs commands, and checks that none of them shows a traceback that was not asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> None:
        self._monkeypatch = monkeypatch
        self._capture = capture

    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> Done:
        self._monkeypatch.setattr(sys, "argv", ["parcelq", *map(str, arguments)])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capture.readouterr()
        before = signal.getsignal(signal.SIGINT)  # the end of the command's process is near, so it does not restore it
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGINT, before)
        out, err = self._capture.readouterr()
        assert b"Traceback" not in out + err or "--verbose" in arguments
        return Done(int(ended.value.code or 0), out, err.decode())

    def ok(self, *arguments: str | Path, stdin: bytes = b"") -> Done:
        """Run a command that must succeed."""
        done = self(*arguments, stdin=stdin)
        assert done.code == 0, done.err
        return done

    def fails(self, *arguments: str | Path, code: int = 1, stdin: bytes = b"") -> str:
        """Run a command that must fail and print nothing but one line on stderr, which is returned."""
        done = self(*arguments, stdin=stdin)
        assert (done.code, done.out) == (code, b"")
        assert done.err.startswith("parcelq: ")
        assert done.err.count("\n") == 1
        return done.err

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        pipe = subprocess.PIPE
        return subprocess.Popen([*COMMAND, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def shell(self, script: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command from a shell that changes its streams or limits; `"$@"` is the command."""
        words = ["bash", "-c", script, "bash", *COMMAND, *arguments]
        return subprocess.run(words, capture_output=True, timeout=60, check=False)

    def on_terminal(self, answer: bytes, *arguments: str) -> tuple[int, str]:
        """Run a command on a terminal, answer its question, and return its exit code and what was shown."""
        child, terminal = pty.fork()
        if not child:
            os.execv(COMMAND[0], [*COMMAND, *arguments])
        shown, is_answered = b"", False
        try:
            while True:
                if select.select([terminal], [], [], _PATIENCE)[0]:
                    data = os.read(terminal, 4096)
                    shown += data
                    if not data:
                        break
                elif is_answered:  # Python forgets an interrupt that comes just when it begins to read
                    os.write(terminal, answer)
                if not is_answered and b"(n)" in shown:
                    os.write(terminal, answer)
                    is_answered = True
        except OSError:  # Linux tells the end of a terminal by an error
            pass
        os.close(terminal)
        assert b"Traceback" not in shown
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def cli(
    moto_url: str,
    careful_moto: None,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
) -> Cli:
    for name in os.environ:
        if name.startswith("AWS_") or name in {"FORCE_COLOR", "TTY_COMPATIBLE"}:
            monkeypatch.delenv(name)
    home = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}
    access = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-west-1"}
    for name, value in {**home, **access, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps what it once found in the environment
    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    return Cli(monkeypatch, capsysbinary)


@pytest.fixture
def overflow_bucket(cli: Cli, moto_url: str) -> str:
    boto3.client("s3").create_bucket(
        Bucket="overflowing", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    return "overflowing"
