"""The options of commands that run steps on this machine, and the steps that they mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parcelq_cli.options import WrongUsageError
from parcelq_cli.output import Output

if TYPE_CHECKING:
    from parcelq.steps.find import Step

Steps = Annotated[
    list[str],
    typer.Option(
        "--step", metavar="STEP", help="A program: a path, or a command such as 'tr a-z A-Z'. Several run in a row."
    ),
]
Settings = Annotated[
    list[Path] | None,
    typer.Option("--settings", metavar="FILE", help="Settings of the step; with several steps, of each in turn."),
]
Packages = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="PACKAGE", help="A Python package that the steps need; may be repeated."),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="A variable of this shell that the steps get; may be repeated."),
]


def steps_of(
    out: Output,
    paths: Sequence[str],
    settings: Sequence[Path],
    workflow_id: str,
    packages: Sequence[str],
    env: Sequence[str],
) -> list[Step]:
    """Find the steps that options name.

    Raises:
        WrongUsageError: there are more settings than steps, or a variable is not set.
        SettingsError: there is no such step, or it cannot be run.
    """
    from dataclasses import replace

    from parcelq.steps.find import local_step

    if len(settings) > len(paths):
        raise WrongUsageError(f"--settings is given {len(settings)} times, but there are only {len(paths)} steps")
    if missing := [name for name in env if name not in os.environ]:
        raise WrongUsageError(f"--env is {missing[0]!r}, but must be the name of a variable that is set")
    variables = {name: os.environ[name] for name in env}
    files = [str(path) for path in settings] + [""] * (len(paths) - len(settings))
    found = [local_step(path, file, workflow_id, packages, out.note) for path, file in zip(paths, files, strict=True)]
    return [
        replace(one, settings=replace(one.settings, environment={**one.settings.environment, **variables}))
        for one in found
    ]
