"""`parcelq run`: runs a program over every record of files, on this machine or on a stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from parcelq_cli.options import (
    RESULTS,
    Env,
    GoOn,
    Packages,
    RecordFormat,
    ResultsFolder,
    Settings,
    Steps,
    WorkflowFolder,
    WorkflowId,
    WrongUsageError,
)
from parcelq_cli.output import Output, with_output
from parcelq_cli.running import run_and_report


@with_output
def run(
    out: Output,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Files, folders, patterns, pipes, or - for the standard input; with --stack files or s3://bucket/key.",
            show_default=False,
        ),
    ],
    step: Steps = None,
    workflow: WorkflowFolder = None,
    settings: Settings = None,
    record_format: RecordFormat = "",
    packages: Packages = None,
    output: ResultsFolder = RESULTS,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="The name of the result; only for a single file.", show_default="as the file"
        ),
    ] = "",
    combine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Make one result with this name from all files, in the given order.",
            show_default="a result of each",
        ),
    ] = "",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="The most records of one run of the step.", show_default="1000")
    ] = None,
    parcel_size: Annotated[
        int | None, typer.Option(min=1, help="The most records of a message.", show_default="1000")
    ] = None,
    max_dead: Annotated[
        str, typer.Option(metavar="N|P%", help="Stop when more records than this failed.", show_default="no limit")
    ] = "",
    keep_going: Annotated[bool, typer.Option(help="Continue even if the step fails on every record.")] = False,
    fresh: Annotated[bool, typer.Option(help="Start over, and discard the work of an earlier run.")] = False,
    go_on: GoOn = False,
    workflow_id: WorkflowId = "",
    env: Env = None,
    stack: Annotated[
        str, typer.Option("--stack", metavar="NAME", help="Run on this stack on AWS.", show_default="this machine")
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", help="With --stack, do not wait for the results.")] = False,
) -> None:
    """Run a program over every record of files, and write one result file for each.

    A folder means all files in the folder and its subfolders, except files and folders whose names begin with a dot.
    The names of results include the folders. A pattern in quotes, such as 'data/**/*.smi', means all files that match
    it.

    If you repeat the command of a run that was stopped, the run continues where it stopped. Exits with 0 only if every
    record is in a result; dead entries are the records that failed; DIR/NAME.dead.jsonl lists them with their
    reasons, and parcelq redrive runs them again.
    """
    from parcelq.local.run import run_files
    from parcelq.local_files import check_folder

    from parcelq_cli.choice import naming_options, recipe_of

    if "" in files:
        raise WrongUsageError("no FILE may be empty; . is this folder")
    if name and combine:
        raise WrongUsageError("give either --name or --combine; both name the result")
    if fresh and go_on:
        raise WrongUsageError("give either --fresh, which starts over, or --continue")
    recipe = recipe_of(
        workflow,
        step,
        settings,
        packages,
        format=record_format,
        batch_size=batch_size,
        parcel_size=parcel_size,
        max_dead=max_dead,
        env=tuple(env or ()),
        workflow_id=workflow_id,
        keep_going=keep_going,
    )
    only_here = {
        "--continue": go_on,
        "--fresh": fresh,
        "--keep-going": keep_going,
        "--workflow-id": workflow_id,
        "--env": env,
        "--name": name,
        "--combine": combine,
    }
    with naming_options():
        if stack:
            _check_unused(only_here, "is for runs on this machine, so it cannot be used with --stack")
            from parcelq_cli.remote import run_on_stack

            run_on_stack(out, files, recipe.assembled(), stack, output, detach=detach)
        else:
            _check_unused({"--detach": detach}, "is for runs on a stack, so it needs --stack")
            check_folder(output, "--output")
            options = recipe.options(output, out.note, fresh=fresh, go_on=go_on)
            run_and_report(
                out,
                output,
                "the same command continues after the last finished batch of records",
                lambda show: run_files(files, options, show, name=name, combine=combine, note=out.note),
            )


def _check_unused(options: Mapping[str, object], reason: str) -> None:
    """Raise WrongUsageError if one of these options is used."""
    for name, value in options.items():
        if value:
            raise WrongUsageError(f"{name} {reason}")
