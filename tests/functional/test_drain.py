"""Draining in bounded memory: how much receivers hold at once, whatever the size of what comes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from memory_store import result_of
from parcelq.collect import drain as module
from parcelq.collect.drain import Drained, Drainer
from parcelq.collect.indexes import open_indexes
from parcelq.collect.resolution import Collected
from parcelq.collect.segments import segment_keys
from parcelq.store.folder import FolderStore
from parcelq.topics.message import Pulled, Wire
from parcelq.topics.sqs import SqsTopic

SOURCE = "s3://bucket/inbox/lines.txt?etag=0&put=0"
URL = "http://sqs/topic"


def raw(number: int, start: int, body: str, total: int, **attributes: str) -> dict[str, Any]:
    """A message as SQS gives it: all that a step made of some bytes."""
    size = len(body)
    told = {
        "Source": SOURCE,
        "Lineage": f"{start}-{start + size}/{total}>0-{size}/{size}:{number:016x}",
        "Entries": "1",
        **attributes,
    }
    return {
        "MessageId": str(number),
        "Body": body,
        "MessageAttributes": {name: {"DataType": "String", "StringValue": value} for name, value in told.items()},
    }


def messages(*sizes: int) -> list[dict[str, Any]]:
    """Messages whose bodies have these sizes, one line each."""
    starts = [0, *itertools.accumulate(sizes)]
    return [
        raw(number, start, f"{number:0{size - 1}}\n", starts[-1])
        for number, (start, size) in enumerate(zip(starts, sizes, strict=False))
    ]


@dataclass
class Topic:
    """SQS with messages in it, which counts what is pulled and not acknowledged."""

    waiting: list[dict[str, Any]]
    deadline: int = 300
    asked: list[int] = field(default_factory=list)
    in_flight: dict[str, int] = field(default_factory=dict)
    most_messages: int = 0
    most_bytes: int = 0
    refreshed: list[str] = field(default_factory=list)
    on_refresh: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.waiting = self.waiting[::-1]
        self.handles = itertools.count()

    def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"VisibilityTimeout": str(self.deadline)}}

    def receive_message(self, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            self.asked.append(MaxNumberOfMessages)
            given = [self.waiting.pop() for _ in range(min(MaxNumberOfMessages, len(self.waiting)))]
            given = [{**one, "ReceiptHandle": f"{one['MessageId']} {next(self.handles)}"} for one in given]
            self.in_flight.update((one["ReceiptHandle"], len(one["Body"])) for one in given)
            self.most_messages = max(self.most_messages, len(self.in_flight))
            self.most_bytes = max(self.most_bytes, sum(self.in_flight.values()))
        return {"Messages": given}

    def delete_message_batch(self, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        with self.lock:
            for entry in Entries:
                del self.in_flight[entry["ReceiptHandle"]]
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def change_message_visibility_batch(self, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.refreshed += [entry["ReceiptHandle"].split()[0] for entry in Entries]
        self.on_refresh()
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def drain(self, store: Any, overflow: Any = None, receivers: int = 4) -> Drained:
        topic = SqsTopic(self, URL, overflow)  # type: ignore[arg-type]
        return Drainer(topic, store, receivers, self.deadline).drain(0)


@dataclass
class Puts:
    """A store that only counts."""

    sizes: list[int] = field(default_factory=list)
    on_put: Callable[[], None] = lambda: None

    def put(self, key: str, *parts: bytes) -> None:
        self.sizes.append(sum(map(len, parts[2:])))
        self.on_put()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of the bytes, about."""
    monkeypatch.setattr(module, "PULLED_BYTES", 4_000)
    monkeypatch.setattr(module, "SEGMENT_BYTES", 16_000)
    monkeypatch.setattr(module, "ELSEWHERE_BYTES", 32_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [50, 260, 1_000, 3_000])
def test_receivers_hold_a_segment_and_a_pull_each_at_the_most(size: int) -> None:
    topic, store = Topic(messages(*[size] * 800)), Puts()
    assert topic.drain(store).messages == 800
    # All have begun before any knows the size, so with ten messages.
    assert topic.most_bytes <= 4 * (16_000 + max(4_000, 10 * size))
    assert max(store.sizes) <= 16_000 + size
    assert topic.in_flight == {}


@pytest.mark.usefixtures("small")
def test_draining_pulls_fewer_messages_at_once_where_large_ones_follow_small_ones() -> None:
    topic = Topic(messages(*[50] * 200, *[1_000] * 100, *[50] * 400))
    assert topic.drain(Puts(), receivers=1).messages == 700
    sums = list(itertools.accumulate(topic.asked))
    large = next(number for number, pulled in enumerate(sums) if pulled > 230)
    assert set(topic.asked[large : large + 15]) == {3}  # attributes count, too
    assert topic.asked.count(10) > 15 + 20  # many at a time before, and again after
    assert topic.most_bytes <= 16_000 + 30 * 1_000


