"""A workflow: steps in a row, with record format, sizes and limits, as `workflow.yaml` in a folder says it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from parcelq.checks import Check, Wrong, checked, filled, shown, texts, whole
from parcelq.errors import InvalidValueError, SettingsError
from parcelq.limits import MAX_RETENTION_SECONDS
from parcelq.names import check_workflow
from parcelq.records import Format
from parcelq.steps.find import Step, step_within
from parcelq.steps.settings import record_format
from parcelq.steps.strict_yaml import MAX_BYTES, StrictYamlError, load

WORKFLOW_FILE: Final = "workflow.yaml"
MAX_STEPS: Final = 16
_MOST_ENTRIES: Final = 10_000_000
_LIMIT: Final = re.compile(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_STAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}")

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a job of a workflow is stopped.

    Attributes:
        max_dead: more dead entries than this stop the job; None for no limit.
        max_dead_share: the same as a share of the entries that were run, from 0 to 1; None for no limit.
        max_seconds: a job that takes longer is stopped; None for no limit.
    """

    max_dead: int | None = None
    max_dead_share: float | None = None
    max_seconds: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the limits that are set, as `workflow.yaml` has them."""
        share = self.max_dead_share
        dead = self.max_dead if share is None else f"{100 * share:.10g}%"
        return _given(max_dead=dead, max_seconds=self.max_seconds)

    @classmethod
    def of_dead(cls, text: str) -> Limits:
        """Read a number of dead entries such as `10`, or a share of all such as `1%`.

        Raises:
            InvalidValueError: the text is neither.
        """
        found = _LIMIT.fullmatch(text)
        if not found or (found[2] and float(found[2]) > 100):
            raise InvalidValueError("limit", text, "a number such as 10, or a share such as 1%")
        return cls(max_dead=int(found[1])) if found[1] else cls(max_dead_share=float(found[2]) / 100)


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """One step of a workflow.

    Attributes:
        run: path of the program or of its folder, below the workflow's folder; or a command, with arguments or without.
        settings: path of the settings file there; by default the one in the step's folder, if the step is a folder.
        packages: Python packages that the step needs beside those that it declares itself.
        batch_size: most entries of one run; by default the workflow's.
        stage: name of the stage that runs the step; by default that of the step before it, or the stack's first.
        output: the record format of the output; by default the one in the step's settings.
    """

    run: str
    settings: str = ""
    packages: tuple[str, ...] = ()
    batch_size: int | None = None
    stage: str = ""
    output: Format | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps in a row, and how they are run.

    Attributes:
        steps: the steps, in a row.
        format: the record format of all sources; by default each source's name decides.
        parcel_size: most entries of a message; by default the stack or the command decides.
        batch_size: most entries of one run of a step; by default the stack or the command decides.
        limits: when a job is stopped.
    """

    steps: tuple[WorkflowStep, ...]
    format: Format | None = None
    parcel_size: int | None = None
    batch_size: int | None = None
    limits: Limits = field(default_factory=Limits)

    def batch_size_of(self, step: WorkflowStep, default: int) -> int:
        """Most entries of one run of a step."""
        return step.batch_size or self.batch_size or default

    def stages(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the stage of each step, for a stack with stages of these names.

        Raises:
            SettingsError: the stack has no such stage.
        """
        found: list[str] = []
        problems = []
        for number, step in enumerate(self.steps):
            found.append(step.stage or (found[-1] if found else names[0]))
            if found[-1] not in names:
                problems.append(f"steps[{number}].stage is {step.stage!r}, but must be one of {', '.join(names)}")
        if problems:
            raise SettingsError("the workflow", problems)
        return tuple(found)

    def to_document(self) -> dict[str, Any]:
        """Return what `workflow_of` reads again, as JSON takes it."""
        return _given(
            format=str(self.format) if self.format else None,
            parcel_size=self.parcel_size,
            batch_size=self.batch_size,
            limits=self.limits.to_document() or None,
            steps=[
                _given(
                    run=step.run,
                    settings=step.settings or None,
                    packages=list(step.packages) or None,
                    batch_size=step.batch_size,
                    stage=step.stage or None,
                    output=str(step.output) if step.output else None,
                )
                for step in self.steps
            ],
        )


def read_workflow(folder: Path) -> Workflow:
    """Read the `workflow.yaml` of a folder, and check all that it names.

    Args:
        folder: the workflow's folder.

    Raises:
        SettingsError: there is no such file, or anything in it is wrong, or a program or settings file that it names;
            the text has all of that.
    """
    path = folder / WORKFLOW_FILE
    where = f"workflow {path}"
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8")
    except FileNotFoundError:
        raise SettingsError(f"workflow {folder}", [f"the folder has no {WORKFLOW_FILE}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(where, [f"it cannot be read: {reason}"]) from None
    try:
        content = load(text)
    except StrictYamlError as error:
        raise SettingsError(where, error.problems) from None
    workflow, problems = _workflow(content)
    problems += _missing(content, folder)
    if problems or workflow is None:
        raise SettingsError(where, problems)
    return workflow


def workflow_of(document: object, where: str) -> Workflow:
    """Check a document such as `Workflow.to_document` returns.

    Args:
        document: the document.
        where: what it is called in an error.

    Raises:
        SettingsError: it is no workflow; the text names everything that is wrong.
    """
    workflow, problems = _workflow(document)
    if problems or workflow is None:
        raise SettingsError(where, problems)
    return workflow


def steps_of(workflow: Workflow, folder: Path, workflow_id: str = "") -> list[Step]:
    """Find the programs of a workflow in its folder, with their settings; without their packages.

    Raises:
        SettingsError: a program or a settings file is not there, or cannot be used; all problems are named.
    """
    steps, problems = [], []
    for number, one in enumerate(workflow.steps):
        try:
            step = step_within(folder, one.run, one.settings, workflow_id)
        except SettingsError as error:
            problems.append(f"steps[{number}]: {error}")
        else:
            settings = replace(step.settings, output=one.output) if one.output else step.settings
            steps.append(replace(step, settings=settings))
    if problems:
        raise SettingsError(f"workflow {folder}", problems)
    return steps


def workflow_name(text: str, name: str = "") -> str:
    """Return a name for a workflow: the one that is given, or one made of what the workflow was made of.

    Args:
        text: the name of a folder, or of programs, such as `Score_v2.py`. Everything but letters and digits becomes a
            hyphen, and the ending is left out.
        name: the name, if the user chose one.

    Raises:
        InvalidValueError: no workflow can have the name.
    """
    if name:
        return check_workflow(name)
    stem = text.rpartition(".")[0] or text
    made = re.sub("[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    return check_workflow(made if made[:1].isalpha() else f"step-{made}".rstrip("-"))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _workflow(content: object) -> tuple[Workflow | None, list[str]]:
    """Check a whole document. Returns its valid values, and every mistake."""
    if not isinstance(content, dict):
        return None, [f"it must be keys with values, not {shown(content)}"]
    values, problems = checked(content, _CHECKS, required=("steps",))
    nested: list[Any] = values.pop("steps", [])
    output = values.pop("output", None)
    steps = _each(nested, "steps", _STEP_CHECKS, ("run",), WorkflowStep, problems)
    if steps and output and steps[-1].output is None:
        steps[-1] = replace(steps[-1], output=output)
    limits = _each([values.pop("limits", {})], "limits", _LIMIT_CHECKS, (), _limits, problems)
    return Workflow(tuple(steps), limits=limits[0] if limits else Limits(), **values), problems


def _missing(content: object, folder: Path) -> Iterator[str]:
    """The mistakes in the programs and settings files that a document names, even if it has other mistakes."""
    steps = content.get("steps") if isinstance(content, dict) else None
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        run, settings = (step.get("run"), step.get("settings") or "") if isinstance(step, dict) else (None, "")
        if run and isinstance(run, str) and isinstance(settings, str):
            try:
                step_within(folder, run, settings)
            except SettingsError as error:
                yield f"steps[{number}]: {error}"


def _each(
    nested: Sequence[Any],
    name: str,
    checks: Mapping[str, Check],
    required: Sequence[str],
    make: Callable[..., Found],
    problems: list[str],
) -> list[Found]:
    """Check mappings in a list, or a single one, and add their mistakes to the problems."""
    made = []
    for number, one in enumerate(nested):
        place = f"{name}[{number}]" if name == "steps" else name
        if not isinstance(one, dict):
            problems.append(f"{place} is {shown(one)}, but must be keys with values")
            continue
        values, wrong = checked(one, checks, required)
        problems += [f"{place}: {problem}" for problem in wrong]
        if not wrong:
            made.append(make(**values))
    return made


def _limits(max_dead: Limits | None = None, max_seconds: int | None = None) -> Limits:
    return replace(max_dead or Limits(), max_seconds=max_seconds)


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
