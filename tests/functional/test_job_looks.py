"""Looks at jobs, on topics and a store in memory: what a look leads to, whatever becomes of it and of others."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from memory_store import Objects
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.looks import Looker
from parcelq.errors import AwsError, ConflictError, ParcelqError, PublishError
from parcelq.jobs.jobs import Jobs
from parcelq.jobs.limits import Limits
from parcelq.jobs.look import LATE_SECONDS, MOST_HEALINGS, QUIET_SECONDS, Found, Look, Next, after, halted
from parcelq.jobs.record import JobRecord, State, read_job, write_job
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source, job_id
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import DEAD, ENTRIES, LINEAGE, SOURCE, Message
from parcelq.topics.topic import FailedMessage, Published
from parcelq.upload.files import Uploaded
from parcelq.upload.notes import note_problem, note_upload
from parcelq.upload.ranges import RangeTask

BUCKET = "bucket"
LINES = [b"one\n", b"two, which is longer\n", b"three\n", b"four\n", b"five\n", b"six"]
DATA = b"".join(LINES)
EDGES = [sum(map(len, LINES[:number])) for number in range(len(LINES) + 1)]
HOUR = 3600.0


class KilledError(BaseException):
    """The end of a function in the middle of what it did."""


def source(name: str = "a.txt") -> str:
    return str(Source.of_object(BUCKET, f"inbox/{name}", etag="e", put="0055"))


def output(first: int, last: int, of: str = "", *, dead: str = "") -> Message:
    """What a step made of lines, which it was given in one message; or the tombstone of a line."""
    lineage = Lineage(Span(EDGES[first], EDGES[last], len(DATA)))
    body = b"".join(LINES[first:last])
    told = {SOURCE: of or source(), ENTRIES: str(last - first)}
    if dead:
        return Message(body, {**told, LINEAGE: str(lineage), DEAD: dead})
    body = body.upper()
    return Message(body, {**told, LINEAGE: str(lineage.child(Span(0, len(body), len(body)), digest(body)))})


@dataclass
class World:
    """A stack without processors, whose time passes only while it waits for a look.

    Attributes:
        now: the time.
        told: kinds and details of the events that were put.
        looked: when looks were taken.
        is_looking: whether one is being taken.
    """

    now: float = 1_800_000_000.0
    store: Objects = field(default_factory=Objects)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    looked: list[float] = field(default_factory=list)
    is_looking: bool = False

    def __post_init__(self) -> None:
        names = ("step", "output", "ranges", "looks")
        self.step, self.output, self.ranges, self.looks = (
            MemoryTopic.create(name, deadline_seconds=300, clock=lambda: self.now) for name in names
        )
        self.jobs = Jobs(self.store, self.looks, lambda: self.now)
        self.finisher = Finisher(self.store, "output", bucket=BUCKET, now=lambda: datetime.fromtimestamp(self.now, UTC))
        topics = (self.step, self.ranges, self.output)
        self.looker = Looker(self.jobs, self.finisher, topics, self.ranges, BUCKET, "step", self.tell)

    def tell(self, kind: str, detail: Any) -> None:
        self.told.append((kind, json.loads(json.dumps(detail))))

    def begin(self, name: str = "a.txt", *, uploaded: bool = True) -> str:
        """Begin a job, and perhaps end its upload; return its id."""
        of = source(name)
        record = self.jobs.begin(of, "", "step")
        if uploaded:
            parts = tuple((len(line), 1) for line in LINES)
            told = Uploaded(len(LINES), len(LINES), len(DATA), parts)
            note_upload(self.store, of, 0, told, total=len(DATA), topic="step", output="output")
        return record.id

    def record(self, name: str = "a.txt") -> JobRecord:
        found = read_job(self.store, job_id(source(name), ""))
        assert found
        return found[0]

    def came(self, *messages: Message) -> None:
        """Have messages come to the output topic."""
        self.output.publish(messages)

    def drain(self) -> None:
        drainer = Drainer(self.output, self.store, receivers=1, now=lambda: datetime.fromtimestamp(self.now, UTC))
        for job in drainer.drain(0).jobs:
            self.jobs.notice(job.source, job.workflow)

    def look(self) -> bool:
        """Take the next look there is, waiting for it; False if there is none."""
        for _ in range(2000):
            if pulled := self.looks.pull(1, 1, 0, deadline=60):
                break
            if not sum(self.looks.counts()):
                return False
            self.now += 0.5
        (one,) = pulled
        self.looked.append(self.now)
        self.is_looking = True
        try:
            self.drain()
            taken = self.looker.take(Look.parse(one.message().body.decode()))
        finally:
            self.is_looking = False
        if taken.again is None:
            self.looks.acknowledge([one])
        else:
            self.looks.refresh_deadline([one], int(max(1, taken.again)))
        return True

    def run(self, most: int = 300) -> int:
        """Take looks until there are none any more; return how many."""
        for count in range(most):
            if not self.look():
                return count
        raise AssertionError(f"{most} looks, and no end: {self.record()}")

    def tasks(self) -> list[tuple[int, int]]:
        """Parts that the uploader is asked to publish again; they are taken."""
        pulled = self.ranges.pull(1, 100, 0)
        self.ranges.acknowledge(pulled)
        tasks = [RangeTask.parse(one.message().body.decode()) for one in pulled]
        assert all(one.part and one.source == source() and one.topic == "step" for one in tasks)
        return sorted((one.start, one.end) for one in tasks)

    def result(self, name: str = "a.txt") -> bytes | None:
        return self.store.objects.get(f"results/{name}")

    def report(self, name: str = "a.txt") -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.store.objects[f"results/{name}.report.json"])
        return report


@pytest.fixture
def world() -> World:
    return World()


class TestTheWayOfAJob:
    def test_a_job_is_finished_seconds_after_its_last_message(self, world: World) -> None:
        world.begin()
        assert world.record().state is State.UPLOADING
        world.look()
        assert world.record().state is State.RUNNING
        for number in range(len(LINES)):
            world.now += 30
            world.came(output(number, number + 1))
        last = world.now
        world.run()
        assert world.result() == DATA.upper()
        assert world.now - last <= 10
        record = world.record()
        assert (record.state, record.covered, record.total, record.holes) == (State.FINISHED, len(DATA), len(DATA), ())
        assert record.ended == world.now
        assert [kind for kind, _ in world.told] == ["Parcelq job finished"]
        assert world.report()["healings"] == 0
        assert not [key for key in world.store.objects if key.startswith("segments/")]

    def test_looks_are_seconds_apart_near_the_end_and_minutes_in_the_middle(self, world: World) -> None:
        world.begin()
        total = 20_000
        while world.now < world.looked[0] + 4 * HOUR if world.looked else True:
            part = int(total * (world.now - 1_800_000_000.0) / (4 * HOUR))
            world.came(*self.part_of(total, part))
            world.look()
        pauses = [after - before for before, after in zip(world.looked, world.looked[1:], strict=False)]
        assert 100 < max(pauses) <= 125
        assert max(pauses[-3:]) < 30
        assert len(pauses) < 250

    @staticmethod
    def part_of(total: int, part: int) -> Iterator[Message]:
        body = b"x" * part
        lineage = Lineage(Span(0, part, total)).child(Span(0, part, part), digest(body))
        yield Message(body, {SOURCE: source(), LINEAGE: str(lineage), ENTRIES: "1"})

    def test_while_nothing_moves_looks_become_rarer(self, world: World) -> None:
        world.begin(uploaded=False)
        for _ in range(20):
            world.look()
        pauses = [after - before for before, after in zip(world.looked, world.looked[1:], strict=False)]
        assert pauses[0] <= 2
        assert sorted(pauses) == pauses
        assert 55 <= pauses[-1] <= 65

    def test_a_result_waits_for_the_end_of_the_upload_to_be_noted(self, world: World) -> None:
        """The step may be faster than the uploader, and the report says how many entries were uploaded."""
        world.begin(uploaded=False)
        world.came(output(0, 6))
        world.look()
        assert (world.record().state, world.result()) == (State.UPLOADING, None)
        world.begin()
        world.run()
        assert world.report()["entries"]["read"] == len(LINES)

    def test_a_job_whose_source_cannot_be_uploaded_is_stopped_with_the_reason(self, world: World) -> None:
        world.begin(uploaded=False)
        note_problem(world.store, source(), "its compression is broken", topic="step")
        world.run()
        assert (world.record().state, world.record().problem) == (State.STOPPED, "its compression is broken")
        assert [kind for kind, _ in world.told] == ["Parcelq job stopped"]

    def test_dead_entries_are_no_reason_to_wait(self, world: World) -> None:
        world.begin()
        world.came(output(0, 2), output(2, 3, dead="bad"), output(3, 6))
        world.run()
        assert world.result() == b"".join(LINES[:2] + LINES[3:]).upper()
        assert world.record().dead == 1
        assert [one["complete"] for _, one in world.told] == [False]

    def test_a_later_put_of_the_file_overtakes_an_earlier_one(self, world: World) -> None:
        world.begin()
        newer = replace(Source.parse(source()), put="0056")
        world.jobs.begin(str(newer), "", "step")
        told = Uploaded(6, 6, len(DATA), ((len(DATA), 6),))
        note_upload(world.store, str(newer), 0, told, total=len(DATA), topic="step", output="output")
        world.came(output(0, 6, str(newer)))
        while len(world.told) < 1:
            world.look()
        assert world.report()["source"] == str(newer)
        world.came(output(0, 6))
        world.run()
        assert world.report()["source"] == str(newer)
        assert (world.record().state, world.record().result) == (State.FINISHED, "")

    def test_the_report_in_the_event_is_the_one_beside_the_result(self, world: World) -> None:
        world.begin()
        world.came(output(0, 5), output(5, 6, dead="bad"))
        world.run()
        (_, detail) = world.told[0]
        report = {name: value for name, value in world.report().items() if name not in {"dead", "holes"}}
        assert detail["report"] == report


class TestLooks:
    def test_a_look_that_was_lost_is_published_again_by_the_one_before_it(self, world: World) -> None:
        job = world.begin()
        world.look()
        lost = world.looks.pull(1, 1, 0) or world.looks.pull(1, 1, 0)
        world.now += 5
        lost = lost or world.looks.pull(1, 1, 0)
        world.looks.acknowledge(lost)
        assert sum(world.looks.counts()) == 0
        again = world.looker.take(Look(job, 1)).again
        assert again is not None
        assert 0 < again <= LATE_SECONDS
        world.now += again
        assert world.looker.take(Look(job, 1)).again is None
        world.came(output(0, 6))
        world.run()
        assert world.result() == DATA.upper()

    def test_a_look_that_is_refused_is_an_error_so_that_the_one_before_it_stays(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.begin()
        refused = FailedMessage(Message(b""), "Throttled", "too much", sender_fault=False)
        monkeypatch.setattr(MemoryTopic, "publish", lambda *_args, **_more: Published(0, [refused]))
        with pytest.raises(PublishError, match="too much"):
            world.looker.take(Look(world.record().id, 1))

    def test_a_look_that_came_twice_does_not_go_on_twice(self, world: World) -> None:
        job = world.begin()
        world.jobs.send([Look(job, 1)])
        for _ in range(12):
            world.look()
        assert sum(world.looks.counts()) == 1

    def test_looks_of_long_ago_are_dropped(self, world: World) -> None:
        job = world.begin()
        for _ in range(4):
            world.look()
        record = world.record()
        assert world.looker.take(Look(job, 2)).again is None
        assert world.record() == record

    def test_a_look_at_a_job_that_never_was_is_dropped(self, world: World) -> None:
        assert world.looker.take(Look("0" * 24, 3)).again is None
        assert not world.store.objects

    def test_a_look_that_names_the_source_begins_the_job(self, world: World) -> None:
        world.jobs.send([Look(job_id(source(), ""), 0, source())])
        world.look()
        world.begin()
        world.came(output(0, 6))
        world.run()
        assert world.result() == DATA.upper()

    @pytest.mark.parametrize("seed", range(30))
    def test_looks_that_are_lost_doubled_and_out_of_order_change_nothing(self, world: World, seed: int) -> None:
        chance = random.Random(seed)
        job = world.begin()
        coming = [output(number, number + 1) for number in range(len(LINES))] * 2
        chance.shuffle(coming)
        for _ in range(200):
            world.came(*[coming.pop() for _ in range(chance.randint(0, 2)) if coming])
            looks = world.looks.pull(1, 10, 0, deadline=60)
            for one in chance.sample(looks, len(looks)):
                kind = chance.random()
                if kind < 0.2:  # lost
                    world.looks.acknowledge([one])
                    continue
                world.drain()
                look = Look.parse(one.message().body.decode())
                if kind < 0.4:  # a message of long ago comes once more
                    world.jobs.send([Look(job, chance.randint(1, look.number))])
                taken = world.looker.take(look)
                if taken.again is None:
                    world.looks.acknowledge([one])
                else:
                    world.looks.refresh_deadline([one], int(max(1, taken.again)))
            if not sum(world.looks.counts()) and not world.record().state.is_ended:
                for lost in list(world.jobs.overdue(0)):
                    world.jobs.publish(lost)
            world.now += chance.choice([0.5, 5, 40])
        assert not coming
        world.run()
        assert world.result() == DATA.upper()
        assert (world.record().state, world.report()["healings"]) == (State.FINISHED, 0)
        assert len(world.told) == 1
        assert not [key for key in world.store.objects if key.startswith("segments/")]


class TestAtOnce:
    """What happens between any two calls of a look, and where it ends."""

    def calls(self, world: World, then: Callable[[int, str], None]) -> None:
        """Have something done just before each call to store or topic, given its number."""
        number = 0

        def before(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any, **more: Any) -> Any:
                nonlocal number
                if world.is_looking:
                    number += 1
                    then(number, name)
                return call(*given, **more)

            return counted

        for name in ("put", "read", "read_with_etag", "stat", "keys", "delete", "write"):
            setattr(world.store, name, before(name, getattr(world.store, name)))
        queue = world.looks.queue
        queue.put = before("publish", queue.put)  # type: ignore[method-assign]

    def ready(self) -> World:
        world = World()
        world.begin()
        world.came(output(0, 3), output(3, 4, dead="bad"), output(4, 6))
        return world

    def check(self, world: World) -> None:
        assert world.result() == b"".join(LINES[:3] + LINES[4:]).upper()
        assert world.report()["entries"] == {"read": 6, "done": 5, "dead": 1, "missing": 0, "written": 5}
        assert world.record().state is State.FINISHED
        assert world.told
        assert sum(world.looks.counts()) == 0

    def test_a_look_may_be_killed_at_any_call(self) -> None:
        for at in range(1, 200):
            world = self.ready()
            struck = []

            def kill(number: int, name: str, at: int = at, struck: list[str] = struck) -> None:
                if number == at:
                    struck.append(name)
                    raise KilledError

            self.calls(world, kill)
            for _ in range(100):
                try:
                    if not world.look():
                        break
                except KilledError:
                    world.now += 60
                if not sum(world.looks.counts()) and not world.record().state.is_ended:
                    world.now += HOUR
                    for lost in list(world.jobs.overdue(0)):
                        world.jobs.publish(lost)
            self.check(world)
            if not struck:
                break
        assert 15 < at < 200

    def test_somebody_else_may_take_the_same_look_between_any_two_calls(self) -> None:
        for at in range(1, 200):
            world = self.ready()
            struck: list[str] = []

            def overtake(
                number: int, name: str, at: int = at, struck: list[str] = struck, world: World = world
            ) -> None:
                if number == at and not struck:
                    struck.append(name)
                    world.is_looking = False
                    record = world.record()
                    world.looker.take(Look(record.id, record.look))
                    world.is_looking = True

            self.calls(world, overtake)
            world.run()
            self.check(world)
            if not struck:
                break
        assert 15 < at < 200

    def test_a_record_that_somebody_else_wrote_is_not_overwritten(self, world: World) -> None:
        found = read_job(world.store, world.begin())
        assert found
        record, etag = found
        write_job(world.store, replace(record, look=2), etag)
        with pytest.raises(ConflictError):
            write_job(world.store, replace(record, look=3), etag)
        assert world.record().look == 2

    def test_a_result_is_written_only_while_the_record_says_that_the_job_is_finishing(self, world: World) -> None:
        world.begin()
        world.came(output(0, 6))
        states = []
        write = world.store.write

        def watched(key: str, *given: Any, **more: Any) -> Any:
            states.append(world.record().state)
            return write(key, *given, **more)

        world.store.write = watched  # type: ignore[method-assign]
        world.run()
        assert set(states) == {State.FINISHING}

    def test_an_event_that_is_not_confirmed_leaves_the_job_finishing(self, world: World) -> None:
        world.begin()
        world.came(output(0, 6))

        def refuse(*_: Any) -> None:
            raise AwsError("PutEvents", "AccessDenied", "no")

        looker = replace(world.looker, tell=refuse)
        with pytest.raises(AwsError):
            looker.take(Look(world.record().id, 1)) if world.drain() is None else None
        assert world.record().state is State.FINISHING
        world.run()
        assert world.record().state is State.FINISHED
        assert len(world.told) == 1


class TestHealing:
    def still(self, world: World) -> None:
        """Take looks until a job counts as stuck."""
        until = world.now + 2 * QUIET_SECONDS
        while world.now < until and world.look():
            pass

    def test_a_hole_that_overlapping_runs_left_is_published_again(self, world: World) -> None:
        """Lines A, B and C: SQS gave out A and B together, then B again together with C."""
        world.begin()
        world.came(output(0, 2), output(1, 3), output(3, 6))
        world.look()
        assert world.result() is None
        self.still(world)
        assert world.tasks() == [(EDGES[0], EDGES[1])]  # of A and AB, what covers less is left out
        world.came(output(0, 1))
        world.run()
        assert world.result() == DATA.upper()
        assert (world.report()["healings"], world.report()["complete"]) == (1, True)

    def test_nothing_is_published_again_before_90_seconds_of_quiet(self, world: World) -> None:
        world.begin()
        world.came(output(0, 5))
        world.look()
        began = world.now
        while not sum(world.ranges.counts()):
            world.look()
        assert QUIET_SECONDS <= world.now - began <= 2 * QUIET_SECONDS

    @pytest.mark.parametrize("topic", ["step", "ranges"])
    def test_nothing_is_published_again_while_topics_have_messages(self, world: World, topic: str) -> None:
        world.begin()
        world.came(output(0, 5))
        getattr(world, topic).publish([Message(b"x")])
        self.still(world)
        assert world.record().healings == 0

    def test_on_a_busy_stack_it_is_after_the_longest_deadline(self, world: World) -> None:
        world.begin()
        world.came(output(0, 5))
        world.step.publish([Message(b"x")])
        world.look()
        world.now += 2 * HOUR
        world.look()
        assert world.tasks() == [(EDGES[5], EDGES[6])]

    def test_nothing_is_published_again_before_the_upload_has_ended(self, world: World) -> None:
        world.begin(uploaded=False)
        world.came(output(0, 5))
        self.still(world)
        assert world.record().healings == 0

    def test_an_upload_that_never_ends_stops_the_job_after_a_day(self, world: World) -> None:
        world.begin(uploaded=False)
        world.look()
        world.now += 24 * HOUR
        for _ in range(5):
            world.look()
        assert (world.record().state, world.record().problem) == (State.STOPPED, "its upload never ended")

    def test_a_cancelled_job_is_left_alone(self, world: World) -> None:
        world.begin()
        world.came(output(0, 5))
        world.look()
        found = read_job(world.store, world.record().id)
        assert found
        write_job(world.store, replace(found[0], state=State.CANCELLED), found[1])
        world.run()
        assert world.record().state is State.CANCELLED
        assert world.tasks() == []

    def test_after_three_healings_the_job_is_stopped_and_its_holes_are_listed(self, world: World) -> None:
        world.begin()
        world.came(output(0, 4))
        for _ in range(MOST_HEALINGS):
            self.still(world)
            assert world.tasks() == [(EDGES[4], EDGES[6])]
        world.run()
        record = world.record()
        assert (record.state, record.healings, record.holes) == (State.STOPPED, 3, ((EDGES[4], EDGES[6]),))
        assert record.problem == "8 bytes of it are missing after 3 healings"
        assert world.result() is None
        assert [key for key in world.store.objects if key.startswith("segments/output/")]
        (detail,) = (detail for _, detail in world.told)
        assert (detail["complete"], detail["job"]["holes"]) == (False, [[EDGES[4], EDGES[6]]])

    def test_a_stopped_job_goes_on_when_what_was_missing_comes_after_all(self, world: World) -> None:
        self.test_after_three_healings_the_job_is_stopped_and_its_holes_are_listed(world)
        world.came(output(4, 6))
        world.drain()
        world.run()
        assert (world.result(), world.record().generation) == (DATA.upper(), 1)

    def test_what_never_came_at_all_is_published_again_whole(self, world: World) -> None:
        world.begin()
        self.still(world)
        assert world.tasks() == [(0, len(DATA))]

    def test_a_source_whose_bytes_are_gone_stops_the_job(self, world: World) -> None:
        world.begin()
        world.came(output(0, 5))
        self.still(world)
        assert len(world.tasks()) == 1
        note_problem(world.store, source(), "it was deleted or replaced since it was put", topic="step")
        world.run()
        assert world.record().state is State.STOPPED


class TestTheDead:
    def finished(self, world: World) -> None:
        world.begin()
        world.came(output(0, 3), output(3, 4, dead="bad"), output(4, 6))
        world.run()
        assert world.record().dead == 1

    def test_a_redriven_entry_takes_its_place(self, world: World) -> None:
        self.finished(world)
        world.jobs.send([Look(world.record().id)])
        world.look()
        assert (world.record().state, world.record().generation) == (State.RUNNING, 1)
        world.came(output(3, 4))
        world.run()
        assert world.result() == DATA.upper()
        assert world.record().is_whole
        assert [detail["complete"] for _, detail in world.told] == [False, True]

    def test_an_entry_that_dies_again_ends_the_job_when_nothing_else_comes(self, world: World) -> None:
        self.finished(world)
        world.jobs.send([Look(world.record().id)])
        world.look()
        world.came(output(3, 4, dead="bad again"))
        world.run()
        assert (world.record().state, world.record().dead, world.record().healings) == (State.FINISHED, 1, 0)

    def test_what_comes_by_itself_of_a_finished_job_wakes_it(self, world: World) -> None:
        self.finished(world)
        world.came(output(3, 4))
        world.drain()
        world.run()
        assert world.result() == DATA.upper()

    def test_finished_jobs_with_dead_entries_cost_nothing_per_look_and_a_listing_per_schedule(self) -> None:
        def calls(others: int) -> tuple[int, int]:
            world = World()
            for number in range(others):
                name = f"dead{number}.txt"
                world.begin(name)
                world.came(output(0, 5, source(name)), output(5, 6, source(name), dead="bad"))
            world.run(10 * others + 1)
            world.begin()
            world.came(output(0, 6))
            world.store.calls.clear()
            world.run()
            looks = len(world.store.calls)
            assert world.result() == DATA.upper()
            world.store.calls.clear()
            assert list(world.finisher.unfinished()) == []
            return looks, len(world.store.calls)

        assert calls(0) == calls(25)


class TestRecords:
    def test_a_record_is_read_as_it_was_written(self, world: World) -> None:
        world.begin()
        world.came(output(0, 5))
        world.look()
        record = world.record()
        assert record.holes
        assert json.loads(world.store.objects[f"jobs/{record.id}.json"])["schema"] == 1

    def test_a_record_of_a_later_version_is_refused(self, world: World) -> None:
        world.begin()
        key = f"jobs/{world.record().id}.json"
        world.store.put(key, json.dumps({**world.record().document(), "schema": 2}).encode())
        with pytest.raises(ParcelqError, match=r"version 2 of a job's record; this version reads 1"):
            world.record()

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"schema": 1}', b'{"schema": "1"}'])
    def test_what_is_no_record_is_named(self, world: World, data: bytes) -> None:
        world.begin()
        key = f"jobs/{world.record().id}.json"
        world.store.put(key, data)
        with pytest.raises(ParcelqError, match="is no record of a job"):
            world.record()

    def test_a_member_that_a_later_minor_version_added_is_no_obstacle(self, world: World) -> None:
        world.begin()
        record = world.record()
        world.store.put(f"jobs/{record.id}.json", json.dumps({**record.document(), "more": 1}).encode())
        assert world.record() == record


class TestLimits:
    def begun(self, world: World, limits: Limits) -> str:
        """Begin a job with limits, whose upload has ended; return its id."""
        job = world.begin()
        found = read_job(world.store, job)
        assert found
        write_job(world.store, replace(found[0], limits=limits), found[1])
        return job

    def test_a_job_is_stopped_at_once_when_its_time_is_over(self, world: World) -> None:
        self.begun(world, Limits(max_seconds=60))
        world.came(output(0, 2))
        began = world.now
        world.run()
        record = world.record()
        assert (record.state, record.halted, record.reported) == (State.STOPPED, True, True)
        assert record.problem == "it took longer than 60 s"
        assert 60 < world.now - began < 65
        assert world.result() is None
        report = world.report()
        assert (report["complete"], report["problem"]) == (False, record.problem)
        assert report["holes"] == [[EDGES[2], len(DATA)]]
        assert [key for key in world.store.objects if key.endswith(".seg")]
        assert [kind for kind, _ in world.told] == ["Parcelq job stopped"]

    def test_what_still_comes_of_a_stopped_job_is_kept_and_wakes_nobody(self, world: World) -> None:
        self.begun(world, Limits(max_seconds=60))
        world.run()
        before = world.record()
        world.came(*(output(number, number + 1) for number in range(len(LINES))))
        world.drain()
        assert world.run() == 0
        assert (world.record(), world.result(), world.tasks()) == (before, None, [])

    def test_more_dead_entries_than_a_limit_stop_a_job_although_nothing_else_is_missing(self, world: World) -> None:
        self.begun(world, Limits(max_dead=1))
        world.came(output(0, 4), output(4, 5, dead="bad"), output(5, 6, dead="worse"))
        world.run()
        assert world.record().problem == "2 entries are dead, more than 1: bad"
        assert world.result() is None

    def test_as_many_dead_entries_as_a_limit_do_not_stop_a_job(self, world: World) -> None:
        self.begun(world, Limits(max_dead=2, max_dead_share=0.01))
        world.came(output(0, 4), output(4, 5, dead="bad"), output(5, 6, dead="worse"))
        world.run()
        assert world.record().state is State.FINISHED

    def test_a_cancelled_job_gets_its_report_by_one_look_whatever_else_comes(self, world: World) -> None:
        job = world.begin()
        world.came(output(0, 2))
        world.look()
        found = read_job(world.store, job)
        assert found
        write_job(world.store, halted(found[0], State.CANCELLED, world.now, ""), found[1])
        world.run()
        record = world.record()
        assert (record.state, record.reported, record.covered) == (State.CANCELLED, True, EDGES[2])
        assert world.report()["problem"] == "it was cancelled"
        assert world.tasks() == []

    def test_a_share_counts_entries_that_a_step_filters_out(self) -> None:
        """Of 2,000 entries 20 are dead, and the step wrote nothing for nearly all of the others."""
        record = JobRecord("id", "s", dead=20, dead_bytes=200, covered=19_800, entries=100, limits=Limits(None, 0.02))
        found = Found(0.0, total=20_000, covered=19_800, dead=20, dead_bytes=200, missing=1, entries=100)
        assert after(record, found)[1] is Next.LOOK
        assert after(replace(record, limits=Limits(None, 0.005)), found)[1] is Next.STOP
