"""The worker loop: it goes on until nothing comes, says what it did, and acknowledges last of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from parcelq.errors import AwsError, InvalidValueError
from parcelq.process import worker
from parcelq.process.apply import Outcome
from parcelq.process.processor import Processor
from parcelq.process.worker import RoundProgress, process
from parcelq.topics.lease import Lease
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.topic import Published
from process_stage import PICKY, Stage, messages_of, neighbours, parcel


@pytest.fixture
def stage(make_step: Callable[..., Path], tmp_path: Path) -> Stage:
    return Stage(make_step, tmp_path)


def work(stage: Stage, processor: Processor | None = None, **options: Any) -> tuple[int, int]:
    """Run the loop until nothing has come for 30 seconds."""
    processor = processor or stage.processor(marks=False)
    return process(processor, **{"receive_message_timeout": 30, "clock": stage.clock, **options})


def fill(stage: Stage, *entries: str) -> None:
    """Publish one entry a message, neighbours in one source."""
    stage.publish(*neighbours(*[[entry] for entry in entries]))


def test_a_worker_goes_on_until_nothing_has_come_for_its_idle_time(stage: Stage) -> None:
    fill(stage, *"abcdefghijklmno")
    began = stage.clock()
    assert work(stage) == (15, 2)
    assert stage.clock() - began == 30
    assert stage.result == b"A\nB\nC\nD\nE\nF\nG\nH\nI\nJ\nK\nL\nM\nN\nO\n"
    assert not any(stage.input.counts())


def test_a_worker_processes_what_comes_late_and_then_waits_anew(stage: Stage) -> None:
    stage.input.publish([parcel("late")], delay_seconds=20)
    began = stage.clock()
    assert work(stage) == (1, 1)
    assert stage.clock() - began == 20 + 30


def test_an_empty_topic_is_exhausted_after_the_timeout(stage: Stage) -> None:
    began = stage.clock()
    assert work(stage, receive_message_timeout=45) == (0, 0)
    assert stage.clock() - began == 45


def test_a_worker_without_an_idle_time_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    polls: list[float] = []

    def poll(topic: MemoryTopic, least: int, most: int, timeout: float, **_: int) -> list[Pulled]:
        polls.append(timeout)
        if len(polls) == 50:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(MemoryTopic, "pull", poll)
    with pytest.raises(KeyboardInterrupt):
        process(stage.processor(marks=False), clock=lambda: 0.0)
    assert set(polls) == {20}


def test_nothing_is_acknowledged_before_what_it_led_to_is_confirmed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    publish, acknowledge = MemoryTopic.publish, MemoryTopic.acknowledge

    def published(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        order.append("publish")
        confirmed = publish(topic, messages, delay_seconds=delay_seconds)
        order.append("confirmed")
        return confirmed

    def acknowledged(topic: MemoryTopic, messages: Iterable[Pulled]) -> list[Pulled]:
        order.append("acknowledge")
        return acknowledge(topic, messages)

    fill(stage, "a", "bad", "c")
    monkeypatch.setattr(MemoryTopic, "publish", published)
    monkeypatch.setattr(MemoryTopic, "acknowledge", acknowledged)
    work(stage, stage.processor(PICKY, marks=False, parcel_size=1))
    under_way = 0
    for event in order:
        under_way += {"publish": 1, "confirmed": -1, "acknowledge": 0}[event]
        assert event != "acknowledge" or under_way == 0
    assert 0 <= order.index("confirmed") < order.index("acknowledge")


def test_a_message_whose_output_is_not_published_is_delivered_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stage, "a")
    publish, refused = MemoryTopic.publish, iter([True])

    def once(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        given = list(messages)
        if given and next(refused, False):
            raise AwsError("SendMessageBatch", "AccessDenied", "no", 403)
        return publish(topic, given, delay_seconds=delay_seconds)

    monkeypatch.setattr(MemoryTopic, "publish", once)
    seen: list[RoundProgress] = []
    work(stage, on_progress=lambda this, _: seen.append(this))
    assert (seen[0].failed, seen[0].messages_processed) == (1, 0)
    assert sum(one.messages_processed for one in seen[1:]) >= 1
    assert stage.result == b"A\n"


def test_progress_is_reported_for_each_round_and_in_all(stage: Stage) -> None:
    fill(stage, *"abcdefghijklmnopqrst")
    seen: list[tuple[RoundProgress, RoundProgress]] = []
    work(stage, on_progress=lambda *one: seen.append(one))
    assert [one for one, _ in seen] == [RoundProgress(1, 10, 10, 1), RoundProgress(1, 10, 10, 1)]
    assert [one for _, one in seen] == [RoundProgress(1, 10, 10, 1), RoundProgress(2, 20, 20, 2)]


def test_a_worker_counts_bad_entries_as_dead(stage: Stage) -> None:
    fill(stage, "a", "bad", "c")
    seen: list[RoundProgress] = []
    work(stage, stage.processor(PICKY, marks=False), on_progress=lambda _, total: seen.append(total))
    assert (seen[-1].entries_processed, seen[-1].dead, seen[-1].failed) == (2, 1, 0)
    assert [one.body for one in messages_of(stage.dead_letters)] == [b"bad\n"]


def test_a_worker_pulls_as_many_messages_as_its_runs_need_for_whole_batches(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    pull = MemoryTopic.pull

    def watched(topic: MemoryTopic, least: int = 1, most: int = 10, timeout: float = 300, **more: int) -> list[Pulled]:
        asked.append(most)
        return pull(topic, least, most, timeout, **more)

    monkeypatch.setattr(MemoryTopic, "pull", watched)
    fill(stage, *["a"] * 40)
    work(stage, stage.processor(marks=False, batch_size=15, workers=2))
    assert asked[:2] == [10, 30]
    asked.clear()
    stage.publish(*neighbours(*[["a"] * 10] * 3, source="large"))
    work(stage)
    assert asked[1:] == [1] * (len(asked) - 1)


def test_messages_are_kept_locked_until_they_are_acknowledged(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    leases: list[tuple[int, int, bool]] = []
    left: list[int] = []

    class Watched(Lease):
        def __init__(self, topic: Any, messages: Any, timeout: int, *, at_once: bool) -> None:
            held = list(messages)
            leases.append((len(held), timeout, at_once))
            super().__init__(topic, held, timeout, at_once=at_once)

        def __exit__(self, *error: Any) -> None:
            left.append(stage.input.counts().in_flight)
            super().__exit__(*error)

    monkeypatch.setattr(worker, "Lease", Watched)
    fill(stage, "a", "b")
    work(stage, deadline=33)
    assert (leases, left) == ([(2, 33, False)], [0])


def test_a_failed_message_is_delivered_again_after_seconds_although_the_lease_was_refreshed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    exit_ = Lease.__exit__
    refreshed = threading.Event()

    def late(self: Lease, *error: Any) -> None:
        self._refresh(list(self._held.values()))  # as its thread does when half of the deadline has passed just now
        refreshed.set()
        exit_(self, *error)

    monkeypatch.setattr(Lease, "__exit__", late)
    fill(stage, "a")
    processor = stage.processor(marks=False, back_off_seconds=4)
    monkeypatch.setattr(MemoryTopic, "publish", lambda *_, **__: (_ for _ in ()).throw(AwsError("S", "C", "no", 403)))
    began = stage.clock()

    class EndError(Exception):
        pass

    def stop(*_: RoundProgress) -> None:
        raise EndError

    with pytest.raises(EndError):
        work(stage, processor, on_progress=stop)
    assert refreshed.is_set()
    assert stage.input.pull(1, 1, 300)
    assert stage.clock() - began == 4


def test_a_round_has_the_time_that_sqs_keeps_its_messages_locked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []
    handle = Processor.handle

    def watched(self: Processor, pulled: Any, time_left: Callable[[], float], **more: Any) -> Outcome:
        left.append(time_left())
        stage.clock.now += 100
        left.append(time_left())
        return handle(self, pulled, time_left, **more)

    monkeypatch.setattr(Processor, "handle", watched)
    stage.deadline = 1000
    fill(stage, "a")
    assert work(stage, deadline=1000) == (1, 1)
    assert left == [12 * 60 * 60, 12 * 60 * 60 - 100]


def test_a_message_that_the_topic_does_not_delete_counts_as_failed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stage, "a")
    acknowledge, kept = MemoryTopic.acknowledge, iter([True])

    def keep(topic: MemoryTopic, messages: Iterable[Pulled]) -> list[Pulled]:
        given = list(messages)
        return given if given and next(kept, False) else acknowledge(topic, given)

    monkeypatch.setattr(MemoryTopic, "acknowledge", keep)
    seen: list[RoundProgress] = []
    work(stage, on_progress=lambda this, _: seen.append(this))
    assert (seen[0].messages_processed, seen[0].failed) == (0, 1)


@pytest.mark.parametrize("operation", ["pull", "acknowledge"])
def test_a_worker_fails_when_its_topic_refuses_requests(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AwsError(operation, "AccessDenied", "no", 403)

    fill(stage, "a")
    monkeypatch.setattr(MemoryTopic, operation, refused)
    with pytest.raises(AwsError, match="AccessDenied"):
        work(stage)


def test_a_deadline_that_cannot_be_kept_is_refused(stage: Stage) -> None:
    fill(stage, "a")
    with pytest.raises(InvalidValueError, match="deadline"):
        work(stage, deadline=0)


def test_each_round_of_a_worker_adds_to_what_was_done() -> None:
    one, two = (Pulled("id", name, 1, Wire("a", {})) for name in "12")
    outcome = Outcome(done=[one, two], failed=[(one, "why")], entries=7, published=5, cut=1, dead=3)
    progress = RoundProgress(1, 10, 20, 30, 40, 50).plus(outcome)
    assert progress == RoundProgress(2, 12, 27, 35, 41, 53)
    assert len(progress) == 6
