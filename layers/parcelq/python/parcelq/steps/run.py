"""Runs a step: in its own folder and environment, with limits, and ends all processes that it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from parcelq.errors import StepError
from parcelq.records import LINES, Format
from parcelq.steps.data import Given, write_bodies
from parcelq.steps.find import Step
from parcelq.steps.folder import RunFolders, locked_folder
from parcelq.steps.ran import Ran, judged, or_step_error
from parcelq.steps.slot import Slot, WarmSlot
from parcelq.steps.supervisor import HOP_SECONDS, TAIL_BYTES
from parcelq.steps.variables import granted_to, variables_of

__all__ = ["TAIL_BYTES", "Given", "Ran", "Runner", "run_step", "write_bodies"]

_SECRET: Final = 4
"""Secrets with fewer characters than this are not hidden in a run's printed output, because they would match parts of
other words.
"""
_USAGE_CODES: Final = frozenset({0, 2})
"""Exit codes of a program that does not know `--warm`: that of argparse, and that of a program that ignores its
arguments.
"""
_MOST_TOGETHER: Final = 32
_LEAST_SECONDS: Final = 1e-6


class Runner:
    """Runs a step any number of times, on any thread.

    Each parallel run has a supervisor process, which is kept for later runs. A warm step's own process is kept too. All
    of them end with `close()`, and when this process ends in any way.
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
        self._seconds = HOP_SECONDS
        weakref.finalize(self, _close, self._idle, self._folders, self._opened)

    @property
    def together(self) -> int:
        """How many runs should be passed to the step together so that they take little time, judging by the latest
        runs.
        """
        return max(1, min(_MOST_TOGETHER, int(HOP_SECONDS / self._seconds)))

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
        r"""Run the step over bodies joined to one input, and yield its output.

        The step's working directory and its `TMPDIR` are empty, and no other run uses them. The time of a run includes
        the start of its processes.

        Args:
            timeout: seconds after which the run is killed; the step's own timeout counts if it is shorter.

        The input is what `Given` says.

        Raises:
            StepError: the step could not be started, did not exit with 0, wrote no output file or one that is too
                large, reported invalid rejects, or timed out and was killed. The error has the end of the step's
                stderr, and affects only this run.
        """
        (ran,) = self.run_all([Given(bodies, entries, fmt, header)], timeout)
        if isinstance(ran, StepError):
            raise ran
        with ran.held:
            yield ran

    def run_all(self, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
        """Run the step over one input after another, with a single request to its supervisor.

        Returns:
            The outcomes of the runs that began, in order, at least one. No further run begins after one that ended the
            step's process, or when the runs before took too long. The caller must close what each outcome holds.
        """
        limit, began = self.step.settings.within(timeout), time.monotonic()
        until = None if limit is None else began + limit
        try:
            ran = self._ran(given, until, limit)
        except StepError as error:
            return [error]
        self._seconds = max(_LEAST_SECONDS, (time.monotonic() - began) / len(ran))
        return ran

    def abort(self) -> None:
        """End the current runs on other threads at once, without counting a failure. Begin no others."""
        self._aborted = True
        for slot in list(self._running):
            slot.abort()

    def close(self) -> None:
        """End all warm processes and supervisors, and delete their files."""
        _close(self._idle, self._folders, self._opened)
        self._ready = None

    def _ran(self, given: Sequence[Given], until: float | None, limit: float | None) -> list[Ran | StepError]:
        while True:
            with self._slot() as slot:
                came = slot.run(given, None if until is None else until - time.monotonic())
            if not came:
                given = given[:1]
                continue
            first = came[0].ended
            if first.kind == "gone":  # it died between two runs, so this run is not to blame
                continue
            if first.kind == "unborn" and first.code in _USAGE_CODES and not self.step.settings.warm:
                self._warm = False  # it imports `parcelq.step`, but does not run as a warm step
                continue
            pairs = zip(came, given, strict=False)
            return [judged(self.step, one, wanted.entries, limit, self._text) for one, wanted in pairs]

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
        """Yield a slot, and keep it if it can be used again."""
        with or_step_error(self.step, "could not be started"):
            variables = self._variables()
            made = WarmSlot if self._warm else Slot
            slot = self._taken(variables) or made(self._prepared(), variables, self._folders)
        with ExitStack() as failed:
            failed.callback(slot.end)
            self._running.add(slot)
            failed.callback(self._running.discard, slot)
            self._check_not_aborted()
            yield slot
            # guard[pass]: a run that was aborted says nothing about its entries
            self._check_not_aborted()
            self._running.discard(slot)
            if slot.usable:
                failed.pop_all()
                self._idle.append(slot)

    def _check_not_aborted(self) -> None:
        if self._aborted:
            raise StepError(self.step.name, "was aborted", no_room=True)

    def _variables(self) -> Mapping[str, str]:
        """Return the step's environment. Granted secrets are hidden in all printed output of the run."""
        granted = granted_to(self.step)
        self._hidden = sorted((value for value in granted.values() if len(value) >= _SECRET), key=len, reverse=True)
        return variables_of(self._prepared(), granted)

    def _taken(self, variables: Mapping[str, str]) -> Slot | None:
        """Return a free slot, if there is one; slots with outdated credentials or secrets are ended."""
        with contextlib.suppress(IndexError):  # other threads take them too
            while True:
                slot = self._idle.pop()
                # guard[slot.warm == self._warm]: a kept process has the credentials and secrets of now
                if slot.is_alive() and slot.warm == self._warm and slot.variables == variables:
                    return slot
                slot.end()
        return None

    def _prepared(self) -> Step:
        """Return the step as it runs: a user's file is copied, so that it cannot change and is alone in its folder."""
        if self._ready is None:
            step = self.step
            if step.copied:
                home = self._opened.enter_context(locked_folder())
                step = replace(step, path=Path(shutil.copy(step.path, home / step.path.name)))
            self._ready = step
        return self._ready

    def _text(self, tail: bytes) -> str:
        """Return the step's printed output, with its real path instead of the copy's, and without secrets."""
        if tail and self._ready and self._ready.path != self.step.path:
            tail = tail.replace(os.fsencode(self._ready.path), os.fsencode(self.step.path))
        text = tail.decode("utf-8", "replace")
        for value in self._hidden:
            text = text.replace(value, "***")
        return text


@contextmanager
def run_step(
    step: Step, bodies: Iterable[bytes], timeout: float | None = None, *, entries: int | None = None
) -> Iterator[Ran]:
    """Run a step once, like `Runner.run`, with processes that end with the context."""
    with contextlib.closing(Runner(step)) as runner, runner.run(bodies, timeout, entries=entries) as ran:
        yield ran


def _close(idle: list[Slot], folders: RunFolders, opened: ExitStack) -> None:
    while idle:
        idle.pop().end()
    folders.close()
    opened.close()
