"""Runs the deployed pipeline on this machine: resources are on the local server, and functions run as processes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import parcelq
from parcelq.aws.clients import translated
from parcelq.jobs.record import parse_record
from parcelq.lineage.source import Source
from parcelq.names import INBOX, JOBS, dead_letter
from parcelq.process.redrive import peek
from parcelq.steps.find import Step
from parcelq.store.bucket import BucketStore
from parcelq.store.store import Store
from parcelq.topics.admin import Topics
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.notes import noted_sources

from parcelq_emulator.chaos import Chaos
from parcelq_emulator.forks import Forks
from parcelq_emulator.frames import Frames
from parcelq_emulator.function import FunctionProcess, FunctionSpec, Instance, InvocationError, Runtime
from parcelq_emulator.leftovers import end_processes_below, ending_processes_below
from parcelq_emulator.options import Options
from parcelq_emulator.pump import GIVEN_UP, Pump
from parcelq_emulator.results import Results
from parcelq_emulator.rie import EmulatedFunction
from parcelq_emulator.runtime import CHAOS
from parcelq_emulator.server import Server
from parcelq_emulator.stack import Clients, Function, Stack, deploy, notify
from parcelq_emulator.surroundings import NO_CONFIGURATION, without_the_users
from parcelq_emulator.template import REGION, load

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from parcelq.topics.message import Pulled

_PACKAGED: Final = Path(__file__).with_name("deployment")
ROOT: Final = _PACKAGED if _PACKAGED.exists() else Path(__file__).resolve().parents[2]
"""The folder of the template and the functions: a folder of the wheel, or of the checkout of an editable install."""
_LIBRARY: Final = Path(parcelq.__file__).resolve().parents[1]
"""The library that functions import from the layer."""
_PROCESSOR: Final = "functions/processor"
_QUIET_SECONDS: Final = 5
"""After how many seconds without a message of a job its missing records are published again. The time is short, because
the counts of topics are exact here.
"""
_PUTS_IN_FLIGHT: Final = 4
STACK: Final = "parcelq"
OUTPUT_TOPIC: Final = f"{STACK}-output"
SPOKEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "local"),
    **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), REGION),
}
"""The environment variables that an AWS client needs to use the local server, in addition to the server's URL."""
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def environment(url: str) -> dict[str, str]:
    """Return the environment variables with which an AWS client sends requests only to the local server."""
    return {"AWS_ENDPOINT_URL": url, **SPOKEN, **NO_CONFIGURATION}


@dataclass(slots=True)
class Pipeline:
    """A running emulated stack, which `running` yields.

    Attributes:
        options: the user's options.
        url: the local server's endpoint.
        stack: the resources created from the template.
        topics: manages the stack's topics.
        s3: a boto3 S3 client.
        pump: the object that moves messages from topics to functions.
        events_url: the URL of the topic that gets the bucket's events.
        errors: the errors of all invocations so far that ended without an answer.
        scratch: a folder for temporary files of the server and the functions.
        results: the bucket's objects under `results/`.
    """

    options: Options
    url: str
    stack: Stack
    topics: Topics
    s3: S3Client
    pump: Pump
    events_url: str
    errors: list[InvocationError]
    scratch: Path
    results: Results

    def put(self, file: Path, name: str) -> None:
        """Put a file into the inbox under a name."""
        with translated():
            self.s3.upload_file(str(file), self.stack.bucket, INBOX + name)

    def put_all(self, files: Mapping[str, Path]) -> None:
        """Put files into the inbox under the given names, several files at a time."""
        with ThreadPoolExecutor(_PUTS_IN_FLIGHT) as pool:
            list(pool.map(self.put, files.values(), files.keys()))

    def waiting(self) -> int:
        """Return how many messages the functions have not finished, including messages in flight.

        A job that has not ended always has a message, because the next check of the job is a message.

        Raises:
            ParcelqError: if the pump failed.
        """
        self.pump.check()
        return sum(self.count(url) for url in (self.events_url, *self._inputs()))

    def uncollected(self) -> int:
        """Return how many output messages have not been collected yet."""
        return self.count(OUTPUT_TOPIC)

    def healings(self) -> int:
        """Return how often records that were missing from jobs were published again."""
        store = BucketStore(self.s3, self.stack.bucket)
        return sum(parse_record(store.read(key), key).healings for key in store.keys(JOBS))

    def given_up(self) -> dict[str, str]:
        """Map the names of files that could not be uploaded to the reasons."""
        refused = noted_problems(BucketStore(self.s3, self.stack.bucket))
        events = {one.key.removeprefix(INBOX): one.reason for one in self.pump.given_up}
        return {**events, **{Source.parse(source).name: problem for source, problem in refused.items()}}

    def chaos(self) -> Chaos:
        """Return the counts of the faults that were injected into the stack so far."""
        return Chaos.below(self.scratch)

    def dead_letters(self) -> list[Pulled]:
        """Return the dead letters of all topics from which functions read."""
        letters: list[Pulled] = []
        for url in map(dead_letter, self._inputs()):
            if count := self.count(url):  # the count is exact here, so there is no need to wait for more
                letters += peek(SqsTopic(self.topics.sqs, url), count)
        # A dead-letter topic may also contain events of objects, which `given_up` names.
        return [one for one in letters if GIVEN_UP not in one.attributes]

    def count(self, topic: str) -> int:
        """Return how many messages a topic (a name or URL) has, including locked and delayed messages."""
        attributes = self.topics.attributes(topic)
        return sum(int(attributes[name]) for name in _COUNTS)

    def _inputs(self) -> list[str]:
        return [mapping.topic_url for mapping in self.stack.mappings]


