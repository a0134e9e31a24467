"""The workflows in a store: all their versions, and which version is current.

    workflows/<name>/<version>.json     a version: its steps, and the names of the bundles of its files and packages
    workflows/<name>/current.json       names the version for new jobs
    workflows/.bundles/<digest>.zip     bundles, shared by versions and workflows
    segments/.versions/<job>            the version that a job began with

A version is a digest of everything that determines what runs. So a version never changes, and a job keeps its version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import IO, Final, NamedTuple, cast

from parcelq.errors import ConflictError, InvalidValueError, NotFoundError, WorkflowError
from parcelq.jobs.version import Version
from parcelq.limits import MIB
from parcelq.lineage.source import job_id
from parcelq.names import VERSIONS, WORKFLOWS, check_workflow
from parcelq.steps.bundles import Bundle
from parcelq.store.store import Store

_BUNDLES: Final = f"{WORKFLOWS}.bundles/"
_CURRENT: Final = "current.json"
_VERSION: Final = re.compile("[0-9a-f]{16}")
_MOST_BYTES: Final = MIB
"""How many bytes the document of a version may have."""


class ListedWorkflow(NamedTuple):
    """A workflow in a list of workflows. `current` is empty if no version is current. Each version has the time when it
    was stored, in seconds since the epoch; the newest is the first.
    """

    name: str
    current: str
    versions: tuple[tuple[str, float], ...]


class Versions(NamedTuple):
    """The workflows of a store."""

    store: Store

    def lacks(self, version: Version) -> list[Bundle]:
        """Return the bundles of a version that are not stored yet."""
        stored = ((one, self.store.stat(bundle_key(one))) for one in version.bundles)
        return [one for one, found in stored if found is None or found.size != one.size]

    def put(self, version: Version) -> None:
        """Store a version whose bundles are already stored. New jobs use the version only after `make_current`. Raises
        WorkflowError if a bundle of the version was deleted meanwhile.
        """
        data = json.dumps(version.to_document(), indent=1, sort_keys=True).encode()
        self.store.put(_key(version.name, version.id), data)
        if self.lacks(version):
            raise WorkflowError(version.attribute, "its files were deleted while it was put; put it again")

    def make_current(self, version: Version) -> str:
        """Make a version current for new jobs, and return the previous current version; empty if there was none. Raises
        WorkflowError if another process changed the current version at the same time.
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
                version.name, "another process put it at the same time; check it, and try again"
            ) from None
        return before

    def current(self, name: str) -> str:
        """Return a workflow's current version, which new jobs get. Raises WorkflowError if no version is current."""
        found = self._current(name)
        if not found:
            raise WorkflowError(name, "there is no workflow of that name; parcelq workflows list shows all workflows")
        return found

    def read(self, attribute: str) -> Version:
        """Return the version that an attribute `Workflow` names. Raises WorkflowError if it is missing or damaged."""
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
        """Open a bundle for reading. Raises NotFoundError if the bundle was deleted."""
        return cast(AbstractContextManager[IO[bytes]], self.store.stream(bundle_key(bundle)))

    def of_job(self, source: str, folder: str) -> str:
        """Return the version that runs a source of a folder in the inbox, as `<name>@<version>`. The folder is a
        workflow's name, or a name and a version. The first call for a source fixes the version. Raises WorkflowError if
        there is no such workflow.
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

    def all(self) -> list[ListedWorkflow]:
        """Return all workflows, sorted by name."""
        found: dict[str, list[tuple[str, float]]] = {}
        for one in self.store.listing(WORKFLOWS):
            name, slash, file = one.key.removeprefix(WORKFLOWS).partition("/")
            if slash and not name.startswith("."):
                version = file.removesuffix(".json")
                found.setdefault(name, [])
                if _VERSION.fullmatch(version):
                    found[name].append((version, one.modified))
        return [
            ListedWorkflow(name, self._current(name), tuple(sorted(versions, key=lambda one: -one[1])))
            for name, versions in sorted(found.items())
        ]

    def delete(self, name: str) -> int:
        """Delete a workflow and the bundles that no other workflow uses. Return the number of deleted versions. Raises
        WorkflowError if there is no such workflow.
        """
        keys = list(self.store.keys(f"{WORKFLOWS}{check_workflow(name)}/"))
        if not keys:
            raise WorkflowError(name, "there is no workflow of that name; parcelq workflows list shows all workflows")
        # `current.json` is deleted first, so that no new job begins with a version that is about to be deleted.
        current = f"{WORKFLOWS}{name}/{_CURRENT}"
        self.store.delete([key for key in keys if key == current])
        self.store.delete([key for key in keys if key != current])
        used = set(self._used())
        self.store.delete([key for key in self.store.keys(_BUNDLES) if key not in used])
        return sum(key != current for key in keys)

    def _used(self) -> Iterator[str]:
        """Yield the keys of all bundles that stored versions need."""
        for one in self.all():
            for version, _ in one.versions:
                try:
                    yield from map(bundle_key, self.read(f"{one.name}@{version}").bundles)
                except WorkflowError:  # a damaged version cannot run, so its bundles are not needed
                    continue

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


def _key(name: str, version: str) -> str:
    return f"{WORKFLOWS}{name}/{version}.json"
