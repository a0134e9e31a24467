"""The linters have nothing to say about the template, nor has SAM when it unrolls the loops; its configuration fits."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cfnlint.api import lint_file
from parcelq_emulator.template import load

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


def test_cfn_lint_finds_no_fault_in_the_template() -> None:
    assert lint_file(TEMPLATE) == []


def test_sam_can_unroll_and_translate_the_template() -> None:
    # An environment that samconfig.toml does not have, because those there make SAM lint instead.
    command = [sys.executable, "-m", "samcli", "validate", "--language-extensions", "--config-env", "none"]
    run = subprocess.run(
        [*command, "--template", str(TEMPLATE)],
        env={**os.environ, "SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "basic SAM Validation" in run.stdout


@pytest.mark.parametrize("environment", ["default", "dev", "prod"])
def test_every_environment_builds_and_deploys_what_the_template_allows(environment: str) -> None:
    config = tomllib.loads((TEMPLATE.parent / "samconfig.toml").read_text())[environment]
    everywhere = config["global"]["parameters"]
    assert everywhere["language_extensions"] is True
    overrides = dict(one.split("=", 1) for one in everywhere.get("parameter_overrides", []))
    assert overrides.get("Prefix", "parcelq") == everywhere["stack_name"]
    assert load(TEMPLATE, overrides)["Resources"]
    assert config["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
