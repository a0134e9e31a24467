"""`parcelq run`: a program over every record of files, on this machine or on a stack."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from parcelq.errors import ParcelqError

from parcelq_cli.options import DEFAULT_SIZE, STEP, Env, Packages, Settings, WorkflowFolder, WrongUsageError
from parcelq_cli.output import Output, amount, with_output

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.local.run import FileResult

_SHOWN: Final = 5
"""Dead entries that are printed for each file; the list beside the result has all."""


@with_output
def run(
    out: Output,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="The files; with --stack also s3://bucket/key.", show_default=False),
    ],
    step: Annotated[list[str] | None, STEP] = None,
    workflow: WorkflowFolder = None,
    settings: Settings = None,
    record_format: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="What a record is, such as csv.", show_default="by name"),
    ] = "",
    packages: Packages = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("results"),
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Most entries of one run of the step.", show_default="1000")
    ] = None,
    parcel_size: Annotated[
        int | None, typer.Option(min=1, help="Most entries of one message.", show_default="1000")
    ] = None,
    max_dead: Annotated[
        str, typer.Option(metavar="N|P%", help="Stop when more entries than this failed.", show_default="no limit")
    ] = "",
    keep_going: Annotated[bool, typer.Option(help="Go on even if the step fails on everything.")] = False,
    fresh: Annotated[bool, typer.Option(help="Start over, whatever an earlier run has done.")] = False,
    go_on: Annotated[bool, typer.Option("--continue", help="Continue with another version of the step.")] = False,
    workflow_id: Annotated[str, typer.Option(help="What the step gets as --workflow-id.", show_default="none")] = "",
    env: Env = None,
    stack: Annotated[
        str, typer.Option("--stack", metavar="NAME", help="Run on this stack of AWS.", show_default="this machine")
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", help="With --stack, do not wait for the results.")] = False,
) -> None:
    """Run a program over every record of files, and write one result file for each.

    A run that was stopped goes on where it stopped when the same command is given again. Exits with 0 only if every
    record is in a result; records that failed are listed in DIR/NAME.dead.jsonl with the reason.
    """
    from parcelq_cli.choice import chosen

    assembled = chosen(
        workflow,
        step or [],
        settings or [],
        packages or [],
        record_format=record_format,
        batch_size=batch_size,
        parcel_size=parcel_size,
        max_dead=max_dead,
        env=env or [],
    )
    only_here = {"--continue": go_on, "--fresh": fresh, "--keep-going": keep_going, "--workflow-id": workflow_id}
    if stack:
        _check_unused({**only_here, "--env": env}, "is for runs on this machine, so it does not go with --stack")
        from parcelq_cli.remote import run_on_stack

        run_on_stack(out, files, assembled, stack, output, detach=detach)
    else:
        _check_unused({"--detach": detach}, "is for runs on a stack, so it needs --stack")
        more = {"keep_going": keep_going, "fresh": fresh, "go_on": go_on}
        _run_here(out, [Path(file) for file in files], assembled, output, workflow_id, **more)


def _check_unused(options: Mapping[str, object], reason: str) -> None:
    """Raise WrongUsageError if one of these options is given."""
    for name, value in options.items():
        if value:
            raise WrongUsageError(f"{name} {reason}")


def _run_here(
    out: Output, files: Sequence[Path], assembled: Assembled, folder: Path, workflow_id: str, **more: bool
) -> None:
    from parcelq.jobs.assembled import with_id
    from parcelq.local.run import Options, run_files
    from parcelq.local_files import check_folder, check_targets
    from parcelq.process.rules import Rules
    from parcelq.result_names import result_names

    from parcelq_cli.live import shown

    workflow = assembled.workflow
    sizes = [workflow.batch_size_of(one, DEFAULT_SIZE) for one in workflow.steps]
    check_folder(folder, "--output")
    check_targets(files, [folder / name for file in files for name in result_names(file.name).all])
    options = Options(
        with_id(assembled, workflow_id).with_environments(out.note),
        folder,
        workflow.format,
        Rules(parcel_size=max(sizes[0], workflow.parcel_size or DEFAULT_SIZE), back_off_seconds=0),
        sizes,
        workflow.limits.max_seconds,
        workflow.limits.max_dead,
        workflow.limits.max_dead_share,
        **more,
    )
    began = time.monotonic()
    try:
        with shown(out) as show:
            results = run_files(files, options, show)
    except KeyboardInterrupt:
        out.note("stopped; the same command goes on from here")
        raise
    report_of(out, results, folder, time.monotonic() - began)


def report_of(out: Output, results: Sequence[FileResult], folder: Path, seconds: float) -> None:
    """Print what became of files.

    Args:
        out: prints.
        results: what became of each.
        folder: where the results are.
        seconds: how long it took.

    Raises:
        ParcelqError: not all of them came out whole.
    """
    for one in results:
        path = folder / one.names.result
        document: dict[str, Any] = {
            "file": str(one.file),
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
            for warning in report["warnings"]:
                out.note(f"{one.file}: warning: {warning}")
        if one.state.dead and one.state.result:
            document["dead_list"] = str(folder / one.names.dead)
            _show_dead(out, folder / one.names.dead, one)
        out.result(document, _sentence(one, path))
    failed = [one for one in results if not one.whole]
    if failed:
        raise ParcelqError(f"{amount(len(failed), 'file')} of {len(results)} did not come out whole")


def _sentence(one: FileResult, path: Path) -> str:
    if one.problem:
        return f"{one.file}: no result: {one.problem}"
    if one.state.dead:
        return f"{path} lacks {amount(one.state.dead, 'entry')} that failed"
    if one.state.report and one.state.report["doubts"]:
        return f"{path} may not be what the step writes for the whole file"
    return str(path)


def _show_dead(out: Output, listed: Path, one: FileResult) -> None:
    import json
    from itertools import islice

    with listed.open("rb") as lines:
        for line in islice(lines, _SHOWN):
            dead = json.loads(line)
            where = f"record {dead['record']}" if dead.get("record") else f"bytes {dead.get('start')}-{dead.get('end')}"
            out.note(f"{one.file}, {where}: {str(dead.get('reason', '')).splitlines()[0]}")
    if one.state.dead > _SHOWN:
        out.note(f"… and {one.state.dead - _SHOWN:,} more in {listed}")
