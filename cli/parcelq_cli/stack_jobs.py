"""Commands for jobs of a stack: `parcelq jobs`, `redrive`, `resume` and `cancel` with `--stack`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parcelq.errors import ParcelqError
from parcelq.lineage.source import Source

from parcelq_cli import jobs
from parcelq_cli.output import Output, amount

if TYPE_CHECKING:
    from parcelq.jobs.record import JobRecord
    from parcelq.stack.lookup import Stack


def list_jobs(out: Output, stack: Stack, *, every: bool, name: str = "") -> None:
    """List the jobs of a stack, the newest first.

    Args:
        out: prints the output of the command.
        stack: the stack of the jobs.
        every: whether to list complete jobs too.
        name: a text that the names of the jobs' files must contain; empty for all jobs.

    Raises:
        ParcelqError: if the stack knows no job of a file with such a name.
    """
    from parcelq.stack.kept import all_jobs

    listed = [one for one in all_jobs(stack.jobs) if every or not one.is_whole]
    found = [one for one in listed if name in Source.parse(one.source).name]
    for one in found:
        file = Source.parse(one.source).name
        out.result(document_of(one), jobs.line_of(one.id, one, file, one.problem, mapped=not one.is_whole))
    if not found and name:
        raise ParcelqError(f"there is no job of a file whose name contains {name!r}")
    if not found:
        out.note(f"stack {stack.name} has no job" if every else f"all jobs of stack {stack.name} are complete")


def cancel_jobs(out: Output, stack: Stack, names: Sequence[str]) -> None:
    """Cancel jobs of a stack."""
    known = stack.jobs
    for name in names:
        record = known.cancel(name)
        out.result(document_of(record), f"cancelled {record.id}")
        out.note(f"finished work is kept; parcelq resume {record.id[:12]} --stack {stack.name} continues")


def resume_job(out: Output, stack: Stack, job: str) -> None:
    """Continue a job of a stack that was stopped or cancelled."""
    known = stack.jobs
    record = known.find(job)
    parts = known.resume(record.id)
    document = {"job": record.id, "parts": parts}
    out.result(document, f"{record.id} continues with {amount(parts, 'missing part')}")
    _say_how_to_wait(out, stack, record)


def redrive_job(out: Output, stack: Stack, job: str, steps: Sequence[str], folder: Path | None) -> None:
    """Run dead entries of a job of a stack again, optionally with other steps."""
    from parcelq.stack.run import redrive

    from parcelq_cli.choice import naming_options, recipe_of
    from parcelq_cli.remote import uploading

    with naming_options():
        changed = recipe_of(folder, steps).assembled() if steps or folder else None
    record, count = redrive(stack, job, changed, out.note, uploading(out), is_folder=folder is not None)
    out.result({"job": record.id, "redriven": count}, f"{record.id} runs {amount(count, 'dead entry')} again")
    _say_how_to_wait(out, stack, record)


def document_of(record: JobRecord) -> dict[str, Any]:
    """Return the facts about a job of a stack that `parcelq jobs --json` prints."""
    return {
        **jobs.document_of(record.id, record),
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


def _say_how_to_wait(out: Output, stack: Stack, record: JobRecord) -> None:
    out.note(f"parcelq wait {record.id[:12]} --stack {stack.name} waits for the result and downloads it")
