"""`parcelq jobs`, `cancel`, `redrive` and `resume`: jobs of this machine or of a stack, by their ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from parcelq.errors import InvalidValueError
from parcelq.stack.lookup import look_up
from rich.text import Text

from parcelq_cli.escaping import one_line
from parcelq_cli.options import AnyStack, StackName, WorkflowFolder, WrongUsageError
from parcelq_cli.output import Output, amount, with_output
from parcelq_cli.running import dead_place, first_line, run_and_report
from parcelq_cli.source_map import map_line

if TYPE_CHECKING:
    from parcelq.local.manage import JobStatus, LocalJobs

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or the beginning of it.", show_default=False)]
ResultsFolder = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="The folder of results that the job writes to.")
]
RESULTS = Path("results")


def jobs_in(output: Path) -> LocalJobs:
    """Return the jobs of a folder of results. All commands look up jobs here."""
    from parcelq.local.manage import LocalJobs

    return LocalJobs(output)


@with_output
def jobs(
    out: Output,
    output: ResultsFolder = RESULTS,
    stack: AnyStack = "",
    every: Annotated[bool, typer.Option("--all", help="With --stack, list complete jobs too.")] = False,
) -> None:
    """List the jobs that are not complete: running, stopped, or finished with failed entries.

    Below each job is a map of its source from the first byte to the last: █ done, ▒ some failed, ░ some missing, ▓
    both. This machine keeps a job in DIR/.parcelq until all its records are in its result. A stack keeps the record of
    a job for 105 days.
    """
    if stack:
        from parcelq_cli.stack_jobs import list_jobs

        list_jobs(out, look_up(stack), every=every)
        return
    if every:
        raise WrongUsageError("--all is for jobs of a stack, so it needs --stack; this machine keeps no complete jobs")
    found = jobs_in(output).all()
    for one in found:
        out.result(_document(one, output), _line(one, output))
    if not found:
        out.note(f"no incomplete job in {output}")


@with_output
def cancel(
    out: Output,
    job: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Ids of jobs, or the beginnings of ids.", show_default=False)
    ],
    stack: StackName,
) -> None:
    """Cancel jobs of a stack: within seconds, no more of their messages run.

    Finished work is kept, and parcelq resume continues with the rest. To stop a job of this machine, press Ctrl-C in
    its terminal.
    """
    from parcelq_cli.stack_jobs import cancel_jobs

    for one in job:
        _check_id(one)
    cancel_jobs(out, look_up(stack), job)


@with_output
def redrive(
    out: Output,
    job: JobId,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step", metavar="STEP", help="Another step than the one the job began with, such as a corrected one."
        ),
    ] = None,
    workflow: WorkflowFolder = None,
    output: ResultsFolder = RESULTS,
    stack: AnyStack = "",
) -> None:
    """Run the failed entries of a job again, and insert their outputs into the result.

    This rewrites the result, its report and the list of dead entries; an entry that fails again is listed once. If a
    job has several steps, all entries of a message with a failed entry run again, from the first step on. On a stack,
    other steps become a version of the workflow that only this job uses, and the report names all versions. For dead
    letters of a topic, use parcelq topics redrive.
    """
    _check_id(job)
    if stack:
        from parcelq_cli.stack_jobs import redrive_job

        redrive_job(out, look_up(stack), job, step or [], workflow)
    elif workflow:
        raise WrongUsageError("--workflow is for a job of a stack; one of this machine runs its own folder")
    else:
        _run_again(out, output, job, redrive=True, steps=step or [])


@with_output
def resume(
    out: Output,
    job: JobId,
    go_on: Annotated[bool, typer.Option("--continue", help="Continue with another version of the step.")] = False,
    output: ResultsFolder = RESULTS,
    stack: AnyStack = "",
) -> None:
    """Continue a job that was stopped or cancelled, without the limits that stopped it."""
    _check_id(job)
    if stack:
        from parcelq_cli.stack_jobs import resume_job

        if go_on:
            raise WrongUsageError("--continue is for jobs of this machine; parcelq redrive --step runs another version")
        resume_job(out, look_up(stack), job)
    else:
        _run_again(out, output, job, go_on=go_on)


def list_dead(out: Output, job: str, output: Path) -> None:
    """List the dead entries of a job."""
    import json

    found = jobs_in(output)
    record = found.find(job)
    count = 0
    for one in found.dead(job):
        told: dict[str, Any] = {"job": record.id, "file": record.paths, **json.loads(one.to_json())}
        entry = told.get("entry", told.get("entry_base64", ""))
        out.result(told, f"{dead_place(told, record.paths)}: {shown_entry(entry)}: {first_line(one.reason)}")
        count += one.entries
    out.note(amount(count, "dead entry"))


def _run_again(
    out: Output, output: Path, job: str, *, redrive: bool = False, steps: list[str] | None = None, go_on: bool = False
) -> None:
    def work(show: Any) -> Any:
        again = jobs_in(output).run_again
        return [again(job, redrive=redrive, steps=steps or (), go_on=go_on, note=out.note, on_progress=show)]

    run_and_report(out, output, f"parcelq resume {job} continues from here", work)


def _check_id(job: str) -> None:
    from parcelq.local.manage import is_job_id

    if not is_job_id(job):
        raise InvalidValueError("JOB", job, "a job's id, of 6 to 24 hexadecimal digits; parcelq jobs lists them")


def _document(one: JobStatus, output: Path) -> dict[str, Any]:
    return {
        "job": one.record.id,
        "state": one.state,
        "files": [file.name for file in one.record.files],
        "result": str(output / one.record.result),
        "percent": None if one.share is None else round(100 * one.share, 2),
        "total": one.total,
        "covered": one.covered,
        "missing": one.missing,
        "dead": one.dead,
        "map": map_line(one.map).plain,
        "steps": list(one.record.recipe.get("steps", ())),
        "versions": list(one.record.versions),
    }


def _line(one: JobStatus, output: Path) -> Text:
    share = "?" if one.share is None else f"{one.share:.0%}"
    dead = f", {one.dead:,} dead" if one.dead else ""
    line = Text(f"{one.record.id}  {one.state}, {share}{dead}  {one_line(output / one.record.result)}")
    return line.append("\n  ").append_text(map_line(one.map)) if one.map else line


def shown_entry(entry: str) -> str:
    """Return a dead entry's beginning for display."""
    return repr(entry[:80]) + " …" * (len(entry) > 80)
