"""What the tests share: an AWS that is moto, topics and a bucket on it, a spy on its requests, and a clock."""

from __future__ import annotations

import os
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from threading import Lock, RLock
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import settings
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.config import default_user_config
from moto.sqs.models import Queue, SQSBackend
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.names import dead_letter
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow

BUCKET = "bucket"

# The time that an example takes depends on the load of the machine, so there is no limit. `make test` always takes the
# same examples, so it gives the same answer for the same code. `make thorough` takes more examples, and new ones.
_THOROUGH = "PARCELQ_THOROUGH" in os.environ
settings.register_profile(
    "parcelq", deadline=None, max_examples=100 if _THOROUGH else 40, derandomize=not _THOROUGH, database=None
)
settings.load_profile("parcelq")

ID_LENGTH = 50
LONGEST = (
    *("workflows", "emulate", "crash", "build", "emulate_faults", "crash_workflow", "run_resume", "wheel", "runtime"),
    *("deploy", "run_jobs", "cli_status", "run_inputs", "run_local", "layer", "emulate_records", "function_ranges"),
)
"""Files that begin first, so that no process works alone at the end. The one that builds is before those that wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Ids show values that pytest would only number."""
    if isinstance(val, str | bytes) and len(val) <= ID_LENGTH:
        return None
    if not isinstance(val, str | bytes | dict | list | tuple | set | frozenset | Exception) and not is_dataclass(val):
        return None
    text = shown(val)
    return text if len(text) <= ID_LENGTH else f"{text[:ID_LENGTH]}..."


def shown(value: object) -> str:
    """A value in words that are the same in every process."""
    match value:
        case dict():
            words = [f"{shown(key)}={shown(one)}" for key, one in value.items()]
        case list() | tuple():
            words = [shown(one) for one in value]
        case set() | frozenset():
            words = sorted(shown(one) for one in value)
        case bytes():
            return repr(value)[2:-1] if value.isascii() else f"{len(value)} bytes"
        case str() | int() | float() | None:
            return str(value).encode("unicode_escape").decode()
        case Exception():
            return f"{type(value).__name__} {value}"
        case _ if is_dataclass(value):
            return shown({one.name: getattr(value, one.name) for one in fields(value)})
        case _:
            return type(value).__name__
    return " ".join(words) or f"no {type(value).__name__}"


def pytest_configure() -> None:
    # Each session of boto3 would parse the descriptions of its services anew, which takes a tenth of a second.
    _share_descriptions()
    # A shell starts what it runs in the background with interrupts ignored, and so would be all that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _share_descriptions() -> None:
    cache: dict[Any, Any] = {}
    begin = Loader.__init__

    def init(loader: Loader, *arguments: Any, **options: Any) -> None:
        begin(loader, *arguments, **options)
        if type(loader) is Loader:  # moto has one of its own, which changes the descriptions
            loader._cache = cache

    Loader.__init__ = init


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches a real account: invented credentials, and no configuration of the user who runs the tests."""
    for name in (
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_SQS",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-central-1")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.fixture
def careful_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mends what moto does wrong if several threads use it at once, as requests in flight and its server do."""
    # Moto walks over a set there that other threads change; it matters only for FIFO queues.
    monkeypatch.setattr(Queue, "pending_message_groups", property(lambda _: set()))
    # Moto makes a new list of messages at each deletion, so of two deletions at once it would forget one.
    lock, delete = RLock(), Queue.delete_message

    def delete_alone(queue: Queue, receipt_handle: str) -> None:
        with lock:
            delete(queue, receipt_handle)

    monkeypatch.setattr(Queue, "delete_message", delete_alone)
    # It may give one message to two requests at once, so those that do not wait take turns.
    receive = SQSBackend.receive_message

    def receive_alone(
        backend: SQSBackend, name: str, count: int, wait_seconds_timeout: int, *more: Any, **named: Any
    ) -> Any:
        with nullcontext() if wait_seconds_timeout else lock:
            return receive(backend, name, count, wait_seconds_timeout, *more, **named)

    monkeypatch.setattr(SQSBackend, "receive_message", receive_alone)


