"""What keeps a step apart from whoever runs it: no look at the runner's memory, and no process that outlives it.

All of it is Linux's, where Lambda runs; elsewhere a step is ended with its process group alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Final

MARK: Final = "PARCELQ_RUN"
"""The environment variable by which everything that a step starts is known, in whatever session it is."""

# https://man7.org/linux/man-pages/man2/prctl.2.html and linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PROC: Final = Path("/proc")
_LOOKS: Final = 200
_LOOK_SECONDS: Final = 0.001


@cache
def shield() -> None:
    """Close this process to its children, once: its environment and memory, with AWS credentials in them.

    Processes of one user may read each other's `/proc/<pid>/environ` and `/proc/<pid>/mem`, unless a process is not
    dumpable. What a step leaves behind becomes a child of this process, so that it can be waited for and leaves no
    zombie, whatever process has the number 1.
    """
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_CHILD_SUBREAPER, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def tie(process: subprocess.Popen[bytes], lifeline: int) -> None:
    """Have a process group killed when whoever started it is gone, however that ended.

    The kernel itself signals the group, so it takes no part of the process, which may hang. `PR_SET_PDEATHSIG` would
    do so when the *thread* that started it ends: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html

    Args:
        process: the leader of its process group.
        lifeline: the reading end of a pipe, passed to the process. Nothing is ever written to it; when the writing end,
            which only whoever started the process has, is closed, the signal is sent.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -process.pid)
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """End a process, its process group, and all that carry its mark, and wait for them: no zombie is left.

    Args:
        process: the leader of its process group.
        mark: the value of `MARK` in its environment. A process that was started without that, as by `env -i`, and in
            a session of its own is not found.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _reap_group(process.pid, 0)
    # One of them may start another while they are looked for, so until there is none.
    while found := marked(mark):
        groups = {group for pid in found if (group := _group_of(pid))}
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # A child of another one that was found is ours once that one was waited for.
        while left := [pid for pid in found if not _reaped(pid)]:
            if len(left) == len(found):
                break
            found = left
        for group in groups:  # what had died in them unseen; others in there need not be ours to end
            _reap_group(group, os.WNOHANG)


def marked(mark: str) -> list[int]:
    """The processes with this value of `MARK` in their environment. A zombie has none."""
    variable = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir(_PROC) if _PROC.is_dir() else ():
        if name.isdecimal():
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                if variable in _environment(_PROC / name).split(b"\0"):
                    found.append(int(name))
    return found


def _environment(process: Path) -> bytes:
    """The environment of a process; one that is becoming another program has none for a moment, nor any arguments.

    Raises:
        OSError: it is gone, a zombie, or a thread of the kernel.
    """
    last = False
    for _ in range(_LOOKS):
        environment = (process / "environ").read_bytes()
        if environment or last:
            return environment
        (process / "exe").readlink()
        last = bool((process / "cmdline").read_bytes())
        if not last:
            time.sleep(_LOOK_SECONDS)
    return b""


def _group_of(pid: int) -> int:
    """The process group of a process; 0 if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def _reap_group(group: int, options: int) -> None:
    """Wait for those of a process group that are our children, which are those whose parents are gone."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-group, options)[0]:
            pass


def _reaped(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
        return True
    return False
