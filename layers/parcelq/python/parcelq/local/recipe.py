"""The options of a run: as the user gave them (`Recipe`, stored with the job), and after the steps were found
(`Options`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.jobs.assembled import Assembled, from_folder, from_steps, with_id, with_options, with_variables
from parcelq.jobs.limits import Limits
from parcelq.jobs.workflow import Workflow
from parcelq.process.rules import Rules
from parcelq.records import Format, parse
from parcelq.steps.find import Step
from parcelq.upload.parcels import MAX_BODY_BYTES

DEFAULT_SIZE: Final = 1000
"""The default for the most entries of a message, and of a run of a step."""
_BODY_BYTES: Final = 2 * MAX_BODY_BYTES
"""Messages in memory may be larger than those of SQS. So an output as large as its input is one message, and nobody
checks whether SQS takes its characters.
"""


@dataclass(frozen=True)
class Options:
    """The options of a run, after its steps were found and their environments were created.

    Attributes:
        steps: the steps, in the order in which they run.
        results: the path of the folder of results.
        format: the record format of all files; None if each source's name decides.
        rules: say how messages are processed, and how failures are handled.
        limits: say how many entries may fail before the run stops.
        keep_going: whether to continue although every entry fails.
        fresh: whether to start over if a job was stopped or has dead entries.
        go_on: whether to continue a job that began with another version of its steps.
        recipe: the options in the form that is stored with the job.
    """

    steps: Sequence[Step]
    results: Path
    format: Format | None
    rules: Sequence[Rules]
    limits: Limits
    keep_going: bool
    fresh: bool
    go_on: bool
    recipe: Recipe

    @cached_property
    def version(self) -> str:
        """A digest of the versions of all steps, and of the record format."""
        digest = hashlib.sha256(" ".join(step.version for step in self.steps).encode())
        digest.update(str(self.format or "").encode())
        return digest.hexdigest()[:16]

    @property
    def workflow(self) -> str:
        """The value that the steps get as `--workflow-id`."""
        return self.recipe.workflow_id


class Recipe(NamedTuple):
    """The options of a run as the user gave them. The job record contains these options, so that a job can be resumed
    by its id alone.

    Attributes:
        steps: the paths of the steps, or commands such as `tr a-z A-Z`; several steps run one after another.
        folder: the path of a workflow's folder, which is given instead of steps; empty if steps are given.
        settings: the settings files, in the order of the steps; there may be fewer files than steps.
        workflow_id: the value that the steps get as `--workflow-id`.
        packages: the names of Python packages that the steps need.
        env: the names of the environment variables that the steps get.
        format: the record format of all files; empty if each source's name decides.
        batch_size: the most entries of a run of a step; None for the workflow's value.
        parcel_size: the most entries of a message; None for the workflow's value.
        max_dead: how many entries may fail before the job stops, such as `10` or `1%`; empty for the workflow's value.
        keep_going: whether to continue although every entry fails.
    """

    steps: tuple[str, ...] = ()
    folder: str = ""
    settings: tuple[str, ...] = ()
    workflow_id: str = ""
    packages: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    format: str = ""
    batch_size: int | None = None
    parcel_size: int | None = None
    max_dead: str = ""
    keep_going: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Return the options that a value of `document` describes.

        Raises:
            ParcelqError: if another version of Parcelq stored the options.
        """
        fields: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in document.items()}
        try:
            return cls(**fields)
        except TypeError:
            names = ", ".join(sorted(fields.keys() - set(cls._fields)))
            reason = f"another version of Parcelq stored its options ({names}); parcelq run --fresh starts over"
            raise ParcelqError(f"the job cannot continue: {reason}") from None

    def document(self) -> dict[str, Any]:
        """The options as JSON values for the job record, with absolute paths."""
        steps = tuple(os.path.abspath(one) if os.path.exists(one) else one for one in self.steps)
        settings = tuple(os.path.abspath(os.path.expanduser(one)) for one in self.settings)
        folder = os.path.abspath(self.folder) if self.folder else ""
        return self._replace(steps=steps, settings=settings, folder=folder)._asdict()

    def assembled(self) -> Assembled:
        """Return the workflow that the options describe.

        Raises:
            InvalidValueError: if a value is invalid, if both steps and a workflow are given, or if neither is given.
                The error names the option without its hyphens.
            SettingsError: if the workflow is invalid.
        """
        if bool(self.folder) == bool(self.steps):
            raise InvalidValueError("step", list(self.steps), "given, or else a workflow; not both")
        if self.folder and (self.settings or self.packages):
            raise InvalidValueError(
                "workflow", self.folder, "given without settings and packages, because it contains both"
            )
        if len(self.settings) > len(self.steps):
            wanted = f"given at most once for each step; there are {len(self.steps)}"
            raise InvalidValueError("settings", self.settings[-1], wanted)
        for name in ("batch_size", "parcel_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidValueError(name, value, "at least 1")
        missing = [name for name in self.env if name not in os.environ]
        if missing:
            raise InvalidValueError("env", missing[0], "the name of a variable that is set")
        fmt = parse(self.format) if self.format else None
        limits = self._limits()
        files = [*self.settings, *[""] * (len(self.steps) - len(self.settings))]
        found = from_folder(Path(self.folder)) if self.folder else from_steps(self.steps, files, self.packages)
        found = with_options(found, Workflow((), fmt, self.parcel_size, self.batch_size, limits))
        return with_variables(found, {name: os.environ[name] for name in self.env})

    def options(
        self, results: Path, note: Callable[[str], None], *, fresh: bool = False, go_on: bool = False
    ) -> Options:
        """Find the steps, and create a Python environment for each step that needs one.

        Args:
            results: the path of the folder of results.
            note: a function that is called before each slow operation with a line of text about the operation.
            fresh: whether to start over if a job was stopped or has dead entries.
            go_on: whether to continue a job that began with another version of its steps.

        Raises:
            InvalidValueError, SettingsError: as in `assembled`, or if the dependencies of a step cannot be installed.
        """
        assembled = self.assembled()
        workflow = assembled.workflow
        sizes = [workflow.batch_size_of(one, DEFAULT_SIZE) for one in workflow.steps]
        parcel_size = max(sizes[0], workflow.parcel_size or DEFAULT_SIZE)
        rules = [Rules(size, parcel_size, back_off_seconds=0, counts=True, body_bytes=_BODY_BYTES) for size in sizes]
        steps = with_id(assembled, self.workflow_id).with_environments(note)
        return Options(steps, results, workflow.format, rules, workflow.limits, self.keep_going, fresh, go_on, self)

    def _limits(self) -> Limits:
        try:
            return Limits.of_dead(self.max_dead) if self.max_dead else Limits()
        except InvalidValueError:
            wanted = "a number such as 10, or a share such as 1%"
            raise InvalidValueError("max-dead", self.max_dead, wanted) from None
