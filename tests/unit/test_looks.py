"""Looks at jobs: what is unchanged costs nothing, and what is large is not read again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from memory_store import Objects
from parcelq.collect import runs, seeing
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.segments import JobKey, index_size, segment_keys, segments_among, write_segment
from parcelq.errors import NotFoundError
from parcelq.jobs.changes import Found, Next, after, woken
from parcelq.jobs.limits import Limits
from parcelq.jobs.record import State, new_record
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.store.folder import FolderStore
from parcelq.store.store import Store
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE, WORKFLOW
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from parcelq.topics.pieces import Piece, pack

WHEN = datetime(2026, 11, 26, tzinfo=UTC)
TEXT = "s3://bucket/inbox/{}.txt?etag=e&put={}"
COUNT = 200


def test_a_job_that_a_machine_with_a_fast_clock_resumed_is_not_looked_at_every_second() -> None:
    now = 1_800_000_000.0
    record = woken(new_record(TEXT.format("a", 1), "", now - 3600), now + 900)
    record, _ = after(Found(record, record, now))
    assert record.moved == now


def test_a_clock_that_is_behind_neither_ends_nor_stops_the_job_that_its_machine_resumed() -> None:
    now = 1_800_000_000.0
    limited = new_record(TEXT.format("a", 1), "", now - 9000)._replace(limits=Limits(max_seconds=60), uploaded=True)
    resumed = woken(limited._replace(total=8, covered=4, dead=1, dead_bytes=4, dead_messages=1), now - 7200)
    record, following = after(Found(resumed, resumed, now, complete=True))
    assert (record.state, record.problem, following) == (State.RUNNING, "", Next.LOOK)
    assert now < record.due < now + 60
    record, following = after(Found(record, record, now + 60))
    assert following is Next.LOOK
    record, following = after(Found(record, record, now + 61))
    assert (following, record.problem) == (Next.STOP, "the job took longer than 60 s")


def output(number: int, count: int, source: str) -> Message:
    """What a step published for one of many lines of four bytes."""
    body = b"%03d\n" % number
    child = Lineage(Span(4 * number, 4 * number + 4, 4 * count)).child(Span(0, 4, 4), digest(body))
    return Message(body, {SOURCE: source, LINEAGE: str(child), ENTRIES: "1"})


def stone(number: int, count: int, source: str) -> Message:
    place = str(Lineage(Span(4 * number, 4 * number + 4, 4 * count)))
    return Message(b"%03d\n" % number, {SOURCE: source, LINEAGE: place, ENTRIES: "1", DEAD: "why"})


def collect(store: Store, *messages: Message) -> list[seeing.SourceState]:
    """Publish, drain, and look."""
    topic = MemoryTopic("out")
    assert topic.publish(messages).published == len(messages)
    assert Drainer(topic, store, receivers=1).drain(0).messages == len(messages)
    assert topic.counts().visible == topic.counts().in_flight == 0
    return look(store)


def look(store: Store) -> list[seeing.SourceState]:
    return list(Finisher(store, "out", bucket="bucket").finish_all())


class TestWithoutAServer:
    def test_looks_need_only_a_topic_in_memory_and_a_folder(self, tmp_path: Path) -> None:
        store, source = FolderStore(tmp_path), TEXT.format("a", 1)
        (state,) = collect(store, *(output(number, COUNT, source) for number in range(COUNT)))
        assert state.result == "results/a.txt"
        assert store.read("results/a.txt") == b"".join(b"%03d\n" % number for number in range(COUNT))
        assert list(store.keys("segments/")) == []

    def test_packed_messages_are_collected_as_their_pieces(self) -> None:
        store, source = Objects(), TEXT.format("a", 1)
        pieces = [
            Piece(f"0-8/12>0-8/8:{digest(b'000.001.')}", b"000\n001\n", 2),
            Piece("8-12/12", b"bad\n", 1, "why", "3,3"),
        ]
        (state,) = collect(store, *pack({SOURCE: source}, pieces, 10_000))
        assert (state.dead, store.read("results/a.txt")) == (1, b"000\n001\n")
        assert (
            store.read("results/a.txt.dead.jsonl") == b'{"record": 3, "line": 3, "entry": "bad\\n", "reason": "why"}\n'
        )

    def test_each_workflow_of_a_source_is_a_job_of_its_own(self) -> None:
        store, source = Objects(), TEXT.format("a", 1)
        for version in ("one@aa", "two@bb"):
            message = output(0, 2, source)
            collect(store, Message(message.body, {**message.attributes, WORKFLOW: version}))
        assert len(segment_keys(store, "out")) == 2
        assert {state.holes for state in look(store)} == {1}

    def test_text_that_strangers_put_into_tombstones_is_bounded(self) -> None:
        store, source = Objects(), TEXT.format("a", 1)
        long = "é" * 100_000
        stones = [stone(number, 20, source) for number in range(20)]
        collect(store, *(Message(one.body, {**one.attributes, DEAD: long}) for one in stones))
        assert max(map(len, store.objects.values())) < 20 * 5_000


class TestJobsWithDeadEntries:
    def test_a_look_at_a_finished_job_that_has_not_changed_makes_only_a_listing(self) -> None:
        store = Objects()
        for name in "abc":
            source = TEXT.format(name, 1)
            collect(store, output(0, 2, source), stone(1, 2, source))
        store.calls.clear()
        assert look(store) == []
        assert store.calls == [("list", "segments/out/")]

    def test_a_finished_job_is_looked_at_again_when_something_comes(self) -> None:
        store, source = Objects(), TEXT.format("a", 1)
        collect(store, output(0, 2, source), stone(1, 2, source))
        (state,) = collect(store, output(1, 2, source))
        assert (state.dead, store.read("results/a.txt")) == (0, b"000\n001\n")
        assert list(store.keys("segments/")) == []

    def test_many_jobs_with_dead_entries_do_not_keep_others_waiting(self) -> None:
        store = Objects()
        for name in range(20):
            source = TEXT.format(name, 1)
            collect(store, output(0, 2, source), stone(1, 2, source))
        source = TEXT.format("healthy", 1)
        topic = MemoryTopic("out")
        topic.publish([output(0, 1, source)])
        Drainer(topic, store, receivers=1).drain(0)
        only_one = iter([True])
        list(Finisher(store, "out", bucket="bucket").finish_all(lambda: next(only_one, False)))
        assert store.read("results/healthy.txt") == b"000\n"


class TestLargeJobs:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seeing, "LARGE", 10)
        monkeypatch.setattr(runs, "FEWEST", 4)
        monkeypatch.setattr(runs, "FEWEST_RUNS", 2)

    def write(self, store: Store, first: int, after: int, count: int) -> None:
        messages = [output(number, count, TEXT.format("a", 1)) for number in range(first, after)]
        pieces = [Piece(one.attributes[LINEAGE], one.body, 1) for one in messages]
        write_segment(store, "out", JobKey(TEXT.format("a", 1)), pieces, [], WHEN, WHEN)

    def test_a_look_reads_only_what_is_new_until_that_may_be_the_rest(self) -> None:
        store, count = Objects(), 20_000
        job = JobKey(TEXT.format("a", 1))

        def write(first: int, after: int) -> None:
            pieces = [Piece(f"{4 * one}-{4 * one + 4}/{4 * count}", b"abc\n", 1) for one in range(first, after)]
            write_segment(store, "out", job, pieces, [], WHEN, WHEN)

        for first in range(0, 18_000, 1_000):
            write(first, first + 1_000)
        look(store)
        (keys,) = segment_keys(store, "out").values()
        whole = sum(map(index_size, segments_among(keys)))
        write(18_000, 18_200)
        store.read_bytes = 0
        (state,) = look(store)
        assert (state.holes, state.result) == (1, "")
        assert store.read_bytes < whole / 4
        write(18_200, count)
        (state,) = look(store)
        assert (state.result, store.read("results/a.txt")) == ("results/a.txt", b"abc\n" * count)
        assert list(store.keys("segments/")) == []

    def test_the_number_of_index_runs_is_logarithmic_in_the_number_of_looks(self) -> None:
        store = Objects()
        for number in range(64):
            self.write(store, number, number + 1, 100)
            look(store)
        (keys,) = segment_keys(store, "out").values()
        assert 0 < len([key for key in keys if key.endswith(".run")]) <= 8

    def test_merging_that_is_killed_at_any_call_is_made_good_by_the_next_look(self) -> None:
        class Killed(BaseException):
            pass

        class Mortal(Objects):
            left = 10**9

            def put(self, key: str, *parts: bytes, **options: object) -> str:
                self.live()
                return super().put(key, *parts, **options)  # type: ignore[arg-type]

            def delete(self, keys: object) -> None:
                self.live()
                super().delete(keys)  # type: ignore[arg-type]

            def live(self) -> None:
                self.left -= 1
                if self.left < 0:
                    raise Killed

        kills = 0
        for calls in range(12):
            store = Mortal()
            for first in range(0, 64, 8):
                self.write(store, first, first + 8, 64)
            store.left = calls
            try:
                look(store)
            except Killed:
                kills += 1
            store.left = 10**9
            look(store)
            assert store.read("results/a.txt") == b"".join(b"%03d\n" % number for number in range(64))
            look(store)
            assert list(store.keys("segments/")) == []
        assert kills > 4

    def test_of_two_merges_at_once_one_fails_and_nothing_is_lost(self) -> None:
        store = Objects()
        for first in range(0, 48, 8):
            self.write(store, first, first + 8, 64)
        (keys,) = segment_keys(store, "out").values()
        runs.tidy(store, "out", keys, WHEN)
        with pytest.raises(NotFoundError):
            runs.tidy(store, "out", keys, WHEN)  # it has not seen the record
        self.write(store, 48, 64, 64)
        look(store)
        assert store.read("results/a.txt").count(b"\n") == 64


def test_a_job_that_has_only_its_header_is_looked_at_again_soon() -> None:
    record = new_record(TEXT.format("a", 1), "", 1000.0)
    found = record._replace(segments=1, total=10_457, covered=23, missing=10_434, uploaded=True)
    looked, following = after(Found(record, found, 1010.0))
    assert following is Next.LOOK
    assert looked.time_left is not None
    assert looked.time_left > 3600  # a guess from 23 bytes in ten seconds
    assert looked.due == 1015.0
