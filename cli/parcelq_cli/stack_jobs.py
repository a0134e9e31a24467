"""Commands for jobs of a stack: `parcelq jobs`, `dead`, `redrive`, `resume` and `cancel` with `--stack`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parcelq.errors import ParcelqError
from parcelq.lineage.source import Source
from rich.text import Text

from parcelq_cli.escaping import one_line
from parcelq_cli.output import Output, amount
from parcelq_cli.source_map import map_line

if TYPE_CHECKING:
    from parcelq.jobs.record import JobRecord
    from parcelq.stack.lookup import Stack


def list_jobs(out: Output, stack: Stack, *, every: bool, name: str = "") -> None:
    """List the jobs of a stack, the newest first.

    Args:
        out: prints messages.
        stack: the stack.
        every: whether to list complete jobs too.
        name: what the names of their files must contain.

    Raises:
        ParcelqError: no file of that name is known.
    """
    from parcelq.stack.kept import all_jobs

    listed = [one for one in all_jobs(stack.jobs) if every or not one.is_whole]
    found = [one for one in listed if name in Source.parse(one.source).name]
    for one in found:
        out.result(document_of(one), _line(one))
    if not found and name:
        raise ParcelqError(f"there is no job of a file whose name contains {name!r}")
    if not found:
        out.note(f"stack {stack.name} has no job" if every else f"all jobs of stack {stack.name} are complete")


def list_dead(out: Output, stack: Stack, job: str) -> None:
    """List the entries of a job of a stack that failed for good so far."""
    from parcelq_cli.jobs import shown_entry
    from parcelq_cli.running import dead_place, first_line

    jobs = stack.jobs
    record = jobs.find(job)
    name, count = Source.parse(record.source).name, 0
    for one in jobs.dead(record.id):
        told: dict[str, Any] = {"job": record.id, "file": name, **json.loads(one.to_json())}
        entry = told.get("entry", told.get("entry_base64", ""))
        out.result(told, f"{dead_place(told, name)}: {shown_entry(entry)}: {first_line(one.reason)}")
        count += one.entries
    out.note(amount(count, "dead entry"))


def cancel_jobs(out: Output, stack: Stack, jobs: Sequence[str]) -> None:
    """Cancel jobs of a stack."""
    known = stack.jobs
    for job in jobs:
        record = known.cancel(job)
        out.result(document_of(record), f"cancelled {record.id}")
        out.note(f"finished work is kept; parcelq resume {record.id[:12]} --stack {stack.name} continues")


def resume_job(out: Output, stack: Stack, job: str) -> None:
    """Continue a job of a stack that was stopped or cancelled."""
    jobs = stack.jobs
    record = jobs.find(job)
    parts = jobs.resume(record.id)
    document = {"job": record.id, "parts": parts}
    out.result(document, f"{record.id} continues with {amount(parts, 'missing part')}")
    _tell_how_to_wait(out, stack, record)


def redrive_job(out: Output, stack: Stack, job: str, steps: Sequence[str], folder: Path | None) -> None:
    """Run dead entries of a job of a stack again, optionally with other steps."""
    from parcelq.stack.run import redrive

    from parcelq_cli.choice import naming_options, recipe_of
    from parcelq_cli.remote import uploading

    with naming_options():
        changed = recipe_of(folder, steps, [], []).assembled() if steps or folder else None
    record, count = redrive(stack, job, changed, out.note, uploading(out), is_folder=folder is not None)
    out.result({"job": record.id, "redriven": count}, f"{record.id} runs {amount(count, 'dead entry')} again")
    _tell_how_to_wait(out, stack, record)


def document_of(record: JobRecord) -> dict[str, Any]:
    """What `parcelq jobs --json` prints about a job of a stack."""
    share = record.share
    return {
        "job": record.id,
        "state": record.state,
        "file": Source.parse(record.source).name,
        "result": record.result or None,
        "workflow": record.workflow,
        "versions": list(record.versions),
        "percent": None if share is None else round(100 * share, 2),
        "total": record.total,
        "covered": record.covered,
        "missing": record.missing,
        "dead": record.dead,
        "reason": record.reason,
        "problem": record.problem,
        "holes": record.hole_count,
        "healings": record.healings,
        "rate": round(record.rate, 1),
        "time_left": record.time_left,
        "started": record.started,
        "ended": record.ended or None,
        "map": map_line(record.map).plain,
    }


def _line(record: JobRecord) -> Text:
    share = "?" if record.share is None else f"{record.share:.0%}"
    dead = f", {record.dead:,} dead" if record.dead else ""
    problem = f": {one_line(record.problem)}" if record.problem else ""
    line = Text(f"{record.id}  {record.state}, {share}{dead}  {one_line(Source.parse(record.source).name)}{problem}")
    return line.append("\n  ").append_text(map_line(record.map)) if record.map and not record.is_whole else line


def _tell_how_to_wait(out: Output, stack: Stack, record: JobRecord) -> None:
    out.note(f"parcelq wait {record.id[:12]} --stack {stack.name} waits for the result and downloads it")
