"""Running a step: in a folder and an environment of its own, watched, bounded, and ended with all that it started."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, Final

from parcelq.errors import StepError
from parcelq.records import LINES, Format
from parcelq.records.lines import Lines
from parcelq.steps.containment import MARK, Ended, Supervised
from parcelq.steps.find import Step
from parcelq.steps.folder import locked_folder, open_regular
from parcelq.steps.function import FORMAT_SUFFIX
from parcelq.steps.reason import reason_first
from parcelq.steps.rejects import Reject, RejectsError, read_rejects
from parcelq.steps.settings import StepSettings
from parcelq.steps.supervisor import TAIL_BYTES

__all__ = ["TAIL_BYTES", "Ran", "Reject", "Runner", "run_step", "write_bodies"]

_log = logging.getLogger(__name__)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})
_ALLOWED: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
_CREDENTIALS_PREFIX: Final = "AWS_"
_RUNTIME_PREFIX: Final = "AWS_LAMBDA_"
_USAGE_CODES: Final = frozenset({0, 2})
"""Exit codes of a program that does not know `--warm`: argparse's, and that of one that ignores what it is given."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run that succeeded.

    Attributes:
        output: the file that the step wrote; it is removed when the run's context is left.
        rejects: the entries that the step named as bad, sorted by entry.
        stderr_tail: the end of what it wrote to stderr, at most 4 KiB.
        stdout_tail: the same of stdout, where that is not its output.
        cpu_seconds: seconds that processors worked for it, as the kernel counted them; 0 for a process that is kept.
        memory_bytes: the most memory that one of its processes had; 0 for a process that is kept.
    """

    output: Path
    rejects: tuple[Reject, ...] = ()
    stderr_tail: str = ""
    stdout_tail: str = ""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0

    def whole(self, step: Step) -> Path:
        """The output, for a caller that can do nothing with rejects.

        Raises:
            StepError: the step rejected an entry; with the first reason.
        """
        if self.rejects:
            first = self.rejects[0]
            raise StepError(step.name, f"rejected entry {first.entry}", exit_code=0, stderr_tail=first.reason)
        return self.output


class Runner:
    """Runs a step, on any thread, as often as wanted.

    Every run that goes on at a time has a supervisor process, which is kept for the next run; so is the step's own
    process if the step is warm. All end with `close()`, and when this process ends, however that happens.

    Attributes:
        step: the step.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._opened = ExitStack()
        self._idle: list[_Slot] = []
        self._ready: Step | None = None
        self._warm = step.warm
        weakref.finalize(self, _close, self._idle, self._opened)

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
        r"""Run the step over bodies, one after another, and give what it put out.

        The step's working directory is empty, and its own; so is its `TMPDIR`. Both are removed when the context is
        left. The time of a run includes the start of its processes.

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
        until = float("inf") if limit is None else time.monotonic() + limit
        with _or_step_error(step, "could not be given a folder"), ExitStack() as made:
            folder = made.enter_context(locked_folder())
            (folder / "work").mkdir()
            (folder / "tmp").mkdir()
            opened = made.pop_all()
        with opened:
            with _or_step_error(step, "could not be given its input"), (folder / "input").open("wb") as file:
                write_bodies(file, chain((header,) if header else (), bodies))
                _note_format(folder, fmt, header, step.settings)
            ended = self._run(folder, until)
            # guard[False]: a step that exits with another code than 0 has failed
            if ended.kind != "done" or ended.code:
                raise self._error(ended, limit)
            yield self._ran(folder, ended, entries)

    def close(self) -> None:
        """End all processes that are kept, and remove what was made for them."""
        _close(self._idle, self._opened)
        self._ready = None

    def _run(self, folder: Path, until: float) -> Ended:
        while True:
            with _or_step_error(self.step, "could not be started"):
                slot = self._take() or _Slot(self._prepared(), warm=self._warm)
            with ExitStack() as failed:
                failed.callback(slot.end)
                with _or_step_error(self.step, "could not be started"):
                    ended = slot.run(folder, None if until == float("inf") else until - time.monotonic())
                if slot.is_usable(ended):
                    failed.pop_all()
                    self._idle.append(slot)
            if ended.kind == "gone":  # it died while nothing ran, which is no fault of this run
                continue
            if ended.kind == "unborn" and ended.code in _USAGE_CODES and not self.step.settings.warm:
                self._warm = False  # it uses the library, but does not run as a step of it
                continue
            return ended

    def _take(self) -> _Slot | None:
        """A slot that waits, if there is any."""
        with contextlib.suppress(IndexError):  # other threads take them too
            while True:
                slot = self._idle.pop()
                if slot.is_alive() and slot.warm == self._warm:
                    return slot
                slot.end()
        return None

    def _prepared(self) -> Step:
        """The step as it is run: a file that the user gave is copied, so that it stays the same and alone."""
        if self._ready is None:
            step = self.step
            if step.copied:
                home = self._opened.enter_context(locked_folder())
                step = replace(step, path=Path(shutil.copy(step.path, home / step.path.name)))
            self._ready = step
        return self._ready

    def _ran(self, folder: Path, ended: Ended, entries: int | None) -> Ran:
        output = folder / "output"
        size = _size_of_file(self.step, output)
        # guard[False]: an output above the limit fails its run alone
        if size > self.step.settings.max_output_bytes:
            raise self._error(replace(ended, kind="large"), None)
        try:
            rejects = read_rejects(folder / "rejects", entries)
        except RejectsError as error:
            raise StepError(self.step.name, f"named rejects that cannot be: {error}", exit_code=0) from None
        tails = (self._text(ended.stderr), self._text(ended.stdout))
        return Ran(output, rejects, *tails, ended.cpu_seconds, ended.memory_bytes)

    def _text(self, tail: bytes) -> str:
        """What a step printed, with the path of the step rather than that of its copy."""
        if self._ready and self._ready.path != self.step.path:
            tail = tail.replace(os.fsencode(self._ready.path), os.fsencode(self.step.path))
        return tail.decode("utf-8", "replace")

    def _error(self, ended: Ended, limit: float | None) -> StepError:  # noqa: PLR0911 - one for each way to end
        name, tail, code = self.step.name, reason_first(self._text(ended.stderr)), ended.code
        if ended.kind == "time":
            reason = f"timed out after {limit:g} s and was killed"
            return StepError(name, reason, timed_out=True, stderr_tail=tail)
        if ended.kind == "large":
            most = self.step.settings.max_output_bytes
            reason = (
                f"wrote more than {most} bytes of output and was killed; max_output_bytes in its settings sets that"
            )
            return StepError(name, reason, stderr_tail=tail)
        if ended.kind == "refused":
            return StepError(name, f"could not be started: {os.strerror(code)}", no_room=code in _NO_ROOM)
        if ended.kind == "lost":
            return StepError(name, "killed the process that supervises it", stderr_tail=tail)
        if ended.kind == "deaf":
            return StepError(name, "closed the socket on which it is given its runs", stderr_tail=tail)
        if code:
            reason = f"was ended by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
            return StepError(name, reason, exit_code=code, stderr_tail=tail)
        reason = "exited with 0 and did not go on; a warm step is a function of parcelq.step that runs by its main()"
        return StepError(name, reason, exit_code=0, stderr_tail=tail)


@contextmanager
def run_step(
    step: Step, bodies: Iterable[bytes], timeout: float | None = None, *, entries: int | None = None
) -> Iterator[Ran]:
    """Run a step once: as `Runner.run` does, with processes that end with the context."""
    with contextlib.closing(Runner(step)) as runner, runner.run(bodies, timeout, entries=entries) as ran:
        yield ran


def _note_format(folder: Path, fmt: Format, header: bytes, settings: StepSettings) -> None:
    """Say beside the input what its records are, for functions of `parcelq.step`; nothing where they are lines."""
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


class _Slot:
    """A supervisor, and the process below it if the step is warm; one run at a time."""

    def __init__(self, step: Step, *, warm: bool) -> None:
        self.step = step
        self.warm = warm
        with ExitStack() as opened:
            self._home: Path | None = None
            environment = _environment(step)
            if warm:
                self._home = opened.enter_context(locked_folder())
                (self._home / "work").mkdir()
                (self._home / "tmp").mkdir()
            self._supervised = Supervised(
                step.warm_command if warm else None,
                environment,
                filters=step.settings.filter,
            )
            opened.callback(self._supervised.end)
            self._opened = opened.pop_all()

    def run(self, folder: Path, seconds: float | None) -> Ended:
        """Run the step over the input in a run's folder."""
        settings = self.step.settings
        output, home = folder / "output", self._home or folder
        tmpdir = settings.environment.get("TMPDIR", str(home / "tmp"))
        more: list[str | bytes] = []
        if not self.warm:
            more += self.step.command(folder / "input", output)
        else:
            request = {name: str(folder / name) for name in ("input", "output", "rejects", "work")}
            request["tmpdir"] = settings.environment.get("TMPDIR", str(folder / "tmp"))
            more = [json.dumps(request).encode() + b"\n"]
        return self._supervised.run(seconds, settings.max_output_bytes, home, tmpdir, output, *more)

    def is_usable(self, ended: Ended) -> bool:
        """Whether another run can follow this one.

        What a run of a warm step leaves running is ended, and that can only be done to all of it.
        """
        if not self.warm:
            return ended.kind not in {"lost", "refused"}
        if ended.kind == "done" and not ended.sound:
            _log.warning("step %r left processes running or closed its stderr, so it is started again", self.step.name)
        return ended.kind == "done" and ended.sound

    def is_alive(self) -> bool:
        """Whether it can be given a run."""
        return self._supervised.is_alive()

    def end(self) -> None:
        """End the processes, and remove their folder."""
        self._opened.close()


