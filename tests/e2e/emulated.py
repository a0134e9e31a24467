"""A stack on a local server, with the built functions in AWS's runtime emulator.

What a function gets is what the transformed template gives it; its code and its library are what `sam build` made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from building import ROOT, Built
from parcelq.topics.admin import Topics
from parcelq_emulator.function import FunctionSpec, InvocationError
from parcelq_emulator.lambda_events import Mapped
from parcelq_emulator.leftovers import ending_processes_below
from parcelq_emulator.pipeline import environment
from parcelq_emulator.pump import Pump
from parcelq_emulator.rie import EmulatedFunction
from parcelq_emulator.server import Server
from parcelq_emulator.stack import Clients, Stack, deploy, notify
from parcelq_emulator.template import REGION, load

BUILT = {
    "parcelq-processor-step": "StageFunctionstep",
    "parcelq-uploader": "Uploader",
    "parcelq-downloader": "Downloader",
    "parcelq-topic-admin": "TopicAdmin",
}
"""The folders that `sam build` makes for the functions, which are the logical ids."""
GIVE_UP_SECONDS = 120


@dataclass
class Emulated:
    """A stack and its functions.

    Attributes:
        stack: what was made from the template.
        topics: its topics.
        s3: a client of the local server.
        start: starts an instance of a function, given its name, and what is to be otherwise than it was deployed.
        inbox: the name of the function that the bucket tells its puts to, and the topic that they wait on.
        errors: invocations by the pump that ended without an answer.
    """

    stack: Stack
    topics: Topics
    s3: Any
    start: Callable[..., EmulatedFunction]
    inbox: tuple[str, Mapped]
    errors: list[InvocationError] = field(default_factory=list)

    @contextmanager
    def pumping(self, *instances: tuple[str, EmulatedFunction]) -> Iterator[None]:
        """Let instances of functions, each given with the function's name, take what is for them.

        Where a function has several sources, its instances take them in turn.
        """
        pump = Pump(self.topics.sqs, self.errors.append)
        sources = {self.inbox[0]: [self.inbox[1]]}
        for mapping in self.stack.mappings:
            sources.setdefault(mapping.function, []).append(mapping)
        for name, instance in instances:
            source = sources[name].pop(0)
            sources[name].append(source)
            pump.add(source, instance)
        try:
            yield
        finally:
            pump.stop()

    def collect(self, downloader: EmulatedFunction, source: str) -> dict[str, Any]:
        """Invoke the downloader until a file's result is there, and return its report."""
        report = f"results/{source}.report.json"
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up:
            downloader.invoke({"receive_message_timeout": 1})
            if self.keys(report):
                return json.loads(self.get(report))
        raise AssertionError(f"no result of {source}; {self.errors[-3:]}")

    def take(self, topic: str) -> list[str]:
        """The bodies of all messages that a topic has, which are no longer there then."""
        url, bodies = self.topics.url(topic), []
        while messages := self.topics.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                self.topics.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def keys(self, prefix: str) -> list[str]:
        """Names of the objects that begin so."""
        listed = self.s3.list_objects_v2(Bucket=self.stack.bucket, Prefix=prefix)
        return [one["Key"] for one in listed.get("Contents", [])]

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        self.s3.put_object(Bucket=self.stack.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """What an object holds."""
        return bytes(self.s3.get_object(Bucket=self.stack.bucket, Key=key)["Body"].read())


@contextmanager
def emulated(built: Built, folder: Path, **parameters: str) -> Iterator[Emulated]:
    """Make a stack.

    Args:
        built: the functions.
        folder: for logs and the functions' temporary files.
        parameters: the template's parameters.
    """
    with ExitStack() as cleanup:
        cleanup.enter_context(ending_processes_below(folder))
        url = cleanup.enter_context(Server(deleted_name_seconds=0)).url
        session = boto3.Session("local", "local", region_name=REGION)
        clients = Clients(
            *(session.client(name, endpoint_url=url) for name in ("cloudformation", "lambda", "s3", "sqs"))
        )
        parameters = {"Stages": "step"} | parameters  # moto does not split the default of a list
        stack = deploy(load(ROOT / "template.yaml", parameters), parameters, clients, "parcelq")
        functions = {function.name: function for function in stack.functions}

        def start(
            name: str, code: Path | None = None, handler: str | None = None, timeout: int | None = None
        ) -> EmulatedFunction:
            function = functions[name]
            scratch = folder / f"scratch-{len(list(folder.iterdir()))}"
            scratch.mkdir()
            spec = FunctionSpec(
                name=name,
                folder=code or built.folder / BUILT[name],
                handler=handler or function.handler,
                environment={**function.environment, **environment(url)},
                timeout=timeout or function.timeout,
                memory=function.memory,
                library=built.library,
                scratch=scratch,
            )
            log = cleanup.enter_context(scratch.with_suffix(".log").open("ab"))
            return cleanup.enter_context(EmulatedFunction(spec, log, built.python))

        topics = Topics(clients.sqs)
        yield Emulated(stack, topics, clients.s3, start, notify(stack, topics, clients.s3))
