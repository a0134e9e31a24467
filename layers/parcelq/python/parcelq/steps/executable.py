"""Interprets the text or file that a user gives as a step: a command, a Python function of `parcelq.step`, or a
program. Also finds out before the first run why the system would refuse to start a program, by the same checks as the
kernel.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

_STEP_MODULES: Final = frozenset({"parcelq.step", "parcelq.steps.function"})

_UNPARSABLE: Final = (SyntaxError, ValueError, RecursionError, MemoryError)
_HEAD_BYTES: Final = 256
"""How many bytes of a file the kernel reads to recognise the file's format: BINPRM_BUF_SIZE of linux/binfmts.h."""
_MAX_SCRIPTS: Final = 5
"""How many scripts the kernel follows if the interpreter of a script is a script too: fs/exec.c."""
_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
"""A folder with additional formats that this machine can start: https://docs.kernel.org/admin-guide/binfmt-misc.html"""
_ELF: Final = b"\x7fELF"
_MACHINES: Final = {"x86_64": {62, 3}, "aarch64": {183, 40}}
"""The `e_machine` values that a processor can run, including 32 bit:
https://man7.org/linux/man-pages/man5/elf.5.html
"""
_NAMES: Final = {3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC 64", 22: "S390", 40: "ARM", 62: "x86_64"}
_NAMES_MORE: Final = {183: "aarch64", 243: "RISC-V", 258: "LoongArch"}
_RUNNABLE: Final = {2, 3}
"""The `e_type` values of programs: programs at a fixed address, and programs at any address."""
_PT_INTERP: Final = 3


def why_not_executable(path: Path, depth: int = 0) -> str:  # noqa: PLR0911 - one for each thing that may be wrong
    """Return why the system would refuse to start a program; empty if nothing is known to be wrong."""
    try:
        status = path.stat()
    except OSError as error:
        return f"it cannot be examined: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file"
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return "it is on a file system that is mounted noexec"
    if not os.access(path, os.X_OK):
        return f"it is not executable; chmod +x {path}"
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head.startswith(_ELF):
                return _elf(head + file.read(1 << 16), status.st_size)
    except OSError:  # a program may be executable without being readable
        return ""
    if not head:
        return "it is empty, without a first line that names its interpreter"
    if head.startswith(b"#!"):
        return _script(head, depth)
    if sys.platform != "linux" or _has_other_formats():
        return ""
    if b"\0" in head:
        return "it is not a program for Linux: neither ELF nor a text that begins with #!"
    return "it is a text without a first line that names its interpreter, such as #!/bin/sh"


def _script(head: bytes, depth: int) -> str:  # noqa: PLR0911
    line, newline, _ = head[2:].partition(b"\n")
    if line.endswith(b"\r"):
        return "its first line ends in a carriage return, as Windows writes it; sed -i 's/\\r$//' removes them"
    words = line.strip(b" \t").replace(b"\t", b" ").split(b" ", 1)
    name = os.fsdecode(words[0].partition(b"\0")[0])
    if not name:
        return "its first line names the interpreter '', which does not exist"
    if not newline and len(head) == _HEAD_BYTES and len(words) == 1:
        return f"its first line is too long; the system reads {_HEAD_BYTES} bytes of it"
    which = f"its first line names the interpreter {name!r}, which"
    if not name.startswith("/"):
        return f"{which} must be a path from the root, such as /bin/sh"
    interpreter = Path(name)
    if not interpreter.exists():
        return f"{which} does not exist"
    if depth == _MAX_SCRIPTS:
        return f"{which} is a script of a script of a script …, but the system follows only {_MAX_SCRIPTS} scripts"
    if problem := why_not_executable(interpreter, depth + 1):
        return f"{which} cannot be started: {problem}"
    wanted = os.fsdecode(words[1].strip()) if len(words) > 1 else ""
    if interpreter.name == "env" and wanted and not wanted.startswith("-") and " " not in wanted:
        return (
            "" if "=" in wanted or shutil.which(wanted) else f"its first line asks for {wanted!r}, which is not on PATH"
        )
    return ""


def _elf(data: bytes, length: int) -> str:  # noqa: PLR0911 - one for each thing that may be wrong
    """Return why the kernel would refuse an ELF file with `length` bytes; `data` is its beginning."""
    if length < 52:
        return "it is a truncated ELF file"
    wide, order = data[4] == 2, "little" if data[5] == 1 else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]

    kind, machine = number(16, 2), number(18, 2)
    here = os.uname().machine
    if machine not in _MACHINES.get(here, {machine}) and not _has_other_formats():
        name = (_NAMES | _NAMES_MORE).get(machine, f"number {machine}")
        return f"it is built for another processor ({name}) than this one ({here})"
    if kind not in _RUNNABLE:
        return "it is an ELF file, but not a program"
    table, size, count = (32, 54, 56) if wide else (28, 42, 44)
    start, row, rows = number(table, 8 if wide else 4), number(size, 2), number(count, 2)
    if not rows or row < (56 if wide else 32):
        return "it is an ELF file that contains no program"
    if start + rows * row > length:
        return "it is a truncated ELF file"
    for at in range(start, start + rows * row, row):
        if at + row <= len(data) and number(at, 4) == _PT_INTERP:
            offset = number(at + (8 if wide else 4), 8 if wide else 4)
            loader = os.fsdecode(data[offset:].partition(b"\0")[0])
            if offset < len(data) and not Path(loader).is_file():
                return f"it needs the loader {loader!r}, which does not exist here: it is built for another system"
    return ""


