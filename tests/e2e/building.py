"""Running `sam build`, for the Python that Lambda runs, and commands such as that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
Once: TypeAlias = Callable[[Callable[[Path], Any]], Any]
"""Calls a function with a folder for it, and returns what it returned in whichever process called it first."""
RUNTIME = "python3.13"
STAGES = ("step", "score")
SAM = Path(sys.executable).with_name("sam")
BROUGHT = ["boto3", "awslambdaric"] if sys.platform == "linux" else ["boto3"]
"""What Lambda's own Python has, beside the standard library; the emulator's part of it is for Linux alone."""


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes:
        folder: the functions' folders and the layer's, by their logical ids, and the template that names them.
        python: a Python of the version that it was built for, with nothing but what Lambda's own brings.
    """

    folder: Path
    python: Path

    @property
    def library(self) -> Path:
        """What Lambda has as `/opt/python`."""
        return self.folder / "Library" / "python"


def build(folder: Path) -> Built:
    """Build two stages for the deployed runtime; where this machine lacks it, for the Python that runs the tests."""
    python = interpreter()
    made = Built(folder / "build", folder / "runtime" / "bin" / "python")
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["--config-file", ROOT / "samconfig.toml", "--base-dir", ROOT, "--no-cached"]
    options += ["--parameter-overrides", f"Stages={','.join(STAGES)} Runtime={python.name}"]
    run([SAM, "build", "--template", ROOT / "template.yaml", "--build-dir", made.folder, *options], environment)
    run([python, "-m", "venv", "--without-pip", made.python.parents[1]], environment)
    packages = [f"{name}=={version(name)}" for name in BROUGHT]
    run([sys.executable, "-m", "pip", "--python", made.python, "install", "--quiet", *packages], environment)
    return made


def interpreter() -> Path:
    """The runtime's own interpreter, if there is one; `sam build` takes no shim of a version manager."""
    found = shutil.which(RUNTIME)
    if found and "shims" not in found:
        return Path(found)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    own = Path(sys.executable).with_name(f"python3.{sys.version_info.minor}")
    return next(iter(sorted(versions.glob(f"3.13*/bin/{RUNTIME}"))), own)


def run(command: Sequence[str | Path], environment: dict[str, str], answers: str = "") -> str:
    """Run a command that must succeed, in the project's folder, and return what it printed."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=answers, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
