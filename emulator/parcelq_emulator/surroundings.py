"""The environment of the emulator's processes: what programs need to run, and no configuration of AWS.

Proxies, profiles, configuration files, `AWS_*` and files of the working directory belong to the user's own work. The
emulated stack is on the loopback interface, and must not fail because of them.
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
"""Variables with which no client of AWS reads a file of the user's, or uses a proxy."""


def inherited() -> dict[str, str]:
    """Return the variables of this process that a process of the emulator gets: language, paths, libraries."""
    given = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("LC_")}
    if modules := _module_path(os.environ.get("PYTHONPATH", "")):
        given["PYTHONPATH"] = modules
    return {**given, **NO_CONFIGURATION}


def python(*arguments: str) -> list[str]:
    """Return the command line of this Python, which imports no file only because it is in the working directory."""
    return [sys.executable, "-P", *arguments]


@contextmanager
def without_the_users() -> Iterator[None]:
    """Hide the user's settings of AWS and of proxies from this process, for as long as the context lasts."""
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
    """Leave out of a PYTHONPATH what is relative, and the working directory."""
    here = Path.cwd()
    folders = [one for one in given.split(os.pathsep) if os.path.isabs(one) and Path(one).resolve() != here]
    return os.pathsep.join(folders)
