"""Large results: parts that several invocations write from a frozen plan, whatever becomes of each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from job_world import DATA, HOUR, LINES, Cloud, output, source
from memory_store import Objects
from parcelq.collect.assembly import Extent
from parcelq.collect.large import STALLED_SECONDS, LargeResults
from parcelq.collect.looks import Looker, Taken
from parcelq.collect.plans import PartTask, Wanted, freeze, plans_among, read_plan
from parcelq.errors import MessageError, NotFoundError, ParcelqError, PublishError
from parcelq.jobs.look import Look
from parcelq.jobs.record import State
from parcelq.limits import MAX_MULTIPART_PARTS, MIB
from parcelq.store.store import part_bytes
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Published

pytest_plugins = ["job_world"]

RESULT = DATA.upper()
PART = 5
PARTS = -(-len(RESULT) // PART)
TIB = MIB**2


class KilledError(BaseException):
    """The end of a function in the middle of what it did."""


class LargeWorld(Cloud):
    """A stack that counts results of more than ten bytes as large, and cuts them into parts of five bytes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.large = LargeResults(self.store, self.store, self.looks, lambda: self.now)
        self.finisher = self.finisher._replace(large=self.large)
        topics = (self.step, self.ranges, self.output)
        self.looker = Looker(self.jobs, self.finisher, topics, self.ranges, "bucket", "step", self.tell)
        self.wrote: list[PartTask] = []

    def handle(self, one: Pulled) -> None:
        """Take a look or a task, as an invocation does."""
        text = one.message().body.decode()
        self.is_looking = True
        try:
            if task := PartTask.parse(text):
                self.wrote.append(task)
                if self.large.write_parts(task):
                    self.looks.acknowledge([one])
                return
            self.drain()
            taken = self.looker.take(Look.parse(text))
        except NotFoundError:  # somebody else finished the job; the look is delivered again
            taken = Taken(again=5)
        finally:
            self.is_looking = False
        if taken.again is None:
            self.looks.acknowledge([one])
        else:
            self.looks.refresh_deadline([one], int(max(1, taken.again)))

    def look(self) -> bool:
        """Take the next look or task, waiting for it; False if there is none."""
        for _ in range(2000):
            if pulled := self.looks.pull(1, 1, 0, deadline=60):
                self.handle(pulled[0])
                return True
            if not sum(self.looks.counts()):
                return False
            self.now += 0.5
        raise AssertionError("no message comes")

    def ready(self, *messages: Any) -> None:
        """Begin a job, all of whose messages have come."""
        self.begin()
        self.came(*(messages or (output(0, 2), output(2, 3), output(3, 6))))

    def freeze(self) -> str:
        """Take looks until the plan is there; return its key."""
        while not (plans := self.plans()):
            assert self.look()
        return plans[0]

    def plans(self) -> list[str]:
        return plans_among(sorted(self.store.objects))

    def check(self, result: bytes = RESULT, *, dead: bool = False) -> None:
        assert self.result() == result
        assert self.record().state is State.FINISHED
        assert self.report()["bytes_written"] == len(result)
        assert self.store.uploads == {}
        left = [key for key in self.store.objects if key.startswith("segments/")]
        assert bool(left) is dead
        assert not self.plans()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parcelq.store.store._PART_BYTES", PART)
    monkeypatch.setattr("parcelq.collect.large.LARGE", 10)
    monkeypatch.setattr("parcelq.collect.large.TASK_BYTES", 2 * PART)


@pytest.fixture
def world() -> LargeWorld:
    return LargeWorld()


