"""What `sam build` makes, as a function would see it: nothing of the checkout is on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = "python3.13"
LAYER_BYTES = 20 * 2**20
"""A budget, unzipped: pydantic and its compiled core, Powertools, PyYAML, and this library."""


def interpreter() -> str | None:
    """The runtime's own interpreter; `sam build` takes no shim of a version manager."""
    found = shutil.which(RUNTIME)
    if found and "shims" not in found:
        return found
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(one) for one in sorted(versions.glob(f"3.13*/bin/{RUNTIME}"))), None)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = interpreter()
    if python is None:
        pytest.skip(f"sam build needs {RUNTIME}, which is not on this machine")
    target = tmp_path_factory.mktemp("build")
    environment = {**os.environ, "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [Path(sys.executable).with_name("sam"), "build", "--build-dir", target, "--no-cached"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return target


@pytest.mark.parametrize("name", ["Uploader", "StageFunctionstep", "Downloader", "TopicAdmin"])
def test_every_handler_can_be_imported_from_what_was_built(built: Path, name: str) -> None:
    # boto3 comes with the runtime, so here from this environment; everything else must be in the artifacts.
    code = (
        "import sys; before = sys.path[:]; import boto3; "
        f"sys.path[:0] = [{str(built / 'Library' / 'python')!r}, {str(built / name)!r}]; "
        "import app, parcelq, aws_lambda_powertools, yaml, pydantic; assert callable(app.handler); "
        "[print(one.__file__) for one in (app, parcelq, aws_lambda_powertools, yaml, pydantic)]"
    )
    environment = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": boto3_folder()}
    done = subprocess.run(
        [interpreter() or "", "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(built)) for line in done.stdout.splitlines())


def test_the_layer_keeps_within_its_budget(built: Path) -> None:
    size = sum(path.stat().st_size for path in (built / "Library").rglob("*") if path.is_file())
    assert size <= LAYER_BYTES
    assert not (built / "Library" / "python" / "boto3").exists()


def test_the_step_is_shipped_and_can_be_run(built: Path) -> None:
    assert (built / "StageFunctionstep" / "steps" / "step" / "step.py").is_file()


def boto3_folder() -> str:
    """Where this environment's boto3 lies; it and what it needs are pure Python."""
    import boto3

    return str(Path(boto3.__file__).parent.parent)
