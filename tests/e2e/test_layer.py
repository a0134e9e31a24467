"""What `make build` puts into the layer: the pinned packages and no others, compiled, and loaded only where needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
PYTHON = next((str(one) for one in sorted(PYENV.glob("versions/3.13*/bin/python3.13"))), None) or shutil.which(
    "python3.13"
)
REQUIREMENTS = ROOT / "layers" / "parcelq" / "python" / "requirements.txt"
HEAVY = ("pydantic", "yaml", "aws_lambda_powertools.utilities.parser", "aws_lambda_powertools.utilities.data_classes")
"""Modules that a function is to load at its start only if every invocation needs them."""


def name_of(package: str) -> str:
    """As registries compare names."""
    return re.sub("[-_.]+", "-", package).lower()


def pins() -> Mapping[str, str]:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [re.fullmatch(r"([A-Za-z0-9_-]+)==([0-9.]+)", line) for line in lines]
    assert all(pairs), "every requirement must be one exact version"
    return {name_of(one[1]): one[2] for one in pairs if one}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if PYTHON is None:
        pytest.skip("make build needs python3.13, which is not on this machine")
    target = tmp_path_factory.mktemp("make-build")
    # The environment that runs this is the one that builds, wherever it lies.
    command = ["make", "--old-file=setup", "build", f"BUILD={target}", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return target


def test_what_runs_here_is_what_is_pinned() -> None:
    assert {name: version(name) for name in pins()} == pins()


def test_the_layer_has_the_pinned_packages_and_no_others(built: Path) -> None:
    found = distributions(path=[str(built / "Library" / "python")])
    assert {name_of(one.name): one.version for one in found} == pins()


def test_everything_that_is_imported_is_compiled_for_good(built: Path) -> None:
    for folder in ("Uploader", "StageFunctionstep", "Downloader", "TopicAdmin", "Library/python/parcelq"):
        sources = list((built / folder).glob("*.py"))
        assert sources
        for source in sources:
            compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
            flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
            assert flags == 1, "a hash that is not checked: https://peps.python.org/pep-0552/"
    assert not list((built / "StageFunctionstep" / "steps").rglob("*.pyc"))


@pytest.mark.parametrize(
    ("folder", "loaded"),
    [("Uploader", []), ("StageFunctionstep", []), ("Downloader", []), ("TopicAdmin", ["pydantic"])],
)
def test_a_function_loads_nothing_heavy_that_it_does_not_always_need(
    built: Path, folder: str, loaded: list[str]
) -> None:
    import boto3

    path = [built / folder, built / "Library" / "python", Path(boto3.__file__).parents[1]]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, path)), "AWS_DEFAULT_REGION": "us-east-1"}
    code = f"import sys, app; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([PYTHON or "", "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == loaded
