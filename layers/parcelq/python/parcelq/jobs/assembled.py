"""Assembles a workflow, its files and the dependencies of its steps, from a folder or from single steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parcelq.amounts import amount
from parcelq.errors import JobError, SettingsError
from parcelq.jobs.limits import Limits
from parcelq.jobs.workflow import Workflow, WorkflowStep, workflow_name
from parcelq.jobs.workflow_file import read_workflow, steps_of
from parcelq.steps.environments import Progress
from parcelq.steps.find import Step, dependencies_of_step, files_of, local_program, with_environment

if TYPE_CHECKING:
    from parcelq.steps.packages import Packages, Target


class Assembled(NamedTuple):
    """A workflow with its programs and files, on this machine.

    Attributes:
        files: maps the path of each file in the bundle to the file on this machine.
    """

    name: str
    workflow: Workflow
    steps: tuple[Step, ...]
    files: Mapping[str, Path]

    def with_environments(self, workflow_id: str, progress: Progress) -> list[Step]:
        """Install the dependencies of each step, or raise SettingsError. Return the steps that use them, with the value
        of `--workflow-id`.
        """
        steps = (step._replace(workflow_id=workflow_id) for step in self.steps)
        every = zip(steps, self.workflow.steps, strict=True)
        return [with_environment(step, one.packages, progress) for step, one in every]

    def packages(self, target: Target, progress: Progress) -> list[Packages | None]:
        """Return the packages of each step, built for a Lambda function; None for a step that needs no packages. Raises
        SettingsError if a package does not exist for the target.
        """
        from parcelq.steps.packages import packages_for

        return [
            packages_for(wanted, target, progress) if (wanted := dependencies_of_step(step, one.packages)) else None
            for step, one in zip(self.steps, self.workflow.steps, strict=True)
        ]


def from_folder(folder: Path, name: str = "") -> Assembled:
    """Assemble a workflow from a folder with a `workflow.yaml`. The workflow gets all files except hidden files, and by
    default a name derived from the folder's name. Raises SettingsError that names every mistake in the workflow, or
    InvalidValueError if the name is not valid for a workflow.
    """
    workflow = read_workflow(folder)
    steps = tuple(steps_of(workflow, folder))
    root = folder.resolve()
    files, problems = {}, []
    for path in files_of(folder):
        inner = path.relative_to(folder).as_posix()
        if path.resolve().is_relative_to(root):
            files[inner] = path
        else:
            problems.append(f"{inner} is a link to a place outside the folder")
    if problems:
        raise SettingsError(f"workflow {folder}", problems)
    return Assembled(workflow_name(f"{root.name}.", name), workflow, steps, files)


def from_steps(paths: Sequence[str], settings: Sequence[str], packages: Sequence[str] = ()) -> Assembled:
    """Assemble a workflow of single steps, as `parcelq run --step` names them; see `from_folder` on names and errors.

    A step that is a file consists of that file alone; a step that is a folder includes all its files. If a step names a
    program on the PATH, no file is included. `settings` has the path of each step's settings file, or an empty text.
    Raises SettingsError if a step or settings file cannot be used, or InvalidValueError if the workflow's name is not
    valid.
    """
    steps, made = [], []
    files: dict[str, Path] = {}
    for number, (path, file) in enumerate(zip(paths, settings, strict=True), 1):
        step = local_program(path, file)
        steps.append(step)
        place, run = f"step{number}", path
        if step.whole:
            files |= {f"{place}/{one.relative_to(step.whole).as_posix()}": one for one in files_of(step.whole)}
            run = place
        elif step.copied:
            run = f"{place}/{step.path.name}"
            files[run] = step.path
        own = f"{place}.yaml" if file and step.settings.path else ""
        if own and step.settings.path:
            files[own] = step.settings.path
        made.append(WorkflowStep(run, own, tuple(packages) if step.path.suffix == ".py" else ()))
    if packages and not any(one.packages for one in made):
        raise SettingsError(
            f"step {paths[0]}", ["only steps that end in .py can have packages; this one is started directly"]
        )
    names = "-".join(step.whole.name if step.whole else step.path.stem for step in steps)
    return Assembled(workflow_name(f"{names}."), Workflow(tuple(made)), tuple(steps), files)


def with_options(assembled: Assembled, workflow: Workflow) -> Assembled:
    """Return the assembled workflow with the format, sizes and limits of `workflow`, as far as these are given.

    The steps and the `max_seconds` of `workflow` are ignored. If it has a batch size, the steps lose their own.
    """
    old = assembled.workflow
    steps = tuple(step._replace(batch_size=None) for step in old.steps) if workflow.batch_size else old.steps
    limits = old.limits
    if workflow.limits != Limits():
        limits = workflow.limits._replace(max_seconds=limits.max_seconds)
    changed = Workflow(
        steps,
        workflow.format or old.format,
        workflow.parcel_size or old.parcel_size,
        workflow.batch_size or old.batch_size,
        limits,
    )
    return assembled._replace(workflow=changed)


def with_variables(assembled: Assembled, variables: Mapping[str, str]) -> Assembled:
    """Return the workflow with additional environment variables for its steps."""
    steps = (
        step._replace(settings=replace(step.settings, environment={**step.settings.environment, **variables}))
        for step in assembled.steps
    )
    return assembled._replace(steps=tuple(steps)) if variables else assembled


def check_number(job: str, steps: Sequence[object], before: Sequence[object]) -> None:
    """Raise JobError if a job has another number of steps than the steps that should replace them."""
    if len(steps) != len(before):
        given = f"{amount(len(steps), 'step')} {'was' if len(steps) == 1 else 'were'} given"
        raise JobError(job, f"it has {amount(len(before), 'step')}, but {given}; give one for each step of the job")