class TestParts:
    def test_a_large_result_is_written_by_tasks_of_a_few_parts(self, world: LargeWorld) -> None:
        world.ready()
        world.run()
        world.check()
        assert sorted((task.first, task.last) for task in world.wrote) == [
            (first, min(first + 1, PARTS)) for first in range(1, PARTS + 1, 2)
        ]
        assert [name for name, _ in world.store.calls].count("put_part") == PARTS

    def test_a_result_that_is_not_large_is_written_at_once(
        self, world: LargeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.collect.large.LARGE", len(RESULT))
        world.ready()
        world.run()
        world.check()
        assert world.wrote == []

    @pytest.mark.parametrize("seed", range(8))
    def test_tasks_and_looks_may_come_twice_in_any_order(self, seed: int) -> None:
        world, chance = LargeWorld(), random.Random(seed)
        world.ready()
        world.freeze()
        taken: list[PartTask] = []
        for _ in range(200):
            pulled = world.looks.pull(1, 10, 0, deadline=60)
            for one in chance.sample(pulled, len(pulled)):
                world.handle(one)
                if task := PartTask.parse(one.message().body.decode()):
                    taken.append(task)
            for task in chance.sample(taken, len(taken) // 3):
                world.large.write_parts(task)
            world.now += 1
        world.check()
        assert len(world.told) == 1

    def test_while_parts_are_missing_a_look_reads_no_index(self, world: LargeWorld) -> None:
        world.ready()
        world.freeze()
        job = world.record()
        before = len(world.store.calls)
        world.now = job.due
        world.looker.take(Look(job.id, job.look))
        calls = world.store.calls[before:]
        assert world.record().state is State.FINISHING
        assert not [key for name, key in calls if name == "read" and key.endswith((".seg", ".run"))]

    def test_a_task_ends_where_its_time_is_up_and_goes_on_later(
        self, world: LargeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.collect.large.PARTS_IN_FLIGHT", 1)
        world.ready()
        task = PartTask(world.freeze(), 1, PARTS)
        answers = iter([True, True, False])
        assert world.large.write_parts(task, lambda: next(answers)) is False
        (upload,) = world.store.uploads.values()
        assert sorted(upload) == [1, 2]
        assert world.large.write_parts(task) is True
        assert [name for name, _ in world.store.calls].count("put_part") == PARTS

    def test_a_part_with_other_bytes_than_planned_is_written_again(self, world: LargeWorld) -> None:
        world.ready()
        world.freeze()
        (upload,) = world.store.uploads
        world.store.put_part("results/a.txt", upload, 2, b"x")
        world.run()
        world.check()

    def test_parts_of_the_largest_result_fit_into_an_upload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("parcelq.store.store._PART_BYTES", 16 * MIB)
        for size in (1, 10**9, 10**12, 5 * TIB):
            part = part_bytes(size)
            assert -(-size // part) <= MAX_MULTIPART_PARTS
            assert 16 * MIB <= part <= 1024 * MIB

    def test_a_plan_whose_bytes_do_not_add_up_is_not_written(self) -> None:
        store = Objects()
        wanted = Wanted("results/x", {}, None, 12, ["a"], [Extent(0, 0, 11)])
        with pytest.raises(ParcelqError, match="11 bytes"):
            freeze(store, store, wanted, wanted.plan_key("segments/t/j/"))
        assert store.uploads == {}
        assert not plans_among(list(store.objects))

    @pytest.mark.parametrize(
        "text", ['{"plan":1,"first":1,"last":1}', '{"plan":"p"}', '{"plan":"p","first":2,"last":1}']
    )
    def test_a_task_with_impossible_numbers_is_refused(self, text: str) -> None:
        with pytest.raises(MessageError, match="is not a task"):
            PartTask.parse(text)

    @pytest.mark.parametrize("text", ['{"job":"a","number":1}', "[]", "nonsense"])
    def test_a_message_that_names_no_plan_is_not_taken_for_a_task(self, text: str) -> None:
        assert PartTask.parse(text) is None


class TestWhatIsLost:
    def test_parts_whose_tasks_are_lost_are_asked_for_again(self, world: LargeWorld) -> None:
        world.ready()
        world.freeze()
        lost = [one for one in world.looks.pull(1, 10, 0) if PartTask.parse(one.message().body.decode())]
        assert lost
        world.looks.acknowledge(lost)
        since = world.now
        world.run()
        world.check()
        assert STALLED_SECONDS <= world.now - since < 4 * STALLED_SECONDS

    def test_tasks_are_not_published_again_while_parts_come(self, world: LargeWorld) -> None:
        world.ready()
        key = world.freeze()
        world.looks.acknowledge(world.looks.pull(1, 10, 0))
        for number in range(1, PARTS):
            world.large.write_parts(PartTask(key, number, number))
            world.now += STALLED_SECONDS * 0.9
            record = world.record()
            world.looker.take(Look(record.id, record.look))
        world.looks.pull(1, 10, 0)
        assert len(world.wrote) == 0
        assert world.record().state is State.FINISHING

    def test_an_upload_that_somebody_aborted_is_begun_anew(self, world: LargeWorld) -> None:
        world.ready()
        world.freeze()
        world.store.uploads.clear()
        world.run()
        world.check()

    def test_a_task_of_a_plan_that_is_gone_does_nothing(self, world: LargeWorld) -> None:
        world.ready()
        key = world.freeze()
        world.run()
        assert world.large.write_parts(PartTask(key, 1, 2)) is True
        world.check()

    def test_tasks_that_the_topic_refuses_are_an_error(
        self, world: LargeWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.ready()
        key = world.freeze()
        world.store.delete([f"{key}.asked"])
        refused = [FailedMessage(Message(b""), "Refused", "no", sender_fault=False)]
        monkeypatch.setattr(MemoryTopic, "publish", lambda *_, **__: Published(0, refused))
        with pytest.raises(PublishError):
            world.large.is_waiting("results/a.txt", list(world.store.keys(key.rpartition("/")[0])))
        assert f"{key}.asked" not in world.store.objects


class TestOvertaken:
    def test_an_entry_that_is_redriven_meanwhile_makes_a_new_plan(self, world: LargeWorld) -> None:
        world.ready(output(0, 2), output(2, 3, dead="bad"), output(3, 6))
        first = world.freeze()
        world.large.write_parts(PartTask(first, 1, 2))
        world.came(output(2, 3))
        world.run()
        world.check()
        assert read_plan(world.store, first) is None
        uploads = [name for name, _ in world.store.calls if name in {"begin_upload", "abort_upload"}]
        assert uploads == ["begin_upload", "abort_upload", "begin_upload"]  # never two uploads at the same time

    def test_an_entry_that_is_redriven_after_the_parts_are_there_is_not_lost(self, world: LargeWorld) -> None:
        world.ready(output(0, 2), output(2, 3, dead="bad"), output(3, 6))
        key = world.freeze()
        world.large.write_parts(PartTask(key, 1, PARTS - 1))
        world.came(output(2, 3))
        world.run()
        world.check()

    def test_a_result_with_dead_entries_leaves_no_plan(self, world: LargeWorld) -> None:
        world.ready(output(0, 2), output(2, 3, dead="bad"), output(3, 6))
        world.run()
        world.check(b"".join(LINES[:2] + LINES[3:]).upper(), dead=True)
        world.jobs.send([Look(world.record().id, 0, source())])
        world.came(output(2, 3))
        world.run()
        world.check()

    def test_an_object_that_was_put_meanwhile_is_seen_before_it_is_replaced(self, world: LargeWorld) -> None:
        world.ready()
        first = world.freeze()
        world.store.put("results/a.txt", b"somebody else's")
        world.run()
        world.check()
        assert [name for name, _ in world.store.calls].count("begin_upload") == 2
        assert read_plan(world.store, first) is None

    def test_of_two_plans_that_are_made_at_once_one_counts(self) -> None:
        store = Objects()
        store.put("a", RESULT)
        wanted = Wanted("results/x", {"state": "s"}, None, len(RESULT), ["a"], [Extent(0, 0, len(RESULT))])
        key = wanted.plan_key("segments/t/j/")
        first, second = (freeze(store, store, wanted, key) for _ in range(2))
        assert first == second
        assert list(store.uploads) == [first.upload]
        assert [one for one in store.objects if one.endswith(".extents")] == [first.extents]


class TestAtAnyCall:
    """What happens between any two calls of a look or of a task."""

    def calls(self, world: LargeWorld, then: Callable[[int], None]) -> None:
        """Have something done just before each call to the store, given its number."""
        numbers = count(1)

        def before(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any, **more: Any) -> Any:
                if world.is_looking:
                    then(next(numbers))
                return call(*given, **more)

            return counted

        multipart = ("begin_upload", "put_part", "parts", "complete_upload", "abort_upload")
        for name in ("put", "read", "read_with_etag", "stat", "keys", "delete", "write", *multipart):
            setattr(world.store, name, before(getattr(world.store, name)))
        world.looks.publish = before(world.looks.publish)  # type: ignore[method-assign]

    @pytest.fixture(autouse=True)
    def one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("parcelq.collect.large.PARTS_IN_FLIGHT", 1)
        monkeypatch.setattr("parcelq.collect.large.TASK_BYTES", 3 * PART)

    def worlds(self, struck: list[int], do: Callable[[LargeWorld], None]) -> Iterator[LargeWorld]:
        for at in count(1):
            world = LargeWorld()
            struck.clear()
            world.ready()

            def strike(number: int, at: int = at, world: LargeWorld = world) -> None:
                if number >= at and not struck:
                    struck.append(number)
                    do(world)

            self.calls(world, strike)
            yield world
            if not struck:
                assert at > 60
                return

    def test_other_invocations_complete_what_one_that_died_began(self) -> None:
        struck: list[int] = []

        def die(world: LargeWorld) -> None:
            raise KilledError

        for world in self.worlds(struck, die):
            for _ in range(200):
                try:
                    if not world.look():
                        break
                except KilledError:
                    world.now += 60
                if not sum(world.looks.counts()) and not world.record().state.is_ended:
                    world.now += HOUR
                    for lost in list(world.jobs.overdue(0)):
                        world.jobs.publish(lost)
            # An upload that nobody could note any more is aborted by the bucket's lifecycle rule.
            assert len(world.store.uploads) <= len(struck)
            world.store.uploads.clear()
            world.check()

    def test_two_invocations_that_finish_a_result_at_once_write_it_exactly(self) -> None:
        struck: list[int] = []

        def overtake(world: LargeWorld) -> None:
            """All that there is to be done is done by others."""
            world.is_looking = False
            record = world.record()
            for _ in range(2):
                world.looker.take(Look(record.id, record.look))
            for key in world.plans():
                world.large.write_parts(PartTask(key, 1, PARTS))
            record = world.record()
            world.looker.take(Look(record.id, record.look))
            world.is_looking = True

        for world in self.worlds(struck, overtake):
            world.run()
            world.check()


def test_several_stacks_of_work_write_one_exact_result_together() -> None:
    """Several threads write the same tasks at once."""
    from concurrent.futures import ThreadPoolExecutor

    world = LargeWorld()
    world.ready()
    key = world.freeze()
    with ThreadPoolExecutor(4) as pool:
        tasks = [PartTask(key, 1, PARTS), PartTask(key, 1, 3), PartTask(key, 2, PARTS), PartTask(key, 4, PARTS)]
        assert all(pool.map(world.large.write_parts, tasks))
    world.run()
    world.check()


def test_a_plan_that_was_dropped_just_now_is_begun_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Objects()
    store.put("a", RESULT)
    wanted = Wanted("results/x", {}, None, len(RESULT), ["a"], [Extent(0, 0, len(RESULT))])
    key = wanted.plan_key("segments/t/j/")
    freeze(store, store, wanted, key)
    monkeypatch.setattr("parcelq.collect.plans.read_plan", lambda *_: None)
    with pytest.raises(NotFoundError, match="deleted just now"):
        freeze(store, store, wanted, key)
    assert len(store.uploads) == 1
