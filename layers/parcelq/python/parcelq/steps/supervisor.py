"""The process between Parcelq and a step: it starts the step, watches it, and ends everything that the step started.

It is a subreaper: a process whose parent ends becomes its child. So all that is left of a run lies below it, whatever
sessions, names and environments those processes have chosen; and nothing of other runs, since it serves one at a time.

It runs as `python -I -S`, and imports only modules that are built in or cheap, because its start is part of a step's.
What is said on its socket: a request is a line with the length, then fields that end in NUL; a reply is a line of
words, then the ends of stderr and of stdout. See `parcelq.steps.containment`, which is the other side.
"""

from __future__ import annotations

import errno
import os
import resource  # noqa: F401 - for os.wait4, which might not find it any more in a copy of a process
import select
import sys
import time

TAIL_BYTES = 4096
"""How much of the end of what a step prints is kept."""
READ_BYTES = 64 * 1024
LOOK_SECONDS = 0.05
"""How often the size of the output is compared with its limit, and ended processes are waited for."""
GRACE_SECONDS = 1.0
"""For a kept process that closed its socket to end too."""
END_SECONDS = 20.0
"""How long processes are killed that start others all the time, before that is given up."""
FREE = b"free\n"
"""What a kept process says when it can be given a run: `parcelq.steps.function` has the same."""
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_SIGKILL = 9
_DEFAULTS = (13, 25)
"""SIGPIPE and SIGXFSZ, which Python ignores and a step must not."""


class Gone(Exception):  # noqa: N818 - the end of this process, not an error
    """Whoever started this process has ended."""


class Stream:
    """A pipe that a step prints to, of which the end is kept."""

    def __init__(self) -> None:
        self.fd, self.theirs = os.pipe()
        os.set_blocking(self.fd, False)
        self.tail = b""
        self.closed = False

    def read(self) -> None:
        """Read what there is now."""
        while not self.closed:
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                return
            self.closed = not data
            self.tail = (self.tail + data)[-TAIL_BYTES:]
            if len(data) < READ_BYTES:
                return


