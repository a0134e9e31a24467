"""The environment variables of a step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from parcelq.steps.containment import MARK
from parcelq.steps.find import Step

_PASSED: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
_LOCALE_PREFIX: Final = "LC_"
_CREDENTIALS_PREFIX: Final = "AWS_"
_RUNTIME_PREFIX: Final = "AWS_LAMBDA_"
_SEARCHED: Final = "PYTHONPATH"


def is_passed(name: str) -> bool:
    """Return whether a step gets this variable unchanged from the process that runs it."""
    return name in _PASSED or name.startswith(_LOCALE_PREFIX)


def variables_of(step: Step) -> dict[str, str]:
    """Return the environment of a step: the variables that it may get, the path of the library, and those of its
    settings.

    Lambda gives a function its credentials as variables `AWS_…`. A step gets them only if its settings ask for them.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if is_passed(name) or (step.settings.aws_credentials and _is_credential(name))
    }
    if searched := _searched(step):
        passed[_SEARCHED] = searched
    return {**passed, **step.settings.environment, MARK: ""}


def _is_credential(name: str) -> bool:
    return name.startswith(_CREDENTIALS_PREFIX) and not name.startswith(_RUNTIME_PREFIX)


def _searched(step: Step) -> str:
    """Return the step's `PYTHONPATH`; its folders are absolute, since a step runs in a folder of its own."""
    given = os.environ.get(_SEARCHED)
    folders = [os.path.abspath(folder) for folder in given.split(os.pathsep)] if given else []
    if step.packages:
        folders.insert(0, str(step.packages))
    if step.python is None:  # an environment of its own has the library in it
        folders.append(str(Path(__file__).parents[2]))
    return os.pathsep.join(folders)
