"""The functions' modules, imported once, and what runs of the pipeline share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from crash_world import BUCKET, FUNCTIONS, MAX_FAILURES, PREFIX, REGION, STEP, Clients, load


@pytest.fixture(scope="session")
def step_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps")
    (folder / "step").mkdir()
    step = folder / "step" / "step"
    step.write_text(STEP)
    step.chmod(0o755)
    (folder / "step" / "settings.yaml").write_text("filter: true\n")
    return folder


@pytest.fixture(scope="module")
def functions(step_folder: Path) -> Iterator[Mapping[str, ModuleType]]:
    """The functions, each once for all tests of a worker: what they cache is forgotten where they start anew."""
    logger = logging.getLogger("parcelq")
    before = logger.level, logger.propagate, list(logger.handlers)
    settings = {
        "PREFIX": PREFIX,
        "BUCKET": BUCKET,
        "STAGES": "step",
        "STAGE": "step",
        "PARCEL_SIZE": "4",
        "BATCH_SIZE": "8",
        "STEP_FOLDERS": str(step_folder),
        "MAX_FAILURES": str(MAX_FAILURES),
        "RANGE_BYTES": "1000",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(f"PARCELQ_{name}", value)
        patch.setenv("POWERTOOLS_SERVICE_NAME", "crash")
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Parcelq")
        patch.setenv("POWERTOOLS_LOG_LEVEL", "CRITICAL")
        yield {name: load(name) for name in FUNCTIONS}
    logger.level, logger.propagate, logger.handlers = before


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials.items():
            patch.setenv(name, value)
        yield Clients()
