"""The common parts of commands that run jobs on this machine: signals, the progress line, and the report."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parcelq.amounts import amount
from parcelq.errors import ParcelqError
from parcelq.escaping import one_line

from parcelq_cli.interrupts import interrupted_by, preferring_interrupts
from parcelq_cli.live import Show, shown
from parcelq_cli.options import RESULTS
from parcelq_cli.output import Output

if TYPE_CHECKING:
    from parcelq.local.finish import FileResult

_SHOWN: Final = 5
"""How many dead entries are printed for each file; the list beside the result contains all dead entries."""
_TRY: Final = "'parcelq try' with the same file and step shows the result of single records"


@contextmanager
def interruptible(out: Output, goes_on: str) -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does. After an interruption, print how to continue."""
    with interrupted_by(signal.SIGTERM, signal.SIGHUP):
        try:
            with preferring_interrupts():
                yield
        except KeyboardInterrupt:
            out.note(f"stopped; {goes_on}")
            raise


def run_and_report(out: Output, folder: Path, goes_on: str, work: Callable[[Show], Sequence[FileResult]]) -> None:
    """Call `work`, which runs files and shows their progress, and print the outcome of each file. `goes_on` says how to
    continue after an interruption.
    """
    from parcelq.local.run import BrokenStepError

    began = time.monotonic()
    with interruptible(out, goes_on):
        try:
            with _without_single_failures(out), shown(out) as show:
                results = work(show)
        except BrokenStepError as error:
            if "\n" in error.verdict.reason:  # the error's sentence has only the first line
                out.note(error.verdict.reason)
            raise ParcelqError(f"{error}; {_TRY}, and parcelq run --keep-going runs all others") from None
        report_of(out, results, folder, time.monotonic() - began)


@contextmanager
def _without_single_failures(out: Output) -> Iterator[None]:
    """Drop the log messages about failed runs: the progress line counts dead entries, and a list names them."""
    logger = logging.getLogger("parcelq.process.decide")
    before = logger.level
    logger.setLevel(before if out.verbose else logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def report_of(out: Output, results: Sequence[FileResult], folder: Path, seconds: float, where: str = "") -> None:
    """Print the outcome of files in a folder of results; raise ParcelqError if a result is incomplete.

    `where` contains the options with which other commands find the jobs, if the jobs are not on this machine.
    """
    for one in results:
        _report(out, one, folder, seconds, where)
    failed = sum(not one.whole for one in results)
    if failed:
        raise ParcelqError(f"{amount(failed, 'file')} of {len(results)} without a complete result")


def _report(out: Output, one: FileResult, folder: Path, seconds: float, where: str) -> None:
    path = folder / one.names.result
    document: dict[str, Any] = {
        "file": one.file,
        "job": one.job,
        "result": str(path) if one.state.result else None,
        "complete": one.whole,
        "dead": one.state.dead,
        "healings": one.healings,
        "seconds": round(seconds, 3),
    }
    if one.problem:
        document["problem"] = one.problem
    if report := one.state.report:
        document |= {name: report[name] for name in ("format", "format_chosen_by", "entries", "warnings")}
        out.note(f"{one.file}: {counts_of(report)}")
        for warning in report["warnings"]:
            out.note(f"{one.file}: warning: {warning}")
    if (log := folder / one.names.printed).exists():
        document["log"] = str(log)
        out.note(f"{one.file}: {log} contains the output that the steps printed")
    if one.state.result and one.state.report and one.state.report["dead"]:
        document["dead_list"] = str(folder / one.names.dead)
        _show_dead(out, folder / one.names.dead, one)
    elif one.problem and path.exists():
        out.note(f"{path} is the result of another run")
    out.result(document, _sentence(one, path))
    if one.state.dead and one.job and not one.problem:
        out.note(
            f"to run them again, with a corrected step: parcelq redrive {one.job[:12]}{where or output_option(folder)}"
        )
    if one.problem and one.job and where:
        out.note(f"to continue with what is missing: parcelq resume {one.job[:12]}{where}")


def counts_of(report: Mapping[str, Any]) -> str:
    """Return a text with the numbers of records read and written, and the record format, from a report."""
    read, written = report["entries"]["read"], report["entries"]["written"]
    count = "an unknown number of records" if read is None else amount(read, "record")
    fmt = report["format"] or "unknown"
    # Files are read as lines if their name says nothing else.
    how = ", as its name says" if report["format_chosen_by"] == "name" and fmt != "lines" else ""
    return f"{count} in, {written:,} out; format {fmt}{how}"


def _sentence(one: FileResult, path: Path) -> str:
    if one.problem:
        return f"{one.file}: no result: {one.problem}"
    if one.state.dead:
        return f"{path} lacks {amount(one.state.dead, 'record')} that failed"
    if one.state.report and one.state.report["dead"]:
        return f"{path} is empty, because the step failed on the header, and there are no records"
    if one.state.report and one.state.report["doubts"]:
        return f"{path} may differ from what the step would write for the whole file"
    return str(path)


def output_option(folder: Path) -> str:
    """Return the option that names a folder of results, quoted for a shell; empty for the default folder."""
    return "" if folder == RESULTS else f" --output {one_line(shlex.quote(str(folder)))}"


def _show_dead(out: Output, listed: Path, one: FileResult) -> None:
    with listed.open("rb") as lines:
        for line in islice(lines, _SHOWN):
            dead = json.loads(line)
            out.note(f"{dead_place(dead, one.file)}: {first_line(dead['reason'])}")
    if one.state.dead > _SHOWN:
        out.note(f"… and {one.state.dead - _SHOWN:,} more in {listed}")
    if one.state.dead > 1 and one.state.report and one.state.report["entries"]["done"] == 0:
        with listed.open("rb") as lines:
            reasons = (first_line(json.loads(line)["reason"]) for line in lines)
            first = next(reasons, "")
            if all(reason == first for reason in reasons):
                out.note(f"{one.file}: every record failed with the same reason, so the step looks broken; {_TRY}")


def dead_place(dead: dict[str, Any], file: str) -> str:
    """Return a text that says where a dead entry is: its file, and its record or line."""
    number = f", record {dead['record']}" if "record" in dead else ""
    if "records" in dead:
        number = ", from records {} to {}".format(*dead["records"])
    return one_line(dead.get("file", file)) + number


def first_line(reason: str) -> str:
    """Return the first line of the reason of a dead entry, which names the error. A traceback may follow it."""
    return next(iter(reason.splitlines()), "")