def noted_problems(store: Store) -> dict[str, str]:
    """Return a dict from the attribute `Source` of each source that can never be uploaded to the reason."""
    return {note.source: note.problem for notes in noted_sources(store).values() for note in notes if note.problem}


@contextmanager
def running(options: Options, logs: Path, scratch: Path) -> Iterator[Pipeline]:
    """Start the server, create the stack, and run its functions while the context lasts.

    When the context has ended, all processes have ended and all temporary files are deleted.

    Args:
        options: the user's options.
        logs: a folder for the functions' logs.
        scratch: a folder for temporary files, which the caller deletes.

    Raises:
        ParcelqError: if a part of the stack could not be started; the error message says which part.
    """
    import boto3
    from botocore.config import Config

    with ExitStack() as cleanup:
        cleanup.enter_context(without_the_users())
        cleanup.enter_context(ending_processes_below(scratch))
        embedded = options.runtime == Runtime.EMBEDDED
        forks = (
            cleanup.enter_context(Forks(scratch, _LIBRARY)) if embedded else None
        )  # modules are imported while the server starts
        parameters = options.parameters()
        with ThreadPoolExecutor(1) as pool:
            template = pool.submit(load, ROOT / "template.yaml", parameters)  # while the server starts
            url = cleanup.enter_context(Server(chaos=options.chaos, chaos_folder=scratch, latency=options.latency)).url
        session = boto3.Session("local", "local", region_name=REGION)
        Frames(url).install(session)
        more: dict[str, Any] = {"endpoint_url": url, "config": Config(max_pool_connections=50, user_agent="parcelq")}
        sqs, s3 = session.client("sqs", **more), session.client("s3", **more)
        clients = Clients(session.client("cloudformation", **more), session.client("lambda", **more), s3, sqs)
        plain = template.result()
        # Packages of workflows must be built for the Python and the machine that run the functions here.
        plain["Outputs"]["PythonVersion"]["Value"] = f"{sys.version_info.major}.{sys.version_info.minor}"
        plain["Outputs"]["Platform"]["Value"] = f"{os.uname().machine}-manylinux_2_34"
        stack = deploy(plain, parameters, clients, STACK)
        topics = Topics(sqs)
        notified, events = notify(stack, topics, s3)

        def instance(function: Function, number: int = 1) -> Instance:
            log = cleanup.enter_context((logs / f"{function.name}-{number}.log").open("ab"))
            own = scratch / f"{function.name}-{number}"
            own.mkdir()
            spec = _spec(function, options, environment(url), own)
            made = EmulatedFunction(spec, log) if forks is None else FunctionProcess(spec, log, forks)
            return cleanup.enter_context(made)

        functions = {function.name: function for function in stack.functions}
        errors: list[InvocationError] = []
        pump = Pump(sqs, errors.append)
        pipeline = Pipeline(
            options,
            url,
            stack,
            topics,
            s3,
            pump,
            events.topic_url,
            errors,
            scratch,
            Results(s3, stack.bucket),
        )
        sources = [(events, functions[notified])] + [(one, functions[one.function]) for one in stack.mappings]
        started: Counter[str] = Counter()
        for source, function in sources:
            limits = (getattr(source, "maximum_concurrency", None), function.reserved_concurrency)
            for _ in range(min([options.instances, *filter(None, limits)])):
                started[function.name] += 1
                pump.add(source, instance(function, started[function.name]))
        cleanup.callback(pump.stop)
        try:
            yield pipeline
        except BaseException:
            pump.stop(lambda: end_processes_below(scratch))  # running invocations are killed, not waited for
            raise


def _settings_file(step: Step, scratch: Path) -> str:
    """Return the path of a step's settings. For a step that is a command such as `tr a-z A-Z`, first write a settings
    file.
    """
    settings = step.settings
    if settings.path or not settings.filter:
        return str(settings.path or "")
    text = json.dumps({"filter": True, "arguments": settings.arguments})  # JSON is YAML
    path = scratch / f"settings-{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    path.write_text(text)
    return str(path)


def _spec(function: Function, options: Options, more: Mapping[str, str], scratch: Path) -> FunctionSpec:
    """Return the configuration of a function as deployed, except that steps may be anywhere on this machine."""
    variables = {**function.environment, **more, "PARCELQ_QUIET_SECONDS": str(_QUIET_SECONDS)}
    if options.chaos is not None:
        variables[CHAOS] = str(options.chaos)
    if function.folder == _PROCESSOR and (step := options.stages[variables["PARCELQ_STAGE"]]):
        variables["PARCELQ_STEP_FOLDERS"] = "/"
        variables["PARCELQ_STEP_PATH"] = str(step.path)
        variables["PARCELQ_SETTINGS_FILE"] = _settings_file(step, scratch)
    return FunctionSpec(
        function.name,
        ROOT / function.folder,
        function.handler,
        variables,
        function.timeout,
        function.memory,
        _LIBRARY,
        scratch,
    )
