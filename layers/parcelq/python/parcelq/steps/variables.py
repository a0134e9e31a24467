"""The environment variables of a step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from parcelq.errors import AwsError, StepError
from parcelq.steps.containment import MARK
from parcelq.steps.find import Step

_PASSED: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
_LOCALE_PREFIX: Final = "LC_"
_CREDENTIALS_PREFIX: Final = "AWS_"
_RUNTIME_PREFIX: Final = "AWS_LAMBDA_"
_WHERE: Final = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
"""Prefixes of variables that say where AWS is, but are not credentials."""
_SEARCHED: Final = "PYTHONPATH"


def is_passed(name: str) -> bool:
    """Return whether a step gets this variable unchanged from the process that runs it."""
    return name in _PASSED or name.startswith(_LOCALE_PREFIX)


def granted_to(step: Step) -> Mapping[str, str]:
    """Return the credentials and secrets that a stack gives a step; empty on a user's machine.

    Raises:
        StepError: AWS does not provide them now; the entries are not to blame.
    """
    try:
        return step.granted() if step.granted else {}
    except AwsError as error:
        raise StepError(step.name, f"could not be given its secrets: {error}", no_room=True) from None


def variables_of(step: Step, granted: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a step: the variables that it may get, the path of the library, and the variables of
    its settings.

    On a user's machine, a step whose settings ask for credentials gets the variables `AWS_…` of this process. On a
    stack those are the function's own credentials, which no step gets; there it gets only granted ones.
    """
    # guard[_is_credential]: no step gets the credentials of a function
    asked = _says_where if step.granted else _is_credential
    passed = {
        name: value
        for name, value in os.environ.items()
        if is_passed(name) or (step.settings.aws_credentials and asked(name))
    }
    if searched := _searched(step):
        passed[_SEARCHED] = searched
    return {**passed, **step.settings.environment, **granted, MARK: ""}


def _is_credential(name: str) -> bool:
    return name.startswith(_CREDENTIALS_PREFIX) and not name.startswith(_RUNTIME_PREFIX)


def _says_where(name: str) -> bool:
    return name.startswith(_WHERE)


def _searched(step: Step) -> str:
    """Return the step's `PYTHONPATH`; its folders are absolute, because a step runs in a folder of its own."""
    given = os.environ.get(_SEARCHED)
    folders = [os.path.abspath(folder) for folder in given.split(os.pathsep)] if given else []
    if step.packages:
        folders.insert(0, str(step.packages))
    if step.python is None:  # an environment of its own contains the library
        folders.append(str(Path(__file__).parents[2]))
    return os.pathsep.join(folders)
