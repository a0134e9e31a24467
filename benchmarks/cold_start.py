"""Measures CPU time and peak memory of the imports at a function's cold start, compared with importing boto3 alone.

make build && .venv/bin/python -m benchmarks.cold_start [--runs N] [--importtime FUNCTION]

This measures the output of `make build` with the Python version of the runtime. boto3 comes from the environment that
runs the benchmark, and has bytecode, as in the runtime.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.harness import MissingToolError
from benchmarks.tools import ROOT, see_that_it_worked

RUNTIME: Final = "python3.13"
BUILD: Final = ROOT / ".aws-sam" / "build"
_CODE: Final = (ROOT / "layers", ROOT / "functions")
FUNCTIONS: Final = {
    "uploader": "Uploader",
    "processor": "StageFunctionstep",
    "downloader": "Downloader",
    "topic_admin": "TopicAdmin",
}
"""Maps the functions' names to their folders in the build."""
BOTO3: Final = "boto3"
_PACKAGES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six.py", "urllib3")
"""boto3 and its dependencies. If awscrt were installed, boto3 would import more, but the runtime has no awscrt."""

# A cold start waits mostly for CPU time, and other work on this machine hardly changes CPU time.
_PROBE: Final = """
import resource, sys, time
before = time.process_time()
import {module}
print(time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True, slots=True)
class Import:
    """The cost of an import.

    Attributes:
        seconds: the CPU seconds of the import, as the median of several runs.
        mib: the peak memory of the process in MiB, including the interpreter.
        time_ratio: the CPU seconds divided by the CPU seconds of importing boto3 alone, as the median of pairs of runs.
        memory_ratio: the memory divided by the memory of importing boto3 alone, as the median of pairs of runs.
    """

    seconds: float
    mib: float
    time_ratio: float
    memory_ratio: float


def ready() -> str:
    """Check that all needed parts are installed and built, and return an interpreter of the runtime's version.

    Raises:
        MissingToolError: if the interpreter is not on this machine, or if the build is missing or older than the code.
    """
    python = interpreter()
    if python is None:
        raise MissingToolError(f"{RUNTIME} is missing, the functions' runtime")
    template = BUILD / "template.yaml"  # every build writes it last
    if not template.exists():
        raise MissingToolError("the build is missing; run make build")
    if _last_changed() > template.stat().st_mtime:
        raise MissingToolError("the build is older than the code; run make build")
    return python


def interpreter() -> str | None:
    """Return the path of an interpreter of the runtime's version, or None. A version manager's shim does not count."""
    found = shutil.which(RUNTIME)
    if found and "shims" not in found:
        return found
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(one) for one in sorted(versions.glob(f"3.13*/bin/{RUNTIME}"))), None)


def measure(python: str, build: Path = BUILD, runs: int = 15) -> dict[str, Import]:
    """Return the costs of importing each function's module, and of importing boto3 alone; see `samples`."""
    taken = samples(python, build, runs)

    def cost(name: str) -> Import:
        pairs = list(zip(taken[name], taken[BOTO3], strict=True))
        ratios = [median(ours[part] / theirs[part] for ours, theirs in pairs) for part in (0, 1)]
        seconds, kib = (median(sample[part] for sample in taken[name]) for part in (0, 1))
        return Import(seconds, kib / 1024, *ratios)

    return {name: cost(name) for name in taken}


def samples(python: str, build: Path = BUILD, runs: int = 15) -> dict[str, list[tuple[float, float]]]:
    """Import each function's module, and boto3 alone, in turns, so that other work on the machine affects all imports
    alike.

    Args:
        python: the path of an interpreter of the runtime's version.
        build: the folder with the output of `make build`.
        runs: how often each module is imported.

    Returns:
        The CPU seconds and the KiB of each import, by the name of the function, or `boto3`.
    """
    names = [BOTO3, *FUNCTIONS]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with _paths(build) as paths:
        _probe(python, BOTO3, paths, PYTHONDONTWRITEBYTECODE="")  # this writes boto3's bytecode, as the runtime has it
        for _ in range(runs):
            for name in names:
                taken[name].append(_probe(python, name, paths))
    return taken


def importtime(python: str, name: str, build: Path = BUILD) -> str:
    """Return the output of Python's `-X importtime`: the microseconds of each module without and with its imports."""
    with _paths(build) as paths:
        return _run(python, "import app", paths[name], "-X", "importtime").stderr


def _last_changed() -> float:
    """Return the time when a file of the build was last changed. Bytecode does not count, because Python writes it at
    any time.
    """
    files = (file for folder in _CODE for file in folder.rglob("*") if "__pycache__" not in file.parts)
    return max(file.stat().st_mtime for file in files if file.is_file())


@contextmanager
def _paths(build: Path) -> Iterator[dict[str, str]]:
    """Yield the import paths of each function: the function's folder, the layer, and the packages of the runtime."""
    with TemporaryDirectory() as runtime:
        for package in _PACKAGES:
            Path(runtime, package).symlink_to(Path(sysconfig.get_path("purelib"), package))
        layer = build / "Library" / "python"
        paths = {name: f"{build / folder}{os.pathsep}{layer}" for name, folder in FUNCTIONS.items()}
        yield {BOTO3: runtime, **{name: f"{path}{os.pathsep}{runtime}" for name, path in paths.items()}}


def _probe(python: str, name: str, paths: dict[str, str], **environment: str) -> tuple[float, float]:
    code = _PROBE.format(module=BOTO3 if name == BOTO3 else "app")
    seconds, kib = _run(python, code, paths[name], **environment).stdout.split()
    return float(seconds), float(kib)


def _run(python: str, code: str, path: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Functions may not write to the folder of their code, so modules without bytecode are compiled at every cold start.
    clean = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": path, "AWS_DEFAULT_REGION": "us-east-1", **environment}
    command = [python, "-P", *options, "-c", code]
    ended = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    see_that_it_worked(command, ended.returncode, ended.stderr.encode())
    return ended


def _table(costs: dict[str, Import]) -> Iterator[str]:
    yield "| import of | CPU, ms | of boto3's | peak memory, MiB | of boto3's |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, one in costs.items():
        ratios = f"{one.time_ratio:.2f} | {one.mib:.0f} | {one.memory_ratio:.2f}"
        yield f"| {name} | {one.seconds * 1000:.0f} | {ratios} |"


def main() -> None:
    """Print the table of all costs, or the imports of one function."""
    parser = argparse.ArgumentParser(
        description="Measure what a cold start of each function imports, compared with boto3 alone."
    )
    parser.add_argument("--runs", type=int, default=15, help="how often each is imported")
    parser.add_argument("--importtime", choices=FUNCTIONS, help="print the imports of this function instead")
    options = parser.parse_args()
    try:
        python = ready()
    except MissingToolError as error:
        sys.exit(str(error))
    if options.importtime:
        print(importtime(python, options.importtime), end="")
    else:
        print(*_table(measure(python, runs=options.runs)), sep="\n")


if __name__ == "__main__":
    main()