@pytest.fixture
def aws(aws_environment: None, careful_moto: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # All tests of a process have one session of boto3, since making a client in a new one takes a tenth of a second.
    # Moto closes the body of an object that is replaced or deleted, also while another thread reads it.
    alone, answer = Lock(), BotocoreStubber.process_request

    def answer_alone(stubber: BotocoreStubber, request: Any) -> Any:
        with alone if ".s3." in request.url or "//s3." in request.url else nullcontext():
            return answer(stubber, request)

    monkeypatch.setattr(BotocoreStubber, "process_request", answer_alone)
    with mock_aws(config={"core": {**default_user_config["core"], "reset_boto3_session": False}}):
        yield


@pytest.fixture
def sqs(aws: None) -> Any:
    return sqs_client()


@pytest.fixture
def s3(aws: None) -> Any:
    return s3_client()


@pytest.fixture
def bucket(s3: Any) -> str:
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return BUCKET


@pytest.fixture
def overflow(s3: Any, bucket: str) -> Overflow:
    return Overflow(s3, bucket)


@pytest.fixture
def topic(sqs: Any) -> str:
    """URL of an empty topic."""
    return str(sqs.create_queue(QueueName="topic")["QueueUrl"])


@pytest.fixture
def make_topic(sqs: Any) -> Callable[[str], str]:
    """Makes a topic and its dead-letter topic, without wiring them, and returns the topic's URL."""

    def make(name: str) -> str:
        sqs.create_queue(QueueName=dead_letter(name))
        return str(sqs.create_queue(QueueName=name)["QueueUrl"])

    return make


@pytest.fixture
def everything_on(sqs: Any) -> Callable[[str], list[Pulled]]:
    """Takes all visible messages off a topic and returns them."""

    def take(topic_url: str) -> list[Pulled]:
        taken: list[Pulled] = []
        while raw := sqs.receive_message(
            QueueUrl=topic_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages"):
            taken += map(Pulled.from_sqs, raw)
            for one in raw:
                sqs.delete_message(QueueUrl=topic_url, ReceiptHandle=one["ReceiptHandle"])
        return taken

    return take


@dataclass
class Clock:
    """A clock that moves only when told to, and a sleep that moves it."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Requests:
    """What a client was asked, in order; and a way to answer in AWS's place what moto never would."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: defaultdict[str, deque[tuple[int, dict[str, Any]] | None]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    lock: Lock = field(default_factory=Lock)

    def watch(self, client: Any) -> None:
        service = client.meta.service_model.service_name
        client.meta.events.register(f"provide-client-params.{service}", self._note)
        client.meta.events.register(f"before-call.{service}", self._answer)

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [params for name, params in self.asked if name == operation]

    def refuse(self, operation: str, code: str, status: int = 400, *, times: int = 1) -> None:
        """Refuse the next requests of an operation as a whole."""
        answer = {"Error": {"Code": code, "Message": f"refused with {code}"}}
        self.answers[operation].extend([(status, answer)] * times)

    def reply(self, operation: str, answer: dict[str, Any]) -> None:
        """Answer the next request of an operation so."""
        self.answers[operation].append((200, answer))

    def let_pass(self, operation: str, times: int = 1) -> None:
        """Leave the next requests of an operation to moto."""
        self.answers[operation].extend([None] * times)

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        with self.lock:
            self.asked.append((model.name, dict(params)))

    def _answer(self, model: Any, **_: Any) -> tuple[Any, dict[str, Any]] | None:
        with self.lock:
            waiting = self.answers[model.name]
            answer = waiting.popleft() if waiting else None
        if answer is None:
            return None
        status, parsed = answer
        return SimpleNamespace(status_code=status), {**parsed, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.fixture
def requests(sqs: Any) -> Requests:
    """The requests of the fixture `sqs`."""
    watched = Requests()
    watched.watch(sqs)
    return watched


@pytest.fixture
def polls(sqs: Any, clock: Clock) -> list[int]:
    """Makes long polls of the fixture `sqs` end at once, moving the clock on instead; the seconds they would take."""
    waits: list[int] = []

    def shorten(params: dict[str, Any], **_: Any) -> None:
        waits.append(params["WaitTimeSeconds"])
        params["WaitTimeSeconds"] = 0

    def move_on(parsed: dict[str, Any], **_: Any) -> None:
        if not parsed.get("Messages"):
            clock.now += waits[-1]

    sqs.meta.events.register("before-parameter-build.sqs.ReceiveMessage", shorten)
    sqs.meta.events.register("after-call.sqs.ReceiveMessage", move_on)
    return waits


@pytest.fixture
def make_step(tmp_path: Path) -> Callable[..., Path]:
    """Makes an executable; a shell script unless it is named `….py`."""

    def make(text: str, name: str = "step") -> Path:
        path = tmp_path / name
        path.write_text(text if name.endswith(".py") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def publish_raw(sqs: Any) -> Callable[..., None]:
    """Publishes messages, one request each, not through what is tested."""

    def publish(topic_url: str, *messages: Message) -> None:
        for message in messages:
            sqs.send_message(QueueUrl=topic_url, **message.wire().request())

    return publish