def _close(idle: list[_Slot], opened: ExitStack) -> None:
    while idle:
        idle.pop().end()
    opened.close()


@contextmanager
def _or_step_error(step: Step, what: str) -> Iterator[None]:
    """Raise what the system refuses as an error of the step."""
    try:
        yield
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        raise StepError(step.name, reason, no_room=error.errno in _NO_ROOM) from None


def _size_of_file(step: Step, output: Path) -> int:
    """The size of the output, which must be a file that can be read: no link, folder, pipe or device."""
    try:
        descriptor = open_regular(output)
    except FileNotFoundError:
        raise StepError(step.name, "exited with 0 but wrote no output file", exit_code=0) from None
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        reason = f"exited with 0 but wrote no output file that can be read: {why}"
        raise StepError(step.name, reason, exit_code=0, no_room=error.errno in _NO_ROOM) from None
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def is_passed(name: str) -> bool:
    """Whether a step gets this variable of whoever runs it."""
    return name in _ALLOWED or name.startswith("LC_")


def _environment(step: Step) -> dict[str, str]:
    """The environment of a step: what is allowed, where the library is, and what its settings add.

    Lambda hands a function its credentials as AWS_… variables; a step gets them only where its settings ask.
    """
    settings = step.settings
    passed = {
        name: value
        for name, value in os.environ.items()
        if is_passed(name)
        or name == "PYTHONPATH"
        or (settings.aws_credentials and name.startswith(_CREDENTIALS_PREFIX) and not name.startswith(_RUNTIME_PREFIX))
    }
    if step.python is None:  # an environment of its own has the library in it
        library = str(Path(__file__).parents[2])
        packages = str(step.packages) if step.packages else ""
        passed["PYTHONPATH"] = os.pathsep.join(filter(None, [packages, passed.get("PYTHONPATH"), library]))
    return {**passed, **settings.environment, MARK: ""}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal; most of them have no name
        return f"signal {number}"
