"""How files are run: as a user says it and as it is kept with a job (`Recipe`), and as it is done (`Options`)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from parcelq.errors import InvalidValueError
from parcelq.process.rules import Rules
from parcelq.records import Format, parse
from parcelq.steps.find import Step, local_step

_LIMIT: Final = re.compile(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


@dataclass(frozen=True, slots=True)
class Limit:
    """How many entries may be dead before a job is stopped.

    Attributes:
        count: at most so many; None for any number.
        share: at most this share of the entries that were run, from 0 to 1; None for any.
    """

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a number of entries, or a share of them; an empty text is no limit.

        Raises:
            InvalidValueError: it is neither.
        """
        if not text:
            return cls()
        found = _LIMIT.fullmatch(text)
        if not found or (found[2] and float(found[2]) > 100):
            raise InvalidValueError("max-dead", text, "a number such as 10, or a share such as 1%")
        return cls(int(found[1])) if found[1] else cls(share=float(found[2]) / 100)


@dataclass(frozen=True)
class Options:
    """How files are run.

    Attributes:
        steps: the steps, in a row.
        results: the folder of results.
        format: the record format of all files; None to go by the name of each.
        rules: how messages are run, and how failures are treated.
        max_dead: when to stop for too many dead entries.
        keep_going: go on although every entry fails.
        fresh: start over where a job was stopped, or has dead entries.
        go_on: continue a job that began with another version of its steps.
        recipe: the same as it is kept with the job.
    """

    steps: Sequence[Step]
    results: Path
    format: Format | None
    rules: Rules
    max_dead: Limit
    keep_going: bool
    fresh: bool
    go_on: bool
    recipe: Recipe

    @cached_property
    def version(self) -> str:
        """A digest of everything that decides what the steps do."""
        digest = hashlib.sha256(" ".join(step.version for step in self.steps).encode())
        digest.update(str(self.format or "").encode())
        return digest.hexdigest()[:16]

    @property
    def workflow(self) -> str:
        """What the steps get as `--workflow-id`."""
        return self.recipe.workflow_id


@dataclass(frozen=True, slots=True)
class Recipe:
    """How files are run, as a user says it. It is kept with a job, so that the job can be resumed by its id alone.

    Attributes:
        steps: paths of the steps, or names of programs on the PATH; several run in a row.
        settings: settings files of the steps, of each in turn; there may be fewer.
        workflow_id: what the steps get as `--workflow-id`.
        packages: Python packages that the steps need.
        env: names of variables of the environment that the steps get.
        format: the record format of all files; empty to go by the name of each.
        batch_size: most entries of one run of a step.
        parcel_size: most entries of one message.
        max_dead: `10` or `1%`: stop when more entries failed; empty for no limit.
        keep_going: go on although every entry fails.
    """

    steps: tuple[str, ...]
    settings: tuple[str, ...] = ()
    workflow_id: str = ""
    packages: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    format: str = ""
    batch_size: int = 1000
    parcel_size: int = 1000
    max_dead: str = ""
    keep_going: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read again what `document` gave."""
        fields: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in document.items()}
        return cls(**fields)

    def document(self) -> dict[str, Any]:
        """As it is kept with a job: with paths that hold in any folder."""
        steps = tuple(os.path.abspath(one) if os.path.exists(one) else one for one in self.steps)
        return asdict(replace(self, steps=steps, settings=tuple(map(os.path.abspath, self.settings))))

    def options(
        self, results: Path, note: Callable[[str], None], *, fresh: bool = False, go_on: bool = False
    ) -> Options:
        """Find the steps, and make an environment for those that need one.

        Args:
            results: the folder of results.
            note: called with one line of text for each thing that takes a while.
            fresh: start over where a job was stopped, or has dead entries.
            go_on: continue a job that began with another version of its steps.

        Raises:
            InvalidValueError: a value makes no sense.
            SettingsError: there is no such step or settings file, or its dependencies cannot be had.
        """
        limit = Limit.parse(self.max_dead)
        for name in ("batch_size", "parcel_size"):
            if getattr(self, name) < 1:
                raise InvalidValueError(name, getattr(self, name), "at least 1")
        rules = Rules(self.batch_size, max(self.batch_size, self.parcel_size), back_off_seconds=0)
        fmt = parse(self.format) if self.format else None
        found = self._found(note)
        return Options(found, results, fmt, rules, limit, self.keep_going, fresh, go_on, self)

    def _found(self, note: Callable[[str], None]) -> list[Step]:
        if not self.steps:
            raise InvalidValueError("step", "", "at least one program")
        if len(self.settings) > len(self.steps):
            raise InvalidValueError(
                "settings", self.settings[-1], f"given once for each step, of which there are {len(self.steps)}"
            )
        missing = [name for name in self.env if name not in os.environ]
        if missing:
            raise InvalidValueError("env", missing[0], "the name of a variable that is set")
        variables = {name: os.environ[name] for name in self.env}
        files = [*self.settings, *[""] * (len(self.steps) - len(self.settings))]
        found = [
            local_step(path, file, self.workflow_id, self.packages, note)
            for path, file in zip(self.steps, files, strict=True)
        ]
        return [
            replace(one, settings=replace(one.settings, environment={**one.settings.environment, **variables}))
            for one in found
        ]
