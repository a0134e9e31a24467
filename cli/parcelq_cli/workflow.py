"""The options of commands that run steps on this machine, and the steps that they mean."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from parcelq.errors import InvalidValueError

from parcelq_cli.options import WrongUsageError
from parcelq_cli.output import Output

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.jobs.workflow import Limits
    from parcelq.steps.find import Step

_STEP: Final = typer.Option(
    "--step", metavar="STEP", help="A program: a path, or a command such as 'tr a-z A-Z'. Several run in a row."
)
Steps = Annotated[list[str], _STEP]
OptionalSteps = Annotated[list[str] | None, _STEP]
WorkflowFolder = Annotated[
    Path | None,
    typer.Option("--workflow", metavar="DIR", help="A folder with a workflow.yaml, instead of --step."),
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
    more = variables(env)
    files = [str(path) for path in settings] + [""] * (len(paths) - len(settings))
    found = [local_step(path, file, workflow_id, packages, out.note) for path, file in zip(paths, files, strict=True)]
    return [
        replace(one, settings=replace(one.settings, environment={**one.settings.environment, **more})) for one in found
    ]


def chosen(
    folder: Path | None,
    steps: Sequence[str],
    settings: Sequence[Path],
    packages: Sequence[str],
    *,
    record_format: str,
    batch_size: int | None,
    parcel_size: int | None,
    max_dead: str,
    env: Sequence[str] = (),
) -> Assembled:
    """Return the workflow that options name.

    Raises:
        WrongUsageError: they name none, or two; or one of them is no value that can be.
        SettingsError: anything is wrong with the workflow.
    """
    from parcelq.jobs.assembled import from_folder, from_steps, with_options, with_variables
    from parcelq.jobs.workflow import Workflow
    from parcelq.records import parse

    if (folder is None) == (not steps):
        raise WrongUsageError("give either --step or --workflow")
    if folder is not None and (settings or packages):
        raise WrongUsageError("--settings and --with are for --step; a workflow says both in its workflow.yaml")
    if len(settings) > len(steps):
        raise WrongUsageError(f"--settings is given {len(settings)} times, but there are only {len(steps)} steps")
    limits = limit_of(max_dead)
    fmt = parse(record_format) if record_format else None
    files = [str(path) for path in settings] + [""] * (len(steps) - len(settings))
    assembled = from_folder(folder) if folder is not None else from_steps(steps, files, packages)
    options = Workflow((), fmt, parcel_size, batch_size, limits)
    return with_variables(with_options(assembled, options), variables(env))


def limit_of(max_dead: str) -> Limits:
    """Read the option `--max-dead`. Raises WrongUsageError."""
    from parcelq.jobs.workflow import Limits

    try:
        return Limits.of_dead(max_dead) if max_dead else Limits()
    except InvalidValueError as error:
        raise WrongUsageError(str(error).replace("limit", "--max-dead", 1)) from None


def variables(names: Sequence[str]) -> Mapping[str, str]:
    """Return variables of this shell by their names. Raises WrongUsageError where one is not set."""
    if missing := [name for name in names if name not in os.environ]:
        raise WrongUsageError(f"--env is {missing[0]!r}, but must be the name of a variable that is set")
    return {name: os.environ[name] for name in names}
