"""System functions that the supervisor of a step uses: to find and end the step's descendant processes, to read what
they print, and to check which files they leave.

The supervisor imports this module, so this module imports only modules that are built in or quick to import.
"""

from __future__ import annotations

import os
import resource  # noqa: F401 - os.wait4 needs it, and a copy of a process may be unable to import it
import sys
import time

END_SECONDS = 20.0
"""After how many seconds killing stops, if processes keep starting new processes."""
TAIL_BYTES = 4096
"""How many bytes are kept from the end of the text that a step prints."""
_READ_BYTES = 64 * 1024
PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_SIGKILL = 9


class Children:
    """The child processes for which this process waits: the main process, and orphans that this process adopted.

    Attributes:
        pid: the id of the main process; 0 if there is no main process yet.
        code: the exit code of the main process, negative if a signal ended it; None while the main process runs.
        memory: the peak memory of the largest process that has ended, in the unit of `ru_maxrss`.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.code: int | None = None
        self.cpu_seconds = 0.0
        self.memory = 0

    def reap(self) -> bool:
        """Reap all child processes that have ended. Return whether other child processes are left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            self.memory = max(self.memory, usage.ru_maxrss)
            if pid == self.pid and self.code is None:
                self.code = os.waitstatus_to_exitcode(status)

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the main process. Return whether the main process has ended."""
        until = time.monotonic() + seconds
        while self.code is None and time.monotonic() < until:
            self.reap()
            time.sleep(0.002)
        return self.code is not None

    def end(self) -> None:
        """Kill all descendants of this process, and wait for their ends.

        A process without children has no descendants, because orphans become its children. If each process of a chain
        starts the next process and ends, the chain may change faster than all processes can be listed. So the
        descendants of one child are listed and killed before the descendants of the next child.
        """
        if self.pid:
            try:
                os.killpg(self.pid, _SIGKILL)
            except OSError:
                pass
        until = time.monotonic() + END_SECONDS
        nap = 0.0
        while self.reap() and time.monotonic() < until:
            for one in children_of(os.getpid()):
                # guard[()]: all processes that a run started end with it
                for below in (*descendants(one), one):
                    try:
                        os.kill(below, _SIGKILL)
                    except OSError:
                        pass
            time.sleep(nap)
            nap = min(0.005, nap + 0.0002)


class Stream:
    """A pipe to which a step prints. The last bytes are kept."""

    def __init__(self) -> None:
        self.fd, self.theirs = os.pipe()
        os.set_blocking(self.fd, False)
        self.tail = b""
        self.closed = False

    def read(self) -> None:
        """Read what the step has printed so far."""
        while not self.closed:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return
            self.closed = not data
            self.tail = (self.tail + data)[-TAIL_BYTES:]
            if len(data) < _READ_BYTES:
                return

    def close(self) -> None:
        """Close the pipe; the last bytes stay in `tail`."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd, self.closed = -1, True


def be_subreaper() -> None:
    """Make this process the parent of its orphaned descendants, and hide its memory from them."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_DUMPABLE, 0)


def prctl(option: int, value: int) -> int:
    """Change a property of this process, and return the number of an error; 0 if there is none.

    https://man7.org/linux/man-pages/man2/prctl.2.html
    """
    if sys.platform != "linux":
        return 0
    import ctypes

    failed = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    return ctypes.get_errno() if failed else 0


def children_of(pid: int) -> list[int]:
    """Return the ids of the children of a process and of all its threads, including zombies."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += file.read().split()
    except FileNotFoundError:
        if os.path.exists("/proc/self/task/self/children") or not os.path.exists(f"/proc/{pid}"):
            return []
        return [one for one, parent in _parents().items() if parent == pid]
    except OSError:
        return []
    return [int(one) for one in found]


def _parents() -> dict[int, int]:
    """Return the parent of every process. This is used if the kernel does not list the children of a process."""
    found = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                pass
    return found


def descendants(pid: int) -> set[int]:
    """Return the ids of all descendants of a process."""
    found: set[int] = set()
    left = [pid]
    while left:
        new = [one for one in children_of(left.pop()) if one not in found]
        found.update(new)
        left += new
    return found


def peak_of(pid: int) -> int:
    """Return the peak memory of a process in KiB; 0 if the system does not report it."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return int(file.read().partition(b"VmHWM:")[2].split(None, 1)[0])
    except (OSError, IndexError):
        return 0


def watch_of(pid: int) -> int:
    """Return a descriptor that becomes readable when a process ends; -1 if the system does not support this."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # the system is not Linux, or is too old
        return -1


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def size_of(path: str) -> int:
    """Return the size that an output has so far; 0 if there is no output yet."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0


def state_of(folder: str) -> list[object]:
    """Return values for the content and identity of a run's folder. Equal values mean that the folder is unchanged."""
    found: list[object] = []
    try:
        for path in (folder, folder + "/work", folder + "/tmp"):  # nosec B108 # a folder of its own
            about = os.lstat(path)
            found += [about.st_ino, about.st_mode, about.st_uid, sorted(os.listdir(path))]
    except OSError as error:
        found.append(error.errno)
    return found


def files_of(home: str) -> list[tuple[int, int]]:
    """Return the identities of a warm process's files `output` and `rejects`; an empty list if a file is missing."""
    try:
        return [(one.st_dev, one.st_ino) for one in (os.lstat(home + "/output"), os.lstat(home + "/rejects"))]
    except OSError:
        return []
