"""A small AWS with the functions in it: S3's events, SQS's deliveries and the schedule, by a clock that never waits.

The functions' handlers run as they are. Their SQS is the embedded stack's queue, their S3 a bucket in memory. Every
call that they make goes through a fault, which may let it pass, and through botocore, up to where it would be sent.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from crash_faults import Call, Fault, Invocation, Killed, Reply
from crash_s3 import Bucket
from moto.sqs.models import sqs_backends
from parcelq.aws.clients import other_client, s3_client, sqs_client
from parcelq.names import JOBS, dead_letter
from parcelq.topics.message import Pulled
from parcelq_emulator.lambda_events import failed_ids, record_of
from parcelq_emulator.sqs_message import SqsError
from parcelq_emulator.sqs_operations import ON_QUEUES
from parcelq_emulator.sqs_queue import StandardQueue

ROOT: Final = Path(__file__).parents[2]
FUNCTIONS: Final = ("uploader", "processor", "downloader")
BUCKET: Final = "bucket"
PREFIX: Final = "parcelq"
KEY: Final = "inbox/molecules.smi"
REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
STEP: Final = """#!/usr/bin/awk -f
/bad/ { print "no molecule: " $0 > "/dev/stderr"; exit 3 } /skip/ { next } { print; print toupper($0) }
"""
"""A step that expands and filters, and fails on what is bad."""
MAX_FAILURES: Final = 2
MAX_RECEIVE_COUNT: Final = 1000
"""How often SQS gives a message of the step's topic out, as in the template."""
TIMEOUT: Final = 300.0
DEADLINE: Final = 600
"""Seconds of an invocation, and those that a message stays locked."""
MOST_ROUNDS: Final = 300
SCHEDULE: Final = 3600.0
SOURCES: Final = (("uploader", "ranges"), ("processor", "step"), ("downloader", "looks"))
"""Functions, and the topics that their messages come from."""
MOST_ATTEMPTS: Final = 3
"""How often Lambda gives an event of S3 to a function that fails on it."""


