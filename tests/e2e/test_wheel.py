"""The wheel in an environment of its own: what it weighs, and that its commands work far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from building import ROOT, run
from parcelq_emulator.pipeline import environment
from parcelq_emulator.server import Server

MEGABYTES = 110
PACKAGES = 25
SOURCES = (
    "layers",
    "cli",
    "emulator",
    "functions",
    "template.yaml",
    "dashboard.yaml",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "LICENSE",
    "README.md",
)


def install(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout in which it was built before, install it with pip, and return its
    environment.
    """
    checkout = folder / "checkout"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        checkout.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, checkout / name)
    earlier = checkout / "build" / "lib" / "parcelq_emulator" / "deployment" / "functions"
    earlier.mkdir(parents=True)
    (earlier / "deleted_since.py").touch()
    uv, made = Path(sys.executable).with_name("uv"), folder / "environment"
    run([uv, "build", "--quiet", "--wheel", "--out-dir", folder / "dist", checkout], {**os.environ})
    (wheel,) = (folder / "dist").glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", made], {**os.environ})
    pip = [sys.executable, "-m", "pip", "--python", made / "bin" / "python"]
    run([*pip, "install", "--quiet", wheel], {**os.environ})
    return made


@pytest.fixture
def made(once: Callable[[Callable[[Path], Path]], Path]) -> Path:
    return once(install)


