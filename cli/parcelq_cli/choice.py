"""What `parcelq run` runs: the workflow of a folder, or one made of steps; with the sizes and limits of options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parcelq.errors import InvalidValueError

from parcelq_cli.options import WrongUsageError

if TYPE_CHECKING:
    from parcelq.jobs.assembled import Assembled
    from parcelq.jobs.workflow import Limits


def chosen(
    folder: Path | None,
    steps: Sequence[str],
    settings: Sequence[Path],
    packages: Sequence[str],
    *,
    record_format: str = "",
    batch_size: int | None = None,
    parcel_size: int | None = None,
    max_dead: str = "",
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
