"""The process that replaces AWS in the emulated stack.

`python -m parcelq_emulator.server --port 0` listens only on the loopback interface, and prints its URL as a line on
stdout when it listens. The server ends at SIGTERM or when its standard input ends. So no server is left behind even if
the process that started the server is killed.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.limits import DELETED_NAME_SECONDS

from parcelq_emulator.scratch import scratch_folder
from parcelq_emulator.surroundings import inherited, python

_MODULE: Final = "parcelq_emulator.server"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_TAIL_BYTES: Final = 4096


class ServerError(ParcelqError):
    """The local server could not be started."""


class Server:
    """The server in a separate process, which runs while this context lasts.

    Args:
        port: the port of the loopback interface; 0 for any free port.
        start_timeout: after how many seconds the start has failed if the server does not listen.
        chaos: a seed for random duplicates and disorder; None for no such faults.
        chaos_folder: the folder to which the topics write their counts of duplicates.
        latency: maps services such as `sqs` to the seconds by which each request is delayed.
        deleted_name_seconds: for how many seconds after a queue's deletion its name cannot be used again.

    Attributes:
        url: the endpoint URL for AWS clients, such as `http://127.0.0.1:40123`.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        start_timeout: float = _START_SECONDS,
        chaos: int | None = None,
        chaos_folder: Path | None = None,
        latency: Mapping[str, float] | None = None,
        deleted_name_seconds: float = DELETED_NAME_SECONDS,
    ) -> None:
        self.url = ""
        self._start_timeout = start_timeout
        self._arguments = ["--port", str(port)] + ([] if chaos is None else ["--chaos", str(chaos)])
        for service, seconds in (latency or {}).items():
            self._arguments += ["--latency", f"{service}={seconds}"]
        self._arguments += ["--deleted-name-seconds", str(deleted_name_seconds)]
        self._arguments += [] if chaos_folder is None else ["--chaos-folder", str(chaos_folder)]

    def __enter__(self) -> Server:
        """Start the server, and wait until it listens.

        Raises:
            ServerError: if the server ended or took too long; the message contains the end of its stderr.
        """
        # Stderr is a file, because nobody would read a pipe, and a full pipe would block the server.
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            python("-m", _MODULE, *self._arguments),
            env=inherited(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C is for the process that started the server, which ends the server
        )
        self.url = self._first_line()
        if not self.url:
            ended = self._process.poll() is not None
            self.stop()
            reason = "ended at once" if ended else f"did not listen within {self._start_timeout:g} s"
            with self._stderr:
                raise ServerError(f"the local server {reason}; it wrote: {self.stderr_tail() or 'nothing'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stderr:
            self.stop()

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._process.pid

    def stop(self) -> None:
        """End the process, unless it has already ended."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def stderr_tail(self) -> str:
        """Return the end of what the server wrote to stderr so far; empty if the server had no error."""
        # This code must not seek, because the server writes at the position of the same open file.
        end = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), _TAIL_BYTES, max(0, end - _TAIL_BYTES)).decode(errors="replace").strip()

    def _first_line(self) -> str:
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], self._start_timeout)[0]:
            return ""
        line = stdout.readline().decode().strip()
        if not line:
            self._process.wait()
        return line


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, or the end of standard input."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description="Emulate AWS on the loopback interface.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0, the default, takes a free one")
    parser.add_argument("--chaos", type=int, metavar="SEED", help="deliver messages twice and in any order")
    parser.add_argument("--chaos-folder", type=Path, metavar="DIR", help="where to write the counts of duplicates")
    parser.add_argument("--latency", action="append", default=[], metavar="SERVICE=S", help="seconds added to requests")
    parser.add_argument(
        "--deleted-name-seconds",
        type=float,
        default=DELETED_NAME_SECONDS,
        metavar="SECONDS",
        help="how long the name of a deleted queue cannot be used again; SQS's 60 by default",
    )
    given = parser.parse_args(arguments)
    port: int = given.port
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    # moto creates a million permanent objects, and collecting garbage among these objects takes a sixth of the start.
    gc.set_threshold(100_000)
    # Imported late, because moto takes half a second, and a process that only starts a server does not need it.
    from parcelq_emulator.application import Latency, application, listen
    from parcelq_emulator.sqs_backend import StandardQueueBackend

    StandardQueueBackend.deleted_name_seconds = given.deleted_name_seconds
    if given.chaos is not None:
        from parcelq_emulator.chaos import hostile_queue

        StandardQueueBackend.queue_class = hostile_queue(given.chaos, given.chaos_folder)

    with scratch_folder() as directory:
        latency = {name: float(seconds) for name, _, seconds in (one.partition("=") for one in given.latency)}
        answering = application(str(directory))
        server = listen(Latency(answering, latency) if latency else answering, port)
        gc.freeze()  # otherwise a later collection takes half a second for all of these objects
        os.environ["MOTO_PORT"] = str(server.port)  # some of moto's services call others
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stdout, sys.stdout = sys.stdout, sys.stderr  # moto prints sometimes
        print(f"http://{server.host}:{server.port}", file=stdout, flush=True)
        with suppress(SystemExit):
            while sys.stdin.buffer.read(1024):
                pass
    os._exit(0)  # a normal exit would spend a second on deleting all of moto's modules, for nothing


if __name__ == "__main__":
    main()
