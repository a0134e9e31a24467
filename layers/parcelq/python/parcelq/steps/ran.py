"""The outcome of a run: an output with rejected entries, or an error that tells users why the run failed."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.errors import StepError
from parcelq.steps.containment import Ended
from parcelq.steps.data import Output
from parcelq.steps.executable import why_nothing_is_called
from parcelq.steps.find import Step
from parcelq.steps.folder import open_regular
from parcelq.steps.reason import reason_first
from parcelq.steps.rejects import Reject, RejectsError, read_rejects

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})
"""Those error numbers that concern the machine and not the entries."""
_NOTHING_HELD: Final = ExitStack()


class Came(NamedTuple):
    """The outcome of a run. `rejects` may be the file that contains them. `held` is closed when the output is no longer
    needed.
    """

    ended: Ended
    output: Output
    rejects: Path | bytes
    held: ExitStack


class Ran(NamedTuple):
    """A run that succeeded.

    Attributes:
        output: the output of the step. If the output is a file, closing `held` deletes the file.
        stderr_tail: the last bytes that the step printed on stderr, at most 4 KiB, as text.
        stdout_tail: the last bytes that the step printed on stdout, like `stderr_tail`; empty if stdout is the step's
            output.
        cpu_seconds: the CPU time of the run's processes, as the kernel counted it; 0 if the step has a warm process.
        memory_bytes: the peak memory of the step's largest process so far; 0 if the system does not report it.
        held: the context to close when the output is no longer needed.
    """

    output: Output
    rejects: tuple[Reject, ...] = ()
    stderr_tail: str = ""
    stdout_tail: str = ""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    held: ExitStack = _NOTHING_HELD

    @property
    def printed(self) -> str:
        """The last lines that the step printed on stdout and on stderr, each text with a line end."""
        return "".join(f"{text.rstrip()}\n" for text in (self.stdout_tail, self.stderr_tail) if text.strip())

    def whole(self, step: Step) -> Output:
        """Return the output. Raises StepError with the first reject, for callers that cannot handle rejects."""
        if self.rejects:
            first = self.rejects[0]
            raise StepError(step.name, f"rejected entry {first.entry}", exit_code=0, stderr_tail=first.reason)
        return self.output


def judged(
    step: Step, came: Came, entries: int | None, limit: float | None, text: Callable[[bytes], str]
) -> Ran | StepError:
    """Return the outcome of a run. `text` converts the step's printed output to text without secrets."""
    try:
        return _ran(step, came, entries, limit, text)
    except StepError as error:
        came.held.close()
        return error


def _ran(step: Step, came: Came, entries: int | None, limit: float | None, text: Callable[[bytes], str]) -> Ran:
    ended, output = came.ended, came.output
    texts = text(ended.stderr), text(ended.stdout)
    # guard[False]: a step that exits with another code than 0 has failed
    if ended.kind != "done" or ended.code:
        raise _failure(step, ended, limit, reason_first(texts[0]))
    size = _size_of(step, output) if isinstance(output, Path) else len(output.data)
    # guard[False]: an output above the limit fails its run alone
    if size > step.settings.max_output_bytes:
        raise _failure(step, ended._replace(kind="large"), None, reason_first(texts[0]))
    try:
        rejects = read_rejects(came.rejects, entries) if came.rejects else ()
    except RejectsError as error:
        reason = text(f"reported invalid rejects: {error}".encode("utf-8", "replace"))
        raise StepError(step.name, reason, exit_code=0) from None
    rejects = tuple(one._replace(reason=text(one.reason.encode("utf-8", "replace"))) for one in rejects)
    return Ran(output, rejects, *texts, ended.cpu_seconds, ended.memory_bytes, came.held)


def _failure(step: Step, ended: Ended, limit: float | None, tail: str) -> StepError:
    """Return the error of a run that did not succeed. `tail` is the last text that the step printed on stderr."""
    code = ended.code
    if ended.kind == "refused":
        return StepError(step.name, f"could not be started: {os.strerror(code)}", no_room=code in _NO_ROOM)
    if ended.kind == "time":
        return StepError(step.name, f"timed out after {limit:g} s and was killed", timed_out=True, stderr_tail=tail)
    reasons = {
        "large": f"wrote more than {step.settings.max_output_bytes} bytes of output and was killed; max_output_bytes "
        "in its settings sets this limit",
        "lost": "killed the process that supervises it",
        "deaf": "closed the socket on which it gets its runs",
    }
    if ended.kind in reasons:
        return StepError(step.name, reasons[ended.kind], stderr_tail=tail)
    if code:
        reason = f"was ended by {_signal_name(-code)}" if code < 0 else f"exited with {code}"
    else:
        reason = (
            "exited with 0 instead of waiting for the next run; "
            "a warm step must be a function of parcelq.step that main() runs"
        )
    return StepError(step.name, reason, exit_code=code, stderr_tail=tail)


@contextmanager
def or_step_error(step: Step, what: str) -> Iterator[None]:
    """Turn an OSError in the context into an error of the step. `what` says what the step could not do."""
    try:
        yield
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        raise StepError(step.name, reason, no_room=error.errno in _NO_ROOM) from None


def _size_of(step: Step, output: Path) -> int:
    """Return the size of the file into which a run wrote its output. Raises StepError if it is not a regular file."""
    try:
        descriptor = open_regular(output)
    except FileNotFoundError:
        hint = why_nothing_is_called(step.path) or (
            "a program that reads stdin and writes stdout needs filter: true in its settings"
        )
        raise StepError(step.name, f"exited with 0 but wrote no output file; {hint}", exit_code=0) from None
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        reason = f"exited with 0 but wrote no output file that can be read: {why}"
        raise StepError(step.name, reason, exit_code=0, no_room=error.errno in _NO_ROOM) from None
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal; most real-time signals have no name
        return f"signal {number}"
