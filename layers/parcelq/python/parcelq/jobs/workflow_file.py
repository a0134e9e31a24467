"""Reads a workflow from its `workflow.yaml` or from its stored document, and finds its programs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from parcelq.checks import Check, Wrong, checked, filled, shown, texts, whole
from parcelq.errors import InvalidValueError, SettingsError
from parcelq.jobs.limits import Limits
from parcelq.jobs.workflow import Workflow, WorkflowStep
from parcelq.limits import MAX_RETENTION_SECONDS
from parcelq.steps.find import Step, step_within
from parcelq.steps.settings import record_format
from parcelq.steps.strict_yaml import read_yaml

WORKFLOW_FILE: Final = "workflow.yaml"
MAX_STEPS: Final = 16
_MOST_ENTRIES: Final = 10_000_000
_STAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}")


def read_workflow(folder: Path) -> Workflow:
    """Read the `workflow.yaml` of a folder, and check the programs and settings files that it names. Raises
    SettingsError that names every mistake.
    """
    path = folder / WORKFLOW_FILE
    where = f"workflow {path}"
    with suppress(OSError):  # if the path cannot be looked up, `read_yaml` says why
        if folder.is_file():
            raise SettingsError(f"workflow {folder}", [f"it is a file; name the folder that has {WORKFLOW_FILE}"])
        if not path.exists():
            raise SettingsError(f"workflow {folder}", [f"the folder has no {WORKFLOW_FILE}"])
    content = read_yaml(path, where)
    workflow, problems = _workflow(content)
    problems += _missing(content, folder)
    if problems or workflow is None:
        raise SettingsError(where, problems)
    return workflow


def workflow_of(document: object, where: str) -> Workflow:
    """Return the workflow in a document that has the form of `Workflow.to_document`. Raises SettingsError about `where`
    that names every mistake.
    """
    workflow, problems = _workflow(document)
    if problems or workflow is None:
        raise SettingsError(where, problems)
    return workflow


def steps_of(workflow: Workflow, folder: Path, workflow_id: str = "") -> list[Step]:
    """Find the programs and settings of a workflow in its folder, without installing their packages. Raises
    SettingsError that names all programs and settings files that do not exist or cannot be used.
    """
    steps, problems = [], []
    for number, one in enumerate(workflow.steps):
        try:
            step = step_within(folder, one.run, one.settings, workflow_id)
        except SettingsError as error:
            problems.append(f"steps[{number}]: {error}")
        else:
            settings = replace(step.settings, output=one.output) if one.output else step.settings
            steps.append(step._replace(settings=settings))
    if problems:
        raise SettingsError(f"workflow {folder}", problems)
    return steps


def _workflow(content: object) -> tuple[Workflow | None, list[str]]:
    """Check a document completely. Return a workflow from the valid values of the document, and all mistakes."""
    if not isinstance(content, dict):
        return None, [f"it must be a mapping of keys to values, not {shown(content)}"]
    values, problems = checked(content, _CHECKS, required=("steps",))
    output = values.pop("output", None)
    nested = (
        _nested(one, f"steps[{number}]", _STEP_CHECKS, problems, ("run",))
        for number, one in enumerate(values.pop("steps", []))
    )
    steps = [WorkflowStep(**one) for one in nested if one]
    if steps and output and steps[-1].output is None:
        steps[-1] = steps[-1]._replace(output=output)
    limits = _limits(**_nested(values.pop("limits", {}), "limits", _LIMIT_CHECKS, problems))
    return Workflow(tuple(steps), limits=limits, **values), problems


def _missing(content: object, folder: Path) -> Iterator[str]:
    """Yield the mistakes in the programs and settings files that a document names, even if the document is invalid."""
    steps = content.get("steps") if isinstance(content, dict) else None
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        run, settings = (step.get("run"), step.get("settings") or "") if isinstance(step, dict) else (None, "")
        if run and isinstance(run, str) and isinstance(settings, str):
            try:
                step_within(folder, run, settings)
            except SettingsError as error:
                yield f"steps[{number}]: {error}"


def _nested(
    given: object, place: str, checks: Mapping[str, Check], problems: list[str], required: Collection[str] = ()
) -> dict[str, Any]:
    """Return the checked values of a mapping. If it has mistakes, add them to `problems` and return an empty dict."""
    if not isinstance(given, dict):
        problems.append(f"{place} is {shown(given)}, but must be a mapping of keys to values")
        return {}
    values, wrong = checked(given, checks, required)
    problems += [f"{place}: {problem}" for problem in wrong]
    return {} if wrong else values


def _limits(max_dead: Limits | None = None, max_seconds: int | None = None) -> Limits:
    return (max_dead or Limits())._replace(max_seconds=max_seconds)


def _dead(value: object) -> Limits:
    text = str(value) if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)) else ""
    try:
        return Limits.of_dead(text)
    except InvalidValueError:
        raise Wrong("a number of entries such as 10, or a share such as 1%") from None


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        raise Wrong(f"a list of 1 to {MAX_STEPS} steps")
    return value


def _stage(value: object) -> str:
    if not isinstance(value, str) or not _STAGE.fullmatch(value):
        raise Wrong("the name of a stage: letters and digits")
    return value


def _packages(value: object) -> tuple[str, ...]:
    return tuple(texts(value))


_CHECKS: Final[dict[str, Check]] = {
    "steps": _list,
    "format": record_format,
    "output": record_format,
    "parcel_size": whole(1, _MOST_ENTRIES),
    "batch_size": whole(1, _MOST_ENTRIES),
    "limits": lambda value: value,
}
_STEP_CHECKS: Final[dict[str, Check]] = {
    "run": filled,
    "settings": filled,
    "packages": _packages,
    "batch_size": whole(1, _MOST_ENTRIES),
    "stage": _stage,
    "output": record_format,
}
_LIMIT_CHECKS: Final[dict[str, Check]] = {"max_dead": _dead, "max_seconds": whole(1, MAX_RETENTION_SECONDS)}
