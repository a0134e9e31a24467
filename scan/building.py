"""Checks for `make build` that every stage has a step, and that the build fits into Lambda.

python scan/building.py runtime CONFIG_ENV  # prints the parameter Runtime
python scan/building.py steps CONFIG_ENV    # before building, with the parameters of samconfig.toml
python scan/building.py sizes BUILD_FOLDER  # after building; removes bytecode if it does not fit
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from parcelq.errors import ParcelqError
from parcelq.steps.find import deployed_step

ROOT = Path(__file__).parents[1]
LIMIT = 262_144_000
"""How many bytes a function and its layers may have, unzipped:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""
LIBRARY = "Library"
_NAMED = 8


def check_steps(config: str, root: Path = ROOT) -> None:
    """Check that every stage of an environment of samconfig.toml has a step; raise ParcelqError if a stage has none."""
    given = parameters(config, root)
    folder = root / "functions" / "processor" / "steps"
    for stage in given["Stages"].split(","):
        deployed_step([folder], stage, given["StepPath"], given["SettingsFile"])


def parameters(config: str, root: Path) -> dict[str, str]:
    """Return the values of the template's parameters, with the changes of an environment of samconfig.toml."""

    class Loader(yaml.SafeLoader):
        """A YAML loader that accepts CloudFormation's short tags."""

    Loader.add_multi_constructor("!", lambda *_: None)
    template: Any = yaml.load((root / "template.yaml").read_text(), Loader)  # nosec B506 # a SafeLoader
    defaults = {name: str(one["Default"]) for name, one in template["Parameters"].items()}
    environment = tomllib.loads((root / "samconfig.toml").read_text()).get(config, {})
    every = [environment.get(command, {}).get("parameters", {}) for command in ("global", "build")]
    overrides = [one for section in every for one in as_list(section.get("parameter_overrides", []))]
    return defaults | {name: value.strip("\"'") for name, _, value in (one.partition("=") for one in overrides)}


def as_list(overrides: str | Sequence[str]) -> Sequence[str]:
    """Return the overrides of parameters, which samconfig.toml may have as a list or as one text."""
    return overrides.split() if isinstance(overrides, str) else overrides


def fit(build: Path, limit: int = LIMIT) -> None:
    """Delete the bytecode of a function if the function and the library are together too large for Lambda. If they are
    still too large, delete the bytecode of the library too.

    Raises:
        ParcelqError: if a function and the library are too large without bytecode; the error names the largest parts.
    """
    library = build / LIBRARY
    for function in sorted(one for one in build.iterdir() if one.is_dir() and one != library):
        for folder in (function, library):
            if size(function) + size(library) > limit:
                for compiled in [*folder.rglob("__pycache__")]:
                    shutil.rmtree(compiled)
        if (total := size(function) + size(library)) > limit:
            parts = {one: size(one) for home in (function, library / "python") for one in home.iterdir()}
            largest = sorted(parts, key=lambda one: parts[one], reverse=True)[:_NAMED]
            named = ", ".join(f"{one.relative_to(build)} {parts[one]:,}" for one in largest)
            raise ParcelqError(
                f"{function.name} and its layer have {total:,} bytes, but Lambda takes at most {limit:,}: {named}"
            )


def size(path: Path) -> int:
    """Return how many bytes a file has, or all files in a folder together."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.is_file() and not one.is_symlink())


if __name__ == "__main__":
    what, argument = sys.argv[1:]
    try:
        if what == "runtime":
            print(parameters(argument, ROOT)["Runtime"])
        else:
            check_steps(argument) if what == "steps" else fit(Path(argument))
    except ParcelqError as error:
        sys.exit(f"Not built: {error}")
