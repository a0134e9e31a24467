"""Starts the processes of Lambda functions. Each is forked from a process that has already imported common modules."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from parcelq_emulator.runtime import FORK, read_frame, write_frame
from parcelq_emulator.surroundings import inherited, python

_RUNTIME: Final = Path(__file__).with_name("runtime.py")


class ForkedProcess:
    """A process of a function, forked by `Forks`.

    Attributes:
        stdin: a pipe to the process.
        stdout: a pipe from the process.
        returncode: the process's exit code, as in `subprocess.Popen`; None until `ended` has
            returned True.
    """

    def __init__(self, forks: Forks, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._forks = forks
        self._pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None

    def ended(self, seconds: float = 0) -> bool:
        """Wait at most `seconds`, and return whether the process has ended."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"wait": self._pid, "seconds": seconds})
        return self.returncode is not None

    def stop(self, seconds: float) -> None:
        """End the process by closing its stdin, and kill the process if ending takes longer than `seconds`."""
        self.stdin.close()
        if not self.ended(seconds):
            self.kill()
        self.stdout.close()

    def kill(self) -> None:
        """Kill the process if it has not ended."""
        if not self.ended():
            self._forks.ask({"kill": self._pid})
            self.ended(60)


class Forks:
    """A process that forks other processes while this context lasts. The forked processes share the imported modules.

    Args:
        scratch: a folder for temporary files; this path in a process's environment shows that the process belongs to
            this object.
        library: the folder of the layer's library.
    """

    def __init__(self, scratch: Path, library: Path) -> None:
        self._scratch = scratch
        self._library = library
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                python(str(_RUNTIME), FORK),
                stdin=theirs.fileno(),
                env={**inherited(), "PYTHONPATH": str(self._library), "TMPDIR": str(self._scratch)},
                cwd=self._scratch,
                start_new_session=True,  # Ctrl-C is for the command line, which ends its functions itself
            )
        self._pipe: Any = self._socket.makefile("rwb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._socket.close()
        self._process.wait()

    def start(
        self, handler: str, memory: int, timeout: float, folder: Path, environment: Mapping[str, str], log: IO[bytes]
    ) -> ForkedProcess:
        """Start a process that answers events.

        Args:
            handler: `module.function`.
            memory: the function's memory in MB, which the handler may ask for.
            timeout: how many seconds an invocation may take.
            folder: the process's working directory.
            environment: all environment variables of the process.
            log: the file to which the handler's output is written.

        Raises:
            OSError, EOFError: if the forking process has ended.
        """
        stdin, to_it = os.pipe()
        from_it, stdout = os.pipe()
        try:
            what = {"arguments": [handler, str(memory), str(timeout)], "folder": str(folder)}
            pid = self.ask({**what, "environment": dict(environment)}, [stdin, stdout, log.fileno()])
        finally:
            os.close(stdin)
            os.close(stdout)
        return ForkedProcess(self, pid, os.fdopen(to_it, "wb"), os.fdopen(from_it, "rb"))

    def ask(self, request: Mapping[str, Any], files: list[int] | None = None) -> Any:
        """Send a request and return the answer. Raises OSError or EOFError if the process has ended."""
        with self._lock:
            socket.send_fds(self._socket, [b"\0"], files or [])
            write_frame(self._pipe, request)
            return read_frame(self._pipe)
