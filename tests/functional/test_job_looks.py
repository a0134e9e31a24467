"""Looks at a job: when they come, what they do, and how its record is read."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from job_world import DATA, HOUR, LINES, Cloud, output, source
from parcelq.collect.draining import Draining
from parcelq.collect.looks import Taken
from parcelq.errors import ParcelqError, PublishError
from parcelq.jobs.look import LATE_SECONDS, Look
from parcelq.jobs.record import State
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source, job_id
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from parcelq.topics.topic import FailedMessage, Published
from parcelq.upload.notes import note_problem, note_upload
from parcelq.upload.sources import Uploaded

pytest_plugins = ["job_world"]


class TestTheWayOfAJob:
    def test_a_job_is_finished_seconds_after_its_last_message(self, cloud: Cloud) -> None:
        cloud.begin()
        assert cloud.record().state is State.UPLOADING
        cloud.look()
        assert cloud.record().state is State.RUNNING
        for number in range(len(LINES)):
            cloud.now += 30
            cloud.came(output(number, number + 1))
        last = cloud.now
        cloud.run()
        assert cloud.result() == DATA.upper()
        assert cloud.now - last <= 10
        record = cloud.record()
        assert (record.state, record.covered, record.total, record.holes) == (State.FINISHED, len(DATA), len(DATA), ())
        assert record.ended == cloud.now
        assert [kind for kind, _ in cloud.told] == ["Parcelq job finished"]
        assert cloud.report()["healings"] == 0
        assert not [key for key in cloud.store.objects if key.startswith("segments/")]

    def test_a_look_at_a_small_job_asks_the_store_for_no_object_twice(self, cloud: Cloud) -> None:
        job = cloud.begin()
        cloud.came(output(0, len(LINES)))
        cloud.drain()
        cloud.store.calls.clear()
        cloud.looker.take(Look(job, 1))
        calls = list(cloud.store.calls)
        assert Counter(call for call, _ in calls) == {"read": 3, "list": 1, "stat": 2, "put": 5, "delete": 5}
        assert max(Counter(key for call, key in calls if call in {"read", "list", "stat"}).values()) == 1
        assert cloud.record().state is State.FINISHED

    def test_a_report_or_page_that_somebody_left_is_replaced(self, cloud: Cloud) -> None:
        for ending in (".report.json", ".report.html", ".dead.jsonl"):
            cloud.store.put(f"results/a.txt{ending}", b"old")
        cloud.begin()
        cloud.came(output(0, len(LINES)))
        cloud.run()
        assert cloud.report()["bytes_written"] == len(cloud.result() or b"") == len(DATA)
        assert b"old" not in [cloud.store.objects.get(f"results/a.txt{one}") for one in (".report.html", ".dead.jsonl")]

    def test_looks_are_seconds_apart_near_the_end_and_minutes_in_the_middle(self, cloud: Cloud) -> None:
        cloud.begin()
        total = 20_000
        while cloud.now < cloud.looked[0] + 4 * HOUR if cloud.looked else True:
            part = int(total * (cloud.now - 1_800_000_000.0) / (4 * HOUR))
            cloud.came(*self.part_of(total, part))
            cloud.look()
        pauses = [after - before for before, after in zip(cloud.looked, cloud.looked[1:], strict=False)]
        assert 100 < max(pauses) <= 125
        assert max(pauses[-3:]) < 30
        assert len(pauses) < 250

    @staticmethod
    def part_of(total: int, part: int) -> Iterator[Message]:
        body = b"x" * part
        lineage = Lineage(Span(0, part, total)).child(Span(0, part, part), digest(body))
        yield Message(body, {SOURCE: source(), LINEAGE: str(lineage), ENTRIES: "1"})

    def test_looks_become_rarer_while_nothing_changes(self, cloud: Cloud) -> None:
        cloud.begin(uploaded=False)
        for _ in range(20):
            cloud.look()
        pauses = [after - before for before, after in zip(cloud.looked, cloud.looked[1:], strict=False)]
        assert pauses[0] <= 2
        assert sorted(pauses) == pauses
        assert 55 <= pauses[-1] <= 65

    def test_a_result_waits_for_the_end_of_the_upload_to_be_noted(self, cloud: Cloud) -> None:
        """The step may be faster than the uploader, and the report says how many entries were uploaded."""
        cloud.begin(uploaded=False)
        cloud.came(output(0, 6))
        cloud.look()
        assert (cloud.record().state, cloud.result()) == (State.UPLOADING, None)
        cloud.begin()
        cloud.run()
        assert cloud.report()["entries"]["read"] == len(LINES)

    def test_a_job_whose_source_cannot_be_uploaded_is_stopped_with_the_reason(self, cloud: Cloud) -> None:
        cloud.begin(uploaded=False)
        note_problem(cloud.store, source(), "its compression is broken", topic="step")
        cloud.run()
        assert (cloud.record().state, cloud.record().problem) == (State.STOPPED, "its compression is broken")
        assert [kind for kind, _ in cloud.told] == ["Parcelq job stopped"]

    def test_dead_entries_are_no_reason_to_wait(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 2), output(2, 3, dead="bad"), output(3, 6))
        cloud.run()
        assert cloud.result() == b"".join(LINES[:2] + LINES[3:]).upper()
        assert cloud.record().dead == 1
        assert [one["complete"] for _, one in cloud.told] == [False]

    def test_a_later_put_of_the_file_overtakes_an_earlier_one(self, cloud: Cloud) -> None:
        cloud.begin()
        newer = Source.parse(source())._replace(put="0056")
        cloud.jobs.begin(str(newer), "", "step")
        told = Uploaded(6, 6, len(DATA), ((len(DATA), 6),))
        note_upload(cloud.store, str(newer), 0, told, total=len(DATA), topic="step", output="output")
        cloud.came(output(0, 6, str(newer)))
        while len(cloud.told) < 1:
            cloud.look()
        assert cloud.report()["source"] == str(newer)
        cloud.came(output(0, 6))
        cloud.run()
        assert cloud.report()["source"] == str(newer)
        assert (cloud.record().state, cloud.record().result) == (State.FINISHED, "")

    def test_the_report_in_the_event_is_the_one_beside_the_result(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 5), output(5, 6, dead="bad"))
        cloud.run()
        (_, detail) = cloud.told[0]
        report = {name: value for name, value in cloud.report().items() if name not in {"dead", "holes"}}
        assert detail["report"] == report


class TestLooks:
    def test_a_look_that_was_lost_is_published_again_by_the_one_before_it(self, cloud: Cloud) -> None:
        job = cloud.begin()
        cloud.look()
        lost = cloud.looks.pull(1, 1, 0) or cloud.looks.pull(1, 1, 0)
        cloud.now += 5
        lost = lost or cloud.looks.pull(1, 1, 0)
        cloud.looks.acknowledge(lost)
        assert sum(cloud.looks.counts()) == 0
        again = cloud.looker.take(Look(job, 1)).again
        assert again is not None
        assert 0 < again <= LATE_SECONDS
        cloud.now += again
        assert cloud.looker.take(Look(job, 1)).again is None
        cloud.came(output(0, 6))
        cloud.run()
        assert cloud.result() == DATA.upper()

    def test_a_look_that_is_refused_is_an_error_so_that_the_one_before_it_stays(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cloud.begin()
        refused = FailedMessage(Message(b""), "Throttled", "too much", sender_fault=False)
        monkeypatch.setattr(MemoryTopic, "publish", lambda *_args, **_more: Published(0, [refused]))
        with pytest.raises(PublishError, match="too much"):
            cloud.looker.take(Look(cloud.record().id, 1))

    def test_a_look_that_came_twice_does_not_go_on_twice(self, cloud: Cloud) -> None:
        job = cloud.begin()
        cloud.jobs.send([Look(job, 1)])
        for _ in range(12):
            cloud.look()
        assert sum(cloud.looks.counts()) == 1

    def test_a_look_that_was_published_long_ago_is_dropped(self, cloud: Cloud) -> None:
        job = cloud.begin()
        for _ in range(4):
            cloud.look()
        record = cloud.record()
        assert cloud.looker.take(Look(job, 2)).again is None
        assert cloud.record() == record

    def test_a_look_at_a_job_that_never_was_is_dropped(self, cloud: Cloud) -> None:
        assert cloud.looker.take(Look("0" * 24, 3)).again is None
        assert not cloud.store.objects

    def test_a_look_that_names_the_source_begins_the_job(self, cloud: Cloud) -> None:
        cloud.jobs.send([Look(job_id(source(), ""), 0, source())])
        cloud.look()
        cloud.begin()
        cloud.came(output(0, 6))
        cloud.run()
        assert cloud.result() == DATA.upper()

    @pytest.mark.parametrize("seed", range(30))
    def test_looks_that_are_lost_doubled_and_out_of_order_change_nothing(self, cloud: Cloud, seed: int) -> None:
        chance = random.Random(seed)
        job = cloud.begin()
        coming = [output(number, number + 1) for number in range(len(LINES))] * 2
        chance.shuffle(coming)
        for _ in range(200):
            cloud.came(*[coming.pop() for _ in range(chance.randint(0, 2)) if coming])
            looks = cloud.looks.pull(1, 10, 0, deadline=60)
            for one in chance.sample(looks, len(looks)):
                kind = chance.random()
                if kind < 0.2:  # lost
                    cloud.looks.acknowledge([one])
                    continue
                cloud.drain()
                look = Look.parse(one.message().body.decode())
                if kind < 0.4:  # a message of long ago comes once more
                    cloud.jobs.send([Look(job, chance.randint(1, look.number))])
                taken = cloud.looker.take(look)
                if taken.again is None:
                    cloud.looks.acknowledge([one])
                else:
                    cloud.looks.refresh_deadline([one], int(max(1, taken.again)))
            if not sum(cloud.looks.counts()) and not cloud.record().state.is_ended:
                for lost in list(cloud.jobs.overdue(0)):
                    cloud.jobs.publish(lost)
            cloud.now += chance.choice([0.5, 5, 40])
        assert not coming
        cloud.run()
        assert cloud.result() == DATA.upper()
        assert (cloud.record().state, cloud.report()["healings"]) == (State.FINISHED, 0)
        assert len(cloud.told) == 1
        assert not [key for key in cloud.store.objects if key.startswith("segments/")]


def test_a_job_whose_record_cannot_be_read_does_not_hold_up_other_jobs(cloud: Cloud) -> None:
    names = [f"{number}.txt" for number in range(6)]
    cloud.store.put(f"jobs/{job_id(source(names[2]), '')}.json", b"no record")
    cloud.came(*(output(0, 1, source(name)) for name in names))
    drained, _ = Draining(cloud.looker, cloud.output, cloud.looks).take_turn([], lambda: 60.0)
    assert drained.messages == len(names)
    cloud.now += LATE_SECONDS
    looked_at = {Look.parse(one.wire.text).job for one in cloud.looks.pull(1, 10, 0)}
    assert looked_at == {job_id(source(name), "") for name in names if name != names[2]}


def test_a_look_that_is_dropped_does_not_hide_new_messages_that_were_drained_with_it(cloud: Cloud) -> None:
    """A job ended with a dead entry. A look of long ago is delivered again together with the output of this entry."""
    job = cloud.begin()
    cloud.came(output(0, 5), output(5, 6, dead="bad"))
    cloud.run()
    ended, old = cloud.record(), Look(job, 1)
    draining = Draining(cloud.looker, cloud.output, cloud.looks)

    draining.take_turn([old], lambda: 60.0)
    assert cloud.looker.take(old) == Taken()
    assert (cloud.record(), sum(cloud.looks.counts())) == (ended, 0)

    cloud.came(output(5, 6))
    draining.take_turn([old], lambda: 60.0)
    cloud.looker.take(old)
    cloud.run()
    assert (cloud.record().is_whole, cloud.result()) == (True, DATA.upper())


class TestRecords:
    def test_a_record_is_read_as_it_was_written(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 5))
        cloud.look()
        record = cloud.record()
        assert record.holes
        assert json.loads(cloud.store.objects[f"jobs/{record.id}.json"])["schema"] == 1

    def test_a_record_of_a_later_version_is_refused(self, cloud: Cloud) -> None:
        cloud.begin()
        key = f"jobs/{cloud.record().id}.json"
        cloud.store.put(key, json.dumps({**cloud.record().document(), "schema": 2}).encode())
        with pytest.raises(ParcelqError, match=r"version 2 of a job's record; this version reads 1"):
            cloud.record()

    @pytest.mark.parametrize("member", ["cost", "limits", "holes", "versions", "state"])
    def test_a_record_with_a_member_of_another_type_is_named(self, cloud: Cloud, member: str) -> None:
        cloud.begin()
        key = f"jobs/{cloud.record().id}.json"
        cloud.store.put(key, json.dumps({**cloud.record().document(), member: None}).encode())
        with pytest.raises(ParcelqError, match="is not a record of a job"):
            cloud.record()

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"schema": 1}', b'{"schema": "1"}'])
    def test_an_object_that_is_no_record_of_a_job_is_named(self, cloud: Cloud, data: bytes) -> None:
        cloud.begin()
        key = f"jobs/{cloud.record().id}.json"
        cloud.store.put(key, data)
        with pytest.raises(ParcelqError, match="is not a record of a job"):
            cloud.record()

    def test_a_member_that_a_later_minor_version_added_is_no_obstacle(self, cloud: Cloud) -> None:
        cloud.begin()
        record = cloud.record()
        cloud.store.put(f"jobs/{record.id}.json", json.dumps({**record.document(), "more": 1}).encode())
        assert cloud.record() == record
