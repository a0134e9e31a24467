"""Running a step: in its own folder and environment, with limits, and ended together with all processes that it
started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, Final

from parcelq.errors import StepError
from parcelq.records import LINES, Format
from parcelq.records.lines import Lines
from parcelq.steps.containment import Ended
from parcelq.steps.entries import FORMAT_SUFFIX
from parcelq.steps.failure import failure_of, or_step_error, size_of_output
from parcelq.steps.find import Step
from parcelq.steps.folder import locked_folder
from parcelq.steps.reason import reason_first
from parcelq.steps.rejects import Reject, RejectsError, read_rejects
from parcelq.steps.run_folders import RunFolders
from parcelq.steps.settings import StepSettings
from parcelq.steps.slot import Slot
from parcelq.steps.supervisor import TAIL_BYTES
from parcelq.steps.variables import granted_to, variables_of

__all__ = ["TAIL_BYTES", "Ran", "Reject", "Runner", "run_step", "write_bodies"]

_SECRET: Final = 4
"""Granted values of fewer characters are not hidden in what a run says, where they would be parts of other words."""
_USAGE_CODES: Final = frozenset({0, 2})
"""Exit codes of a program that does not know `--warm`: of argparse, and of a program that ignores its arguments."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that succeeded.

    Attributes:
        output: the file that the step wrote; it is deleted when the run's context is left.
        rejects: the entries that the step named as bad, sorted by entry.
        stderr_tail: the end of what it wrote to stderr, at most 4 KiB.
        stdout_tail: the same of stdout, where that is not its output.
        cpu_seconds: CPU time of its processes, as the kernel counted it; 0 for a process that is kept.
        memory_bytes: the most memory that one of its processes had so far; 0 if the system does not say.
    """

    output: Path
    rejects: tuple[Reject, ...] = ()
    stderr_tail: str = ""
    stdout_tail: str = ""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0

    @property
    def printed(self) -> str:
        """The ends of stdout and of stderr, each with a line end; empty if the step printed nothing."""
        return "".join(f"{text.rstrip()}\n" for text in (self.stdout_tail, self.stderr_tail) if text.strip())

    def whole(self, step: Step) -> Path:
        """Return the output, for a caller that cannot handle rejects.

        Raises:
            StepError: the step rejected an entry; with the first reason.
        """
        if self.rejects:
            first = self.rejects[0]
            raise StepError(step.name, f"rejected entry {first.entry}", exit_code=0, stderr_tail=first.reason)
        return self.output


class Runner:
    """Runs a step, on any thread, as often as wanted.

    Each run that goes on at the same time has a supervisor process, which is kept for the next run. A warm step's own
    process is kept too. All of them end with `close()`, and when this process ends, however that happens.

    Attributes:
        step: the step.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._opened = ExitStack()
        self._idle: list[Slot] = []
        self._running: set[Slot] = set()
        self._aborted = False
        self._folders = RunFolders()
        self._ready: Step | None = None
        self._hidden: Sequence[str] = ()
        self._warm = step.warm
        weakref.finalize(self, _close, self._idle, self._folders, self._opened)

    @contextmanager
    def run(
        self,
        bodies: Iterable[bytes],
        timeout: float | None = None,
        *,
        entries: int | None = None,
        fmt: Format = LINES,
        header: bytes = b"",
    ) -> Iterator[Ran]:
        r"""Run the step over bodies, one after another, and give its output.

        The step's working directory is empty, and no other run uses it; so is its `TMPDIR`. The time of a run includes
        the start of its processes.

        Args:
            bodies: slices of a file; one that lacks its last `\n` gets it where another follows.
            timeout: seconds after which the run is killed; the step's own timeout counts where that is shorter.
            entries: how many entries the bodies have, where the caller knows; rejects beyond them fail the run.
            fmt: the record format of the bodies.
            header: what comes before them.

        Raises:
            StepError: the step could not be started, exited with another code than 0, wrote no output file or too
                large a one, named rejects that cannot be, or was killed when its time was up. It holds the end of the
                step's stderr. Whatever else a run does is an error of that run alone, too.
        """
        step = self.step
        limit = step.settings.within(timeout)
        until = None if limit is None else time.monotonic() + limit
        with ExitStack() as opened:
            with or_step_error(step, "could not be given a folder"):
                folder = opened.enter_context(self._folders.one())
            with or_step_error(step, "could not be given its input"):
                with open(folder / "input", "wb") as file:
                    write_bodies(file, chain((header,) if header else (), bodies))
                _note_format(folder, fmt, header, step.settings)
            ended = self._run(folder, until)
            # guard[False]: a step that exits with another code than 0 has failed
            if ended.kind != "done" or ended.code:
                raise failure_of(step, ended, limit, reason_first(self._text(ended.stderr)))
            yield self._ran(folder, ended, entries)

    def abort(self) -> None:
        """End the runs that go on, on other threads, at once, without counting a failure. Begin no other."""
        self._aborted = True
        for slot in list(self._running):
            slot.abort()

    def close(self) -> None:
        """End all processes that are kept, and delete what was made for them."""
        _close(self._idle, self._folders, self._opened)
        self._ready = None

    def _run(self, folder: Path, until: float | None) -> Ended:
        while True:
            with or_step_error(self.step, "could not be started"):
                variables = self._variables()
                slot = self._taken(variables) or Slot(self._prepared(), variables, warm=self._warm)
            with ExitStack() as failed:
                failed.callback(slot.end)
                self._running.add(slot)
                failed.callback(self._running.discard, slot)
                self._check_not_aborted()
                with or_step_error(self.step, "could not be started"):
                    ended = slot.run(folder, None if until is None else until - time.monotonic())
                # guard[pass]: a run that was aborted says nothing about its entries
                self._check_not_aborted()
                self._running.discard(slot)
                if slot.is_usable(ended):
                    failed.pop_all()
                    self._idle.append(slot)
            if ended.kind == "gone":  # it died between two runs, so this run is not to blame
                continue
            if ended.kind == "unborn" and ended.code in _USAGE_CODES and not self.step.settings.warm:
                self._warm = False  # it uses the library, but does not run as a step of it
                continue
            return ended

    def _check_not_aborted(self) -> None:
        if self._aborted:
            raise StepError(self.step.name, "was aborted", no_room=True)

    def _variables(self) -> Mapping[str, str]:
        """Return the step's environment. What was granted and is secret is hidden in all that a run says."""
        granted = granted_to(self.step)
        self._hidden = sorted((value for value in granted.values() if len(value) >= _SECRET), key=len, reverse=True)
        return variables_of(self._prepared(), granted)

    def _taken(self, variables: Mapping[str, str]) -> Slot | None:
        """Return a slot that waits, if there is any; those whose credentials or secrets are old are ended."""
        with contextlib.suppress(IndexError):  # other threads take them too
            while True:
                slot = self._idle.pop()
                # guard[slot.warm == self._warm]: a kept process has the credentials and secrets of now
                if slot.is_alive() and slot.warm == self._warm and slot.variables == variables:
                    return slot
                slot.end()
        return None

    def _prepared(self) -> Step:
        """Return the step as it is run: a file that the user gave is copied, so that it stays the same and alone."""
        if self._ready is None:
            step = self.step
            if step.copied:
                home = self._opened.enter_context(locked_folder())
                step = replace(step, path=Path(shutil.copy(step.path, home / step.path.name)))
            self._ready = step
        return self._ready

    def _ran(self, folder: Path, ended: Ended, entries: int | None) -> Ran:
        output = folder / "output"
        size = size_of_output(self.step, output)
        # guard[False]: an output above the limit fails its run alone
        if size > self.step.settings.max_output_bytes:
            raise failure_of(self.step, replace(ended, kind="large"), None, reason_first(self._text(ended.stderr)))
        try:
            rejects = read_rejects(folder / "rejects", entries)
        except RejectsError as error:
            raise StepError(
                self.step.name, self._hiding(f"named rejects that cannot be: {error}"), exit_code=0
            ) from None
        if self._hidden:
            rejects = tuple(replace(one, reason=self._hiding(one.reason)) for one in rejects)
        tails = (self._text(ended.stderr), self._text(ended.stdout))
        return Ran(output, rejects, *tails, ended.cpu_seconds, ended.memory_bytes)

    def _text(self, tail: bytes) -> str:
        """Return what a step printed, with the path of the step rather than that of its copy."""
        if tail and self._ready and self._ready.path != self.step.path:
            tail = tail.replace(os.fsencode(self._ready.path), os.fsencode(self.step.path))
        return self._hiding(tail.decode("utf-8", "replace"))

    def _hiding(self, text: str) -> str:
        """Return a text without the secrets that the step was given."""
        for value in self._hidden:
            text = text.replace(value, "***")
        return text


