"""Isolates steps: a step cannot read the memory of the process that runs the step, and all processes that a run starts
end with the run.
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
from parcelq.steps.processes import END_SECONDS, PR_SET_DUMPABLE, prctl
from parcelq.steps.supervisor import GRACE_SECONDS, HOP_SECONDS

MARK: Final = "PARCELQ_RUN"
"""An environment variable of every step. Its value is the folder in which the step was started."""
_BOOT: Final = (
    "import sys; parcelq = type(sys)('parcelq'); parcelq.__path__ = [{!r}]; sys.modules['parcelq'] = parcelq; "
    "from parcelq.steps.supervisor import main; main(sys.argv[1:])"
)
"""Code that imports the supervisor from the folder of this package, without the modules that `parcelq` imports."""
_FOREVER: Final = 10.0 * 365 * 24 * 3600
_LOOK_AGAIN_SECONDS: Final = 0.01
"""How many seconds pass before processes are checked again, because a process that starts another program briefly has
no environment.
"""


@cache
def shield() -> None:
    """Hide the environment and memory of this process, which contain AWS credentials, from the processes that it
    starts. Otherwise they could read `/proc/<pid>/environ` and `/proc/<pid>/mem`. Only the first call has an effect.
    Raises OSError if the kernel refuses the request.
    """
    if error := prctl(PR_SET_DUMPABLE, 0):
        raise OSError(error, "prctl(PR_SET_DUMPABLE, 0) failed")


class Ended(NamedTuple):
    """A supervisor's report about the end of a run.

    Attributes:
        kind: how the run ended: `done`; `time` or `large` if the step was killed because of its time or its output;
            `refused` if the system did not start the step; `lost` if the supervisor was killed. A warm process may also
            be `ended` (it ended during the run), `deaf` (it closed its socket), `unborn` (it ended before its first
            run) or `gone` (it ended before this run).
        code: the exit code, negative if a signal ended the process; the error number if the system refused.
        sound: whether a warm process can do another run.
        clean: whether the run left the folder of a warm process unchanged.
        output: the offsets at which the run's output begins and ends in the file `output` of a warm process.
        rejects: the offsets at which the run's rejects begin and end in the file `rejects` of a warm process.
        cpu_seconds: how many CPU seconds those processes of the run used that have ended.
        memory_bytes: the peak memory of the largest process of the run, in bytes. Only processes that have ended and a
            warm process count.
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
    """A process that runs `parcelq.steps.supervisor` as the parent of a step's commands. When a run ends, this process
    ends all processes that the run has started. All of them end when `end` is called, or when the current process ends
    in any way.

    `kept` gets the descriptor of a warm process's socket, and returns the command line of the warm process, which
    starts in the folder `home`; None if each run has a process of its own. If `filters`, a command gets its input on
    stdin and writes its output to stdout. Raises OSError if the system cannot start another process.
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
        """Run one command after another. Return the reports of the runs that began. At least the first run begins.

        No further command begins after a command that could not be started, or that ended a warm process or left files
        in its folder; or after `HOP_SECONDS`.

        Args:
            runs: a list per run. The list contains the run's folder (with the working directory `work` and a filter's
                files `input` and `output`), the run's `TMPDIR`, the file with a limited size, and the command line or
                the request to a warm process.
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
        """End the current run of another thread at once. All processes that the run started end too."""
        with contextlib.suppress(OSError):  # the supervisor has already ended
            self._control.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Return whether the supervisor process can do another run."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the supervisor process, and all processes that a command has started."""
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
    """Start a supervisor process as a new Python interpreter. If this process may not start its interpreter, which may
    belong to root, fork this process instead.
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
    """A supervisor process that is a fork of this process. The class has the needed methods of `subprocess.Popen`."""

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

    def poll(self) -> int | None:
        """Return the exit code of the process; None if it is still running."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = END_SECONDS) -> int:
        """Wait until the process ends. Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("supervisor", timeout)
            time.sleep(0.002)
        return self.returncode or 0

    def kill(self) -> None:
        """Kill the process at once."""
        os.kill(self.pid, signal.SIGKILL)


def _end_marked(folders: Sequence[str]) -> None:
    """If a step has killed its supervisor, end the supervisor's remaining processes that can be found."""
    until, quiet = time.monotonic() + END_SECONDS, 0
    while quiet < 2 and time.monotonic() < until:
        found = marked(*folders)
        quiet = 0 if found else quiet + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_SECONDS)


def marked(*marks: str) -> list[int]:
    """Return the ids of the processes, except zombies, whose environment variable `MARK` has one of some values."""
    variables = {f"{MARK}={mark}".encode() for mark in marks}
    found = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdecimal():
            with contextlib.suppress(OSError):  # the process belongs to another user, or has ended
                if not variables.isdisjoint(Path("/proc", name, "environ").read_bytes().split(b"\0")):
                    found.append(int(name))
    return found
