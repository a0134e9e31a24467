"""What the text or the file that is given as a step is: a command, or a Python function of `parcelq.step`."""

from __future__ import annotations

import os
import shlex
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

_STEP_MODULES: Final = frozenset({"parcelq.step", "parcelq.steps.function"})


class Command(NamedTuple):
    """A program on the PATH, with arguments."""

    program: Path
    arguments: tuple[str, ...]


def command_of(text: str) -> Command | None:
    """Read the name of a program on the PATH, with arguments as in a shell; None if there is no such program."""
    try:
        words = shlex.split(text)
    except ValueError:  # a quote is not closed, so it is no command
        return None
    if not words or os.sep in words[0]:
        return None
    found = shutil.which(words[0])
    return Command(Path(found), tuple(words[1:])) if found else None


def uses_step(path: Path) -> bool:
    """Whether a Python file imports `parcelq.step` and calls the `main()` of something."""
    try:
        return _calls_main(path, path.stat().st_mtime_ns)
    except OSError:
        return False


@lru_cache(maxsize=64)
def _calls_main(path: Path, _modified: int) -> bool:
    text = path.read_bytes()
    if b"parcelq" not in text or b".main" not in text:
        return False
    import ast

    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it will say so itself
        return False
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    calls = (node.func for node in nodes if isinstance(node, ast.Call))
    return bool(modules & _STEP_MODULES) and any(isinstance(one, ast.Attribute) and one.attr == "main" for one in calls)
