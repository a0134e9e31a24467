"""Containment of steps: a step cannot read the memory of the process that runs it, and none of its processes outlives
its run."""

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
"""An environment variable of every step: the folder that it was started in."""
_PR_SET_DUMPABLE: Final = 4
"""https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html"""
_BOOT: Final = (
    "import sys; parcelq = type(sys)('parcelq'); parcelq.__path__ = [{!r}]; sys.modules['parcelq'] = parcelq; "
    "from parcelq.steps.supervisor import main; main(sys.argv[1:])"
)
"""Imports the supervisor from the folder of this package, without what the package itself imports."""
_FOREVER: Final = 10.0 * 365 * 24 * 3600
_LOOK_AGAIN_SECONDS: Final = 0.01
"""A process that just starts another program has no environment for a moment."""


@cache
def shield() -> None:
    """Hide the environment and memory of this process, which hold AWS credentials, from its children; once.

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
        kind: `done`; `time` or `large` for a step that was killed; `refused` by the system; `ended`, `deaf` or
            `unborn` for a kept process that ended, closed its socket, or ended before it could be given a run; `gone`
            for one that ended before this run; `lost` for a supervisor that was killed.
        code: the exit code, negative for a signal; the error number of what was refused.
        sound: whether a kept process can be given another run.
        clean: whether a kept process's run left its folder as it was.
        output: where a kept process's output begins and ends in the file.
        rejects: the same of its rejects.
        cpu_seconds: of all processes of the run that have ended.
        memory_bytes: the most that one of those processes had.
        stderr: the end of what was printed to stderr.
        stdout: the end of what was printed to stdout, where that is not the output.
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
    """The parent process of a step's commands, which ends everything that a run has started.

    The process runs `parcelq.steps.supervisor`. It ends, with all that is below it, when `end` is called and when this
    process ends, however that happens.

    Args:
        kept: gives the command line of a process that is kept, from the descriptor of its socket; None for none.
        environment: of the commands.
        filters: whether a command gets its input on stdin and writes its output to stdout.
        home: the folder that a kept process starts in.

    Raises:
        OSError: there is no room for another process.
    """

    def __init__(
        self, kept: Callable[[int], list[str]] | None, environment: Mapping[str, str], *, filters: bool, home: str = ""
    ) -> None:
        shield()
        self._home = home
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
        self, seconds: float | None, most_bytes: int, runs: Sequence[Sequence[str | bytes]], home: str
    ) -> list[Ended]:
        """Run one command after another, and return how those ended that began: at least one.

        None begins after one that ended a kept process or left something in its folder, nor when those before took
        longer than `HOP_SECONDS`.

        Args:
            runs: of each, a folder that holds `work`, its working directory, and `input` and `output` of a filter; its
                `TMPDIR`; the file whose size is limited; and its command line, or what a kept process is sent.
            home: the folder that the first process was started in.
        """
        self._home = home
        limit = _FOREVER if seconds is None else max(0.0, seconds)
        self._control.settimeout(limit + HOP_SECONDS + END_SECONDS + 2 * GRACE_SECONDS)
        try:
            self._control.sendall(marshal.dumps((limit, most_bytes, [[*map(os.fsencode, run)] for run in runs])))
            return [Ended(*one) for one in marshal.load(self._replies)]  # nosec B302 # no step has this socket
        except (OSError, ValueError, EOFError, TypeError):
            return [Ended("lost")]

    def abort(self) -> None:
        """End the run that goes on, on another thread, at once, with everything that it started."""
        with contextlib.suppress(OSError):  # it has ended already
            self._control.shutdown(socket.SHUT_RDWR)

    def is_alive(self) -> bool:
        """Return whether it can take a run."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it, and all that a command has started."""
        self._close()
        try:
            code = self._process.wait(END_SECONDS + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(END_SECONDS)
        if code and self._home:
            _end_marked(self._home)

    def _close(self) -> None:
        self._replies.close()
        self._control.close()


def _start(words: list[str], environment: Mapping[str, str], ends: tuple[int, ...]) -> subprocess.Popen[bytes] | _Fork:
    """Start a supervisor: as a new interpreter, or as a copy of this process where it may not start its interpreter.

    A process that was root and is not any more may be unable to start an interpreter that root owns.
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
    """A supervisor that is a copy of this process, with what `subprocess.Popen` offers and is needed here."""

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


def _end_marked(folder: str) -> None:
    """End the processes of a supervisor that the step has killed, as far as they can be found."""
    until, quiet = time.monotonic() + END_SECONDS, 0
    while quiet < 2 and time.monotonic() < until:
        found = marked(folder)
        quiet = 0 if found else quiet + 1
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_SECONDS)


def marked(mark: str) -> list[int]:
    """The processes that have this value of `MARK` in their environment; a zombie has none."""
    variable = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdecimal():
            with contextlib.suppress(OSError):  # another user's, or it has ended meanwhile
                if variable in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found