class Clock:
    """Seconds that pass only when a test lets them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Context:
    """What Lambda tells a handler."""

    remaining: Callable[[], float]
    function_name: str = "parcelq"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:parcelq"
    aws_request_id: str = "00000000-0000-0000-0000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * max(0.0, self.remaining()))


def load(function: str) -> ModuleType:
    """Import a function's module."""
    spec = importlib.util.spec_from_file_location(f"crash_{function}", ROOT / "functions" / function / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


class Clients:
    """What the functions call AWS with. Making it takes longer than a run of the pipeline, so it is made once.

    Attributes:
        sqs: a client of the world's queues.
        s3: a client of its bucket.
        events: a client of EventBridge, which keeps the events that it gets.
        world: the world that the calls are made in.
    """

    world: World

    def __init__(self) -> None:
        self.sqs, self.s3, self.events = sqs_client(), s3_client(), other_client("events")
        self.sqs.meta.events.register("before-call.sqs", self._answer_sqs)
        self.s3.meta.events.register("provide-client-params.s3", self._note)
        self.s3.meta.events.register("before-call.s3", self._answer_s3)
        self.events.meta.events.register("before-call.events", self._answer_events)
        for client in (self.sqs, self.s3, self.events):
            vars(client)["_make_api_call"] = partial(self._call, client._make_api_call)

    def _answer_sqs(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, Reply]:
        status, reply = self.world.answer(model.name, json.loads(params["body"]))
        return SimpleNamespace(status_code=status), reply

    def _answer_events(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, Reply]:
        told = json.loads(params["body"])["Entries"]
        self.world.told += [json.loads(one["Detail"]) for one in told]
        entries = [{"EventId": str(number)} for number, _ in enumerate(told, 1)]
        return SimpleNamespace(status_code=200), {"FailedEntryCount": 0, "Entries": entries}

    @staticmethod
    def _note(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked"] = dict(params)  # which botocore adds to

    def _answer_s3(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, Reply]:
        status, reply = self.world.bucket.answer(model.name, context["asked"])
        return SimpleNamespace(status_code=status), reply

    def _call(self, carry_out: Callable[..., Reply], operation: str, asked: dict[str, Any]) -> Reply:
        return self.world.call(carry_out, operation, asked)


@dataclass
class World:
    """All that there is for one run of the pipeline.

    Attributes:
        functions: the functions' modules.
        clients: what they call AWS with.
        fault: what goes wrong.
        given_out: how often SQS gives a message of the step's topic out.
        told: details of the events that EventBridge got.
    """

    functions: Mapping[str, ModuleType]
    clients: Clients
    fault: Fault
    given_out: int = MAX_RECEIVE_COUNT
    clock: Clock = field(default_factory=Clock)
    bucket: Bucket = field(default_factory=lambda: Bucket(BUCKET))
    queues: dict[str, StandardQueue] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    invocation: Invocation = field(default_factory=lambda: Invocation(0))
    calls: Counter[str] = field(default_factory=Counter)
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        random.seed(self.fault.at)
        for name, receives in (("step", self.given_out), ("output", 10), ("ranges", 5), ("looks", 100)):
            self._make_queue(dead_letter(f"{PREFIX}-{name}"))
            policy = {
                "deadLetterTargetArn": self.queues[dead_letter(f"{PREFIX}-{name}")].queue_arn,
                "maxReceiveCount": receives,
            }
            self._make_queue(f"{PREFIX}-{name}", RedrivePolicy=json.dumps(policy))
        self.clients.world = self
        self._cold_start(*self.functions)

    # What AWS does with what a function asks.

    def _make_queue(self, name: str, **attributes: str) -> None:
        made = StandardQueue(name, REGION, ACCOUNT, clock=self.clock, VisibilityTimeout=str(DEADLINE), **attributes)
        self.queues[name] = sqs_backends[ACCOUNT][REGION].queues[name] = made

    def call(self, carry_out: Callable[..., Reply], operation: str, asked: dict[str, Any]) -> Reply:
        """A function's call."""
        self.calls[operation] += 1
        if self.clock() > self.invocation.until:
            self.invocation.dead = True
        return self.fault(Call(operation, asked, lambda **asked: carry_out(operation, asked), self.invocation))

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, Reply]:
        """The status of SQS's answer to a request, and the answer."""
        try:
            return 200, self._reply(operation, asked)
        except SqsError as error:
            return error.status, {"Error": {"Code": error.code, "Message": error.message}}

    def _reply(self, operation: str, asked: dict[str, Any]) -> Reply:
        name = asked.get("QueueName") or asked["QueueUrl"].rpartition("/")[2]
        if operation == "GetQueueUrl":
            return {"QueueUrl": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"}
        if operation == "GetQueueAttributes":
            queue = self.queues[name]
            policies = {"RedrivePolicy": json.dumps(policy)} if (policy := queue.redrive_policy) else {}
            counts = {
                "ApproximateNumberOfMessages": queue.approximate_number_of_messages,
                "ApproximateNumberOfMessagesNotVisible": queue.approximate_number_of_messages_not_visible,
                "ApproximateNumberOfMessagesDelayed": queue.approximate_number_of_messages_delayed,
            }
            known = {"VisibilityTimeout": str(DEADLINE), "QueueArn": queue.queue_arn}
            return {"Attributes": {**known, **policies, **{key: str(count) for key, count in counts.items()}}}
        seconds = asked.pop("WaitTimeSeconds", 0)
        reply = ON_QUEUES[operation](self.queues[name], {**asked, "WaitTimeSeconds": 0})
        if operation == "ReceiveMessage" and not reply.get("Messages"):
            self.clock.pass_by(seconds)
        return reply

    # What Lambda does with a function.

    def invoke(self, function: str, event: Any) -> Any:
        """Let a handler take an event, and return its answer; an Exception, or Killed, if it has none."""
        self.invocation = invocation = Invocation(self.clock() + TIMEOUT)
        until = invocation.until

        def remaining() -> float:
            nonlocal until
            if invocation.short:  # but not for ever: who polls until its time is up would poll without end
                until = min(until, self.clock() + 0.01)
            return until - self.clock()

        try:
            answer = self.functions[function].handler(event, Context(remaining))
        except Killed as killed:
            answer = killed
        except Exception as error:
            answer = error
        if invocation.dead:
            self._cold_start(function)
            return Killed()
        return answer if isinstance(answer, Exception) else json.loads(json.dumps(answer))

    def end(self) -> None:
        """End all instances of functions."""
        self._cold_start(*self.functions)

    def _cold_start(self, *functions: str) -> None:
        for function in functions:
            cached = {name: one for name, one in vars(self.functions[function]).items() if hasattr(one, "cache_clear")}
            for name, one in cached.items():
                if name in {"processor", "workflows"} and one.cache_info().currsize:
                    one().close()  # the steps' processes end with their instance
                one.cache_clear()

    # What happens by itself.

    def put(self, data: bytes, *, key: str = KEY, deliveries: int = 1) -> None:
        """Put the object, and have S3 send the event, perhaps several times."""
        etag = self.bucket.put_object(key, data)["ETag"].strip('"')
        entity = {"key": key, "size": len(data), "eTag": etag, "sequencer": "0055AED6DCD90281E5"}
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": entity},
        }
        self.events = [{"Records": [record]} for _ in range(deliveries)]

    def run(self) -> None:
        """Let everything happen until nothing is left to be done. The schedule starts the downloader every hour."""
        scheduled = self.clock() + SCHEDULE
        for _ in range(MOST_ROUNDS):
            while self.events:
                self.deliver_event(self.events.pop(0))
            for function, topic in SOURCES:
                self._deliver(function, topic)
            if self.clock() >= scheduled:
                scheduled = self.clock() + SCHEDULE
                self.collect()
            if not self._wait_for(*(topic for _, topic in SOURCES)):
                if self._is_done():
                    return
                self.clock.pass_by(SCHEDULE)
        raise AssertionError(f"not done after {MOST_ROUNDS} rounds: {self.waiting()}, {self.states()}")

    def collect(self) -> Any:
        """What the schedule starts."""
        return self.invoke("downloader", {})

    def states(self) -> list[str]:
        """How far the jobs are, as their records say."""
        return [json.loads(self.bucket.objects[key].data)["state"] for key in self.keys(JOBS)]

    def _is_done(self) -> bool:
        """Whether all jobs have ended, and none of what was output is left over; else the schedule goes on with it."""
        return not self._wait_for("output") and set(self.states()) <= {"finished", "stopped"}

    def deliver_event(self, event: dict[str, Any]) -> None:
        for attempt in range(MOST_ATTEMPTS):
            answer = self.invoke("uploader", event)
            if not isinstance(answer, BaseException):
                return
            self.clock.pass_by(60 * (attempt + 1))
        raise AssertionError(f"the uploader failed {MOST_ATTEMPTS} times") from answer

    def _deliver(self, function: str, topic: str) -> bool:
        """Give a function what its topic has, as an event source mapping does; whether there was anything."""
        queue = self.queues[f"{PREFIX}-{topic}"]
        asked = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "AttributeNames": ["All"]}
        raw = ON_QUEUES["ReceiveMessage"](queue, asked).get("Messages", [])
        if not raw:
            return False
        records = [record_of(one, queue.queue_arn) for one in raw]
        answer = self.invoke(function, {"Records": records})
        if not isinstance(answer, BaseException):
            failed = failed_ids(answer, records)
            for record in records:
                if record["messageId"] not in failed:
                    queue.delete(record["receiptHandle"])
        return True

    def _wait_for(self, *topics: str) -> bool:
        """Let time pass until messages of topics can be received again; whether there are any."""
        queues = [self.queues[f"{PREFIX}-{topic}"] for topic in topics]
        while any(self._locked(queue) for queue in queues):
            if any(queue.approximate_number_of_messages for queue in queues):
                return True
            self.clock.pass_by(5)
        return any(queue.approximate_number_of_messages for queue in queues)

    @staticmethod
    def _locked(queue: StandardQueue) -> int:
        return queue.approximate_number_of_messages_not_visible + queue.approximate_number_of_messages_delayed

    # What can be seen from outside.

    def waiting(self) -> dict[str, int]:
        """How many messages the topics have that have any, dead-letter topics left out."""
        counts = {
            name: queue.approximate_number_of_messages + self._locked(queue) for name, queue in self.queues.items()
        }
        return {name: count for name, count in counts.items() if count and not name.endswith("-dead-letter")}

    def letters(self) -> dict[str, list[Pulled]]:
        """What lies on the dead-letter topics that have anything."""
        found = {}
        for name, queue in self.queues.items():
            if name.endswith("-dead-letter"):
                asked = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "AttributeNames": ["All"]}
                if raw := ON_QUEUES["ReceiveMessage"](queue, asked).get("Messages"):
                    found[name] = [Pulled.from_sqs(one) for one in raw]
        return found

    def keys(self, prefix: str) -> list[str]:
        """Keys of the bucket."""
        return [key for key in self.bucket.objects if key.startswith(prefix)]

    def object(self, key: str) -> bytes | None:
        """An object's bytes, or None where there is none."""
        return self.bucket.objects[key].data if key in self.bucket.objects else None

    def open_uploads(self) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        return len(self.bucket.uploads)
