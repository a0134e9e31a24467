"""The process between Parcelq and a step: it starts the step, watches it, and ends everything that the step started.

It is a subreaper: a process whose parent ends becomes its child. So it is an ancestor of every process that a run
leaves behind, whatever session, name or environment they choose. It serves one run at a time, so all of that is this
run's.

It runs as `python -I -S`, and imports only modules that are built in or cheap, because its start is part of the step's.
On its socket, a request is a line with the length, then fields that end in NUL. A reply is a line of words, then the
ends of stderr and of stdout. `parcelq.steps.containment` is the other side.
"""

from __future__ import annotations

import errno
import os
import select
import time

from parcelq.steps.processes import END_SECONDS, Children, be_subreaper, descendants, is_running, peak_of
from parcelq.steps.stream import READ_BYTES, TAIL_BYTES, Stream

__all__ = ["END_SECONDS", "GRACE_SECONDS", "TAIL_BYTES", "main"]

LOOK_SECONDS = 0.05
"""How often the size of the output is compared with its limit, and ended processes are waited for."""
GRACE_SECONDS = 1.0
"""How long a kept process that closed its socket may take to end."""
FREE = b"free\n"
"""A kept process writes this when it can take a run. `parcelq.steps.function` has the same."""
_DEFAULTS = (13, 25)
"""SIGPIPE and SIGXFSZ, which Python ignores and a step must not."""


class Gone(Exception):  # noqa: N818 - the end of this process, not an error
    """The process that started this one has ended."""


class Supervisor:
    """Runs one command after another, or keeps one process and gives it run after run.

    Args:
        control: the socket to the process that started this one.
        command: the command of a kept process.
        filters: whether commands get their input on stdin and write their output to stdout.
        keeps: the socket of a kept process; 0 if each run has a process of its own.
        theirs: the other end of that socket.
    """

    def __init__(self, control: int, command: list[str], filters: bool, keeps: int, theirs: int) -> None:
        self.control = control
        self.command = command
        self.filters = filters
        self.keeps = keeps
        self.theirs = theirs
        self.watch = -1
        self.err: Stream | None = None
        self.out: Stream | None = None
        self.helpers: set[int] = set()
        self.children = Children()

    def serve(self) -> None:
        """Answer one request after another."""
        while fields := self.request():
            timeout, limit, folder, tmpdir, output, *more = fields
            try:
                until = time.monotonic() + float(timeout)
                self.run(until, int(limit), os.fsdecode(folder), os.fsdecode(tmpdir), os.fsdecode(output), more)
            except OSError as error:
                self.end()
                self.reply("refused", error.errno or errno.EIO)

    def request(self) -> list[bytes]:
        """Read the fields of the next request."""
        self.wait_for_request()
        data = self.received()
        while b"\n" not in data:
            data += self.received()
        head, _, fields = data.partition(b"\n")
        while len(fields) < int(head):
            fields += self.received()
        return fields.split(b"\0")[:-1]

    def received(self) -> bytes:
        """Read what has come; a request comes only after the reply to the one before it."""
        data = os.read(self.control, READ_BYTES)
        if not data:
            raise Gone
        return data

    def wait_for_request(self) -> None:
        """Wait for a request, and meanwhile for the end of a kept process, so that it is no zombie."""
        if not (self.keeps and self.children.pid and self.children.code is None and self.watch >= 0):
            return  # the read waits
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.watch, select.POLLIN)
        while not any(fd == self.control for fd, _ in poll.poll()):
            poll.unregister(self.watch)
            self.children.reap()

    def reply(self, kind: str, code: int) -> None:
        """Say how a run ended."""
        err = self.err.tail if self.err else b""
        out = self.out.tail if self.out else b""
        sound = int(self.is_sound()) if self.keeps and kind == "done" else 1
        words = (kind, code, sound, self.children.cpu_seconds, self.children.memory, len(err), len(out))
        data = (" ".join(map(str, words)) + "\n").encode() + err + out
        while data:
            data = data[os.write(self.control, data) :]

    def run(self, until: float, limit: int, folder: str, tmpdir: str, output: str, more: list[bytes]) -> None:
        """Run the command, or have the kept process run; then say how that ended."""
        self.children.cpu_seconds, self.children.memory = 0.0, 0
        if self.keeps:
            kind = self.run_kept(until, limit, folder, tmpdir, output, more)
        else:
            self.start(folder, tmpdir, [os.fsdecode(one) for one in more])
            kind = self.watch_over(until, output, limit)
        if kind != "done" or not self.keeps:
            self.end()
        else:
            self.children.memory = max(self.children.memory, peak_of(self.children.pid))
        self.read()
        self.reply(kind, self.children.code or 0)

    def run_kept(self, until: float, limit: int, folder: str, tmpdir: str, output: str, more: list[bytes]) -> str:
        """Have the kept process run; start it first if there is none."""
        if not self.children.pid:
            self.start(folder, tmpdir, self.command)
            kind = self.watch_over(until, "", 0)
            if kind != "done":
                return "unborn" if kind == "ended" else kind
            self.helpers = descendants(os.getpid())
        self.children.reap()
        if self.children.code is not None:
            return "gone"
        self.read()
        for stream in (self.err, self.out):  # output between two runs belongs to neither
            if stream:
                stream.tail = b""
        try:
            os.write(self.keeps, b"".join(more))
        except OSError:
            pass  # it has ended; `_watch` notices that
        return self.watch_over(until, output, limit)

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
        try:
            self.watch = os.pidfd_open(self.children.pid)
        except (AttributeError, OSError):  # not Linux, or an older one
            self.watch = -1

    def watch_over(self, until: float, output: str, limit: int) -> str:
        """Read what a step prints, as it comes, until its run ends.

        Returns `done`, `ended` for a kept process that did not go on, `time`, or `large` for too much output.
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
        """Read what a kept process says: `done`, or how it ended."""
        try:
            data = os.read(self.keeps, len(FREE))
        except OSError:
            data = b""
        if data == FREE:
            return "done"
        until = time.monotonic() + GRACE_SECONDS
        while self.children.code is None and time.monotonic() < until:
            self.children.reap()
            time.sleep(0.002)
        return "ended" if self.children.code is not None else "deaf"

    def read(self) -> None:
        """Read what the step has printed until now."""
        for one in (self.err, self.out):
            if one:
                one.read()

    def is_sound(self) -> bool:
        """Return whether a run left a kept process as it was: it can still print, and there are no new processes."""
        left = {one for one in descendants(os.getpid()) - self.helpers if is_running(one)}
        return not left and self.err is not None and not self.err.closed

    def end(self) -> None:
        """Kill everything below this process, and wait for it."""
        self.children.end()
        if self.watch >= 0:
            os.close(self.watch)
            self.watch = -1
        self.read()
        for stream in (self.err, self.out):
            if stream:
                stream.close()


def size_of(path: str) -> int:
    """Return the size of the output so far; 0 as long as there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0


def main(words: list[str]) -> None:
    """Serve until the process that started this one has ended; then end what this one has started.

    Args:
        words: descriptors of the socket to that process, and of both ends of a kept process's socket or 0 and 0;
            whether commands are filters, as 0 or 1; and the command of a kept process.
    """
    control, keeps, theirs, filters, *command = words
    be_subreaper()
    for fd in {int(control), int(keeps), int(theirs)} - {0}:
        os.set_inheritable(fd, False)
    one = Supervisor(int(control), command, filters == "1", int(keeps), int(theirs))
    try:
        one.serve()
    except (Gone, OSError):
        pass
    finally:
        one.end()
