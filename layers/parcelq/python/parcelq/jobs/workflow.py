"""A workflow: an ordered list of steps with a record format, sizes and limits, read from `workflow.yaml`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from parcelq.errors import SettingsError
from parcelq.jobs.limits import Limits
from parcelq.names import check_workflow
from parcelq.records import Format


class WorkflowStep(NamedTuple):
    """One step of a workflow.

    Attributes:
        run: path of the program or its folder, relative to the workflow's folder; or a command with optional arguments.
        settings: path of the settings file, relative to the workflow's folder; by default the file in the step's
            folder, if the step is a folder.
        packages: Python packages that the step needs, in addition to the packages that the program declares.
        batch_size: how many entries one run gets at most; by default the workflow's batch size.
        stage: name of the stage that runs the step; by default the stage of the previous step. The default of the first
            step is the stack's first stage.
        output: the record format of the output; by default the format in the step's settings.
    """

    run: str
    settings: str = ""
    packages: tuple[str, ...] = ()
    batch_size: int | None = None
    stage: str = ""
    output: Format | None = None


class Workflow(NamedTuple):
    """An ordered list of steps, and the options with which the steps run.

    Attributes:
        steps: the steps, in order.
        format: the record format of all sources; by default the format that each source's name implies.
        parcel_size: how many entries a message has at most; by default the setting of the stack or command.
        batch_size: how many entries one run of a step gets at most; by default the setting of the stack or command.
        limits: the limits that stop a job.
    """

    steps: tuple[WorkflowStep, ...]
    format: Format | None = None
    parcel_size: int | None = None
    batch_size: int | None = None
    limits: Limits = Limits()

    def batch_size_of(self, step: WorkflowStep, default: int) -> int:
        """How many entries one run of a step gets at most."""
        return step.batch_size or self.batch_size or default

    def stages(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return each step's stage. Raises SettingsError if a step names a stage that is not in `names`."""
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
        """Return JSON values that `workflow_of` can read."""
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


def workflow_name(text: str, name: str = "") -> str:
    """Return the chosen name of a workflow, or a name derived from its folder or its programs, such as `Score_v2.py`.

    The file extension is dropped, and all characters but letters and digits become hyphens. Raises InvalidValueError if
    the name is not valid for a workflow.
    """
    if name:
        return check_workflow(name)
    stem = text.rpartition(".")[0] or text
    made = re.sub("[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    return check_workflow(made if made[:1].isalpha() else f"step-{made}".rstrip("-"))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
