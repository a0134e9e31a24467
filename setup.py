"""Puts what `parcelq emulate` runs into the wheel: the template and the functions. All else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDeployment(build_py):
    """Builds the packages, and copies the template and the functions beside the emulator."""

    def run(self) -> None:
        """Build into `build_lib`; an editable install reads the files of the checkout instead."""
        super().run()
        if not self.editable_mode:
            deployment = Path(self.build_lib, "parcelq_emulator", "deployment")
            shutil.rmtree(deployment, ignore_errors=True)  # an earlier build in the same checkout may have left it
            shutil.copytree("functions", deployment / "functions", ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("template.yaml", "dashboard.yaml"):
                shutil.copy(name, deployment)


setup(cmdclass={"build_py": BuildWithDeployment})
