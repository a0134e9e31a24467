"""A result in an idle stack, with the latencies of AWS added to every request."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from parcelq.steps.find import local_step
from parcelq_emulator.options import Options
from parcelq_emulator.pipeline import Pipeline, running

LATENCY = {"sqs": 0.02, "s3": 0.03}

pytestmark = pytest.mark.slow


def put_and_wait(pipeline: Pipeline, file: Path, name: str) -> None:
    pipeline.put(file, name)
    while name not in pipeline.results.reported():
        time.sleep(0.1)


def test_a_result_comes_without_the_schedule_with_the_latencies_of_aws(tmp_path: Path) -> None:
    """How long it takes is measured by a benchmark; here it must come before the hourly schedule starts anything."""
    step = tmp_path / "step.sh"
    step.write_text("#!/bin/sh\ntr a-z A-Z\n")
    step.chmod(0o755)
    (tmp_path / "settings.yaml").write_text("filter: true\n")
    data = b"".join(b"line %d\n" % number for number in range(1000))
    (tmp_path / "lines.txt").write_bytes(data)
    (tmp_path / "logs").mkdir()
    (tmp_path / "scratch").mkdir()
    options = Options([local_step(str(step), str(tmp_path / "settings.yaml"), "")], latency=LATENCY)
    with running(options, tmp_path / "logs", tmp_path / "scratch") as pipeline:
        put_and_wait(pipeline, tmp_path / "lines.txt", "first.txt")
        put_and_wait(pipeline, tmp_path / "lines.txt", "second.txt")
        body = pipeline.s3.get_object(Bucket=pipeline.stack.bucket, Key="results/second.txt")["Body"].read()
    assert body == data.upper()
