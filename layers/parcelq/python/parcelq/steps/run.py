"""Running a step: in a folder and an environment of its own, watched, bounded, and ended with all that it started."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from parcelq.errors import StepError
from parcelq.steps.containment import MARK, end, shield
from parcelq.steps.find import Step
from parcelq.steps.rejects import Reject, RejectsError, read_rejects

TAIL_BYTES: Final = 4096
"""How much of the end of a step's stdout and stderr is kept."""
READ_BYTES: Final = 64 * 1024
LOOK_SECONDS: Final = 0.05
"""How often it is looked whether a process has ended."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})
_ALLOWED: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH"})
_CREDENTIALS_PREFIX: Final = "AWS_"
_RUNTIME_PREFIX: Final = "AWS_LAMBDA_"


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run that succeeded.

    Attributes:
        output: the file that the step wrote; it is removed when the run's context is left.
        rejects: the entries that the step named as bad, sorted by entry.
        stderr_tail: the end of what it wrote to stderr.
    """

    output: Path
    rejects: tuple[Reject, ...] = ()
    stderr_tail: str = ""


@contextmanager
def run_step(
    step: Step, bodies: Iterable[bytes], timeout: float | None = None, *, entries: int | None = None
) -> Iterator[Ran]:
    r"""Run a step over bodies, one after another, and give what it put out.

    Everything lies in a temporary folder that is gone when the context is left. The step's working directory in it is
    empty; `TMPDIR` is in it too.

    Args:
        step: the step.
        bodies: slices of a file; one that lacks its last `\n` gets it where another follows.
        timeout: seconds after which it is killed; the step's own timeout counts too where that is shorter.
        entries: how many entries the bodies have, where the caller knows; rejects beyond them fail the run then.

    Raises:
        StepError: it could not be started, exited with another code than 0, wrote no output file, named rejects that
            cannot be, or was killed when its time was up; with the end of its stderr.
    """
    with run_folder(step) as folder:
        write_input(step, folder, bodies)
        tail = _run(step, folder, step.settings.within(timeout))
        yield ran(step, folder, tail, entries)


def ran(step: Step, folder: Path, tail: bytes, entries: int | None) -> Ran:
    """What is in the folder of a run that exited with 0.

    Raises:
        StepError: there is no output file, or the rejects name what cannot be.
    """
    try:
        rejects = read_rejects(folder / "rejects", entries)
    except RejectsError as error:
        raise StepError(step.name, f"named rejects that cannot be: {error}", exit_code=0) from None
    return Ran(output_of(step, folder), rejects, tail.decode("utf-8", "replace"))


@contextmanager
def run_folder(step: Step) -> Iterator[Path]:
    """A temporary folder for a run, with what it expects to be there: `work` and `tmp`.

    Raises:
        StepError: there is no room for it.
    """
    with contextlib.ExitStack() as made:
        with _or_step_error(step, "could not be given a folder"):
            temporary = tempfile.TemporaryDirectory(prefix="parcelq-", ignore_cleanup_errors=True)
            folder = Path(made.enter_context(temporary))
            (folder / "work").mkdir()
            (folder / "tmp").mkdir()
        yield folder


def write_input(step: Step, folder: Path, bodies: Iterable[bytes]) -> None:
    """Make the file `input` of a run's folder.

    Raises:
        StepError: there is no room for it.
    """
    with _or_step_error(step, "could not be given its input"), (folder / "input").open("wb") as file:
        write_bodies(file, bodies)


@contextmanager
def _or_step_error(step: Step, what: str) -> Iterator[None]:
    """Have what the system refuses be told as an error of the step."""
    try:
        yield
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        raise StepError(step.name, reason, no_room=error.errno in _NO_ROOM) from None


def output_of(step: Step, folder: Path) -> Path:
    """The file `output` of a run's folder.

    Raises:
        StepError: it is not there, or is no file.
    """
    output = folder / "output"
    if output.is_symlink():  # which may lead to anything
        raise StepError(step.name, "exited with 0 but made its output a link, not a file", exit_code=0)
    if not output.is_file():
        raise StepError(step.name, "exited with 0 but wrote no output file", exit_code=0)
    return output


def write_bodies(file: IO[bytes], bodies: Iterable[bytes]) -> None:
    r"""Write slices of a file one after another, so that every entry stays a line of its own."""
    ended = True
    for body in bodies:
        if body:
            file.write(body if ended else b"\n" + body)
            ended = body.endswith(b"\n")


