"""The program of a function's process: reads events from stdin and writes the handler's answers.

This program starts as a script, without the command line's modules on its import path. So a handler can import exactly
the modules that it could import on Lambda. Each event and each answer is sent as its length, followed by JSON. What the
handler prints goes to stderr. One process imports the common modules and forks all others.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

FORK = "fork"
"""The argument with which the script forks processes instead of answering events."""
COMMON = (
    "boto3",
    "s3transfer.manager",
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.metrics",
    "parcelq.collect.looks",
    "parcelq.process.processor",
    "parcelq.upload.objects",
)
"""The modules that functions import. They are imported once, before processes are forked."""

CHAOS = "PARCELQ_LOCAL_CHAOS"
"""An environment variable with a seed for random deaths of functions."""
DEATHS = 0.05
"""The share of invocations that die."""
FIRST_MOMENTS = 8
"""The assumed number of possible moments of death in the first invocation of a process."""
CHAOS_FILE = "chaos.json"
"""The file in an instance's temporary folder with the counts of its starts, invocations and deaths."""


class Context:
    """Lambda's context object, with the attributes that handlers use:
    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(self, name: str, memory: int, timeout: float) -> None:
        self.function_name = name
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:{os.environ['AWS_REGION']}:123456789012:function:{name}"
        self.memory_limit_in_mb = memory
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = "local"
        self._until = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Return how many milliseconds are left until the function is killed."""
        return max(0, int((self._until - time.monotonic()) * 1000))


def read_frame(pipe: IO[bytes]) -> Any:
    """Read one JSON value. Raise EOFError if the other process has closed the pipe."""
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    return json.loads(pipe.read(int.from_bytes(head, "big")))


def write_frame(pipe: IO[bytes], value: Any) -> None:
    """Write one JSON value."""
    data = json.dumps(value).encode()
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


class Deaths:
    """Kills the function's process in some invocations, at a random request to AWS.

    The process may die just before or after each request, and just before its answer. The moment is chosen at random,
    as if the invocation had as many such moments as the previous invocation. If the invocation has fewer moments, the
    process dies at the last moment.

    Args:
        seed: determines the random choices, together with the number of earlier processes of the instance.
        session: the boto3 session that creates the function's clients.
        share: the fraction of invocations in which the process dies.
    """

    def __init__(self, seed: str, session: Any, share: float = DEATHS) -> None:
        self._file = os.path.join(tempfile.gettempdir(), CHAOS_FILE)
        self._share = share
        self._counts = self._read_counts()
        self._counts["starts"] += 1
        self._choice = random.Random(f"{seed} {self._counts['starts']}")  # nosec B311 # not a secret
        self._moments = FIRST_MOMENTS
        self._passed = 0
        self._last = 0  # the moment of death; 0 if the process does not die
        self._lock = threading.Lock()  # functions send requests on many threads
        for moment in ("before-send", "after-call"):
            session.events.register(f"{moment}.*.*", self._pass)

    def begin(self) -> None:
        """Begin an invocation, and choose whether and when the process dies during the invocation."""
        self._passed = 0
        self._last = self._choice.randint(1, self._moments) if self._choice.random() < self._share else 0
        self._counts["invocations"] += 1
        self._write_counts()

    def end(self) -> None:
        """End the invocation, just before its answer is sent."""
        self._passed += 1
        if self._last:
            self._die()
        self._moments = self._passed

    def _pass(self, **_: Any) -> None:
        with self._lock:
            self._passed += 1
            if self._passed == self._last:
                self._die()

    def _die(self) -> None:
        self._counts["killed"] += 1
        self._write_counts()
        os._exit(137)

    def _read_counts(self) -> dict[str, int]:
        try:
            with open(self._file) as file:
                return json.load(file)  # type: ignore[no-any-return]
        except FileNotFoundError:
            return {"starts": 0, "invocations": 0, "killed": 0}

    def _write_counts(self) -> None:
        with open(f"{self._file}.part", "w") as file:
            json.dump(self._counts, file)
        os.replace(f"{self._file}.part", self._file)


def fork_others() -> None:
    """Fork a process for each request until the socket at stdin is closed. The function returns only in forked
    processes.
    """
    for name in COMMON:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    asked = socket.socket(fileno=os.dup(0))
    pipe: Any = asked.makefile("rwb")
    while True:
        head, files, _, _ = socket.recv_fds(asked, 1, 3)
        if not head:
            os._exit(0)
        request = read_frame(pipe)
        if files:
            pid = os.fork()
            if not pid:
                asked.close()
                pipe.close()
                become(request, files)
                return
            for file in files:
                os.close(file)
            write_frame(pipe, pid)
        elif "kill" in request:
            os.kill(request["kill"], signal.SIGKILL)
            write_frame(pipe, None)
        else:
            write_frame(pipe, ended(request["wait"], request["seconds"]))


def become(request: Any, files: list[int]) -> None:
    """Give this process its own session, files, folder, variables and paths, as if the process had been started
    directly.
    """
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv[1:] = request["arguments"]
    tempfile.tempdir = None


def ended(pid: int, seconds: float) -> int | None:
    """Wait up to `seconds` for a child process, and return its exit code, or None if the child still runs."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def own_session(url: str) -> Any:
    """Return a boto3 session for the function's clients. If the clients' server is local, they send frames instead of
    HTTP.
    """
    import boto3

    boto3.DEFAULT_SESSION = session = boto3.Session()
    if url:
        spec: Any = importlib.util.spec_from_file_location("parcelq_frames", Path(__file__).with_name("frames.py"))
        frames = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(frames)
        frames.Frames(url).install(session)
    return session


def main() -> None:
    """Import the handler once, and answer one event after another until stdin ends."""
    if sys.argv[1] == FORK:
        fork_others()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    name, memory, timeout = os.environ["AWS_LAMBDA_FUNCTION_NAME"], int(sys.argv[2]), float(sys.argv[3])
    module, _, function = sys.argv[1].rpartition(".")
    handler = None
    session = own_session(os.environ.get("AWS_ENDPOINT_URL", ""))
    seed = os.environ.get(CHAOS)
    deaths = Deaths(f"{seed} {name} {os.path.basename(tempfile.gettempdir())}", session) if seed else None
    while True:
        try:
            event = read_frame(sys.stdin.buffer)
        except EOFError:
            return
        if deaths:
            deaths.begin()
        try:
            # Imported at the first event, as in a cold start.
            handler = handler or getattr(importlib.import_module(module), function)
            answer = {"result": handler(event, Context(name, memory, timeout))}
        except Exception as error:  # noqa: BLE001 - as in Lambda, only the event fails, and the process continues
            traceback.print_exc()
            answer = {"error": {"type": type(error).__name__, "message": str(error)}}
        if deaths:
            deaths.end()
        write_frame(answers, answer)


if __name__ == "__main__":
    main()
