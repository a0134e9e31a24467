"""The workflow of `parcelq run`, `try` and `redrive`: read from a folder, or made from single steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parcelq.amounts import amount
from parcelq.errors import InvalidValueError

from parcelq_cli.options import WrongUsageError

if TYPE_CHECKING:
    from parcelq.local.recipe import Recipe

_OPTIONS: Final = frozenset({"name", "combine", "max-dead", "env", "settings", "format"})
"""The names that `InvalidValueError` gives to options of the command line."""


def recipe_of(
    folder: Path | None,
    steps: Sequence[str] | None,
    settings: Sequence[Path] | None = None,
    packages: Sequence[str] | None = None,
    **others: Any,
) -> Recipe:
    """Return the recipe that the options describe; `others` are further attributes of the `Recipe`.

    Raises:
        WrongUsageError: if the options name both steps and a workflow, if they name neither, or if there are more
            settings than steps.
    """
    from parcelq.local.recipe import Recipe

    if (folder is None) == (not steps):
        raise WrongUsageError("give either --step or --workflow")
    if folder is not None and (settings or packages):
        raise WrongUsageError("--settings and --with are for --step; a workflow says both in its workflow.yaml")
    if len(settings or ()) > len(steps or ()):
        count = amount(len(steps or ()), "step")
        raise WrongUsageError(f"--settings is given {len(settings or ())} times, for {count}")
    return Recipe(
        steps=tuple(steps or ()),
        folder="" if folder is None else str(folder),
        settings=tuple(map(str, settings or ())),
        packages=tuple(packages or ()),
        **others,
    )


@contextmanager
def naming_options() -> Iterator[None]:
    """Turn an InvalidValueError about the value of an option into a WrongUsageError that names the option."""
    try:
        yield
    except InvalidValueError as error:
        raise WrongUsageError(f"--{error}") if error.name in _OPTIONS else error from None
