"""Workflows in a store: every version that was put, and which of them is the current one.

    workflows/<name>/<version>.json     a version: what is run, and which bundles have its files and packages
    workflows/<name>/current.json       names the version that new jobs get
    workflows/.bundles/<digest>.zip     bundles; versions and workflows share them
    segments/.versions/<job>            the version that a job began with

A version is a digest of all that decides what is run. So a version never changes, and a job keeps its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final, cast

from parcelq.checks import Check, Wrong, anything, checked, optional, text
from parcelq.errors import ConflictError, InvalidValueError, NotFoundError, SettingsError, WorkflowError
from parcelq.jobs.workflow import Workflow, workflow_of
from parcelq.limits import MIB
from parcelq.lineage.source import job_id
from parcelq.names import VERSIONS, WORKFLOWS, check_workflow
from parcelq.steps.bundles import Bundle
from parcelq.store.store import Store

_BUNDLES: Final = f"{WORKFLOWS}.bundles/"
_CURRENT: Final = "current.json"
_VERSION: Final = re.compile("[0-9a-f]{16}")
_MOST_BYTES: Final = MIB
"""Of a version's document."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a workflow.

    Attributes:
        name: the workflow's name.
        workflow: what is run.
        code: the bundle with the workflow's own files.
        packages: the bundle with the packages of each step; None for a step that needs none.
        locks: a digest of the exact packages of each step; empty for such a step.
        python: the version of Python that the bundles are for; empty if that does not matter.
    """

    name: str
    workflow: Workflow
    code: Bundle
    packages: tuple[Bundle | None, ...]
    locks: tuple[str, ...]
    python: str = ""

    @property
    def id(self) -> str:
        """The digest that names it, 16 hexadecimal characters."""
        return hashlib.sha256(json.dumps(self.to_document(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def attribute(self) -> str:
        """The value of the attribute `Workflow` of its messages says: `<name>@<version>`."""
        return f"{self.name}@{self.id}"

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """All of its bundles, each once."""
        return tuple(dict.fromkeys([self.code, *filter(None, self.packages)]))

    @property
    def room(self) -> int:
        """The most bytes that it takes on a function's disk, while the last of its bundles is unpacked."""
        return sum(one.room for one in self.bundles) + max(one.size for one in self.bundles)

    def to_document(self) -> dict[str, Any]:
        """Return its document, as JSON values."""
        return {
            "workflow": self.workflow.to_document(),
            "code": asdict(self.code),
            "packages": [one and asdict(one) for one in self.packages],
            "locks": list(self.locks),
            "python": self.python,
        }

    @classmethod
    def parse(cls, name: str, version: str, data: bytes) -> Version:
        """Read the document of a version.

        Raises:
            WorkflowError: it is not a version, or not the one that its key says; the text names every mistake.
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


@dataclass(frozen=True, slots=True)
class Listed:
    """A workflow in a list of workflows.

    Attributes:
        name: the workflow's name.
        current: the version that new jobs get; empty if none does.
        versions: all versions that were put, with the times in seconds of the epoch, the newest first.
    """

    name: str
    current: str
    versions: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Versions:
    """The workflows of a store.

    Every method raises AwsError, StoreError or OSError where the store refuses.

    Attributes:
        store: where they are.
    """

    store: Store

    def lacks(self, version: Version) -> list[Bundle]:
        """Return those bundles of a version that are not stored yet."""
        return [one for one in version.bundles if not self._has(one)]

    def put(self, version: Version) -> None:
        """Store a version whose bundles are stored already; jobs get it only when it is made the current one.

        Raises:
            WorkflowError: a bundle is missing by now.
        """
        data = json.dumps(version.to_document(), indent=1, sort_keys=True).encode()
        self.store.put(_key(version.name, version.id), data)
        if self.lacks(version):
            raise WorkflowError(version.attribute, "somebody deleted its files while it was put; put it again")

    def make_current(self, version: Version) -> str:
        """Let new jobs get a version, and return the one that they got before; empty if there was none.

        Raises:
            WorkflowError: somebody else changed that at the same moment.
        """
        key = f"{WORKFLOWS}{version.name}/{_CURRENT}"
        seen = self.store.stat(key)
        before = self._current(version.name) if seen else ""
        if before == version.id:
            return before
        now = datetime.now(UTC).isoformat(timespec="seconds")
        data = json.dumps({"version": version.id, "since": now}).encode()
        try:
            # guard[self.store.put(key, data)]: of two versions that are put at once, one becomes the current one
            self.store.put(key, data, if_match=seen.etag if seen else None, if_absent=seen is None)
        except ConflictError:
            raise WorkflowError(
                version.name, "somebody else put it at the same time; look at it, and try again"
            ) from None
        return before

    def current(self, name: str) -> str:
        """Return the version that new jobs of a workflow get.

        Raises:
            WorkflowError: there is none.
        """
        found = self._current(name)
        if not found:
            raise WorkflowError(name, "there is no workflow of that name; parcelq workflows list shows those there are")
        return found

    def read(self, attribute: str) -> Version:
        """Return a version that is named as in the attribute `Workflow`.

        Raises:
            WorkflowError: there is none, or it is damaged.
        """
        name, _, version = attribute.rpartition("@")
        try:
            check_workflow(name)
            if not _VERSION.fullmatch(version):
                raise InvalidValueError("version", version, "16 hexadecimal characters")
            return Version.parse(name, version, self.store.read(_key(name, version), 0, _MOST_BYTES))
        except InvalidValueError as error:
            raise WorkflowError(attribute, str(error)) from None
        except NotFoundError:
            raise WorkflowError(attribute, "this version was deleted; put the workflow again") from None

    def opened(self, bundle: Bundle) -> AbstractContextManager[IO[bytes]]:
        """Open a bundle for reading.

        Raises:
            NotFoundError: it was deleted.
        """
        return cast(AbstractContextManager[IO[bytes]], self.store.stream(bundle_key(bundle)))

    def of_job(self, source: str, folder: str) -> str:
        """Return the version, as `<name>@<version>`, that a source is run with: the one that it was first run with.

        Args:
            source: the attribute `Source`.
            folder: a workflow's name, or a name and a version; which the folder in the inbox says.

        Raises:
            WorkflowError: there is no such workflow.
        """
        name, at, version = folder.partition("@")
        if at:
            self.read(folder)
            return folder
        try:
            check_workflow(name)
        except InvalidValueError as error:
            raise WorkflowError(name, str(error)) from None
        key = f"{VERSIONS}{job_id(source, name)}"
        try:
            version = self.store.read(key).decode()
        except NotFoundError:
            version = self.current(name)
            try:
                # guard[self.store.put(key, version.encode())]: a source whose event comes twice gets one version
                self.store.put(key, version.encode(), if_absent=True)
            except ConflictError:
                version = self.store.read(key).decode()
        return f"{name}@{version}"

    def all(self) -> list[Listed]:
        """Return all workflows, by name."""
        found: dict[str, list[tuple[str, float]]] = {}
        for one in self.store.listing(WORKFLOWS):
            name, slash, file = one.key.removeprefix(WORKFLOWS).partition("/")
            if slash and not name.startswith("."):
                version = file.removesuffix(".json")
                found.setdefault(name, [])
                if _VERSION.fullmatch(version):
                    found[name].append((version, one.modified))
        return [
            Listed(name, self._current(name), tuple(sorted(versions, key=lambda one: -one[1])))
            for name, versions in sorted(found.items())
        ]

    def delete(self, name: str) -> int:
        """Delete a workflow with all versions, and the bundles that no other one uses; return how many versions.

        Raises:
            WorkflowError: there is no such workflow.
        """
        keys = list(self.store.keys(f"{WORKFLOWS}{check_workflow(name)}/"))
        if not keys:
            raise WorkflowError(name, "there is no workflow of that name; parcelq workflows list shows those there are")
        # The current one is deleted first, so that no new job begins with a version that is about to be deleted.
        current = f"{WORKFLOWS}{name}/{_CURRENT}"
        self.store.delete([key for key in keys if key == current])
        self.store.delete([key for key in keys if key != current])
        used = set(self._used())
        self.store.delete([key for key in self.store.keys(_BUNDLES) if key not in used])
        return sum(key != current for key in keys)

    def _used(self) -> Iterator[str]:
        """Keys of the bundles that versions use."""
        for one in self.all():
            for version, _ in one.versions:
                try:
                    yield from map(bundle_key, self.read(f"{one.name}@{version}").bundles)
                except WorkflowError:  # it is damaged, so nobody can run it
                    continue

    def _has(self, bundle: Bundle) -> bool:
        found = self.store.stat(bundle_key(bundle))
        return found is not None and found.size == bundle.size

    def _current(self, name: str) -> str:
        try:
            document = json.loads(self.store.read(f"{WORKFLOWS}{name}/{_CURRENT}", 0, _MOST_BYTES))
        except NotFoundError:
            return ""
        except ValueError:
            document = None
        version = document.get("version") if isinstance(document, dict) else None
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise WorkflowError(name, "its current.json does not name a version; put the workflow again")
        return version


def bundle_key(bundle: Bundle) -> str:
    """Return the key of a bundle."""
    return f"{_BUNDLES}{bundle.digest}.zip"


def version_of(
    name: str, workflow: Workflow, code: Bundle, packages: Sequence[tuple[Bundle, str] | None], python: str
) -> Version:
    """Return the version that these make.

    Args:
        name: the workflow's name.
        workflow: what is run.
        code: the bundle with its own files.
        packages: the bundle and the lock of each step; None for a step that needs none.
        python: the version of Python that the packages are for.
    """
    locks = (hashlib.sha256(one[1].encode()).hexdigest()[:16] if one else "" for one in packages)
    bundles = tuple(one[0] if one else None for one in packages)
    return Version(name, workflow, code, bundles, tuple(locks), python)


def _key(name: str, version: str) -> str:
    return f"{WORKFLOWS}{name}/{version}.json"


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
