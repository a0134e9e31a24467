"""`parcelq try`: runs a program over the first records of a file, and shows the output for each record."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.amounts import amount
from parcelq.errors import ParcelqError
from parcelq.escaping import cut, one_line
from rich.text import Text

from parcelq_cli.options import (
    Env,
    Packages,
    RecordFormat,
    Settings,
    Steps,
    WorkflowFolder,
    WorkflowId,
    WrongUsageError,
)
from parcelq_cli.output import Output, with_output

if TYPE_CHECKING:
    from parcelq.local.trial import StepTrial, Trial

_STDIN: Final = Path("-")
_LEAST: Final = 16
"""How many characters a record and its output each get at least, also on a narrow terminal."""
_NUMBERS: Final = 30
"""How many characters the columns for number, time and memory take together."""
_WIDE: Final = 120
"""How many characters a line has if the output is not a terminal."""
_MOST_LINES: Final = 12
"""The most lines that are shown of a record, of its output, or of what a step printed."""


@with_output
def try_(
    out: Output,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file; - is the standard input.", show_default=False)
    ] = _STDIN,
    step: Steps = None,
    workflow: WorkflowFolder = None,
    records: Annotated[int, typer.Option("--records", "-n", min=1, max=10**9, help="How many records to run.")] = 5,
    settings: Settings = None,
    record_format: RecordFormat = "",
    packages: Packages = None,
    workflow_id: WorkflowId = "",
    env: Env = None,
) -> None:
    """Run a program over each of the first records of a file, and show each output.

    Shows input, output, time and memory, what the step printed, and the full reason if a record failed. The time of the
    first record includes the start of the step. Writes no result. Exits with 0 only if no record failed.
    """
    from parcelq.local.trial import first_records, try_records

    from parcelq_cli.choice import naming_options, recipe_of

    with naming_options():
        recipe = recipe_of(workflow, step, settings, packages, format=record_format, env=tuple(env or ()))
        assembled = recipe.assembled()
    steps = assembled.with_environments(workflow_id, out.note)
    name = "stdin" if file == _STDIN else str(file)
    table = _Table(out, len(steps))
    tried = failed = 0
    with _opened(file) as stream:
        found = first_records(stream, name, records, assembled.workflow.format)
        for trial in try_records(steps, found):
            tried += 1
            failed += bool(trial.reason)
            out.result(_document(trial), table.row(trial))
    if not tried:
        raise ParcelqError(f"{name!r} has no records")
    if failed:
        raise ParcelqError(f"{amount(failed, 'record')} of {tried} failed")


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if file != _STDIN:
        from parcelq.local_files import naming

        with naming(file), file.open("rb") as stream:
            yield stream
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise WrongUsageError("there are no records; name a FILE, or pipe records in, as in: head FILE | parcelq try …")
    yield sys.stdin.buffer


def _document(trial: Trial) -> dict[str, Any]:
    about = {"record": trial.record, "line": trial.line, "input": _decoded(trial.entry), **_outcome(trial)}
    if trial.reason:
        about["reason"] = trial.reason
    steps = [{"step": one.step, **_outcome(one), "printed": one.printed} for one in trial.steps]
    return {**about, "steps": steps}


def _outcome(one: Trial | StepTrial) -> dict[str, Any]:
    return {
        "output": None if one.reason else _decoded(one.output),
        "seconds": round(one.seconds, 6),
        "memory_bytes": one.memory_bytes or None,
    }


class _Table:
    """Shows records in columns: number, input, output, time and memory; and details below each record."""

    def __init__(self, out: Output, steps: int) -> None:
        width = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else _WIDE
        self._column = max(_LEAST, (width - _NUMBERS) // 2)
        self._several = steps > 1
        self._reasons: dict[str, int] = {}
        self._headed = out.json

    def row(self, trial: Trial) -> Text:
        """Return the lines of the table that show one record."""
        made = Text()
        if not self._headed:
            self._headed = True
            made.append(self._cells("record", "input", "output", "time", "memory") + "\n", "bold")
        number = f"{trial.record:,}"
        for run in trial.steps:
            last = run is trial.steps[-1]
            entry = _lines(trial.entry) if run is trial.steps[0] else []
            self._add(made, number, entry, run, failed=last and bool(trial.reason))
            number = ""
        if trial.reason:
            self._explain(made, trial)
        made.rstrip()
        return made

    def _add(self, made: Text, number: str, entry: list[str], run: StepTrial, *, failed: bool) -> None:
        """Append the lines that show one run of a step, with its input next to its output."""
        output = ["failed"] if failed else (_lines(run.output) or ["(nothing)"])
        if self._several:
            output[0] = f"{run.step}: {output[0]}"
        for at in range(max(len(entry), len(output))):
            left, right = (lines[at] if at < len(lines) else "" for lines in (entry, output))
            seconds, memory = (_seconds(run.seconds), _memory(run.memory_bytes)) if at == 0 else ("", "")
            line = self._cells(number if at == 0 else "", left, right, seconds, memory)
            made.append(line + "\n", "red" if failed and at == 0 else "")
        for line in _few(run.printed.splitlines()):
            made.append(f"        printed: {one_line(line)}\n", "dim")

    def _explain(self, made: Text, trial: Trial) -> None:
        """Append the reason why a record failed, or the number of an earlier record with the same reason."""
        before = self._reasons.setdefault(trial.reason, trial.record)
        if before != trial.record:
            made.append(f"        as record {before:,}\n")
            return
        for line in trial.reason.splitlines():
            made.append(f"        {one_line(line)}\n")

    def _cells(self, number: str, entry: str, output: str, seconds: str, memory: str) -> str:
        left, right = (cut(one, self._column).ljust(self._column) for one in (entry, output))
        return f"{number:>6}  {left} {right} {seconds:>8} {memory:>8}".rstrip()


def _lines(data: bytes) -> list[str]:
    """Return the lines of a record, escaped and shortened for display."""
    shown = data[: _WIDE * _MOST_LINES * 4].decode("utf-8", "replace").splitlines()
    return [one_line(line) for line in _few(shown)]


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _memory(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size else ""
