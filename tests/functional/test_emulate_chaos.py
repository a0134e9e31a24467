"""The hostile stack: functions die as often as it says, at any request, and S3's events all come twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from parcelq_emulator import runtime
from parcelq_emulator.chaos import Chaos, hostile_queue
from parcelq_emulator.sqs_message import Message


class Died(BaseException):
    """The end of a process."""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def end(code: int) -> None:
        raise Died(code)

    monkeypatch.setattr(runtime.os, "_exit", end)
    monkeypatch.setattr(runtime.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return tmp_path


def died_at(deaths: runtime.Deaths, moments: int) -> int:
    """The moment at which an invocation dies that has so many beside its end; 0 where it does not."""
    deaths.begin()
    for moment in range(1, moments + 1):
        try:
            deaths._pass()
        except Died:
            return moment
    try:
        deaths.end()
    except Died:
        return moments + 1
    return 0


def lives(seed: str, count: int, choice: random.Random) -> list[tuple[int, int]]:
    """Of so many invocations of one instance, how many moments each would have had, and the one at which it died."""
    session = boto3.Session()
    deaths = runtime.Deaths(seed, session, 0.2)
    lived = []
    for _ in range(count):
        moments = choice.choice([0, 2, 6, 6, 6, 30])
        lived.append((moments, died_at(deaths, moments)))
        if lived[-1][1]:
            deaths = runtime.Deaths(seed, session, 0.2)
    return lived


def test_the_share_of_invocations_that_chaos_kills_is_exact_however_few_there_are(scratch: Path) -> None:
    lived = lives("1", 2_000, random.Random(1))
    killed = sum(bool(moment) for _, moment in lived)
    assert 0.17 < killed / len(lived) < 0.23
    assert Chaos.below(scratch) == Chaos(len(lived), killed, 0, 0)
    at = Counter(moment for moments, moment in lived if moments == 6)
    assert set(at) == set(range(8))  # alive, at each of its requests, and at its end
    assert min(at.values()) > 15


def test_the_same_seed_kills_the_same_invocations(scratch: Path) -> None:
    first = lives("1", 300, random.Random(1))
    (scratch / runtime.CHAOS_FILE).unlink()
    assert lives("1", 300, random.Random(1)) == first
    (scratch / runtime.CHAOS_FILE).unlink()
    assert lives("2", 300, random.Random(1)) != first


def test_every_event_of_s3_comes_twice_and_some_messages_do(tmp_path: Path) -> None:
    queue: Any = hostile_queue(7, tmp_path)("topic", "us-east-1", "123456789012")
    for number in range(20):
        event = SimpleNamespace(id=f"event {number}", body="{}", body_md5="", message_attributes={})
        queue.add_message(event)
    test = SimpleNamespace(id="test", body=json.dumps({"Event": "s3:TestEvent"}), body_md5="", message_attributes={})
    queue.add_message(test)
    queue.send((Message(f"{number}", b"x", "", {}, {}), 0) for number in range(200))
    came = Counter(one.message.id for _ in range(100) for one in queue.receive(10, 0, 30))
    assert {came[f"event {number}"] for number in range(20)} == {2}
    twice = sum(came[f"{number}"] == 2 for number in range(200))
    assert 20 < twice < 60
    chaos = Chaos.below(tmp_path)
    assert (chaos.messages, chaos.events) == (twice, 20)
    assert str(chaos) == f"chaos: 0 of 0 invocations killed, {twice} messages and 20 S3 events delivered twice"
