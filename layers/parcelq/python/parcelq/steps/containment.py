"""Contains steps: a step cannot read the memory of the process that runs it, and none of its processes outlives its
run.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.steps import supervisor
from parcelq.steps.supervisor import END_SECONDS, GRACE_SECONDS, HOP_SECONDS

MARK: Final = "PARCELQ_RUN"
"""An environment variable of every step that contains the folder in which the step was started."""
_PR_SET_DUMPABLE: Final = 4
"""https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html"""
_BOOT: Final = (
    "import sys; parcelq = type(sys)('parcelq'); parcelq.__path__ = [{!r}]; sys.modules['parcelq'] = parcelq; "
    "from parcelq.steps.supervisor import main; main(sys.argv[1:])"
)
"""Imports the supervisor from the folder of this package, without importing the package's own modules."""
_FOREVER: Final = 10.0 * 365 * 24 * 3600
_LOOK_AGAIN_SECONDS: Final = 0.01
"""A process that is just starting another program briefly has no environment."""


@cache
def shield() -> None:
    """Hide the environment and memory of this process, which contain AWS credentials, from its children. Only the first
    call has an effect.

    Processes of one user may read each other's `/proc/<pid>/environ` and `/proc/<pid>/mem`, unless a process is not
    dumpable.

    Raises:
        OSError: the kernel refuses.
    """
    if sys.platform != "linux":
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE, 0) failed")


class Ended(NamedTuple):
    """A supervisor's report of a run.

    Attributes:
        kind: `done`; `time` or `large` if the step was killed for its time or its output; `refused` if the system did
            not start it. For a warm process: `ended` during the run, `deaf` if it closed its socket, `unborn` if it
            ended before its first run, `gone` if it ended before this run. `lost` if the supervisor was killed.
        code: the exit code, negative for a signal; the error number if the system refused.
        sound: whether a warm process can take another run.
        clean: whether the run left the folder of a warm process unchanged.
        output: begin and end of a warm process's output in the file.
        rejects: the same for its rejects.
        cpu_seconds: CPU seconds of all processes of the run that have ended.
        memory_bytes: the peak memory of the largest of these processes.
        stderr: the end of its stderr.
        stdout: the end of its stdout, unless stdout is the output.
    """

    kind: str
    code: int = 0
    sound: bool = False
    clean: bool = False
    output: tuple[int, int] = (0, 0)
    rejects: tuple[int, int] = (0, 0)
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    stderr: bytes = b""
    stdout: bytes = b""


class Supervised:
    """The parent process of a step's commands, which ends all processes that a run has started.

    The process runs `parcelq.steps.supervisor`. It ends with all its descendants when `end` is called, and when this
    process ends in any way.

    Args:
        kept: returns the command line of a warm process, given the descriptor of its socket; None for a process per
            run.
        environment: the environment variables of the commands.
        filters: whether a command gets its input on stdin and writes its output to stdout.
        home: the folder in which a warm process starts.

    Raises:
        OSError: the system cannot start another process.
    """

    def __init__(
        self, kept: Callable[[int], list[str]] | None, environment: Mapping[str, str], *, filters: bool, home: str = ""
    ) -> None:
        shield()
        self._homes: Sequence[str] = [home] if home else []
        with contextlib.ExitStack() as theirs:
            self._control, control = socket.socketpair()
            self._replies = self._control.makefile("rb")
            theirs.callback(control.close)
            ends = [control.fileno()]
            if kept:
                for end in socket.socketpair():
                    theirs.callback(end.close)
                    ends.append(end.fileno())
            else:
                ends += [0, 0]
            words = [*map(str, ends), str(int(filters)), home, *(kept(ends[2]) if kept else [])]
            try:
                self._process = _start(words, environment, tuple(end for end in ends if end))
            except BaseException:
                self._close()
                raise

    def run(
        self, seconds: float | None, most_bytes: int, runs: Sequence[Sequence[str | bytes]], homes: Sequence[str]
    ) -> list[Ended]:
        """Run one command after another, and return the reports of those that began: at least one.

        No further command begins after one that ended a warm process or left files in its folder, or after
        `HOP_SECONDS`.

        Args:
            runs: for each, a folder with its working directory `work`, and with `input` and `output` of a filter; its
                `TMPDIR`; the file whose size is limited; and its command line, or the request to a warm process.
            homes: the folders in which processes are started.
        """
        self._homes = homes
        limit = _FOREVER if seconds is None else max(0.0, seconds)
        self._control.settimeout(limit + HOP_SECONDS + END_SECONDS + 2 * GRACE_SECONDS)
        try:
            self._control.sendall(marshal.dumps((limit, most_bytes, [[*map(os.fsencode, run)] for run in runs])))
            return [Ended(*one) for one in marshal.load(self._replies)]  # nosec B302 # no step has this socket
        except (OSError, ValueError, EOFError, TypeError):
            return [Ended("lost")]

    def abort(self) -> None:
        """End the current run, which is on another thread, at once, with everything that it started."""
        with contextlib.suppress(OSError):  # it has already ended
            self._control.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Return whether the supervisor can take a run."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the supervisor, and everything that a command has started."""
        self._close()
        try:
            code = self._process.wait(END_SECONDS + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(END_SECONDS)
        if code and self._homes:
            _end_marked(self._homes)

    def _close(self) -> None:
        self._replies.close()
        self._control.close()


def _start(words: list[str], environment: Mapping[str, str], ends: tuple[int, ...]) -> subprocess.Popen[bytes] | _Fork:
    """Start a supervisor: as a new interpreter, or as a fork of this process if it may not start its interpreter.

    A process that dropped root privileges may be unable to start an interpreter that root owns.
    """
    boot = _BOOT.format(str(Path(__file__).parents[1]))
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", boot, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
            pass_fds=ends,
        )
    except (PermissionError, FileNotFoundError):
        return _Fork(words, environment, ends)


class _Fork:
    """A supervisor that is a fork of this process, with the needed methods of `subprocess.Popen`."""

    def __init__(self, words: list[str], environment: Mapping[str, str], ends: tuple[int, ...]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            try:
                self._supervise(words, environment, ends)
            finally:
                os._exit(1)

    @staticmethod
    def _supervise(words: list[str], environment: Mapping[str, str], ends: tuple[int, ...]) -> None:
        os.setsid()
        os.chdir("/")
        quiet = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(quiet, standard)
        last = 2
        for end in sorted(ends):
            os.closerange(last + 1, end)
            last = end
        os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(environment)
        supervisor.main(words)
        os._exit(0)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = END_SECONDS) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("supervisor", timeout)
            time.sleep(0.002)
        return self.returncode or 0

    def kill(self) -> None:
        """Kill it at once."""
        os.kill(self.pid, signal.SIGKILL)


def _end_marked(folders: Sequence[str]) -> None:
    """End the processes of a supervisor that the step has killed, as far as they can be found."""
    until, quiet = time.monotonic() + END_SECONDS, 0
    while quiet < 2 and time.monotonic() < until:
        found = marked(*folders)
        quiet = 0 if found else quiet + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_SECONDS)


def marked(*marks: str) -> list[int]:
    """Return the processes with one of these values of `MARK` in their environment; zombies have no environment."""
    variables = {f"{MARK}={mark}".encode() for mark in marks}
    found = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdecimal():
            with contextlib.suppress(OSError):  # another user's process, or it has ended
                if not variables.isdisjoint(Path("/proc", name, "environ").read_bytes().split(b"\0")):
                    found.append(int(name))
    return found
