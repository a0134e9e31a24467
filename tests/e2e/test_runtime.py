"""The built functions under AWS's own runtime: nothing but what was built, what Lambda's Python brings, and the template.

The stack is made from the template on a local server; each function is an instance in the Lambda Runtime Interface
Emulator, with the environment and the limits that the stack gives it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from building import ROOT, Built
from parcelq.topics import Topics
from parcelq_cli.local.function import FunctionSpec, InvocationError
from parcelq_cli.local.pipeline import environment
from parcelq_cli.local.pump import Mapped, Pump
from parcelq_cli.local.rie import EmulatedFunction
from parcelq_cli.local.server import Server
from parcelq_cli.local.stack import Clients, Function, Stack, deploy, notify
from parcelq_cli.local.template import REGION, load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime emulator runs on Linux alone")

EVENTS = ROOT / "events"
BUILT = {
    "functions/processor": "StageFunctionstep",
    "functions/uploader": "Uploader",
    "functions/downloader": "Downloader",
    "functions/topic_admin": "TopicAdmin",
}
"""Where `sam build` puts a folder of functions, by logical ids."""
PROCESSOR, UPLOADER, DOWNLOADER, TOPIC_ADMIN = (f"parcelq-{one}" for one in ("processor-step", "uploader", "downloader", "topic-admin"))
MOLECULES = b"CCO ethanol\nc1ccccc1 benzene\nCC(=O)Oc1ccccc1C(=O)O aspirin\nNCC(=O)O glycine\n"
"""What the objects of `events/` hold."""


@dataclass
class Running:
    """A stack whose functions are in the emulator.

    Attributes:
        stack: what was made from the template.
        sqs, s3: clients of the local server.
        start: starts an instance of a function: its name, and what is to be otherwise than the stack has it.
        pump: moves messages from the topics to the functions that take them.
        errors: invocations that ended without an answer.
    """

    stack: Stack
    sqs: Any
    s3: Any
    start: Callable[..., EmulatedFunction]
    pump: Pump
    errors: list[InvocationError] = field(default_factory=list)

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.stack.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.stack.bucket, Key=key)["Body"].read())

    def pump_to(self, **instances: list[EmulatedFunction]) -> None:
        """Let instances of functions take what is theirs."""


@contextmanager
def running(built: Built, folder: Path, parameters: Mapping[str, str]) -> Iterator[Running]:
    ...
