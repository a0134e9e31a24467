"""The event pump: what it does with events that fail, and how long it gathers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from parcelq.errors import ParcelqError
from parcelq_emulator import pump as pump_module
from parcelq_emulator.function import DIED, InvocationError
from parcelq_emulator.lambda_events import EventsOfBucket, Mapped
from parcelq_emulator.pump import Pump
from parcelq_emulator.server import Server
from parcelq_emulator.surroundings import without_the_users


@pytest.fixture(scope="module")
def server_sqs() -> Iterator[Any]:
    with Server() as server, without_the_users():
        yield boto3.Session("x", "x", region_name="us-east-1").client("sqs", endpoint_url=server.url)


class Topic:
    def __init__(self, sqs: Any, name: str) -> None:
        self.sqs, self.url = sqs, sqs.create_queue(QueueName=name)["QueueUrl"]
        self.arn = f"arn:aws:sqs:us-east-1:123456789012:{name}"

    def messages(self) -> list[dict[str, Any]]:
        return self.sqs.receive_message(QueueUrl=self.url, MessageAttributeNames=["All"]).get("Messages", [])

    def is_empty(self) -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return set(counts.values()) == {"0"}


@pytest.fixture
def topics(server_sqs: Any, request: pytest.FixtureRequest) -> Callable[[str], Topic]:
    case = abs(hash(request.node.name))
    return lambda name: Topic(server_sqs, f"{name}-{case}")


class Function:
    """A function that fails for the events that contain a text."""

    def __init__(self, failing: str, error: InvocationError | None = None) -> None:
        self.failing, self.error, self.events, self.times = failing, error, [], []

    def invoke(self, event: Any) -> None:
        self.times.append(time.monotonic())
        self.events.append(event)
        if self.failing in json.dumps(event):
            raise self.error or InvocationError("uploader", "ParcelqError", "it is broken \x1b[31m")


@pytest.fixture
def pump(server_sqs: Any) -> Iterator[Pump]:
    made = Pump(server_sqs, lambda _: None)
    yield made
    made.stop()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def put(key: str) -> str:
    return json.dumps({"Records": [{"s3": {"object": {"key": key}}}]})


def test_an_event_that_always_fails_is_tried_three_times_and_then_is_a_dead_letter(
    topics: Callable[[str], Topic], pump: Pump
) -> None:
    events, dead, function = topics("events"), topics("dead"), Function("broken")
    for key in ("inbox/broken+name.gz", "inbox/good"):
        events.sqs.send_message(QueueUrl=events.url, MessageBody=put(key))
    pump.add(EventsOfBucket(events.url, events.arn, 1, 0, False, dead.url), function)
    until(lambda: len(function.events) == 4 and events.is_empty())
    keys = [event["Records"][0]["s3"]["object"]["key"] for event in function.events]
    assert sorted(keys) == ["inbox/broken+name.gz"] * 3 + ["inbox/good"]
    assert [(one.key, one.reason) for one in pump.given_up] == [("inbox/broken name.gz", "it is broken \x1b[31m")]
    (letter,) = dead.messages()
    assert letter["Body"] == put("inbox/broken+name.gz")
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"].startswith("it is broken")
    pump.check()


def test_an_event_whose_function_died_once_is_tried_again_and_succeeds(
    topics: Callable[[str], Topic], pump: Pump
) -> None:
    events, function = topics("events"), Function("x", InvocationError("uploader", DIED, "killed"))
    events.sqs.send_message(QueueUrl=events.url, MessageBody=put("x"))
    invoke = function.invoke

    def die_once(event: Any) -> None:
        function.failing = "x" if not function.events else "nothing"
        invoke(event)

    function.invoke = die_once  # type: ignore[method-assign]
    pump.add(EventsOfBucket(events.url, events.arn, 1, 0, False), function)
    until(lambda: len(function.events) == 2 and events.is_empty())
    assert not pump.given_up


def test_wrong_settings_end_the_run_at_once(topics: Callable[[str], Topic], pump: Pump) -> None:
    topic, function = topics("topic"), Function("", InvocationError("processor", "SettingsError", "timeout is 'soon'"))
    topic.sqs.send_message(QueueUrl=topic.url, MessageBody="x")
    pump.add(Mapped(topic.url, topic.arn, 1, 0, True), function)
    until(lambda: bool(function.events))
    with pytest.raises(ParcelqError, match="timeout is 'soon'"):
        until(lambda: pump.check() is not None)  # type: ignore[func-returns-value]
    assert len(function.events) == 1


def test_a_message_whose_function_always_fails_is_delivered_more_and_more_rarely(
    topics: Callable[[str], Topic], pump: Pump
) -> None:
    topic, function = topics("topic"), Function("", InvocationError("processor", "ValueError", "no"))
    topic.sqs.send_message(QueueUrl=topic.url, MessageBody="x")
    pump.add(Mapped(topic.url, topic.arn, 1, 0, True), function)
    until(lambda: len(function.events) == 4, 60)
    _, second, third, fourth = function.times
    assert third - second > 0.9
    assert fourth - third > 2.9


def test_with_a_batching_window_few_messages_wait_as_long_as_lambda_may_wait(
    topics: Callable[[str], Topic], pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pump_module._LOW_TRAFFIC_SECONDS == 20
    monkeypatch.setattr(pump_module, "_LOW_TRAFFIC_SECONDS", 2)
    with_window, without = topics("window"), topics("none")
    gathering, at_once = Function("nothing"), Function("nothing")
    pump.add(Mapped(with_window.url, with_window.arn, 10, 1, True), gathering)
    pump.add(Mapped(without.url, without.arn, 10, 0, True), at_once)
    began = time.monotonic()
    for topic in (with_window, without):
        topic.sqs.send_message(QueueUrl=topic.url, MessageBody="first")
    until(lambda: bool(at_once.events))
    with_window.sqs.send_message(QueueUrl=with_window.url, MessageBody="second")
    until(lambda: bool(gathering.events))
    assert time.monotonic() - began >= 2
    assert len(gathering.events[0]["Records"]) == 2