def be_subreaper() -> None:
    """Let orphans of the step come to this process, and let the step not read this process's memory."""
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def children_of(pid: int) -> list[int]:
    """The children of a process, with those of all its threads; zombies are among them."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += file.read().split()
    except FileNotFoundError:
        if os.path.exists("/proc/self/task/self/children") or not os.path.exists(f"/proc/{pid}"):
            return []
        return [one for one, parent in parents().items() if parent == pid]
    except OSError:
        return []
    return [int(one) for one in found]


def parents() -> dict[int, int]:
    """The parent of every process, where the kernel lists no children."""
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
    """All processes below a process."""
    found: set[int] = set()
    left = [pid]
    while left:
        new = [one for one in children_of(left.pop()) if one not in found]
        found.update(new)
        left += new
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


class Supervisor:
    """Runs one command after another, or keeps one process that it gives run after run."""

    def __init__(self, control: int, command: list[str], filters: bool, keeps: int) -> None:
        self.control = control
        self.command = command
        self.filters = filters
        self.keeps = keeps
        """The socket of a process that is kept; 0 if each run has a process of its own."""
        self.theirs = 0
        self.pid = 0
        self.code: int | None = None
        self.watch = -1
        self.err: Stream | None = None
        self.out: Stream | None = None
        self.helpers: set[int] = set()
        self.usage = (0.0, 0)

    # What is said to whoever started this process.

    def serve(self) -> None:
        """Answer one request after another."""
        while fields := self.request():
            timeout, limit, folder, tmpdir, output, *more = fields
            try:
                until, places = (
                    time.monotonic() + float(timeout),
                    [os.fsdecode(one) for one in (folder, tmpdir, output)],
                )
                self.run(until, int(limit), places[0], places[1], places[2], more)
            except OSError as error:
                self.end()
                self.reply("refused", error.errno or errno.EIO)

    def request(self) -> list[bytes]:
        """The fields of the next request."""
        head = b""
        while not head.endswith(b"\n"):
            self.wait_for_request()
            byte = os.read(self.control, 1)
            if not byte:
                raise Gone
            head += byte
        left, data = int(head), b""
        while len(data) < left:
            block = os.read(self.control, left - len(data))
            if not block:
                raise Gone
            data += block
        return data.split(b"\0")[:-1]

    def wait_for_request(self) -> None:
        """Wait without a limit; a kept process whose end is seen meanwhile is waited for, so that it is no zombie."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        if self.keeps and self.pid and self.code is None and self.watch >= 0:
            poll.register(self.watch, select.POLLIN)
        while not any(fd == self.control for fd, _ in poll.poll()):
            poll.unregister(self.watch)
            self.reap()

    def reply(self, kind: str, code: int) -> None:
        """Say how a run ended."""
        err = self.err.tail if self.err else b""
        out = self.out.tail if self.out else b""
        sound = int(self.is_sound()) if self.keeps and kind == "done" else 1
        words = (kind, code, sound, *self.usage, len(err), len(out))
        data = (" ".join(map(str, words)) + "\n").encode() + err + out
        while data:
            data = data[os.write(self.control, data) :]

    # A run.

    def run(self, until: float, limit: int, folder: str, tmpdir: str, output: str, more: list[bytes]) -> None:
        """Run the command, or have the kept process run; then say how that ended."""
        self.usage = (0.0, 0)
        if self.keeps:
            kind = self.run_kept(until, limit, folder, tmpdir, output, more)
        else:
            self.start(folder, tmpdir, [os.fsdecode(one) for one in more])
            kind = self.watch_over(until, output, limit)
        if kind != "done" or not self.keeps:
            self.end()
        self.read()
        self.reply(kind, self.code or 0)

    def run_kept(self, until: float, limit: int, folder: str, tmpdir: str, output: str, more: list[bytes]) -> str:
        """Have the kept process run, which is started first if there is none."""
        if not self.pid:
            self.start(folder, tmpdir, self.command)
            kind = self.watch_over(until, "", 0)
            if kind != "done":
                return "unborn" if kind == "ended" else kind
            self.helpers = descendants(os.getpid())
        self.reap()
        if self.code is not None:
            return "gone"
        self.read()
        self.forget()  # what was printed between two runs is no run's
        try:
            os.write(self.keeps, b"".join(more))
        except OSError:
            pass  # it has ended, which is seen now
        return self.watch_over(until, output, limit)

    def start(self, folder: str, tmpdir: str, command: list[str]) -> None:
        """Start the command in a session of its own. Raises OSError."""
        environment = {**os.environ, "TMPDIR": tmpdir, "PARCELQ_RUN": folder}
        self.code, self.err, self.out = None, Stream(), None
        opened: list[int] = [self.err.theirs]
        actions: list[tuple[int, ...]] = []
        try:
            os.chdir(folder + "/work")
            if self.filters:
                source, target = os.open(folder + "/input", os.O_RDONLY), -1
                opened.append(source)
                target = os.open(folder + "/output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                opened.append(target)
            elif self.keeps:
                source = target = os.open("/dev/null", os.O_RDWR)
                opened.append(source)
            else:
                source = os.open("/dev/null", os.O_RDONLY)
                opened.append(source)
                self.out = Stream()
                target = self.out.theirs
                opened.append(target)
            for fd, into in ((source, 0), (target, 1), (self.err.theirs, 2)):
                actions.append((os.POSIX_SPAWN_DUP2, fd, into))
            if self.theirs:
                os.set_inheritable(self.theirs, True)
            self.pid = os.posix_spawn(
                command[0],
                command,
                environment,
                file_actions=actions,
                setsid=True,
                setsigdef=_DEFAULTS,
            )
        finally:
            os.chdir("/")
            for fd in opened:
                os.close(fd)
            if self.theirs:
                os.close(self.theirs)
                self.theirs = 0
        try:
            self.watch = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or an older one
            self.watch = -1

    def watch_over(self, until: float, output: str, limit: int) -> str:
        """Read what a step prints, as it comes, until its run ends.

        Returns `done`, `ended` for a kept process that did not go on, `time`, or `large` for too much output.
        """
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        for fd in (self.watch, self.keeps if self.keeps else -1):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        streams = {one.fd: one for one in (self.err, self.out) if one and not one.closed}
        for fd in streams:
            poll.register(fd, select.POLLIN)
        looked = time.monotonic()
        while True:
            now = time.monotonic()
            # guard[False]: a step is killed when its time is up
            if now >= until:
                return "time"
            ready = {fd for fd, _ in poll.poll(max(0.0, min(LOOK_SECONDS, until - now)) * 1000 + 1)}
            for fd in ready & streams.keys():
                streams[fd].read()
                if streams[fd].closed:
                    poll.unregister(fd)
                    del streams[fd]
            if self.control in ready:
                raise Gone
            if self.keeps in ready and self.keeps:
                return self.heard()
            if self.watch in ready or self.watch < 0 or time.monotonic() - looked >= LOOK_SECONDS:
                self.reap()
                looked = time.monotonic()
                if output and size_of(output) > limit:
                    return "large"
                if self.code is not None:
                    return "ended" if self.keeps else "done"

    def heard(self) -> str:
        """What a kept process says: `done`, or how it ended."""
        try:
            data = os.read(self.keeps, len(FREE))
        except OSError:
            data = b""
        if data == FREE:
            return "done"
        until = time.monotonic() + GRACE_SECONDS
        while self.code is None and time.monotonic() < until:
            self.reap()
            time.sleep(0.002)
        return "ended" if self.code is not None else "deaf"

    def read(self) -> None:
        """Read what the step has printed until now."""
        for one in (self.err, self.out):
            if one:
                one.read()

    def forget(self) -> None:
        """Drop what was printed until now."""
        if self.err:
            self.err.tail = b""

    def is_sound(self) -> bool:
        """Whether a run has left a kept process as it was: able to say what goes wrong, and with no new processes."""
        left = {one for one in descendants(os.getpid()) - self.helpers if is_running(one)}
        return not left and self.err is not None and not self.err.closed

    # Its end.

    def reap(self) -> bool:
        """Wait for all children that have ended; whether there are others."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            seconds, memory = self.usage
            self.usage = (seconds + usage.ru_utime + usage.ru_stime, max(memory, usage.ru_maxrss))
            if pid == self.pid and self.code is None:
                self.code = os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """Kill everything below this process, and wait for it.

        A process without children has no descendants, since orphans come to it. A chain of processes that start the
        next one and end is faster than a list of all: so the list is taken again at once, and only of what is there.
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
        if self.watch >= 0:
            os.close(self.watch)
            self.watch = -1
        self.read()
        for stream in (self.err, self.out):
            if stream and stream.fd >= 0:
                os.close(stream.fd)
                stream.fd, stream.closed = -1, True


def size_of(path: str) -> int:
    """The size of what a run has put out; 0 as long as it is not there."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0


def main(words: list[str]) -> None:
    """Serve until whoever started this process has ended: then end what it has started.

    Args:
        words: descriptors of the socket to whoever that is, and of both ends of a kept process's socket or 0 and 0;
            whether commands are filters; and the command of a kept process.
    """
    control, keeps, theirs, filters, *command = words
    be_subreaper()
    for fd in {int(control), int(keeps), int(theirs)} - {0}:
        os.set_inheritable(fd, False)
    one = Supervisor(int(control), command, filters == "1", int(keeps))
    one.theirs = int(theirs)
    try:
        one.serve()
    except (Gone, OSError):
        pass
    finally:
        one.end()
