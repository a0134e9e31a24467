"""Finding a step and its settings, and refusing what is not there or not allowed, before any message is pulled."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from parcelq.errors import SettingsError
from parcelq.steps.settings import StepSettings, read_settings

STEP_NAME: Final = "step"
SETTINGS_NAMES: Final = ("settings.yaml", "settings.yml")
_HEAD_BYTES: Final = 512
_ELF: Final = b"\x7fELF"
_ELF_MACHINE: Final = 18
"""Where an ELF file says what processor it is for: https://man7.org/linux/man-pages/man5/elf.5.html"""
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}


@dataclass(frozen=True, slots=True)
class Step:
    """A program that turns a file of entries into a file of entries.

    Attributes:
        path: the program.
        settings: how it is run.
        workflow_id: what it is told as `--workflow-id`; empty for none.
    """

    path: Path
    settings: StepSettings = field(default_factory=StepSettings)
    workflow_id: str = ""

    @property
    def name(self) -> str:
        """What it is called in logs and reasons."""
        return self.path.name

    def command(self, source: Path, target: Path) -> list[str]:
        """The command line that runs it over the file `source` into the file `target`."""
        if self.settings.filter:
            return self._program()
        rejects = ["--rejects", str(target.parent / "rejects")] if self.settings.rejects else []
        return [*self._program(), "--input", str(source), "--output", str(target), *rejects, *self._about()]

    def warm_command(self, control: int) -> list[str]:
        """The command line that keeps it running, with the descriptor on which it is told what to run over."""
        return [*self._program(), *self._about(), "--warm", str(control)]

    def _program(self) -> list[str]:
        start = [sys.executable] if self.path.suffix == ".py" else []
        return [*start, str(self.path), *self.settings.arguments]

    def _about(self) -> list[str]:
        about = ["--workflow-id", self.workflow_id]
        return [*about, "--settings", str(self.settings.path)] if self.settings.path else about


def local_step(path: str, settings_file: str = "", workflow_id: str = "") -> Step:
    """Find a step on one's own machine: any path, or the name of a program on the PATH.

    Raises:
        SettingsError: there is no such step or settings file, or it cannot be run.
    """
    found = path if os.sep in path or Path(path).is_file() else shutil.which(path) or path
    step = _check_step(Path(found).expanduser())
    return Step(
        step,
        read_settings(Path(settings_file).expanduser()) if settings_file else StepSettings(),
        workflow_id,
    )


def deployed_step(
    folders: Sequence[Path], stage: str, path: str = "", settings_file: str = "", workflow_id: str = ""
) -> Step:
    """Find the step of a stage in the folders where a function may have steps, and nowhere else.

    Args:
        folders: searched in this order.
        stage: the folder below them in which a step without a path is looked for: `<stage>/step` or `<stage>/step.*`,
            with `<stage>/settings.yaml` if it is there.
        path: the step's path below one of the folders.
        settings_file: the settings' path below one of the folders.
        workflow_id: what the step is told.

    Raises:
        SettingsError: there is no such step or settings file, it cannot be run, or it lies outside the folders.
    """
    found = _inside(folders, path) if path else _step_of_stage(folders, stage)
    if settings_file:
        settings = read_settings(_inside(folders, settings_file))
    else:
        beside = [found.parent / name for name in SETTINGS_NAMES] if not path else []
        settings = next((read_settings(_inside(folders, str(one))) for one in beside if one.is_file()), StepSettings())
    return Step(_check_step(found), settings, workflow_id)


def _step_of_stage(folders: Sequence[Path], stage: str) -> Path:
    for folder in folders:
        home = folder.absolute() / stage
        candidates = sorted(one for one in home.glob(f"{STEP_NAME}*") if one.stem == STEP_NAME and one.is_file())
        if len(candidates) > 1:
            names = ", ".join(one.name for one in candidates)
            raise SettingsError(f"step of stage {stage!r}", [f"{home} must have one step, but has {names}"])
        if candidates:
            return _inside(folders, str(candidates[0]))
    wanted = " or ".join(str(folder / stage / STEP_NAME) for folder in folders)
    raise SettingsError(f"step of stage {stage!r}", [f"there must be {wanted} (or {STEP_NAME}.py, {STEP_NAME}.sh, …)"])


def _inside(folders: Sequence[Path], path: str) -> Path:
    """The file of that path below one of the folders, links followed; never one outside of them."""
    outside = False
    for folder in folders:
        root = folder.resolve()
        found = root / path
        if not found.resolve().is_relative_to(root):
            outside = True
        elif found.is_file():
            return found  # by its own name, since programs may go by the name that they are called by
    where = ", ".join(map(str, folders))
    if outside:
        raise SettingsError(f"path {path!r}", [f"it leaves the folders that steps may be in: {where}"])
    raise SettingsError(f"path {path!r}", [f"there is no such file in {where}"])


def _check_step(path: Path) -> Path:
    if not path.is_file():
        raise SettingsError(f"step {path}", ["there is no such file"])
    if path.suffix != ".py" and not os.access(path, os.X_OK):
        raise SettingsError(f"step {path}", [f"it is not executable; chmod +x {path}"])
    if path.suffix != ".py" and (problem := _unstartable(path)):
        raise SettingsError(f"step {path}", [problem])
    return path.absolute()


def _unstartable(path: Path) -> str:
    """Why the system would refuse to start a program, as far as its first bytes tell; empty if nothing is wrong."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # a program may be run without being read
        return ""
    if head.startswith(b"#!"):
        interpreter = os.fsdecode(b"".join(head[2:].split(b"\n", 1)[0].split(maxsplit=1)[:1]))
        there = Path(interpreter).is_file() and os.access(interpreter, os.X_OK)
        return "" if there else f"its first line names the interpreter {interpreter!r}, which is not there"
    if head.startswith(_ELF) and len(head) > _ELF_MACHINE + 1:
        built_for = int.from_bytes(head[_ELF_MACHINE : _ELF_MACHINE + 2], "little")
        wanted = _MACHINES.get(os.uname().machine, built_for)
        return "" if built_for == wanted else f"it is built for another processor than this one, {os.uname().machine}"
    if b"\0" not in head:
        return "it is a text without a first line that names its interpreter, such as #!/bin/sh"
    return ""