@contextmanager
def run_step(
    step: Step, bodies: Iterable[bytes], timeout: float | None = None, *, entries: int | None = None
) -> Iterator[Ran]:
    """Run a step once: as `Runner.run` does, with processes that end with the context."""
    with contextlib.closing(Runner(step)) as runner, runner.run(bodies, timeout, entries=entries) as ran:
        yield ran


def _note_format(folder: Path, fmt: Format, header: bytes, settings: StepSettings) -> None:
    """Write beside the input what its records are, for functions of `parcelq.step`; nothing if they are lines."""
    written = settings.output or fmt
    one_line = _is_lines(written)
    if _is_lines(fmt) and one_line and not header:
        return
    passed = bool(header) and written == fmt and settings.output_header
    about = {
        "format": str(fmt),
        "header": len(header),
        "writes_header": passed,
        "one_line": one_line,
    }
    (folder / f"input{FORMAT_SUFFIX}").write_text(json.dumps(about))


def _is_lines(fmt: Format) -> bool:
    return isinstance(fmt, Lines) and fmt.size == 1


def write_bodies(file: IO[bytes], bodies: Iterable[bytes]) -> None:
    r"""Write slices of a file one after another, so that every entry stays a line of its own."""
    ended = True
    for body in bodies:
        if body:
            file.write(body if ended else b"\n" + body)
            ended = body.endswith(b"\n")


def _close(idle: list[Slot], folders: RunFolders, opened: ExitStack) -> None:
    while idle:
        idle.pop().end()
    folders.close()
    opened.close()
