"""The workflow of `parcelq run` and `parcelq try`: a folder's, or one made from options such as --step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parcelq.errors import InvalidValueError

from parcelq_cli.options import WrongUsageError

if TYPE_CHECKING:
    from parcelq.local.recipe import Recipe

_OPTIONS: Final = frozenset({"name", "combine", "max-dead", "env", "settings", "format"})
"""How `InvalidValueError` names options."""


def recipe_of(
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
    workflow_id: str = "",
    keep_going: bool = False,
) -> Recipe:
    """Return the workflow that the options describe.

    Raises:
        WrongUsageError: they name neither steps nor a workflow, or both; or there are more settings than steps.
    """
    from parcelq.local.recipe import Recipe

    if (folder is None) == (not steps):
        raise WrongUsageError("give either --step or --workflow")
    if folder is not None and (settings or packages):
        raise WrongUsageError("--settings and --with are for --step; a workflow says both in its workflow.yaml")
    if len(settings) > len(steps):
        raise WrongUsageError(f"--settings is given {len(settings)} times, but there are only {len(steps)} steps")
    return Recipe(
        tuple(steps),
        str(folder) if folder is not None else "",
        tuple(map(str, settings)),
        workflow_id,
        tuple(packages),
        tuple(env),
        record_format,
        batch_size,
        parcel_size,
        max_dead,
        keep_going,
    )


@contextmanager
def naming_options() -> Iterator[None]:
    """Raise WrongUsageError with the name of the option if its value is invalid."""
    try:
        yield
    except InvalidValueError as error:
        raise WrongUsageError(f"--{error}") if error.name in _OPTIONS else error from None
