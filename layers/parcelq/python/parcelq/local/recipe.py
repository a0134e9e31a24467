"""The options of a run: as the user gave them (`Recipe`, stored with the job), and after the steps were found
(`Options`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.jobs.assembled import Assembled, from_folder, from_steps, with_options, with_variables
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


class Options(NamedTuple):
    """The options of a run, after its steps were found and their environments were created.

    Attributes:
        format: the record format of all files; None if each source's name decides.
        fresh: whether to start over if a job was stopped or has dead entries.
        go_on: whether to continue a job that began with another version of its steps.
        version: a digest of the versions of all steps, and of the record format.
        spreads: whether the runs over a small source get fewer entries, so that all CPUs work; False if the user or the
            workflow says how many entries a run gets.
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
    version: str
    spreads: bool


class Recipe(NamedTuple):
    """The options of a run as the user gave them; see `parcelq.run`. The job record contains these options, so that a
    job can be resumed by its id alone.

    Attributes:
        steps: the paths of the steps, or commands such as `tr a-z A-Z`; several steps run one after another.
        folder: the path of a workflow's folder, which is given instead of steps; empty if steps are given.
        batch_size, parcel_size, max_dead: None or empty for the workflow's value.
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
            InvalidValueError: if a value is invalid, or if both steps and a workflow are given, or neither. The error
                names an option without its hyphens.
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

        `note` is called with a line of text before each slow operation.

        Raises:
            InvalidValueError, SettingsError: as in `assembled`, or if the dependencies of a step cannot be installed.
        """
        assembled = self.assembled()
        workflow = assembled.workflow
        sizes = [workflow.batch_size_of(one, DEFAULT_SIZE) for one in workflow.steps]
        parcel_size = max(sizes[0], workflow.parcel_size or DEFAULT_SIZE)
        rules = [Rules(size, parcel_size, back_off_seconds=0, counts=True, body_bytes=_BODY_BYTES) for size in sizes]
        steps = assembled.with_environments(self.workflow_id, note)
        version = hashlib.sha256(f"{' '.join(one.version for one in steps)}{workflow.format or ''}".encode())
        return Options(
            steps,
            results,
            workflow.format,
            rules,
            workflow.limits,
            self.keep_going,
            fresh,
            go_on,
            self,
            version.hexdigest()[:16],
            not (workflow.parcel_size or workflow.batch_size or workflow.steps[0].batch_size),
        )

    def _limits(self) -> Limits:
        try:
            return Limits.of_dead(self.max_dead) if self.max_dead else Limits()
        except InvalidValueError:
            wanted = "a number such as 10, or a share such as 1%"
            raise InvalidValueError("max-dead", self.max_dead, wanted) from None
