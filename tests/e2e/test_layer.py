"""What `make build` puts into the layer: the pinned packages and no others, compiled, and loaded only where needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from building import ROOT, RUNTIME, interpreter, run

PYTHON = interpreter()
LAYER_BYTES = 20 * 2**20
"""A budget, unzipped: Powertools, PyYAML, this library, and the bytecode of all."""
REQUIREMENTS = ROOT / "layers" / "parcelq" / "python" / "requirements.txt"
HEAVY = ("yaml", "aws_lambda_powertools.utilities.parser", "aws_lambda_powertools.utilities.data_classes")
"""Modules that a function is to load at its start only if every invocation needs them."""


def name_of(package: str) -> str:
    """As registries compare names."""
    return re.sub("[-_.]+", "-", package).lower()


def pins() -> Mapping[str, str]:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [re.fullmatch(r"([A-Za-z0-9_-]+)==([0-9.]+)", line) for line in lines]
    assert all(pairs), "every requirement must be one exact version"
    return {name_of(one[1]): one[2] for one in pairs if one}


def make_build(folder: Path) -> Path:
    # The environment that runs this is the one that builds, wherever it lies.
    here, runtime = Path(sys.executable).parent, PYTHON.parents[1]
    build = folder / "build"
    run(["make", "--old-file=setup", "build", f"BUILD={build}", f"BIN={here}", f"PYTHON313={runtime}"], {**os.environ})
    return build


@pytest.fixture
def made(once: Callable[[Callable[[Path], Path]], Path]) -> Path:
    if PYTHON.name != RUNTIME:
        pytest.skip(f"make build needs {RUNTIME}, which is not on this machine")
    return once(make_build)


def test_the_packages_installed_here_have_the_versions_pinned_for_the_layer() -> None:
    assert {name: version(name) for name in pins()} == pins()


def test_the_layer_has_the_pinned_packages_and_no_others(made: Path) -> None:
    found = distributions(path=[str(made / "Library" / "python")])
    assert {name_of(one.name): one.version for one in found} == pins()


def test_the_layer_is_no_larger_than_its_budget(made: Path) -> None:
    assert sum(path.stat().st_size for path in (made / "Library").rglob("*") if path.is_file()) <= LAYER_BYTES


def test_everything_that_is_imported_is_compiled_permanently(made: Path) -> None:
    for folder in ("Uploader", "StageFunctionstep", "Downloader", "TopicAdmin", "Library/python/parcelq"):
        sources = list((made / folder).glob("*.py"))
        assert sources
        for source in sources:
            compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
            flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
            assert flags == 1, "a hash that is not checked: https://peps.python.org/pep-0552/"
    assert not list((made / "StageFunctionstep" / "steps").rglob("*.pyc"))


@pytest.mark.parametrize("folder", ["Uploader", "StageFunctionstep", "Downloader", "TopicAdmin"])
def test_a_function_loads_nothing_heavy_at_its_start(made: Path, folder: str) -> None:
    import boto3

    path = [made / folder, made / "Library" / "python", Path(boto3.__file__).parents[1]]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, path)), "AWS_DEFAULT_REGION": "us-east-1"}
    code = f"import sys, app; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([PYTHON, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
