"""The process between Parcelq and a step: starts the step, watches the step, and ends all processes that the step
started.

The supervisor is a subreaper: if the parent of one of its descendants ends, the supervisor becomes the parent. So the
supervisor is an ancestor of every process that a run leaves behind, whatever session, name or environment the process
chooses. The supervisor does one run at a time, so all of these processes belong to this run.

The supervisor runs as `python -I -S`, and imports only modules that are built in or quick to import, because its start
is part of the step's start. Requests and replies are values that `marshal` encodes. A request lists several
runs, which are done in order. The reply contains the reports of the runs that began. `parcelq.steps.containment` sends
the requests.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import time

from parcelq.steps import processes
from parcelq.steps.processes import Children, Stream

LOOK_SECONDS = 0.05
"""How many seconds pass between checks of the output's size and of ended processes."""
GRACE_SECONDS = 1.0
"""How many seconds a warm process may take to end after it has closed its socket."""
HOP_SECONDS = 0.05
"""If the runs of a request took this many seconds, no further run begins. The caller then requests the other runs."""
_HOP_BYTES = 4 * 1024 * 1024
"""If the runs of a warm process wrote this many bytes, no further run begins."""
_FREE_BYTES = 64
"""This is more bytes than a warm process writes to its socket when it can take a run; see `StepFunction`."""
_DEFAULTS = (13, 25)
"""The numbers of the signals SIGPIPE and SIGXFSZ, which Python ignores but a step must not ignore."""


Reply = tuple[object, ...]
"""The values of an `Ended`, in the order of its attributes."""


