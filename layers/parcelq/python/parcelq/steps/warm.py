"""Running a step over and over, with its process kept from one run to the next where its settings say `warm: true`.

A kept process is told on a socket of its own which file to run over, and says on it when it is done; see
`parcelq.step`. Any other end of a run, be it an exception, costs the process, so that the next run has a sound one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, cast

from parcelq.errors import StepError
from parcelq.steps.containment import end, marked, tie
from parcelq.steps.find import Step
from parcelq.steps.function import FREE
from parcelq.steps.run import (
    LOOK_SECONDS,
    READ_BYTES,
    TAIL_BYTES,
    Ran,
    bad_end,
    ran,
    run_folder,
    run_step,
    start,
    time_is_up,
    write_input,
)

_log = logging.getLogger(__name__)
_PIPES_FULL: Final = 16
"""How many reads take all that can have been printed between two runs, which is a pipe full."""
_GRACE_SECONDS: Final = 1.0
"""For a process that closed its socket to end too."""


class Runner:
    """Runs a step, on any thread. A process that is kept serves one run at a time, so there are as many as runs.

    They are ended by `close()`, and by the kernel when this process is gone.

    Attributes:
        step: the step.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._idle: list[_Kept] = []

    @contextmanager
    def run(
        self, bodies: Iterable[bytes], timeout: float | None = None, *, entries: int | None = None
    ) -> Iterator[Ran]:
        """As `run_step` does. The time of the first run of a process has its start in it."""
        if not self.step.settings.warm:
            with run_step(self.step, bodies, timeout, entries=entries) as done:
                yield done
            return
        with run_folder(self.step) as folder:
            write_input(self.step, folder, bodies)
            clock = _Clock(self.step.settings.within(timeout))
            kept = self._take() or _Kept(self.step)
            with ExitStack() as failed:
                failed.callback(kept.end)
                tail = kept.run(folder, clock)
                done = ran(self.step, folder, tail, entries)
                if kept.is_sound():
                    failed.pop_all()
                    self._idle.append(kept)
            yield done

    def close(self) -> None:
        """End the processes that are kept."""
        while self._idle:
            self._idle.pop().end()

    def _take(self) -> _Kept | None:
        """A process that waits, if there is any; those that died meanwhile are nobody's fault."""
        with contextlib.suppress(IndexError):  # from any thread, so not asked before
            while True:
                kept = self._idle.pop()
                if kept.is_alive():
                    return kept
                kept.end()
        return None


class _Clock:
    """How long a run may take.

    Only runs are timed: between two of them a function may be frozen for hours, and no time of that counts.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._until = float("inf") if limit is None else time.monotonic() + limit

    def left(self) -> float:
        return self._until - time.monotonic()


class _Kept:
    """A process of a warm step, in a folder of its own that is there as long as it is."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._helpers: set[int] = set()
        """Processes that it started before its first run; they may stay."""
        self._started = self._deaf = False
        with ExitStack() as opened:
            self._folder = opened.enter_context(run_folder(step))
            self._control, theirs = socket.socketpair()
            opened.enter_context(self._control)
            lifeline, ours = os.pipe()
            opened.callback(os.close, ours)
            with theirs, open(lifeline, "rb") as tied:
                passed = (theirs.fileno(), lifeline)
                command, quiet = step.warm_command(theirs.fileno()), subprocess.DEVNULL
                self._process = start(step, command, self._folder, stdin=quiet, stdout=quiet, pass_fds=passed)
                opened.enter_context(self._process)
                opened.callback(end, self._process, str(self._folder))
                tie(self._process, tied.fileno())
            self._stderr = cast("IO[bytes]", self._process.stderr).fileno()
            os.set_blocking(self._stderr, False)
            self._opened = opened.pop_all()

    def run(self, folder: Path, clock: _Clock) -> bytes:
        """Run the function over the input in a run's folder.

        Raises:
            StepError: as `run_step` does; this process must be ended then.
        """
        if not self._started:
            self._await_free(clock)
            self._helpers, self._started = set(marked(str(self._folder))), True
        self._read_stderr()  # what was printed between two runs is no run's
        tmpdir = self._step.settings.environment.get("TMPDIR", str(folder / "tmp"))
        request = {name: str(folder / name) for name in ("input", "output", "work")} | {"tmpdir": tmpdir}
        with contextlib.suppress(OSError):  # then it is gone, which is seen below
            self._control.sendall(json.dumps(request).encode() + b"\n")
        return self._await_free(clock)

    def is_alive(self) -> bool:
        """Whether it can be given a run."""
        return self._process.poll() is None

    def is_sound(self) -> bool:
        """Whether the run has left it as it was: able to say what goes wrong, and with no new processes.

        What a run leaves running is ended, and that can only be done to all of it: who knows what is waiting for whom.
        """
        left = set(marked(str(self._folder))) - self._helpers
        if left:
            _log.warning("step %r left %d processes running, so it is started anew", self._step.name, len(left))
        return not left and not self._deaf

    def end(self) -> None:
        """End it with all that it started, and remove its folder."""
        self._opened.close()

    def _await_free(self, clock: _Clock) -> bytes:
        """Wait until it can be given a run, and keep the end of what it prints to stderr until then."""
        tail = b""
        with selectors.DefaultSelector() as pipes:
            pipes.register(self._control, selectors.EVENT_READ)
            if not self._deaf:
                pipes.register(self._stderr, selectors.EVENT_READ)
            while True:
                if (left := clock.left()) <= 0:
                    raise time_is_up(self._step, clock.limit, tail)
                # Asked before it is read what there is, so that all is read of a process that has ended.
                ended = self._process.poll() is not None
                ready = {key.fd for key, _ in pipes.select(0 if ended else min(LOOK_SECONDS, left))}
                if self._stderr in ready:
                    tail = self._read_stderr(tail)
                    if self._deaf:
                        pipes.unregister(self._stderr)
                if self._control.fileno() in ready:
                    if self._hear() == FREE:
                        return tail
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(min(_GRACE_SECONDS, left))
                    raise self._ended(self._read_stderr(tail))
                if ended:  # but what it has started holds the socket
                    raise self._ended(tail)

    def _hear(self) -> bytes:
        try:
            return self._control.recv(READ_BYTES)
        except ConnectionResetError:  # gone before it read what it was told
            return b""

    def _read_stderr(self, tail: bytes = b"") -> bytes:
        """Read what there is, and return the end of it, or of what was read before."""
        for _ in range(_PIPES_FULL):
            try:
                data = os.read(self._stderr, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self._deaf = True
                break
            tail = (tail + data)[-TAIL_BYTES:]
        return tail

    def _ended(self, tail: bytes) -> StepError:
        code = self._process.poll()
        if code:
            return bad_end(self._step, code, tail)
        reason = (
            "closed the socket on which it is told what to do"
            if code is None
            else "exited with 0 and did not go on; what is warm is a function of parcelq.step that runs by its main()"
        )
        return StepError(self._step.name, reason, exit_code=code, stderr_tail=tail.decode("utf-8", "replace"))
