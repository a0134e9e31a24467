"""A version of a workflow. Its id is a digest of everything that determines what runs, so a version never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from parcelq.checks import Check, Wrong, anything, checked, optional, text
from parcelq.errors import SettingsError, WorkflowError
from parcelq.jobs.workflow import Workflow
from parcelq.jobs.workflow_file import workflow_of
from parcelq.steps.bundles import Bundle


class Version(NamedTuple):
    """A version of a workflow.

    Attributes:
        code: the bundle of the workflow's own files.
        packages: the bundle of each step's packages; None for a step without packages.
        locks: a digest of the exact packages of each step; empty for a step without packages.
        python: the Python version and machine that the bundles need, as `packages_are_for` returns; empty if the
            bundles run on every platform.
    """

    name: str
    workflow: Workflow
    code: Bundle
    packages: tuple[Bundle | None, ...]
    locks: tuple[str, ...]
    python: str = ""

    @property
    def id(self) -> str:
        """The digest that identifies the version: 16 hexadecimal characters."""
        return hashlib.sha256(json.dumps(self.to_document(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def attribute(self) -> str:
        """The value of the attribute `Workflow` of messages of this version: `<name>@<version>`."""
        return f"{self.name}@{self.id}"

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles of this version, without duplicates."""
        return tuple(dict.fromkeys([self.code, *filter(None, self.packages)]))

    @property
    def room(self) -> int:
        """How many bytes of a Lambda function's disk this version needs while its last bundle is being unpacked."""
        return sum(one.room for one in self.bundles) + max(one.size for one in self.bundles)

    def to_document(self) -> dict[str, Any]:
        """Return the document that describes this version, as JSON values."""
        return {
            "workflow": self.workflow.to_document(),
            "code": self.code._asdict(),
            "packages": [one and one._asdict() for one in self.packages],
            "locks": list(self.locks),
            "python": self.python,
        }

    @classmethod
    def parse(cls, name: str, version: str, data: bytes) -> Version:
        """Read the document of a version. Raises WorkflowError that names every mistake, or says that the version
        differs.
        """
        attribute = f"{name}@{version}"
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise WorkflowError(attribute, "its stored document is not JSON; put the workflow again") from None
        if not isinstance(document, dict):
            raise WorkflowError(attribute, "its stored document is not a JSON object; put the workflow again")
        values, problems = checked(document, _CHECKS, tuple(_CHECKS))
        try:
            values["workflow"] = workflow_of(values.get("workflow"), attribute)
        except SettingsError as error:
            problems += error.problems
        if not problems and not len(values["packages"]) == len(values["locks"]) == len(values["workflow"].steps):
            problems.append("packages and locks must have one item for each step")
        if problems:
            raise WorkflowError(attribute, "; ".join(problems))
        made = cls(name, **values)
        # guard[False]: a version is used only if it is the one that its name promises
        if made.id != version:
            raise WorkflowError(attribute, "its stored document was changed; put the workflow again")
        return made


def packages_are_for(python: str, machine: str) -> str:
    """Return a text for the platform of packages: a Python version such as `3.13`, and a machine other than x86_64."""
    return python if machine == "x86_64" else f"{python} {machine}"


def version_of(
    name: str, workflow: Workflow, code: Bundle, packages: Sequence[tuple[Bundle, str] | None], python: str
) -> Version:
    """Return a new version, given the bundle and the lock of each step's packages; None for a step without packages."""
    locks = (hashlib.sha256(one[1].encode()).hexdigest()[:16] if one else "" for one in packages)
    bundles = tuple(one[0] if one else None for one in packages)
    return Version(name, workflow, code, bundles, tuple(locks), python)


def _bundles(value: object) -> tuple[Bundle | None, ...]:
    if not isinstance(value, list):
        raise Wrong("a list of bundles")
    return tuple(optional(Bundle.parse)(one) for one in value)


def _locks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Wrong("a list of texts")
    return tuple(value)


_CHECKS: Final[dict[str, Check]] = {
    "workflow": anything,
    "code": Bundle.parse,
    "packages": _bundles,
    "locks": _locks,
    "python": text,
}
