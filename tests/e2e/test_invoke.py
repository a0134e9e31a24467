"""`sam local invoke`, as README tells it: each function in a container of AWS's runtime, if there is a Docker engine.

The containers are in a network of their own, on whose address this machine has a server that stands for AWS.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from building import ROOT, SAM, Built
from moto.server import ThreadedMotoServer
from parcelq_emulator.pipeline import environment
from parcelq_emulator.stack import Clients, deploy
from parcelq_emulator.template import REGION, load

EVENTS = {
    "Uploader": "s3_put",
    "StageFunctionstep": "sqs_messages",
    "Downloader": "download",
    "TopicAdmin": "topic_admin_list",
}
MOLECULES = b"CCO ethanol\nc1ccccc1 benzene\nCC(=O)Oc1ccccc1C(=O)O aspirin\nNCC(=O)O glycine\n"


def docker(*arguments: str) -> str:
    """Run the docker command, and skip the test where that cannot be done."""
    command = shutil.which("docker")
    if command is None or sys.platform != "linux":
        pytest.skip("sam local invoke needs Docker, and this test needs it on Linux")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"sam local invoke needs a Docker engine, and none answers: {done.stderr.strip()[-200:]}")
    return done.stdout.strip()


@dataclass(frozen=True)
class Aws:
    """A server that stands for AWS, and the docker network that it can be reached from."""

    url: str
    network: str

    def client(self, service: str) -> Any:
        return boto3.client(service, REGION, endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    docker("info")
    name = f"parcelq-{uuid.uuid4().hex[:8]}"
    with ExitStack() as cleanup:
        docker("network", "create", name)
        cleanup.callback(docker, "network", "rm", name)
        gateway = json.loads(docker("network", "inspect", name))[0]["IPAM"]["Config"][0]["Gateway"]
        server = ThreadedMotoServer(ip_address=gateway, port=0, verbose=False)
        server.start()
        cleanup.callback(server.stop)
        aws = Aws(f"http://{gateway}:{server.get_host_and_port()[1]}", name)
        clients = Clients(*map(aws.client, ("cloudformation", "lambda", "s3", "sqs")))
        stack = deploy(load(ROOT / "template.yaml", {"Stages": "step"}), {"Stages": "step"}, clients, "parcelq")
        clients.s3.put_object(Bucket=stack.bucket, Key="inbox/molecules.smi", Body=MOLECULES)
        yield aws


@pytest.mark.parametrize("function", EVENTS)
def test_a_built_function_answers_an_event_in_a_container(
    aws: Aws, built: Built, function: str, tmp_path: Path
) -> None:
    # SAM gives a function only those variables of the file that the template has, so it must have the endpoint.
    template = built.folder / f"{function}.yaml"
    variables = "    Environment:\n      Variables:\n"
    text = (built.folder / "template.yaml").read_text()
    assert text.count(variables) == 1
    template.write_text(text.replace(variables, f"{variables}        AWS_ENDPOINT_URL: {aws.url}\n"))
    command = [SAM, "local", "invoke", function, "--event", ROOT / "events" / f"{EVENTS[function]}.json"]
    options = ["--env-vars", ROOT / "env.json", "--template", template, "--docker-network", aws.network]
    options += ["--skip-pull-image"]  # where it is there already
    done = subprocess.run(
        [*command, *options, "--config-file", ROOT / "samconfig.toml"],
        env={**os.environ, **environment(aws.url), "SAM_CLI_TELEMETRY": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    match function:
        case "Uploader":
            assert answer is None
        case "StageFunctionstep":
            assert answer == {"batchItemFailures": []}
        case "Downloader":
            assert answer.keys() >= {"drained", "finished", "waiting"}
        case "TopicAdmin":
            assert "parcelq-step" in answer["topics"]
