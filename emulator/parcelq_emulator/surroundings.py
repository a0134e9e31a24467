"""The environment variables of the emulator's processes: only those that programs need to run, without AWS
configuration.

Proxies, profiles, configuration files, `AWS_*` and files of the working directory belong to the user's other work. The
emulated stack is on the loopback interface and must not depend on these settings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_INHERITED: Final = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME"})
NO_CONFIGURATION: Final[Mapping[str, str]] = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "*",
}
"""The environment variables that keep AWS clients from reading the user's files or using a proxy."""


def inherited() -> dict[str, str]:
    """Return the environment variables that a process of the emulator gets: language, paths, libraries."""
    given = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")}
    if modules := _module_path(os.environ.get("PYTHONPATH", "")):
        given["PYTHONPATH"] = modules
    return {**given, **NO_CONFIGURATION}


def python(*arguments: str) -> list[str]:
    """Return a command line that runs Python without importing files from the working directory."""
    return [sys.executable, "-P", *arguments]


@contextmanager
def without_the_users() -> Iterator[None]:
    """Hide the user's AWS and proxy settings from this process while the context lasts."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "BOTO")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(NO_CONFIGURATION)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _module_path(given: str) -> str:
    """Remove relative paths and the working directory from a PYTHONPATH."""
    here = Path.cwd()
    folders = [one for one in given.split(os.pathsep) if os.path.isabs(one) and Path(one).resolve() != here]
    return os.pathsep.join(folders)