def _environment(step: Step, folder: Path) -> dict[str, str]:
    """The environment of a step: what is allowed, where the library is, and what its settings add.

    Lambda hands a function its credentials as AWS_… variables; a step gets them only where its settings ask.
    """
    settings = step.settings
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _ALLOWED
        or name.startswith("LC_")
        or (settings.aws_credentials and name.startswith(_CREDENTIALS_PREFIX) and not name.startswith(_RUNTIME_PREFIX))
    }
    library = str(Path(__file__).parents[2])
    passed["PYTHONPATH"] = os.pathsep.join(filter(None, [passed.get("PYTHONPATH"), library]))
    return {**passed, "TMPDIR": str(folder / "tmp"), **settings.environment, MARK: str(folder)}


def start(step: Step, command: Sequence[str], folder: Path, **more: Any) -> subprocess.Popen[bytes]:
    """Start a process of a step in the folder of a run: shielded from, with its own environment and session.

    Args:
        step: the step.
        command: its command line.
        folder: its working directory and `TMPDIR` are in there, and its path is the process's mark, with which all
            that it starts can be ended.
        more: what else Popen is told.

    Raises:
        StepError: it could not be started.
    """
    shield()
    environment = _environment(step, folder)
    work = folder / "work"
    with _or_step_error(step, "could not be started"):
        return subprocess.Popen(
            command, stderr=subprocess.PIPE, cwd=work, env=environment, start_new_session=True, **more
        )


def time_is_up(step: Step, timeout: float | None, tail: bytes) -> StepError:
    """What is said of a step that was killed when its time was up."""
    return StepError(
        step.name,
        f"was killed, for its {timeout:g} seconds were up",
        timed_out=True,
        stderr_tail=tail.decode("utf-8", "replace"),
    )


def bad_end(step: Step, code: int, tail: bytes) -> StepError:
    """What is said of a step that ended with this exit code; negative is the signal that ended it."""
    reason = f"was ended by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
    return StepError(step.name, reason, exit_code=code, stderr_tail=tail.decode("utf-8", "replace"))


def _run(step: Step, folder: Path, timeout: float | None) -> bytes:
    with contextlib.ExitStack() as files:
        stdin: IO[bytes] | int = subprocess.DEVNULL
        stdout: IO[bytes] | int = subprocess.PIPE
        source, target = folder / "input", folder / "output"
        if step.settings.filter:
            with _or_step_error(step, "could not be given its input and output"):
                stdin = files.enter_context(source.open("rb"))
                stdout = files.enter_context(target.open("wb"))
        with start(step, step.command(source, target), folder, stdin=stdin, stdout=stdout) as process:
            try:
                tail, in_time = _watch(process, timeout)
            finally:
                # Also after success: what the step left running would outlive it in a warm function.
                end(process, str(folder))
    if not in_time:
        raise time_is_up(step, timeout, tail)
    if process.returncode:
        raise bad_end(step, process.returncode, tail)
    return tail


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal; most of them have no name
        return f"signal {number}"


def _watch(process: subprocess.Popen[bytes], timeout: float | None) -> tuple[bytes, bool]:
    """Read what a step prints, as it comes, until it ends or its time is up.

    Returns the end of its stderr, and whether it ended in time.
    """
    until = time.monotonic() + timeout if timeout is not None else float("inf")
    tail = b""
    with selectors.DefaultSelector() as pipes:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipes.register(pipe, selectors.EVENT_READ)
        # A child that the step left behind may hold the pipes open, so their end is not waited for alone.
        while pipes.get_map() and process.poll() is None:
            remaining = until - time.monotonic()
            if remaining <= 0:
                return tail, False
            tail = _read(pipes, min(LOOK_SECONDS, remaining), process, tail)
        if pipes.get_map():
            tail = _read(pipes, 0, process, tail)
    try:
        process.wait(None if timeout is None else max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return tail, False
    return tail, True


def _read(pipes: selectors.BaseSelector, seconds: float, process: subprocess.Popen[bytes], tail: bytes) -> bytes:
    for key, _ in pipes.select(seconds):
        data = os.read(key.fd, READ_BYTES)
        if not data:
            pipes.unregister(key.fileobj)
        elif key.fileobj is process.stderr:
            tail = (tail + data)[-TAIL_BYTES:]
    return tail