@pytest.fixture
def parcelq(made: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed command in a folder outside the checkout, with these variables of the environment too."""

    def command(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [made / "bin" / "parcelq", *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def test_the_wheel_installs_few_packages_and_little_weight(made: Path) -> None:
    installed = list(made.glob("lib/*/site-packages/*.dist-info"))
    assert 1 < len(installed) <= PACKAGES, sorted(path.name for path in installed)
    size = sum(path.lstat().st_size for path in made.rglob("*") if path.is_file() and not path.is_symlink())
    assert size <= MEGABYTES * 10**6


def test_the_installed_command_uploads_processes_and_downloads(parcelq, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "lines.txt").write_text("".join(f"line {number}\n" for number in range(2500)))
    (tmp_path / "settings.yaml").write_text("filter: true\narguments: ['a-z', 'A-Z']\n")
    assert "upload" in parcelq("--help").stdout
    with Server() as server:
        on_aws = environment(server.url)
        for command in (
            ("topics", "create", "in"),
            ("topics", "create", "out"),
            ("upload", "in", "lines.txt"),
            ("process", "in", "out", "--step", "tr", "--settings", "settings.yaml", "--timeout", "2"),
            ("download", "out", "result.txt"),
        ):
            done = parcelq(*command, **on_aws)
            assert done.returncode == 0, done.stderr
    result = sorted((tmp_path / "result.txt").read_text().splitlines())
    assert result == sorted(f"LINE {number}" for number in range(2500))


DOUBLE = """
from parcelq.step import reject, step

@step(each=True)
def double(entry):
    if entry.startswith("#"):
        reject(entry, "it is a comment")
    return str(int(entry) * 2)

if __name__ == "__main__":
    double.main()
"""


def test_the_installed_command_runs_a_function_and_lists_bad_records(parcelq, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "double.py").write_text(DOUBLE)
    entries = [str(number) if number % 6 else f"# {number}" for number in range(3000)]
    (tmp_path / "numbers.txt").write_text("\n".join(entries) + "\n")
    tried = parcelq("try", "numbers.txt", "--step", "double.py", "--records", "2", "--json")
    assert [json.loads(line).get("output") for line in tried.stdout.splitlines()] == [None, "2\n"]
    done = parcelq("run", "numbers.txt", "--step", "double.py")
    assert done.returncode == 1, done.stderr
    good = [str(number * 2) for number in range(3000) if number % 6]
    assert (tmp_path / "results/numbers.txt").read_text().splitlines() == good
    dead = [json.loads(line) for line in (tmp_path / "results/numbers.txt.dead.jsonl").read_text().splitlines()]
    assert [one["record"] for one in dead] == list(range(1, 3001, 6))
    assert {one["reason"] for one in dead} == {"it is a comment"}


def test_the_installed_command_stops_for_a_broken_step_and_goes_on_when_it_is_mended(parcelq, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines = [f"line {number}" for number in range(20_000)]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    step = tmp_path / "step.py"
    step.write_text("import nothing_of_that_name\n")
    done = parcelq("run", "lines.txt", "--step", "step.py")
    assert done.returncode == 1
    assert "No module named 'nothing_of_that_name'" in done.stderr
    step.write_text(DOUBLE.replace("str(int(entry) * 2)", "entry.upper()"))
    done = parcelq("run", "lines.txt", "--step", "step.py")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/lines.txt").read_text().splitlines() == [line.upper() for line in lines]


def test_the_installed_command_goes_on_after_it_was_killed(made: Path, parcelq, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "lines.txt").write_text("".join(f"line {number}\n" for number in range(5000)))
    # After half of the runs the step waits, until it is killed.
    (tmp_path / "step").write_text(
        '#!/bin/sh\n[ -e "$HOME/again" ] || ! grep -q "line 2[5-9][0-9][0-9]" "$2" || exec sleep 600\n'
        'echo run >> "$HOME/runs"\ncat "$2" > "$4"\n'
    )
    (tmp_path / "step").chmod(0o755)
    command = ["run", "lines.txt", "--step", "./step", "--batch-size", "50", "--parcel-size", "50"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with subprocess.Popen([made / "bin" / "parcelq", *command], cwd=tmp_path, env=environment) as running:
        while running.poll() is None and not any((tmp_path / "results").rglob("*.seg")):
            time.sleep(0.01)
        running.kill()
    assert running.returncode == -9
    (tmp_path / "runs").rename(tmp_path / "earlier")
    (tmp_path / "again").touch()
    done = parcelq(*command)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/lines.txt").read_text() == (tmp_path / "lines.txt").read_text()
    assert len((tmp_path / "runs").read_text().splitlines()) < 100  # what was stored is not run again


def test_the_installed_command_installs_what_a_step_needs(made: Path, tmp_path: Path) -> None:
    package = "iniconfig==2.0.0"
    uv = Path(sys.executable).with_name("uv")
    reached = subprocess.run(
        [uv, "pip", "install", "--quiet", "--target", tmp_path / "reached", package],
        capture_output=True,
        text=True,
        check=False,
    )
    if reached.returncode:
        pytest.skip(f"no registry gives {package}: {reached.stderr.strip()[-300:]}")
    program = DOUBLE.replace("str(int(entry) * 2)", "entry + iniconfig.__name__")
    (tmp_path / "step.py").write_text(f"import iniconfig\n{program}")
    (tmp_path / "lines.txt").write_text("a\nb\n")
    done = subprocess.run(
        [made / "bin" / "parcelq", "run", "lines.txt", "--step", "step.py", "--with", package],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/lines.txt").read_text() == "ainiconfig\nbiniconfig\n"


def test_without_its_extra_packages_the_installed_emulate_says_what_to_install(parcelq) -> None:  # type: ignore[no-untyped-def]
    done = parcelq("emulate", "lines.txt", "--step", "tr")
    assert done.returncode == 1
    assert done.stderr == "parcelq: emulate needs more packages; install them with: pip install 'parcelq[emulate]'\n"


def test_the_wheel_carries_the_template_and_the_functions(made: Path) -> None:
    (deployment,) = made.glob("lib/*/site-packages/parcelq_emulator/deployment")
    for name in ("template.yaml", "dashboard.yaml"):
        assert (deployment / name).read_bytes() == (ROOT / name).read_bytes()
    functions = {path.relative_to(ROOT / "functions") for path in (ROOT / "functions").rglob("*.py")}
    assert {
        path.relative_to(deployment / "functions") for path in (deployment / "functions").rglob("*.py")
    } == functions