@pytest.mark.parametrize("receivers", [1, 4])
def test_draining_keeps_a_bounded_number_of_messages_in_flight(monkeypatch: pytest.MonkeyPatch, receivers: int) -> None:
    monkeypatch.setattr(module, "SEGMENT_MESSAGES", 50)
    topic, store = Topic(messages(*[10] * 1_000)), Puts()
    drained = topic.drain(store, receivers=receivers)
    assert (drained.messages, drained.segments) == (1_000, len(store.sizes))
    assert topic.most_messages <= receivers * (50 + module.PULLED_TOGETHER)


def test_deadlines_of_what_is_held_are_refreshed_and_not_of_what_cannot_be_read() -> None:
    refreshed = threading.Event()
    topic = Topic([*messages(10, 10, 10), raw(9, 0, "odd", 30, Encoding="rot13")], 2, on_refresh=refreshed.set)

    def wait() -> None:
        assert refreshed.wait(10)

    assert topic.drain(Puts(on_put=wait), receivers=1).messages == 3
    assert set(topic.refreshed) == {"0", "1", "2"}
    assert [handle.split()[0] for handle in topic.in_flight] == ["9"]


@dataclass
class Elsewhere:
    """Bodies in S3, of the sizes that messages tell, and how many bytes of them are being fetched at once."""

    events: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, pulled: Pulled) -> Pulled:
        size = int(pulled.attributes["ExtendedPayloadSize"])
        with self.lock:
            self.events.append("load")
            self.now += size
            self.most = max(self.most, self.now)
        threading.Event().wait(0.002)
        with self.lock:
            self.now -= size
        attributes = {name: value for name, value in pulled.attributes.items() if name != "ExtendedPayloadSize"}
        return pulled._replace(content=Wire("x" * (size - 1) + "\n", attributes))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [2_000, 12_000, 500_000])
def test_bodies_in_s3_are_fetched_within_a_bound_of_memory(size: int) -> None:
    pointers = [raw(number, 0, "pointer", 7, ExtendedPayloadSize=str(size)) for number in range(40)]
    topic, elsewhere = Topic(pointers), Elsewhere()
    store = Puts(on_put=lambda: elsewhere.events.append("put"))
    assert topic.drain(store, elsewhere).messages == 40
    assert elsewhere.most <= max(32_000, size)
    assert max(store.sizes) <= 16_000 + size
    if size > 32_000:  # each is stored before the next one is fetched
        assert elsewhere.events == ["load", "put"] * 40


def test_two_drainers_at_once_store_the_same_as_one(tmp_path: Path) -> None:
    given = messages(*[20 + number % 7 for number in range(600)])
    topic, store = Topic([*given, *given[::-1]]), FolderStore(tmp_path)
    drained: list[Drained] = []
    both = [threading.Thread(target=lambda: drained.append(topic.drain(store))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sum(one.messages for one in drained) == 1_200
    assert topic.in_flight == {}
    ((_, keys),) = segment_keys(store, "topic").items()
    collected = Collected(store, open_indexes(store, keys))
    resolution = collected.resolve()
    assert (resolution.whole, resolution.duplicates) == (True, 600)
    assert result_of(collected).decode() == "".join(one["Body"] for one in given)


class Timed:
    """A topic whose messages arrive at given times. The time passes only while a receiver waits."""

    def __init__(self, waiting: list[dict[str, Any]], arrivals: list[float]) -> None:
        self.topic = SqsTopic(Topic(waiting), URL, None)  # type: ignore[arg-type]
        self.now, self.arrivals = 0.0, arrivals

    def __getattr__(self, name: str) -> Any:
        return getattr(self.topic, name)

    def pull(self, least: int, most: int, wait: float, **options: Any) -> list[Pulled]:
        if not self.arrivals or self.arrivals[0] > self.now + wait:
            self.now += max(wait, 0.01)
            return []
        self.now = max(self.now, self.arrivals.pop(0))
        return self.topic.pull(1, 1, 0, **options)


def test_no_message_is_in_memory_for_more_than_15_seconds() -> None:
    stored: list[float] = []
    topic = Timed(messages(10, 10, 10), [16.0, 17.0, 30.0])
    store = Puts(on_put=lambda: stored.append(topic.now))
    assert Drainer(topic, store, 1, clock=lambda: topic.now).drain(40).messages == 3  # type: ignore[arg-type]
    assert stored == [31.0]


def test_messages_that_cannot_be_read_do_not_keep_a_drain_from_ending() -> None:
    unreadable = [{**one, "Body": "no base64!"} for one in messages(*[10] * 40)]
    for one in unreadable:
        one["MessageAttributes"]["Encoding"] = {"DataType": "String", "StringValue": "base64"}
    topic = Timed(unreadable, [60.0 * number for number in range(40)])
    assert Drainer(topic, Puts(), 1, clock=lambda: topic.now).drain(120).messages == 0  # type: ignore[arg-type]
    assert topic.now < 200
