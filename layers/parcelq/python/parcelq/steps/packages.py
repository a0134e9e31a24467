"""Installs the packages that steps need on a Lambda function: uv determines the exact versions once, and installs the
packages for the function's platform into a bundle.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.checks import Wrong
from parcelq.errors import SettingsError
from parcelq.steps.bundles import Bundle, write_bundle
from parcelq.steps.environments import Dependencies, Progress, Uv, alone, cache_folder, digest_of, locked
from parcelq.steps.find import files_of

_LEFT_OUT: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
"""Those files of `*.dist-info` that only installers read."""


class Target(NamedTuple):
    """The platform on which packages are used."""

    python: str
    platform: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"

    @property
    def options(self) -> Sequence[str]:
        """The options by which uv selects this platform. Builds from source, which suit only this machine, are
        forbidden.
        """
        return (
            *("--python-version", self.python, "--python-platform", self.platform),
            *("--only-binary", ":all:", "--no-python-downloads", "--python", sys.executable),
        )


class Packages(NamedTuple):
    """The packages of a step, as a bundle on this machine. The lock names the target and then each exact package on a
    line.
    """

    archive: Path
    bundle: Bundle
    lock: str


def packages_for(wanted: Dependencies, target: Target, progress: Progress, cache: Path | None = None) -> Packages:
    """Return a bundle with the dependencies of a step, which is created if it does not exist.

    Several commands may call this function at the same time, and a command that is killed does no harm. Raises
    SettingsError if a package does not exist for the target, or the step needs another version of Python.
    """
    cache = cache or cache_folder()
    _check_python(wanted, target)
    tool = Uv(wanted.step, progress)
    lock = locked(wanted, str(target), target.options, cache / "locks", tool)
    archive = cache / "bundles" / f"{digest_of(lock)}.zip"
    about = archive.with_suffix(".json")
    with alone(archive.with_suffix(".lock")):
        if bundle := _known(about, archive):
            return Packages(archive, bundle, lock)
        progress(f"installing the packages for {target}")
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            folder, written = Path(scratch) / "packages", Path(scratch) / "lock.txt"
            written.write_text(lock, encoding="utf-8")
            install = ("pip", "install", "--quiet", "--no-deps", "--target", str(folder))
            tool(*install, *target.options, "--requirement", str(written))
            progress("packing the packages")
            bundle = write_bundle(_packed(folder), Path(scratch) / "packages.zip")
            shutil.move(Path(scratch) / "packages.zip", archive)
            temporary = Path(scratch) / "about.json"
            temporary.write_text(json.dumps(bundle._asdict()))
            temporary.replace(about)
    return Packages(archive, bundle, lock)


def _packed(folder: Path) -> dict[str, Path]:
    """Return the installed files that programs may need. The keys are the files' paths in the bundle."""
    found = {}
    for path in files_of(folder) if folder.is_dir() else ():
        parts = path.relative_to(folder).parts
        is_about_itself = len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] in _LEFT_OUT
        if parts[0] != "bin" and not is_about_itself:  # scripts in `bin` name an interpreter of this machine
            found["/".join(parts)] = path
    return found


def _known(about: Path, archive: Path) -> Bundle | None:
    """Return the facts about a bundle that exists already; None if the bundle does not exist."""
    try:
        bundle = Bundle.parse(json.loads(about.read_bytes()))
        return bundle if os.stat(archive).st_size == bundle.size else None
    except (OSError, ValueError, Wrong):
        return None


def _check_python(wanted: Dependencies, target: Target) -> None:
    if not wanted.python:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        wish = SpecifierSet(wanted.python)
    except InvalidSpecifier:
        raise SettingsError(
            f"dependencies of {wanted.step}", [f"requires-python is {wanted.python!r}, but must read like '>=3.12'"]
        ) from None
    # A function has the newest patch release of its Python version. The number of this release is unknown here.
    if not (wish.contains(target.python) or wish.contains(f"{target.python}.99")):
        reason = f"requires-python is {wanted.python!r}, but the function has Python {target.python}"
        raise SettingsError(f"dependencies of {wanted.step}", [reason])