def _has_other_formats() -> bool:
    """Return whether this machine can start programs that were built for other machines, through emulators."""
    try:
        return any(name not in {"register", "status"} for name in os.listdir(_BINFMT))
    except OSError:
        return False


class Command(NamedTuple):
    """A program on the PATH, with its arguments."""

    program: Path
    arguments: tuple[str, ...]


def command_of(text: str) -> Command | None:
    """Read a text as the name of a program on the PATH and its arguments; None if there is no such program."""
    words = [] if has_open_quote(text) else shlex.split(text)
    if not words or os.sep in words[0]:
        return None
    found = shutil.which(words[0])
    return Command(Path(found), tuple(words[1:])) if found else None


def has_open_quote(text: str) -> bool:
    """Return whether a command has a quote or a backslash without its end."""
    try:
        shlex.split(text)
    except ValueError:
        return True
    return False


def uses_step(path: Path) -> bool:
    """Return whether a Python file imports `parcelq.step` and calls a method `main()`."""
    try:
        return _calls_main(path, path.stat().st_mtime_ns)
    except OSError:
        return False


def _names_step(decorator: Any) -> bool:
    """Return whether a decorator is `@step`, `@step(…)`, or `step` in a module."""
    import ast

    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(named, "attr", getattr(named, "id", "")) == "step"


def why_nothing_is_called(path: Path) -> str:
    """Return a sentence about a Python file that defines functions, if no statement outside of these functions uses
    one of them or calls anything, apart from assignments. Return an empty text for other files.
    """
    import ast

    if path.suffix != ".py":
        return ""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, *_UNPARSABLE):
        return ""
    defined = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = list(ast.walk(node))
            calls = not isinstance(node, ast.Assign) and any(isinstance(one, ast.Call) for one in inner)
            if calls or any(isinstance(one, ast.Name) and one.id in defined for one in inner):
                return ""
    steps = [name for name, node in defined.items() if any(map(_names_step, node.decorator_list))]
    call = f"; end it with {steps[-1]}.main()" if steps else ""
    return f"{path.name} defines functions, but calls none of them{call}" if defined else ""


@lru_cache(maxsize=64)
def _calls_main(path: Path, _modified: int) -> bool:
    text = path.read_bytes()
    if b"parcelq" not in text or b".main" not in text:
        return False
    import ast

    try:
        nodes = list(ast.walk(ast.parse(text)))
    except _UNPARSABLE:  # the run of the file will report the error
        return False
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    calls = (node.func for node in nodes if isinstance(node, ast.Call))
    return bool(modules & _STEP_MODULES) and any(isinstance(one, ast.Attribute) and one.attr == "main" for one in calls)
