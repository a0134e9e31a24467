"""The process between Parcelq and a step: starts the step, watches it, and ends all processes that the step started.

It is a subreaper: a descendant whose parent ends becomes its child. So it is an ancestor of every process that a run
leaves behind, in whatever session and under whatever name. It serves one run at a time, so all of them belong to this
run.

It runs as `python -I -S`, and imports only modules that are built in or cheap, because its start is part of the step's
start. A request on its socket is a line with the length, then fields that end in NUL, for several runs in order. A
reply is a line with the length and, for each run, a line of words, then the ends of stderr and of stdout.
`parcelq.steps.containment` is the other side.
"""

from __future__ import annotations

import errno
import os
import select
import time

from parcelq.steps.processes import END_SECONDS, Children, be_subreaper, descendants, is_running, peak_of, watch_of
from parcelq.steps.requests import Gone, files_of, read_request, send_reply, size_of, state_of
from parcelq.steps.stream import TAIL_BYTES, Stream

__all__ = ["END_SECONDS", "GRACE_SECONDS", "TAIL_BYTES", "main"]

LOOK_SECONDS = 0.05
"""Seconds between checks of the output's size and of ended processes."""
GRACE_SECONDS = 1.0
"""Seconds that a warm process may take to end after it closed its socket."""
HOP_SECONDS = 0.05
"""If the runs of a request took this many seconds, no further one begins; the caller asks for it again."""
_HOP_BYTES = 4 * 1024 * 1024
"""If the runs of a warm process wrote this many bytes, no further one begins."""
_FREE_BYTES = 64
"""More bytes than a warm process writes when it can take a run; see `StepFunction`."""
_DEFAULTS = (13, 25)
"""SIGPIPE and SIGXFSZ, which Python ignores but a step must not ignore."""