class Supervisor:
    """Runs one command after another, or sends one run after another to a warm process.

    Args:
        control: the descriptor of the socket to the process that started this process.
        filters: whether commands get their input on stdin and write their output to stdout.
        keeps: the descriptor of the socket to a warm process; 0 if each run has a process of its own.
        theirs: the descriptor of the other end of this socket, which the warm process uses.
        home: the folder in which a warm process starts.
    """

    def __init__(self, control: int, command: list[str], filters: bool, keeps: int, theirs: int, home: str) -> None:
        self.control = control
        self.requests = open(control, "rb", closefd=False)  # noqa: SIM115 - as long as this process
        self.command = command
        self.filters = filters
        self.keeps = keeps
        self.theirs = theirs
        self.home = home
        self.ends = (0, 0)
        self.peak = 0
        self.files: list[tuple[int, int]] = []
        self.state: list[object] = []
        self.watch = -1
        self.streams: list[Stream] = []
        self.helpers: set[int] = set()
        self.children = Children()

    def serve(self) -> None:
        """Answer one request after another. Raises EOFError if the process that started this process has ended."""
        while True:
            self.wait_for_request()
            reply = marshal.dumps(self.answer(*marshal.load(self.requests)))  # nosec B302 # no step has this socket
            while reply:
                reply = reply[os.write(self.control, reply) :]

    def answer(self, timeout: float, limit: int, runs: list[list[bytes]]) -> list[Reply]:
        """Do the runs of a request in order, and return the reports of the runs that began."""
        replies: list[Reply] = []
        began = now = time.monotonic()
        self.ends = (0, 0)
        for run in runs:
            folder, tmpdir, output = map(os.fsdecode, run[:3])
            self.children.cpu_seconds, self.children.memory = 0.0, 0
            try:
                if self.keeps:
                    reply = self.run_kept(not replies, now + timeout, limit, folder, output, run[3])
                else:
                    self.start(folder, tmpdir, run[3:])
                    kind = self.watch_over(now + timeout, output, limit)
                    self.end()
                    reply = self.reply(kind)
            except (OSError, ValueError) as error:  # ValueError: a NUL in a command
                self.end()
                reply = self.reply("refused", getattr(error, "errno", errno.EINVAL) or errno.EIO, sound=False)
            replies.append(reply)
            now = time.monotonic()
            goes_on = reply[2] and reply[3]
            if not goes_on or now - began > HOP_SECONDS or self.ends[0] > _HOP_BYTES:
                break
        return replies

    def wait_for_request(self) -> None:
        """Wait for a request. Meanwhile, reap a warm process that ends, so that it does not stay a zombie."""
        if not (self.keeps and self.children.pid and self.children.code is None and self.watch >= 0):
            return  # the read waits
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.watch, select.POLLIN)
        while not any(fd == self.control for fd, _ in poll.poll()):
            poll.unregister(self.watch)
            self.children.reap()

    def reply(
        self, kind: str, code: int = 0, sound: bool = True, clean: bool = True, start: tuple[int, int] = (0, 0)
    ) -> Reply:
        """Return the report of a run that began when the files `output` and `rejects` had the sizes `start`."""
        places = (start[0], self.ends[0]), (start[1], self.ends[1])
        tails = [one.tail for one in self.streams] + [b"", b""]
        code = code or self.children.code or 0
        return (kind, code, sound, clean, *places, self.children.cpu_seconds, self.children.memory * 1024, *tails[:2])

    def run_kept(self, is_first: bool, until: float, limit: int, folder: str, output: str, request: bytes) -> Reply:
        """Let the warm process do a run. If there is no warm process, start it first."""
        start = self.ends
        if is_first:
            self.state = processes.state_of(folder)
        kind = self.ready(until)
        if not kind:
            if processes.size_of(output) - start[0] > limit:  # from earlier runs
                os.truncate(output, start[0])
            try:
                os.write(self.keeps, request)
            except OSError:
                pass  # the warm process has ended, which `watch_over` notices
            kind = self.watch_over(until, output, limit + start[0])
        if kind != "done":
            self.end()
            return self.reply(kind, sound=False, clean=False)
        if is_first:  # the exact peak is not needed
            self.peak = processes.peak_of(self.children.pid)
        self.children.memory = max(self.children.memory, self.peak)
        self.read()
        return self.reply(kind, 0, self.is_sound(), processes.state_of(folder) == self.state, start)

    def ready(self, until: float) -> str:
        """Prepare a warm process for a run. Return why the process is not ready; empty if it is ready."""
        if not self.children.pid:
            tmpdir = os.environ.get("TMPDIR", self.home + "/tmp")  # nosec B108 # a folder of its own
            self.start(self.home, tmpdir, self.command)
            kind = self.watch_over(until, "", 0)
            if kind != "done":
                return "unborn" if kind == "ended" else kind
            self.helpers = processes.descendants(os.getpid())
            self.files = processes.files_of(self.home)
        self.children.reap()
        if self.children.code is not None:
            return "gone"
        self.read()
        for stream in self.streams:  # text printed between two runs belongs to neither run
            stream.tail = b""
        return ""

    def start(self, folder: str, tmpdir: str, command: list[str] | list[bytes]) -> None:
        """Start the command in a session of its own. Raises OSError."""
        environment = {**os.environ, "TMPDIR": tmpdir, "PARCELQ_RUN": folder}
        self.children.pid, self.children.code = 0, None
        self.streams = [Stream()] if self.filters else [Stream(), Stream()]
        opened = [one.theirs for one in self.streams]
        try:
            os.chdir(folder + "/work")
            source = os.open(folder + "/input" if self.filters else "/dev/null", os.O_RDONLY)
            opened.append(source)
            if self.filters:
                opened.append(os.open(folder + "/output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))
            if self.theirs:
                os.set_inheritable(self.theirs, True)
            streams = ((source, 0), (opened[-1] if self.filters else opened[1], 1), (opened[0], 2))
            self.children.pid = os.posix_spawn(
                command[0],
                command,
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, into) for fd, into in streams],
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
        self.watch = processes.watch_of(self.children.pid)

    def watch_over(self, until: float, output: str, limit: int) -> str:
        """Read what a step prints until its run ends.

        Returns `done`; `ended` or `deaf` if a warm process did not continue (see `Ended`); `time` if the run took too
        long; or `large` if there is too much output.
        """
        poll = select.poll()
        streams = {one.fd: one for one in self.streams if not one.closed}
        for fd in (self.control, self.watch, self.keeps or -1, *streams):
            if fd >= 0:
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
                raise EOFError
            if self.keeps in ready and self.keeps:
                return self.heard()
            if self.watch in ready or self.watch < 0 or time.monotonic() - looked >= LOOK_SECONDS:
                self.children.reap()
                looked = time.monotonic()
                if output and processes.size_of(output) > limit:
                    return "large"
                if self.children.code is not None:
                    return "ended" if self.keeps else "done"

    def heard(self) -> str:
        """Read the answer of a warm process. Return `done`; if the answer is not valid, return `ended` or `deaf`."""
        try:
            word, *ends = os.read(self.keeps, _FREE_BYTES).split()
            first, second = map(int, ends)
        except (OSError, ValueError):
            word, first, second = b"", 0, 0
        if word == b"free" and first >= self.ends[0] and second >= self.ends[1]:
            self.ends = (first, second)
            return "done"
        return "ended" if self.children.ends_within(GRACE_SECONDS) else "deaf"

    def read(self) -> None:
        """Read what the step has printed so far."""
        for one in self.streams:
            one.read()

    def is_sound(self) -> bool:
        """Return whether a warm process is usable: streams and files are unchanged, and no new process is left."""
        if processes.files_of(self.home) != self.files:
            return False
        left = any(map(processes.is_running, processes.descendants(os.getpid()) - self.helpers))
        return not left and not self.streams[0].closed

    def end(self) -> None:
        """Kill all descendants of this process, and wait for their ends."""
        self.children.end()
        if self.watch >= 0:
            os.close(self.watch)
            self.watch = -1
        self.read()
        for stream in self.streams:
            stream.close()


def main(words: list[str]) -> None:
    """Serve requests until the process that started this process has ended. Then end all processes that were started
    here, and this process.

    Args:
        words: the arguments of the process: descriptors of the socket to the process that started this process, and of
            both ends of a warm process's socket, or 0 and 0; whether commands are filters, as 0 or 1; and the folder
            and the command of a warm process.
    """
    control, keeps, theirs = map(int, words[:3])
    processes.be_subreaper()
    for fd in {control, keeps, theirs} - {0}:
        os.set_inheritable(fd, False)
    one = Supervisor(control, words[5:], words[3] == "1", keeps, theirs, words[4])
    try:
        one.serve()
    except (EOFError, OSError):
        pass
    finally:
        one.end()
    os._exit(0)  # faster than an exit that takes the interpreter apart
