"""What `make build` refuses: stages without a step, and functions that are too large for Lambda."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from parcelq.errors import ParcelqError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scan" / "building.py"
BUILDING = runpy.run_path(str(SCRIPT))
check_steps, fit = BUILDING["check_steps"], BUILDING["fit"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the template, an environment for two stages, and the step of the first."""
    shutil.copy(ROOT / "template.yaml", tmp_path)
    (tmp_path / "samconfig.toml").write_text(
        '[two.global.parameters]\nparameter_overrides = ["Stages=clean,score"]\n'
        "[text.build.parameters]\nparameter_overrides = 'Stages=\"clean\" ParcelSize=7'\n"
        '[shared.global.parameters]\nparameter_overrides = ["Stages=a,b", "StepPath=clean/step.py"]\n'
        '[gone.global.parameters]\nparameter_overrides = ["Stages=a", "StepPath=other/step.py"]\n'
    )
    step(tmp_path, "clean")
    return tmp_path


def step(root: Path, stage: str) -> None:
    folder = root / "functions" / "processor" / "steps" / stage
    folder.mkdir(parents=True)
    (folder / "step.py").write_text("print()\n")


def test_a_stage_without_a_step_is_named(checkout: Path) -> None:
    with pytest.raises(ParcelqError, match=r"step of stage 'score': there must be .*/steps/score/step"):
        check_steps("two", checkout)
    step(checkout, "score")
    check_steps("two", checkout)


def test_stages_that_share_a_step_need_that_one_alone(checkout: Path) -> None:
    check_steps("shared", checkout)
    with pytest.raises(ParcelqError, match=r"other/step\.py"):
        check_steps("gone", checkout)


def test_overrides_may_be_one_text_and_an_unknown_environment_changes_nothing(checkout: Path) -> None:
    check_steps("text", checkout)
    with pytest.raises(ParcelqError, match="step of stage 'step'"):
        check_steps("none", checkout)


@pytest.mark.parametrize("environment", ["default", "dev", "prod"])
def test_the_environments_of_this_project_have_their_steps(environment: str) -> None:
    done = subprocess.run([sys.executable, SCRIPT, "steps", environment], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_runtime_that_is_built_for_is_the_one_that_is_deployed() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "runtime", "dev"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "python3.13\n")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """1,000 bytes of function and 2,000 of library, with 300 and 500 of bytecode."""
    for name, count in {
        "Uploader/app.py": 1000,
        "Uploader/__pycache__/app.pyc": 300,
        "Library/python/parcelq/a.py": 1500,
        "Library/python/yaml/b.py": 500,
        "Library/python/yaml/__pycache__/b.pyc": 500,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * count)
    return tmp_path


@pytest.mark.parametrize(("limit", "left"), [(3800, 2), (3799, 1), (3500, 1), (3499, 0), (3000, 0)])
def test_bytecode_is_left_out_where_it_tips_the_balance(build: Path, limit: int, left: int) -> None:
    fit(build, limit)
    assert len(list(build.rglob("__pycache__"))) == left


def test_a_function_that_is_too_large_without_bytecode_is_refused_with_its_largest_parts(build: Path) -> None:
    with pytest.raises(ParcelqError) as caught:
        fit(build, 2999)
    assert str(caught.value) == (
        "Uploader and its layer have 3,000 bytes, but Lambda takes at most 2,999: "
        "Library/python/parcelq 1,500, Uploader/app.py 1,000, Library/python/yaml 500"
    )


def test_the_script_says_in_one_sentence_why_nothing_was_built(build: Path) -> None:
    (build / "Uploader" / "model.bin").touch()
    with (build / "Uploader" / "model.bin").open("r+b") as file:
        file.truncate(262_144_001)  # takes no room on the disk
    done = subprocess.run([sys.executable, SCRIPT, "sizes", build], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Not built: Uploader and its layer have 262,147,001 bytes")
    assert "Uploader/model.bin 262,144,001" in done.stderr
    assert done.stderr.count("\n") == 1
