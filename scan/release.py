"""Checks that `make release` wrote one wheel and one source archive, of a version that the changelog describes.

python scan/release.py DIST_FOLDER
"""

from __future__ import annotations

import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_IN_WHEEL: Final = (
    "parcelq/py.typed",
    "parcelq/__init__.py",
    "parcelq_cli/main.py",
    "parcelq_emulator/deployment/template.yaml",
    "parcelq_emulator/deployment/dashboard.yaml",
)
_IN_SOURCE: Final = ("LICENSE", "README.md", "pyproject.toml", "setup.py", "template.yaml", "functions/uploader/app.py")
_NEVER: Final = ("__pycache__", ".venv", "results/")


def problems(dist: Path) -> list[str]:
    """Return the mistakes in the files of a folder; empty if the files can be published."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    wheels, archives = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    found = []
    if not re.search(
        rf"^## \[?{re.escape(version)}\]?.* \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    ):
        found.append(f"CHANGELOG.md has no dated heading for version {version}")
    if [one.name.split("-")[1] for one in wheels] != [version]:
        found.append(f"the wheels are {[one.name for one in wheels]}, but there must be one, of version {version}")
    if [one.name for one in archives] != [f"parcelq-{version}.tar.gz"]:
        found.append(
            f"the source archives are {[one.name for one in archives]}, but there must be parcelq-{version}.tar.gz"
        )
    if not found:
        with zipfile.ZipFile(wheels[0]) as wheel, tarfile.open(archives[0]) as archive:
            found += _missing(wheels[0].name, wheel.namelist(), _IN_WHEEL)
            found += _missing(archives[0].name, [one.partition("/")[2] for one in archive.getnames()], _IN_SOURCE)
    return found


def _missing(name: str, members: list[str], wanted: tuple[str, ...]) -> list[str]:
    lacking = [f"{name} lacks {one}" for one in wanted if one not in members]
    return lacking + [f"{name} contains {one}" for one in members if any(part in one for part in _NEVER)]


if __name__ == "__main__":
    sys.exit("\n".join(problems(Path(sys.argv[1]))) or 0)
