"""Packages of steps for a function: locked once, built for its platform without building anything, and packed alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from parcelq.errors import SettingsError
from parcelq.steps.bundles import unpack
from parcelq.steps.environments import Dependencies
from parcelq.steps.packages import Packages, Target, packages_for
from test_step_environments import index, wheel  # noqa: F401

HERE = Target(f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64-manylinux_2_34")


@pytest.fixture
def build(tmp_path: Path):
    def build_(*packages: str, cache: str = "cache", python: str = "", target: Target = HERE) -> Packages:
        step = tmp_path / "step.py"
        step.touch()
        return packages_for(Dependencies(step, packages, None, python), target, lambda _: None, tmp_path / cache)

    return build_


def test_a_bundle_has_what_the_step_imports_and_no_files_of_this_machine(build, index, tmp_path):  # noqa: F811
    wheel(index, "1.0", "hello")
    built = build("greeting")
    assert built.lock.splitlines() == [f"# {HERE}", "greeting==1.0"]
    unpack(built.archive, built.bundle, tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    bytecode = {name for name in files if name.endswith(".pyc")}
    assert files - bytecode == {
        "greeting.py",
        "greeting-1.0.dist-info/METADATA",
        "greeting-1.0.dist-info/WHEEL",
    }
    said = subprocess.run(
        [sys.executable, "-c", "import greeting; print(greeting.WORD)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "out")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "hello\n"


def test_two_machines_build_the_same_bundle_of_packages(build, index):  # noqa: F811
    wheel(index, "1.0", "hello")
    assert build("greeting", cache="one").bundle == build("greeting", cache="other").bundle


def test_packages_that_were_locked_and_built_once_stay_as_they_are(build, index):  # noqa: F811
    wheel(index, "1.0", "hello")
    first = build("greeting")
    wheel(index, "2.0", "goodbye")
    assert build("greeting") == first
    assert build("greeting", cache="other").lock.splitlines()[1] == "greeting==2.0"


def test_a_bundle_of_packages_that_is_damaged_is_built_again(build, index):  # noqa: F811
    wheel(index, "1.0", "hello")
    first = build("greeting")
    whole = first.archive.read_bytes()
    first.archive.write_bytes(whole[:-1])
    assert build("greeting").archive.read_bytes() == whole


def test_a_package_without_wheels_for_the_platform_is_named(build, index):  # noqa: F811
    wheel(index, "1.0", "hello")
    (index / "greeting-1.0-py3-none-any.whl").rename(index / "greeting-1.0-cp39-cp39-win_amd64.whl")
    with pytest.raises(SettingsError, match=r"dependencies of .*step\.py: .*greeting"):
        build("greeting")
    (index / "greeting-1.0-cp39-cp39-win_amd64.whl").unlink()
    (index / "greeting-1.0.tar.gz").write_bytes(b"not built")
    with pytest.raises(SettingsError, match="greeting"):
        build("greeting")


@pytest.mark.parametrize(
    ("wish", "python", "fits"),
    [
        (">=3.11", "3.13", True),
        (">=3.13.4", "3.13", True),
        ("==3.13.*", "3.13", True),
        (">=3.14", "3.13", False),
        ("<3.13", "3.13", False),
        ("~=3.12", "3.13", True),
        ("whatever", "3.13", None),
    ],
)
def test_a_step_that_needs_another_python_than_the_function_has_is_refused(build, index, wish, python, fits):  # noqa: F811
    wheel(index, "1.0", "hello")
    target = Target(python, HERE.platform)
    if fits:
        assert build("greeting", python=wish, target=target).bundle.files
    else:
        with pytest.raises(SettingsError, match="requires-python is '"):
            build("greeting", python=wish, target=target)


def test_a_step_without_packages_gets_an_empty_bundle(build, index):  # noqa: F811
    assert build(python=">=3.8").bundle.files == 0
