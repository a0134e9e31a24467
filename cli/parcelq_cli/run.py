"""`parcelq run`: a program over every record of files, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from parcelq.errors import InvalidValueError

from parcelq_cli.options import ParcelSize, WrongUsageError
from parcelq_cli.output import Output, with_output
from parcelq_cli.running import run_and_report

_OPTIONS = {"name", "combine", "max-dead", "env", "settings", "format"}
"""What `InvalidValueError` calls options of this command."""


@with_output
def run(
    out: Output,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files, folders, patterns, pipes, or - for the standard input.",
            show_default=False,
        ),
    ],
    step: Annotated[
        list[str],
        typer.Option("--step", metavar="STEP", help="A program: a path, or a name on the PATH. Several run in a row."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--settings", metavar="FILE", help="Settings of the step; with several steps, of each in turn."),
    ] = None,
    record_format: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="What a record is, such as csv.", show_default="by name"),
    ] = "",
    packages: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="A Python package that the steps need; may be repeated."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where results go.")] = Path("results"),
    name: Annotated[
        str,
        typer.Option(metavar="NAME", help="What the result of the only file is called.", show_default="as the file"),
    ] = "",
    combine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Make one result of all files, in the order given, and call it so.",
            show_default="a result of each",
        ),
    ] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Most entries of one run of the step.")] = 1000,
    parcel_size: ParcelSize = 1000,
    max_dead: Annotated[
        str, typer.Option(metavar="N|P%", help="Stop when more entries than this failed.", show_default="no limit")
    ] = "",
    keep_going: Annotated[bool, typer.Option(help="Go on even if the step fails on everything.")] = False,
    fresh: Annotated[bool, typer.Option(help="Start over, whatever an earlier run has done.")] = False,
    go_on: Annotated[bool, typer.Option("--continue", help="Continue with another version of the step.")] = False,
    workflow_id: Annotated[str, typer.Option(help="What the step gets as --workflow-id.", show_default="none")] = "",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME", help="A variable of this shell that the steps get; may be repeated."),
    ] = None,
) -> None:
    """Run a program over every record of files, and write one result file for each.

    A folder stands for all files in it and below it, but for those whose names begin with a dot; results keep the
    folders in their names. A pattern in quotes, such as 'data/**/*.smi', stands for the files that match it.

    A run that was stopped goes on where it stopped when the same command is given again. Exits with 0 only if every
    record is in a result; records that failed are listed in DIR/NAME.dead.jsonl with the reason, and parcelq redrive
    runs them again.
    """
    from parcelq.local.recipe import Recipe
    from parcelq.local.run import run_files
    from parcelq.local_files import check_folder

    check_folder(output, "--output")
    recipe = Recipe(
        tuple(step),
        tuple(settings or ()),
        workflow_id,
        tuple(packages or ()),
        tuple(env or ()),
        record_format,
        batch_size,
        parcel_size,
        max_dead,
        keep_going,
    )
    try:
        options = recipe.options(output, out.note, fresh=fresh, go_on=go_on)
        run_and_report(
            out,
            output,
            "the same command goes on from here",
            lambda show: run_files(files, options, show, name=name, combine=combine, note=out.note),
        )
    except InvalidValueError as error:
        raise WrongUsageError(f"--{error}") if error.name in _OPTIONS else error from None
