"""Finds a step and its settings. Errors in the step or settings are raised before any message is pulled."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from parcelq.errors import SettingsError
from parcelq.result_names import REPORT, STATE
from parcelq.steps.executable import Command, command_of, has_open_quote, uses_step, why_not_executable
from parcelq.steps.settings import StepSettings, read_settings

if TYPE_CHECKING:
    from parcelq.steps.environments import Dependencies

_log = logging.getLogger(__name__)

STEP_NAME: Final = "step"
SETTINGS_NAMES: Final = ("settings.yaml", "settings.yml")
Progress = Callable[[str], None]


class Step(NamedTuple):
    """A program that turns a file of entries into a file of entries.

    Attributes:
        workflow_id: the value of the option `--workflow-id`; empty if the option is not given.
        python: the interpreter of an environment with the step's dependencies; None if the step runs with the current
            interpreter.
        lock: the exact packages of the step's environment, as text; empty if the step has no environment of its own.
        copied: whether the step's file is copied into a separate folder, and the copy is run.
        whole: the folder that belongs to the step; None if only the program belongs to the step.
        packages: the folder of Python packages that the step can import; None if there is no such folder, or the step
            has an interpreter of its own.
        granted: a function that returns environment variables with the credentials and secrets that a stack gives the
            step; None on a user's machine. The function raises AwsError if the credentials or secrets cannot be read.
    """

    path: Path
    settings: StepSettings = StepSettings()
    workflow_id: str = ""
    python: Path | None = None
    lock: str = ""
    copied: bool = False
    whole: Path | None = None
    packages: Path | None = None
    granted: Callable[[], Mapping[str, str]] | None = None

    @property
    def name(self) -> str:
        """The name of the step in logs and reasons."""
        return self.path.name

    @property
    def is_function(self) -> bool:
        """Whether the step is a Python file that uses `parcelq.step` and calls a method `main()`."""
        return self.path.suffix == ".py" and not self.settings.filter and uses_step(self.path)

    @property
    def warm(self) -> bool:
        """Whether the step's process is kept between runs: by default, only if it runs a Python function."""
        return self.is_function if self.settings.warm is None else self.settings.warm

    @property
    def version(self) -> str:
        """A digest of everything that determines what the step does: the step's file or folder, settings and lock."""
        import json
        from dataclasses import asdict
        from hashlib import sha256

        settings = {name: value for name, value in asdict(self.settings).items() if name != "path"}
        digest = sha256(json.dumps([settings, self.lock], sort_keys=True, default=str).encode())
        top = self.whole or self.path.parent
        for path in sorted(files_of(self.whole)) if self.whole else [self.path]:
            data = path.read_bytes()
            executable = os.access(path, os.X_OK)
            digest.update(f"{path.relative_to(top)}\0{executable:d}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
            digest.update(data)
        return digest.hexdigest()

    def command(self, source: Path, target: Path) -> list[str]:
        """Return the command line that runs the step over the file `source` and writes the file `target`."""
        if self.settings.filter:
            return self._program()
        files = ["--input", str(source), "--output", str(target)]
        if self.settings.rejects or self.is_function:
            files += ["--rejects", str(target.parent / "rejects")]
        return [*self._program(), *files, *self._about()]

    def warm_command(self, control: int) -> list[str]:
        """Return the command line of a warm process, which reads requests from the socket `control`."""
        return [*self._program(), *self._about(), "--warm", str(control)]

    def _program(self) -> list[str]:
        start = [str(self.python or sys.executable)] if self.path.suffix == ".py" else []
        if start and self.copied and _knows_safe_path(self.python):
            start.append("-P")  # a file that is alone in its folder must not hide the module with its name
        return [*start, str(self.path), *self.settings.arguments]

    def _about(self) -> list[str]:
        about = ["--workflow-id", self.workflow_id]
        return [*about, "--settings", str(self.settings.path)] if self.settings.path else about


def local_step(path: str, settings_file: str = "", workflow_id: str = "") -> Step:
    """Find a step on a user's machine: a file, a command such as `tr a-z A-Z`, or a folder with one file `step` or
    `step.*` and optionally `settings.yaml`.

    A command is the name of a program on the PATH, perhaps with arguments. Without settings, it is a filter: it reads
    stdin and writes stdout. If a file has dependencies (in inline metadata or in a `requirements.txt` beside the file),
    the step gets an environment with them. Raises SettingsError if the step, its settings or its dependencies do not
    exist or cannot be used.
    """
    return with_environment(local_program(path, settings_file, workflow_id))


def local_program(path: str, settings_file: str = "", workflow_id: str = "") -> Step:
    """Find a step like `local_step`, but without the step's dependencies. Raises SettingsError if the step or settings
    file does not exist or cannot be used.
    """
    if not path:
        raise SettingsError("step ''", ["there is no such file"])
    given = Path(os.path.expanduser(path))
    command = command_of(path) if not given.exists() else None
    for file in _files_in(command) if command else ():
        _log.warning("step %s: a command runs in a folder of its own, without %s; give its full path", path, file)
    whole = given.absolute() if given.is_dir() else None
    step = _check_step(command.program if command else _step_in(whole) if whole else given)
    settings = _settings(Path(os.path.expanduser(settings_file)) if settings_file else _beside(whole), command, path)
    return Step(step, settings, workflow_id, copied=not (command or whole), whole=whole)


def with_environment(step: Step, packages: Sequence[str] = (), progress: Progress | None = None) -> Step:
    """Return a step with an environment of its own if it has dependencies; see `local_step`. Raises SettingsError if
    the dependencies cannot be installed, or if the step is not a Python file and cannot have any.
    """
    wanted = dependencies_of_step(step, packages)
    if not wanted:
        return step
    from parcelq.steps.environments import environment_for

    python, lock = environment_for(wanted, progress or (lambda _: None))
    return step._replace(python=python, lock=lock)


def dependencies_of_step(step: Step, packages: Sequence[str]) -> Dependencies | None:
    """Return the dependencies of a step, or raise SettingsError; None if the step is not a Python file."""
    if step.path.suffix == ".py":
        from parcelq.steps.environments import dependencies_of

        return dependencies_of(step.path, packages)
    if packages:
        raise SettingsError(
            f"step {step.path}", ["only steps that end in .py can have packages; this one is started directly"]
        )
    return None


def step_within(folder: Path, run: str, settings_file: str = "", workflow_id: str = "") -> Step:
    """Find a step of a workflow in the workflow's folder. All files in the folder belong to the step.

    Without `settings_file`, a path below the folder, the `settings.yaml` of a step that is a folder is used. Raises
    SettingsError if the step or settings file does not exist, cannot be used, or is outside the folder.
    """
    root = folder.absolute()
    given = root / run
    command = command_of(run) if not given.exists() else None
    home = given if given.is_dir() else None
    program = command.program if command else _inside([root], str(_step_in(home)) if home else run)
    settings = _settings(_inside([root], settings_file) if settings_file else _beside(home), command, run)
    return Step(_check_step(program), settings, workflow_id, whole=root)


def deployed_step(
    folders: Sequence[Path], stage: str, path: str = "", settings_file: str = "", workflow_id: str = ""
) -> Step:
    """Find the step of a stage in one of the folders that may contain a Lambda function's steps.

    Without `path`, a path below one of the folders, the step is `<stage>/step` or `<stage>/step.*`, with
    `<stage>/settings.yaml` if it exists. Raises SettingsError if the step or settings file does not exist, cannot be
    used, or is outside the folders.
    """
    found = _inside(folders, path) if path else _step_of_stage(folders, stage)
    beside = settings_file or str(_beside(None if path else found.parent) or "")
    return Step(_check_step(found), _settings(_inside(folders, beside) if beside else None), workflow_id)


def _step_of_stage(folders: Sequence[Path], stage: str) -> Path:
    for folder in folders:
        if found := _steps_in(folder.absolute() / stage):
            return _inside(folders, str(found[0]))
    wanted = " or ".join(str(folder / stage / STEP_NAME) for folder in folders)
    raise SettingsError(f"step of stage {stage!r}", [f"there must be {wanted} (or {STEP_NAME}.py, {STEP_NAME}.sh, …)"])


def _beside(home: Path | None) -> Path | None:
    """Return the settings file in the folder of a step; None if the step is not a folder or has no settings file."""
    beside = [home / name for name in SETTINGS_NAMES] if home else []
    return next(filter(Path.is_file, beside), None)


def _settings(file: Path | None, command: Command | None = None, text: str = "") -> StepSettings:
    """Return the settings in a file. Without a file, a command is a filter, and other steps have default settings."""
    if file is None:
        return StepSettings(filter=True, arguments=command.arguments) if command else StepSettings()
    settings = read_settings(file)
    if command and command.arguments:
        raise SettingsError(f"step {text!r}", [f"with settings, its arguments must be in {file}"])
    return settings


def _step_in(home: Path) -> Path:
    if not (found := _steps_in(home)):
        program = shutil.which(home.name)
        hint = f"; to run the program of the same name, write {program}" if program else ""
        raise SettingsError(f"step {home}", [f"the folder has no file {STEP_NAME} (or {STEP_NAME}.py, …){hint}"])
    return found[0]


def _steps_in(home: Path) -> list[Path]:
    """Return a list with the one file `step` or `step.*` of a folder; the list is empty if there is no such file."""
    found = sorted(one for one in home.glob(f"{STEP_NAME}*") if one.stem == STEP_NAME and one.is_file())
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise SettingsError(f"step in {home}", [f"{home} must have one step, but has {names}"])
    return found


def _inside(folders: Sequence[Path], path: str) -> Path:
    """Return the file with a relative path in one of the folders. A link must lead to a place below the same folder."""
    outside = False
    for folder in folders:
        root = folder.resolve()
        found = root / path
        if not found.resolve().is_relative_to(root):
            outside = True
        elif found.is_file():
            return found  # not the link's target, because some programs behave differently under different names
    where = ", ".join(map(str, folders))
    reason = "it is outside the folders that steps may be in:" if outside else "there is no such file in"
    raise SettingsError(f"path {path!r}", [f"{reason} {where}"])


def _files_in(command: Command) -> list[str]:
    """Return the arguments that name a file here, but will not do so where the command runs."""
    return [one for one in command.arguments if not os.path.isabs(one) and os.path.isfile(one)]


def _check_step(path: Path) -> Path:
    if not path.is_file():
        missing = "there is no such file"
        if has_open_quote(str(path)):
            missing += "; its quote has no end"
        elif path.name == str(path):
            missing += ", and no such program on the PATH"
        raise SettingsError(f"step {path}", ["it is not a regular file" if path.exists() else missing])
    if path.suffix == ".py":
        if not os.access(path, os.R_OK):
            raise SettingsError(f"step {path}", ["it cannot be read"])
    elif problem := why_not_executable(path):
        raise SettingsError(f"step {path}", [problem])
    return path.absolute()


@cache
def _knows_safe_path(python: Path | None) -> bool:
    """Return whether the interpreter of an environment knows the option `-P`, as Python does from version 3.11."""
    return python is None or not any((python.parents[1] / f"lib/python3.{minor}").exists() for minor in range(11))


def files_of(folder: Path) -> Iterator[Path]:
    """Yield all files in the folder of a step or workflow, except hidden files, files that a run leaves behind, and
    folders below it that contain results.
    """
    for here, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not _is_left_out(Path(here, one))]
        yield from (path for path in (Path(here, name) for name in names if name[0] != ".") if path.is_file())


def _is_left_out(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name == "__pycache__"
    return hidden or (folder / STATE).exists() or any(folder.glob(f"*{REPORT}"))
