"""Runs a step in its own folder and environment, with limits, and ends all processes that the step started."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from parcelq.errors import AwsError, StepError
from parcelq.records import LINES, Format
from parcelq.steps.containment import MARK
from parcelq.steps.data import Given
from parcelq.steps.find import Step
from parcelq.steps.folder import RunFolders, locked_folder
from parcelq.steps.ran import Ran, judged, or_step_error
from parcelq.steps.slot import Slot, WarmSlot
from parcelq.steps.supervisor import HOP_SECONDS

_PASSED: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
"""The variables that a step gets unchanged from the process that runs the step, in addition to the locale's
variables.
"""
_WHERE: Final = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
"""Prefixes of variables that say how AWS is reached, but are not credentials."""
_SEARCHED: Final = "PYTHONPATH"
_SECRET: Final = 4
"""Secrets with fewer characters than this are not hidden in the text that a run prints, because short secrets would
match parts of other words.
"""
_USAGE_CODES: Final = frozenset({0, 2})
"""The exit codes of a program that does not know `--warm`: the exit code of argparse, and the exit code of a program
that ignores its arguments.
"""
_MOST_TOGETHER: Final = 32
_LEAST_SECONDS: Final = 1e-6


class Runner:
    """Runs a step any number of times, on any number of threads.

    If several runs are in progress at the same time, each run has a supervisor process, which is kept for later runs.
    The process of a warm step is kept too. All these processes end when `close()` is called, or when this process ends
    in any way.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._opened = ExitStack()
        self._idle: list[Slot] = []
        self._running: set[Slot] = set()
        self._aborted = False
        self._folders = RunFolders()
        self._ready: Step | None = None
        self._preparing = threading.Lock()
        self._hidden: Sequence[str] = ()
        self._warm = step.warm
        self._seconds = HOP_SECONDS
        weakref.finalize(self, _close, self._idle, self._folders, self._opened)

    @property
    def together(self) -> int:
        """How many runs to pass to the step in one request, so that the request takes little time."""
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
        r"""Run the step over bodies that are joined to one input, which the other arguments describe as `Given` does,
        and yield the outcome.

        The step's working directory and its `TMPDIR` are empty, and no other run uses these folders. The run, with the
        start of its processes, is killed after `timeout` seconds or the timeout in its settings.

        Raises StepError, with the end of the step's stderr, if the step could not be started, did not exit with 0,
        wrote no output file or a too large one, reported invalid rejects, or timed out.
        """
        (ran,) = self.run_all([Given(bodies, entries, fmt, header)], timeout)
        if isinstance(ran, StepError):
            raise ran
        with ran.held:
            yield ran

    def run_all(self, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
        """Run the step over one input after another, with a single request to the step's supervisor.

        Returns the outcomes of the runs that began, at least of the first. No further run begins after a run that ended
        the step's process, or when the earlier runs took too long. The caller must close the `held` of each `Ran`.
        """
        limit, began = self.step.settings.within(timeout), time.monotonic()
        until = None if limit is None else began + limit
        try:
            ran = self._ran(given, until, limit)
        except StepError as error:
            return [error]
        self._seconds = max(_LEAST_SECONDS, (time.monotonic() - began) / len(ran))
        return ran

    def prepare(self) -> None:
        """Start the processes of a run before its input is there. If this fails, the run says why."""
        with contextlib.suppress(StepError), self._slot():
            pass

    def abort(self) -> None:
        """End the current runs on other threads at once, and begin no other runs. The runs do not count as failures."""
        self._aborted = True
        for slot in list(self._running):
            slot.abort()

    def close(self) -> None:
        """End all warm processes and supervisors, and delete their files."""
        _close(self._idle, self._folders, self._opened)
        self._ready = None

    def _ran(self, given: Sequence[Given], until: float | None, limit: float | None) -> list[Ran | StepError]:
        while True:
            with ExitStack() as unused:
                with self._slot() as slot:
                    came = slot.run(given, None if until is None else until - time.monotonic())
                    for one in came:
                        unused.callback(one.held.close)
                first = came[0].ended if came else None
                # Nobody knows which of several runs killed the supervisor.
                if first is None or (first.kind == "lost" and len(given) > 1):
                    given = given[:1]
                    continue
                if first.kind == "gone":  # the process died between two runs, so this run did not kill it
                    continue
                if first.kind == "unborn" and first.code in _USAGE_CODES and not self.step.settings.warm:
                    self._warm = False  # the step imports `parcelq.step`, but does not run as a warm step
                    continue
                unused.pop_all()
                pairs = zip(came, given, strict=False)
                return [judged(self.step, one, wanted.entries, limit, self._text) for one, wanted in pairs]

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
        """Yield a slot. Keep the slot for later runs if the slot can be used again."""
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
        """Return the step's environment. Secrets from the stack are hidden in all text that the run prints."""
        try:
            granted = self.step.granted() if self.step.granted else {}
        except AwsError as error:  # the entries did not cause this error
            raise StepError(self.step.name, f"could not be given its secrets: {error}", no_room=True) from None
        self._hidden = sorted((value for value in granted.values() if len(value) >= _SECRET), key=len, reverse=True)
        return _variables_of(self._prepared(), granted)

    def _taken(self, variables: Mapping[str, str]) -> Slot | None:
        """Return a free slot; None if there is none. Slots with outdated credentials or secrets are ended."""
        with contextlib.suppress(IndexError):  # another thread may take the last slot
            while True:
                slot = self._idle.pop()
                # guard[slot.warm == self._warm]: a kept process has the credentials and secrets of now
                if slot.is_alive() and slot.warm == self._warm and slot.variables == variables:
                    return slot
                slot.end()
        return None

    def _prepared(self) -> Step:
        """Return the step to run. A user's file is copied, so that it cannot change and is alone in its folder."""
        with self._preparing:  # so that all threads run the same copy
            if self._ready is None:
                step = self.step
                if step.copied:
                    home = self._opened.enter_context(locked_folder())
                    step = step._replace(path=Path(shutil.copy(step.path, home / step.path.name)))
                self._ready = step
            return self._ready

    def _text(self, tail: bytes) -> str:
        """Return the text that the step printed, without secrets, and with the path of the step instead of the copy."""
        if tail and self._ready and self._ready.path != self.step.path:
            tail = tail.replace(os.fsencode(self._ready.path), os.fsencode(self.step.path))
        text = tail.decode("utf-8", "replace")
        for value in self._hidden:
            text = text.replace(value, "***")
        return text


def _close(idle: list[Slot], folders: RunFolders, opened: ExitStack) -> None:
    for slot in idle:
        slot.abort()  # so that all processes end at the same time
    while idle:
        idle.pop().end()
    folders.close()
    opened.close()


def _variables_of(step: Step, granted: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a step: the variables that the step may get, the path of the library, and the variables
    in the step's settings.

    On a user's machine, a step gets the variables `AWS_…` of this process if its settings ask for credentials. On a
    stack, these variables are the Lambda function's own credentials, which no step gets. There, a step gets only the
    credentials that the stack gives to steps.
    """
    # guard[_is_credential]: no step gets the credentials of a function
    asked = _says_where if step.granted else _is_credential
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith("LC_") or (step.settings.aws_credentials and asked(name))
    }
    if searched := _searched(step):
        passed[_SEARCHED] = searched
    return {**passed, **step.settings.environment, **granted, MARK: ""}


def _is_credential(name: str) -> bool:
    return name.startswith("AWS_") and not name.startswith("AWS_LAMBDA_")


def _says_where(name: str) -> bool:
    return name.startswith(_WHERE)


def _searched(step: Step) -> str:
    """Return the step's `PYTHONPATH`. Its folders are absolute, because a step runs in a folder of its own."""
    given = os.environ.get(_SEARCHED)
    folders = [os.path.abspath(folder) for folder in given.split(os.pathsep)] if given else []
    if step.packages:
        folders.insert(0, str(step.packages))
    if step.python is None:  # a step's own environment contains the library
        folders.append(str(Path(__file__).parents[2]))
    return os.pathsep.join(folders)
