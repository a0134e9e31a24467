"""What `sam build` makes, as a function would see it: the checkout is not on the path."""

from __future__ import annotations

import os
import subprocess

import pytest
from building import Built


@pytest.mark.parametrize("name", ["Uploader", "StageFunctionstep", "Downloader", "TopicAdmin"])
def test_every_handler_can_be_imported_from_what_was_built(built: Built, name: str) -> None:
    code = (
        "import app, parcelq, aws_lambda_powertools, yaml; assert callable(app.handler); "
        "[print(one.__file__) for one in (app, parcelq, aws_lambda_powertools, yaml)]"
    )
    path = os.pathsep.join(map(str, [built.folder / name, built.library]))
    environment = {"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": path}
    done = subprocess.run(
        [built.python, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(built.folder)) for line in done.stdout.splitlines())


def test_the_build_of_a_processor_has_its_step(built: Built) -> None:
    assert (built.folder / "StageFunctionstep" / "steps" / "step" / "step.py").is_file()
