"""`parcelq jobs`, `cancel`, `redrive` and `resume`: commands for jobs of this machine or of a stack."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.amounts import amount
from parcelq.errors import ParcelqError
from parcelq.escaping import one_line
from parcelq.lineage.source import Source
from parcelq.stack.lookup import Stack, look_up
from rich.text import Text

from parcelq_cli.options import (
    RESULTS,
    AnyStack,
    GoOn,
    JobId,
    JobIds,
    ResultsFolder,
    StackName,
    WorkflowFolder,
    WrongUsageError,
)
from parcelq_cli.output import Output, with_output
from parcelq_cli.running import dead_place, first_line, run_and_report
from parcelq_cli.source_map import map_line

if TYPE_CHECKING:
    from parcelq.collect.deaths import Dead
    from parcelq.jobs.record import JobRecord
    from parcelq.local.manage import JobStatus, LocalJobs

SHOWN: Final = 80
"""How many characters of an entry are shown; `--json` shows the whole entry."""


def jobs_in(output: Path) -> LocalJobs:
    """Return the jobs of a folder of results."""
    from parcelq.local.manage import LocalJobs
    from parcelq.local_files import check_folder

    check_folder(output, "--output")
    return LocalJobs(output)


@with_output
def jobs(
    out: Output,
    output: ResultsFolder = RESULTS,
    stack: AnyStack = "",
    every: Annotated[bool, typer.Option("--all", help="With --stack, list complete jobs too.")] = False,
) -> None:
    """List the jobs that are not complete: jobs that are running, stopped, or finished with dead entries.

    Below each job is a map of its source from the first byte to the last: █ done, ▒ some failed, ░ some missing, ▓ some
    failed and some missing. This machine keeps a job in DIR/.parcelq until all its records are in its result. A stack
    keeps the record of a job for 105 days.
    """
    if stack:
        list_stack_jobs(out, stack, every=every)
        return
    if every:
        raise WrongUsageError("--all is for jobs of a stack, so it needs --stack; this machine keeps no complete jobs")
    found = jobs_in(output).all()
    for one in found:
        record = one.record
        result = output / record.result
        document = {
            **document_of(record.id, one),
            "files": [file.name for file in record.files],
            "result": str(result),
            "steps": list(record.recipe.get("steps", ())),
            "versions": list(record.versions),
        }
        out.result(document, line_of(record.id, one, result))
    if not found:
        out.note(f"no incomplete job in {output}" + ("" if output.exists() else ": there is no such folder"))


@with_output
def cancel(out: Output, job: JobIds, stack: StackName) -> None:
    """Cancel jobs of a stack: within seconds, no more of their messages run.

    Finished work is kept, and parcelq resume runs the remaining work. To stop a job of this machine, press Ctrl-C in
    its terminal.
    """
    known = look_up(stack).jobs
    for name in job:
        record = known.cancel(name)
        out.result(_stack_document(record), f"cancelled {record.id}")
        out.note(f"finished work is kept; parcelq resume {record.id[:12]} --stack {stack} continues")


@with_output
def redrive(
    out: Output,
    job: JobId,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step", metavar="STEP", help="A step that replaces the job's step, such as a corrected version."
        ),
    ] = None,
    workflow: WorkflowFolder = None,
    output: ResultsFolder = RESULTS,
    stack: AnyStack = "",
) -> None:
    """Run the dead entries of a job again, and insert their outputs into the result.

    This rewrites the result, its report and the list of dead entries; an entry that fails again is listed once. If a
    job has several steps, all records of a message with a dead entry run again, from the first step on. On a stack,
    other steps become a version of the workflow that only this job uses, and the report names all versions. For dead
    letters of a topic, use parcelq topics redrive.
    """
    if stack:
        _redrive_on_stack(out, look_up(stack), job, step or [], workflow)
    elif workflow:
        raise WrongUsageError("--workflow is for a job of a stack; a job of this machine runs its own folder")
    else:
        _run_again(out, output, job, redrive=True, steps=step or [])


@with_output
def resume(out: Output, job: JobId, go_on: GoOn = False, output: ResultsFolder = RESULTS, stack: AnyStack = "") -> None:
    """Continue a job that was stopped or cancelled, without the limits that stopped it."""
    if not stack:
        _run_again(out, output, job, go_on=go_on)
        return
    if go_on:
        raise WrongUsageError("--continue is for jobs of this machine; parcelq redrive --step runs another version")
    known = look_up(stack).jobs
    record = known.find(job)
    parts = known.resume(record.id)
    document = {"job": record.id, "parts": parts}
    out.result(document, f"{record.id} continues with {amount(parts, 'missing part')}")
    _say_how_to_wait(out, stack, record)


def _run_again(
    out: Output, output: Path, job: str, *, redrive: bool = False, steps: Sequence[str] = (), go_on: bool = False
) -> None:
    def work(show: Any) -> Any:
        again = jobs_in(output).run_again
        return [again(job, redrive=redrive, steps=steps, go_on=go_on, note=out.note, on_progress=show)]

    run_and_report(out, output, f"parcelq resume {job} continues it", work)


def _redrive_on_stack(out: Output, stack: Stack, job: str, steps: Sequence[str], folder: Path | None) -> None:
    from parcelq.stack.run import redrive

    from parcelq_cli.choice import naming_options, recipe_of
    from parcelq_cli.remote import uploading

    with naming_options():
        changed = recipe_of(folder, steps).assembled() if steps or folder else None
    record, count = redrive(stack, job, changed, out.note, uploading(out), is_folder=folder is not None)
    what = amount(count, "dead entry") if count else "the header"
    out.result({"job": record.id, "redriven": count}, f"{record.id} runs {what} again")
    _say_how_to_wait(out, stack.name, record)


def _say_how_to_wait(out: Output, stack: str, record: JobRecord) -> None:
    out.note(f"parcelq wait {record.id[:12]} --stack {stack} waits for the result and downloads it")


def list_stack_jobs(out: Output, stack: str, *, every: bool, name: str = "") -> None:
    """List the jobs of a stack whose files have names that contain `name`, the newest first.

    Raises:
        ParcelqError: if a name is given, and the stack knows no job of a file with such a name.
    """
    from parcelq.stack.kept import all_jobs

    listed = [one for one in all_jobs(look_up(stack).jobs) if every or not one.is_whole]
    found = [one for one in listed if name in Source.parse(one.source).name]
    for one in found:
        file = Source.parse(one.source).name
        failed_on_header = one.has_dead and not one.dead
        problem = one.problem or (one.reason if failed_on_header else "")
        out.result(_stack_document(one), line_of(one.id, one, file, problem, mapped=not one.is_whole))
    if not found and name:
        raise ParcelqError(f"there is no job of a file whose name contains {name!r}")
    if not found:
        out.note(f"stack {stack} has no job" if every else f"all jobs of stack {stack} are complete")


def _stack_document(record: JobRecord) -> dict[str, Any]:
    return {
        **document_of(record.id, record),
        "file": Source.parse(record.source).name,
        "result": record.result or None,
        "workflow": record.workflow,
        "versions": list(record.versions),
        "reason": record.reason,
        "problem": record.problem,
        "holes": record.hole_count,
        "healings": record.healings,
        "rate": round(record.rate, 1),
        "time_left": record.time_left,
        "started": record.started,
        "ended": record.ended or None,
    }


def document_of(job: str, one: JobStatus | JobRecord) -> dict[str, Any]:
    """Return the facts about a job that `--json` prints."""
    return {
        "job": job,
        "state": one.state,
        "percent": None if one.share is None else round(100 * one.share, 2),
        "total": one.total,
        "covered": one.covered,
        "missing": one.missing,
        "dead": one.dead,
        "map": map_line(one.map).plain,
    }


def line_of(job: str, one: JobStatus | JobRecord, name: object, problem: str = "", *, mapped: bool = True) -> Text:
    """Return a line about a job, with the map of its source in a second line."""
    share = "?" if one.share is None else f"{one.share:.0%}"
    dead = f", {one.dead:,} dead" if one.dead else ""
    line = Text(f"{job}  {one.state}, {share}{dead}  {one_line(name)}" + (f": {one_line(problem)}" if problem else ""))
    letters = one.map if mapped else ""
    return line.append("\n  ").append_text(map_line(letters)) if letters else line


def list_dead(out: Output, job: str, file: str, found: Iterable[Dead]) -> None:
    """List the dead entries of a job; `file` is the file for entries that do not name their file."""
    count = 0
    for one in found:
        document: dict[str, Any] = {"job": job, "file": file, **json.loads(one.to_json())}
        entry = document.get("entry", document.get("entry_base64", ""))
        shown = repr(entry[:SHOWN]) + " …" * (len(entry) > SHOWN)
        out.result(document, f"{dead_place(document, file)}: {shown}: {first_line(one.reason)}")
        count += one.entries
    out.note(amount(count, "dead entry"))
