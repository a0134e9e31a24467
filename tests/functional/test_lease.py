"""Keeping messages locked: refreshed at once and in time, stopped at once, whatever SQS says in between."""

from __future__ import annotations

import logging
import threading

import pytest
from parcelq.errors import AwsError, InvalidValueError
from parcelq.topics import lease as module
from parcelq.topics.lease import Lease
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.sqs import SqsTopic
from sqs_calls import pull


class Ticks:
    """An event whose waiting ends when a test says so, or when it is set."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.turn = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)
        self.is_set = False

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.waiting.release()
        self.turn.acquire()
        return self.is_set

    def set(self) -> None:
        self.is_set = True
        self.turn.release()

    def pass_time(self) -> None:
        """Let one wait end by its time being up, and come back when the next one has begun."""
        assert self.waiting.acquire(timeout=10)
        self.turn.release()
        assert self.waiting.acquire(timeout=10)
        self.waiting.release()


@pytest.fixture
def ticks(monkeypatch):
    ticks = Ticks()
    monkeypatch.setattr(module, "Event", lambda: ticks)
    return ticks


@pytest.fixture
def refreshed(requests):
    """The receipt handles of each refresh so far."""

    def of_requests() -> list[list[str]]:
        return [
            [entry["ReceiptHandle"] for entry in asked["Entries"]]
            for asked in requests.of("ChangeMessageVisibilityBatch")
        ]

    return of_requests


@pytest.fixture
def pulled(sqs, topic, publish_raw):
    publish_raw(topic, *[Message(f"{number}\n".encode()) for number in range(3)])
    return pull(sqs, topic, 3, 3, 0)


def handles(messages: list[Pulled]) -> list[str]:
    return [one.receipt_handle for one in messages]


def test_a_lease_sets_the_deadline_of_its_messages_at_once(sqs, topic, pulled, refreshed, requests):
    with Lease(SqsTopic(sqs, topic), pulled, 60):
        assert refreshed() == [handles(pulled)]
    (asked,) = requests.of("ChangeMessageVisibilityBatch")
    assert {entry["VisibilityTimeout"] for entry in asked["Entries"]} == {60}


def test_a_lease_sets_no_deadline_at_once_for_messages_that_were_pulled_just_now(sqs, topic, pulled, refreshed):
    with Lease(SqsTopic(sqs, topic), pulled, 60, at_once=False):
        pass
    assert refreshed() == []


def test_a_lease_sets_the_deadline_again_each_time_half_of_it_has_passed(sqs, topic, pulled, refreshed, ticks):
    with Lease(SqsTopic(sqs, topic), pulled, 60, at_once=False):
        for count in (0, 1, 1, 2):
            ticks.pass_time()
            assert refreshed() == [handles(pulled)] * count
    assert set(ticks.waits) == {15}


def test_a_message_that_is_held_for_less_than_a_quarter_of_its_deadline_costs_no_request(
    sqs, topic, pulled, refreshed, ticks
):
    first, second, third = pulled
    with Lease(SqsTopic(sqs, topic), [first], 60, at_once=False) as lease:
        ticks.pass_time()
        lease.drop([first])
        lease.add([second])
        ticks.pass_time()
        lease.add([third])
        ticks.pass_time()
        assert refreshed() == [[second.receipt_handle]]
        ticks.pass_time()
        assert refreshed() == [[second.receipt_handle], [third.receipt_handle]]


def test_messages_may_be_added_to_a_lease_and_released_from_it(sqs, topic, pulled, refreshed, ticks):
    first, second, third = pulled
    with Lease(SqsTopic(sqs, topic), [first], 60, at_once=False) as lease:
        lease.add([second, third])
        lease.drop([first, third, Pulled("x", "never held", 1, Wire("x", {}))])
        ticks.pass_time()
        ticks.pass_time()
    assert refreshed() == [[second.receipt_handle]]


def test_a_lease_without_messages_makes_no_requests(sqs, topic, refreshed, ticks):
    with Lease(SqsTopic(sqs, topic), timeout=60):
        ticks.pass_time()
        ticks.pass_time()
    assert refreshed() == []


def test_leaving_the_context_stops_a_lease_at_once(sqs, topic, pulled):
    with Lease(SqsTopic(sqs, topic), pulled, 40_000):
        assert [one.name for one in threading.enumerate()].count("parcelq-lease") == 1
    assert "parcelq-lease" not in [one.name for one in threading.enumerate()]


def test_an_error_of_the_work_stops_its_lease_and_is_raised(sqs, topic, pulled):
    with pytest.raises(KeyError), Lease(SqsTopic(sqs, topic), pulled, 40_000):
        raise KeyError
    assert "parcelq-lease" not in [one.name for one in threading.enumerate()]


@pytest.mark.parametrize(("code", "status"), [("ServiceUnavailable", 503), ("AccessDenied", 403)])
def test_a_refresh_that_fails_is_logged_and_tried_again_next_time(
    sqs, topic, pulled, refreshed, requests, ticks, caplog, code, status
):
    requests.refuse("ChangeMessageVisibilityBatch", code, status, times=3 if status >= 500 else 1)
    with Lease(SqsTopic(sqs, topic), pulled, 60, at_once=False):
        ticks.pass_time()
        ticks.pass_time()
        assert code in caplog.text
        failed = len(refreshed())
        ticks.pass_time()
        assert len(refreshed()) == failed + 1


def test_a_message_whose_deadline_was_not_set_is_tried_again_after_a_quarter(topic, sqs, pulled, ticks, monkeypatch):
    asked = []

    def refuses_once(_, messages, timeout):
        asked.append(handles(messages))
        return list(messages)[:1] if len(asked) == 2 else []

    monkeypatch.setattr(SqsTopic, "refresh_deadline", refuses_once)
    first, *others = handles(pulled)
    with Lease(SqsTopic(sqs, topic), pulled, 60, at_once=False):
        for _ in range(4):
            ticks.pass_time()
    assert asked[:4] == [[], [first, *others], [first], others]


def test_messages_whose_deadline_could_not_be_set_are_counted(sqs, topic, pulled, caplog):
    stranger = Pulled("id", "no receipt handle", 1, Wire("x", {}))
    with caplog.at_level(logging.WARNING), Lease(SqsTopic(sqs, topic), [*pulled, stranger], 60):
        assert "1 of 4 deadlines" in caplog.text


def test_work_begins_although_its_lease_has_no_network_at_first(sqs, topic, pulled, monkeypatch, caplog):
    def no_network(*_):
        raise AwsError("the request", "EndpointConnectionError", "no network")

    monkeypatch.setattr(SqsTopic, "refresh_deadline", no_network)
    with Lease(SqsTopic(sqs, topic), pulled, 60):
        assert "no network" in caplog.text


@pytest.mark.parametrize("timeout", [0, 1, -5, 12 * 60 * 60 + 1])
def test_a_deadline_that_cannot_be_kept_is_refused(sqs, topic, timeout):
    with pytest.raises(InvalidValueError, match="deadline"):
        Lease(SqsTopic(sqs, topic), timeout=timeout)
