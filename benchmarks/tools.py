"""Finds the tools that the benchmarks need: programs, and the environment that `make bench-setup` makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import MissingToolError

ROOT: Final = Path(__file__).resolve().parents[1]
STEPS: Final = ROOT / "benchmarks" / "steps"
_PYTHON: Final = ROOT / "benchmarks" / ".venv" / "bin" / "python"
_TAIL: Final = 500
"""How many characters of a failed program's stderr an error shows."""


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
        MissingToolError: if the program is not installed.
    """
    found = shutil.which(name)
    if not found:
        raise MissingToolError(f"{name} is missing; make bench-setup")
    return found


def python_with(*modules: str) -> str:
    """Return the path of the interpreter of the benchmarks' environment, which must have these modules.

    Raises:
        MissingToolError: if a module cannot be imported, or if there is no environment.
    """
    if missing := [module for module in modules if not _can_import(module)]:
        raise MissingToolError(f"{' and '.join(missing)} missing in benchmarks/.venv; run make bench-setup")
    return str(_PYTHON)


@cache
def compiled() -> None:
    """Compile all modules, as an installation does, so that no measured command compiles them."""
    folders = [str(ROOT / name) for name in ("layers", "cli", "benchmarks/cases", "benchmarks/steps")]
    run([sys.executable, "-m", "compileall", "-q", *folders], env=environment())


def environment() -> dict[str, str]:
    """Return the environment variables of measured commands: these commands may write bytecode."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def own_module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the benchmarks without importing from the working directory."""
    code = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module({name!r}, run_name='__main__')"
    return [sys.executable, "-P", "-c", code, *arguments]


def run(command: Sequence[str], **more: Any) -> bytes:
    """Run a program, and return what it wrote to its standard output, unless the output is redirected.

    Raises:
        RuntimeError: if the program failed; the message contains the end of its stderr.
    """
    ended = subprocess.run(command, check=False, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})
    see_that_it_worked(command, ended.returncode, ended.stderr)
    return ended.stdout or b""


def see_that_it_worked(command: Sequence[str], code: int, error: bytes) -> None:
    """Raise an error that describes a failed program."""
    if code:
        tail = error.decode(errors="replace").strip()[-_TAIL:]
        raise RuntimeError(f"{Path(command[0]).name} exited with {code}: {tail or 'nothing on stderr'}")


@cache
def _can_import(module: str) -> bool:
    try:
        return (
            subprocess.run([_PYTHON, "-P", "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
        )
    except OSError:
        return False