class Supervisor:
    """Runs one command after another, or passes run after run to one warm process.

    Args:
        control: the socket to the process that started this one.
        command: the command of a warm process.
        filters: whether commands get their input on stdin and write their output to stdout.
        keeps: the socket of a warm process; 0 if each run has a process of its own.
        theirs: the other end of that socket.
        home: the folder in which a warm process starts.
    """

    def __init__(self, control: int, command: list[str], filters: bool, keeps: int, theirs: int, home: str) -> None:
        self.control = control
        self.command = command
        self.filters = filters
        self.keeps = keeps
        self.theirs = theirs
        self.home = home
        self.ends = [0, 0]
        self.peak = 0
        self.files: list[tuple[int, int]] = []
        self.state: list[object] = []
        self.watch = -1
        self.err: Stream | None = None
        self.out: Stream | None = None
        self.helpers: set[int] = set()
        self.children = Children()

    def serve(self) -> None:
        """Answer one request after another."""
        while True:
            self.wait_for_request()
            timeout, limit, *fields = read_request(self.control)
            send_reply(self.control, self.answer(float(timeout), int(limit), fields))

    def answer(self, timeout: float, limit: int, fields: list[bytes]) -> list[bytes]:
        """Do the runs of a request in order, and return the reports of those that began."""
        replies: list[bytes] = []
        began = now = time.monotonic()
        self.ends = [0, 0]
        goes_on = True
        while fields and goes_on and now - began <= HOP_SECONDS and self.ends[0] <= _HOP_BYTES:
            count = int(fields[0])
            folder, tmpdir, output, *more = fields[1 : 1 + count]
            del fields[: 1 + count]
            paths = os.fsdecode(folder), os.fsdecode(tmpdir), os.fsdecode(output)
            try:
                goes_on = self.run(replies, now + timeout, limit, paths, more)
            except OSError as error:
                self.end()
                goes_on = False
                replies.append(self.reply("refused", error.errno or errno.EIO))
            now = time.monotonic()
        return replies

    def wait_for_request(self) -> None:
        """Wait for a request, and meanwhile reap a warm process that ends, so that it does not stay a zombie."""
        if not (self.keeps and self.children.pid and self.children.code is None and self.watch >= 0):
            return  # the read waits
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.watch, select.POLLIN)
        while not any(fd == self.control for fd, _ in poll.poll()):
            poll.unregister(self.watch)
            self.children.reap()

    def reply(
        self, kind: str, code: int, sound: bool = True, clean: bool = True, start: tuple[int, ...] = (0, 0)
    ) -> bytes:
        """Return the report of a run."""
        err = self.err.tail if self.err else b""
        out = self.out.tail if self.out else b""
        places = start[0], self.ends[0], start[1], self.ends[1]
        about = self.children.memory, len(err), len(out), self.children.cpu_seconds
        words = " ".join(map(str, (kind, code, int(sound), int(clean), *places, *about)))
        return words.encode() + b"\n" + err + out

    def run(
        self, replies: list[bytes], until: float, limit: int, paths: tuple[str, str, str], more: list[bytes]
    ) -> bool:
        """Run the command, or let the warm process run, and add the report; return whether another run may follow."""
        folder, tmpdir, output = paths
        self.children.cpu_seconds, self.children.memory = 0.0, 0
        if self.keeps:
            return self.run_kept(replies, until, limit, folder, output, more)
        self.start(folder, tmpdir, [os.fsdecode(one) for one in more])
        kind = self.watch_over(until, output, limit)
        self.end()
        replies.append(self.reply(kind, self.children.code or 0))
        return True

    def run_kept(
        self, replies: list[bytes], until: float, limit: int, folder: str, output: str, more: list[bytes]
    ) -> bool:
        """Let the warm process run; start it first if there is none."""
        start = tuple(self.ends)
        if not replies:  # then no run of this request was here
            self.state = state_of(folder)
        kind = self.ready(until)
        if not kind:
            if size_of(output) - start[0] > limit:  # from earlier runs
                os.truncate(output, start[0])
            try:
                os.write(self.keeps, b"".join(more))
            except OSError:
                pass  # it has ended; `_watch` notices that
            kind = self.watch_over(until, output, limit + start[0])
        if kind != "done":
            self.end()
            replies.append(self.reply(kind, self.children.code or 0, sound=False, clean=False))
            return False
        if not replies:  # it need not be known more exactly
            self.peak = peak_of(self.children.pid)
        self.children.memory = max(self.children.memory, self.peak)
        self.read()
        sound, clean = self.is_sound(), state_of(folder) == self.state
        replies.append(self.reply(kind, self.children.code or 0, sound, clean, start))
        return sound and clean

    def ready(self, until: float) -> str:
        """Prepare a warm process for a run, and return why it is not ready; empty if it is."""
        if not self.children.pid:
            tmpdir = os.environ.get("TMPDIR", self.home + "/tmp")  # nosec B108 # a folder of its own
            self.start(self.home, tmpdir, self.command)
            kind = self.watch_over(until, "", 0)
            if kind != "done":
                return "unborn" if kind == "ended" else kind
            self.helpers = descendants(os.getpid())
            self.files = files_of(self.home)
        self.children.reap()
        if self.children.code is not None:
            return "gone"
        self.read()
        for stream in filter(None, (self.err, self.out)):  # output between two runs belongs to neither
            stream.tail = b""
        return ""

    def start(self, folder: str, tmpdir: str, command: list[str]) -> None:
        """Start the command in a session of its own. Raises OSError."""
        environment = {**os.environ, "TMPDIR": tmpdir, "PARCELQ_RUN": folder}
        self.children.pid, self.children.code = 0, None
        self.err, self.out = Stream(), None if self.filters else Stream()
        opened: list[int] = [self.err.theirs]
        try:
            os.chdir(folder + "/work")
            source = os.open(folder + "/input" if self.filters else "/dev/null", os.O_RDONLY)
            opened.append(source)
            if self.out:
                target = self.out.theirs
            else:
                target = os.open(folder + "/output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            opened.append(target)
            if self.theirs:
                os.set_inheritable(self.theirs, True)
            streams = ((source, 0), (target, 1), (self.err.theirs, 2))
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
        self.watch = watch_of(self.children.pid)

    def watch_over(self, until: float, output: str, limit: int) -> str:
        """Read what a step prints until its run ends.

        Returns `done`, `ended` for a warm process that ended, `time` for a timeout, or `large` for too much output.
        """
        poll = select.poll()
        for fd in (self.control, self.watch, self.keeps or -1):
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
                self.children.reap()
                looked = time.monotonic()
                if output and size_of(output) > limit:
                    return "large"
                if self.children.code is not None:
                    return "ended" if self.keeps else "done"

    def heard(self) -> str:
        """Read the answer of a warm process: `done`, or how it ended."""
        try:
            word, *ends = os.read(self.keeps, _FREE_BYTES).split()
            first, second = map(int, ends)
        except (OSError, ValueError):
            word, first, second = b"", 0, 0
        if word == b"free" and first >= self.ends[0] and second >= self.ends[1]:
            self.ends = [first, second]
            return "done"
        return "ended" if self.children.ends_within(GRACE_SECONDS) else "deaf"

    def read(self) -> None:
        """Read what the step has printed so far."""
        for one in filter(None, (self.err, self.out)):
            one.read()

    def is_sound(self) -> bool:
        """Return whether a run left a warm process unchanged: its streams and files, and no new processes."""
        if files_of(self.home) != self.files:
            return False
        left = any(map(is_running, descendants(os.getpid()) - self.helpers))
        return not left and self.err is not None and not self.err.closed

    def end(self) -> None:
        """Kill all descendants of this process, and wait for them."""
        self.children.end()
        if self.watch >= 0:
            os.close(self.watch)
            self.watch = -1
        self.read()
        for stream in filter(None, (self.err, self.out)):
            stream.close()


def main(words: list[str]) -> None:
    """Serve until the process that started this one has ended; then end all processes started here.

    Args:
        words: descriptors of the socket to that process, and of both ends of a warm process's socket or 0 and 0;
            whether commands are filters, as 0 or 1; and the folder and the command of a warm process.
    """
    control, keeps, theirs, filters, home, *command = words
    be_subreaper()
    for fd in {int(control), int(keeps), int(theirs)} - {0}:
        os.set_inheritable(fd, False)
    one = Supervisor(int(control), command, filters == "1", int(keeps), int(theirs), home)
    try:
        one.serve()
    except (Gone, OSError):
        pass
    finally:
        one.end()
