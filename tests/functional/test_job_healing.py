"""What is missing of a job is published again, and dead entries are redriven."""

from __future__ import annotations

import pytest
from job_world import DATA, EDGES, HOUR, Cloud, output, source
from parcelq.collect.segments import segments_among
from parcelq.jobs.changes import COUNTING_SECONDS, MOST_HEALINGS, QUIET_SECONDS, woken
from parcelq.jobs.look import Look
from parcelq.jobs.record import State, read_job, write_job
from parcelq.topics.message import Message
from parcelq.upload.notes import note_problem

pytest_plugins = ["job_world"]


class TestHealing:
    def still(self, cloud: Cloud) -> None:
        """Take looks until a job counts as stuck."""
        until = cloud.now + 2 * QUIET_SECONDS
        while cloud.now < until and cloud.look():
            pass

    def test_a_hole_that_overlapping_runs_left_is_published_again(self, cloud: Cloud) -> None:
        """Lines A, B and C: SQS gave out A and B together, then B again together with C."""
        cloud.begin()
        cloud.came(output(0, 2), output(1, 3), output(3, 6))
        cloud.look()
        assert cloud.result() is None
        self.still(cloud)
        assert cloud.tasks() == [(EDGES[0], EDGES[1])]  # of A and AB, what covers less is left out
        cloud.came(output(0, 1))
        cloud.run()
        assert cloud.result() == DATA.upper()
        assert (cloud.report()["healings"], cloud.report()["complete"]) == (1, True)

    def test_a_hole_of_a_large_job_is_published_again(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        """Most looks at a large job read only what is new, so they know only how much is missing."""
        monkeypatch.setattr("parcelq.collect.seeing.LARGE", 2)
        cloud.begin()
        cloud.came(output(0, 1), output(1, 3), output(4, 6))
        cloud.look()
        self.still(cloud)
        assert cloud.tasks() == [(EDGES[3], EDGES[4])]
        cloud.came(output(3, 4))
        cloud.run()
        assert cloud.result() == DATA.upper()

    def test_all_holes_are_published_again_although_a_job_record_lists_only_the_first(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.collect.found.MOST_HOLES", 1)
        cloud.begin()
        cloud.came(output(1, 2), output(3, 5))
        cloud.look()
        self.still(cloud)
        assert len(cloud.record().holes) == 1
        assert cloud.tasks() == [(EDGES[0], EDGES[1]), (EDGES[2], EDGES[3]), (EDGES[5], EDGES[6])]

    def test_nothing_is_published_again_before_90_seconds_of_quiet(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 5))
        cloud.look()
        began = cloud.now
        while not sum(cloud.ranges.counts()):
            cloud.look()
        assert QUIET_SECONDS <= cloud.now - began <= 2 * QUIET_SECONDS

    @pytest.mark.parametrize("topic", ["step", "ranges"])
    def test_nothing_is_published_again_while_topics_have_messages(self, cloud: Cloud, topic: str) -> None:
        cloud.begin()
        cloud.came(output(0, 5))
        getattr(cloud, topic).publish([Message(b"x")])
        self.still(cloud)
        assert cloud.record().healings == 0

    def test_on_a_busy_stack_lost_bytes_are_published_again_after_the_longest_deadline(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 5))
        cloud.step.publish([Message(b"x")])
        cloud.look()
        cloud.now += 2 * HOUR
        cloud.look()
        assert cloud.tasks() == [(EDGES[5], EDGES[6])]

    def test_nothing_is_published_again_before_the_upload_has_ended(self, cloud: Cloud) -> None:
        cloud.begin(uploaded=False)
        cloud.came(output(0, 5))
        self.still(cloud)
        assert cloud.record().healings == 0

    def test_an_upload_that_never_ends_stops_the_job_after_a_day(self, cloud: Cloud) -> None:
        cloud.begin(uploaded=False)
        cloud.look()
        cloud.now += 24 * HOUR
        for _ in range(5):
            cloud.look()
        assert (cloud.record().state, cloud.record().problem) == (State.STOPPED, "its upload never ended")

    def test_a_cancelled_job_is_not_healed(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 5))
        cloud.look()
        found = read_job(cloud.store, cloud.record().id)
        assert found
        write_job(cloud.store, found[0]._replace(state=State.CANCELLED), found[1])
        cloud.run()
        assert cloud.record().state is State.CANCELLED
        assert cloud.tasks() == []

    def test_after_three_healings_the_job_is_stopped_and_its_holes_are_listed(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 4))
        for _ in range(MOST_HEALINGS):
            self.still(cloud)
            assert cloud.tasks() == [(EDGES[4], EDGES[6])]
        cloud.run()
        record = cloud.record()
        assert (record.state, record.healings, record.holes) == (State.STOPPED, 3, ((EDGES[4], EDGES[6]),))
        assert record.problem == "8 bytes of it are missing after 3 healings"
        assert cloud.result() is None
        assert [key for key in cloud.store.objects if key.startswith("segments/output/")]
        (detail,) = (detail for _, detail in cloud.told)
        assert (detail["complete"], detail["job"]["holes"]) == (False, [[EDGES[4], EDGES[6]]])

    def test_a_stopped_job_goes_on_when_what_was_missing_comes_after_all(self, cloud: Cloud) -> None:
        self.test_after_three_healings_the_job_is_stopped_and_its_holes_are_listed(cloud)
        cloud.came(output(4, 6))
        cloud.drain()
        cloud.run()
        assert (cloud.result(), cloud.record().generation) == (DATA.upper(), 1)

    def test_a_source_without_any_collected_message_is_published_again_completely(self, cloud: Cloud) -> None:
        cloud.begin()
        self.still(cloud)
        assert cloud.tasks() == [(0, len(DATA))]

    def test_a_source_whose_bytes_are_gone_stops_the_job(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 5))
        self.still(cloud)
        assert len(cloud.tasks()) == 1
        note_problem(cloud.store, source(), "it was deleted or replaced after it was put", topic="step")
        cloud.run()
        assert cloud.record().state is State.STOPPED

    def test_a_source_that_was_deleted_after_its_upload_does_not_stop_a_job_that_makes_progress(
        self, cloud: Cloud
    ) -> None:
        """S3 delivers the event of the source a second time, when the uploader finds no object any more."""
        cloud.begin()
        note_problem(cloud.store, source(), "it was deleted or replaced after it was put", topic="step")
        cloud.came(output(0, 5))
        cloud.look()
        cloud.now += COUNTING_SECONDS
        cloud.look()
        assert (cloud.record().state, cloud.record().problem) == (State.RUNNING, "")
        cloud.came(output(5, 6))
        cloud.run()
        assert (cloud.result(), cloud.report()["complete"]) == (DATA.upper(), True)
        assert [kind for kind, _ in cloud.told] == ["Parcelq job finished"]
        assert not [key for key in cloud.store.objects if key.startswith("segments/")]

    def test_a_job_whose_missing_bytes_are_gone_is_stopped_without_a_healing(self, cloud: Cloud) -> None:
        cloud.begin()
        note_problem(cloud.store, source(), "it was deleted or replaced after it was put", topic="step")
        cloud.came(output(0, 5))
        cloud.run()
        record = cloud.record()
        assert (record.state, record.problem) == (State.STOPPED, "it was deleted or replaced after it was put")
        assert (record.healings, record.holes, cloud.tasks()) == (0, ((EDGES[5], EDGES[6]),), [])


class TestTheDead:
    def finished(self, cloud: Cloud) -> None:
        cloud.begin()
        cloud.came(output(0, 3), output(3, 4, dead="bad"), output(4, 6))
        cloud.run()
        assert cloud.record().dead == 1

    def test_a_redriven_entry_takes_its_place_in_the_result(self, cloud: Cloud) -> None:
        self.finished(cloud)
        cloud.jobs.send([Look(cloud.record().id)])
        cloud.look()
        assert (cloud.record().state, cloud.record().generation) == (State.RUNNING, 1)
        cloud.came(output(3, 4))
        cloud.run()
        assert cloud.result() == DATA.upper()
        assert cloud.record().is_whole
        assert [detail["complete"] for _, detail in cloud.told] == [False, True]

    def test_an_entry_that_dies_again_ends_the_job_when_nothing_else_comes(self, cloud: Cloud) -> None:
        self.finished(cloud)
        cloud.jobs.send([Look(cloud.record().id)])
        cloud.look()
        cloud.came(output(3, 4, dead="bad again"))
        cloud.run()
        assert (cloud.record().state, cloud.record().dead, cloud.record().healings) == (State.FINISHED, 1, 0)

    @pytest.mark.parametrize(("left", "comes", "waits"), [(0, 2, False), (1, 1, False), (0, 1, True)])
    def test_a_redriven_job_ends_as_soon_as_all_that_was_redriven_died_again(
        self, cloud: Cloud, left: int, comes: int, waits: bool
    ) -> None:
        cloud.begin()
        cloud.came(output(0, 3), output(3, 4, dead="bad"), output(4, 5, dead="bad"), output(5, 6))
        cloud.run()
        record, etag = read_job(cloud.store, cloud.record().id) or (cloud.record(), "")
        newest = max(segments_among(cloud.finisher.keys_of(record.id)))
        changed = woken(record, cloud.now)._replace(redriven_after=newest, left_dead=left)
        write_job(cloud.store, changed, etag)
        cloud.jobs.publish(changed)
        cloud.look()
        assert cloud.record().state is State.RUNNING
        cloud.came(*[output(3, 4, dead="again"), output(4, 5, dead="again")][:comes])
        began = cloud.now
        cloud.run()
        assert (cloud.record().state, cloud.record().dead) == (State.FINISHED, 2)
        assert (cloud.now - began > QUIET_SECONDS) is waits

    def test_a_result_that_comes_late_by_itself_wakes_a_finished_job(self, cloud: Cloud) -> None:
        self.finished(cloud)
        cloud.came(output(3, 4))
        cloud.drain()
        cloud.run()
        assert cloud.result() == DATA.upper()

    def test_finished_jobs_with_dead_entries_cost_nothing_per_look_and_a_listing_per_schedule(self) -> None:
        def calls(others: int) -> tuple[int, int]:
            cloud = Cloud()
            for number in range(others):
                name = f"dead{number}.txt"
                cloud.begin(name)
                cloud.came(output(0, 5, source(name)), output(5, 6, source(name), dead="bad"))
            cloud.run(10 * others + 1)
            cloud.begin()
            cloud.came(output(0, 6))
            cloud.store.calls.clear()
            cloud.run()
            looks = len(cloud.store.calls)
            assert cloud.result() == DATA.upper()
            cloud.store.calls.clear()
            assert list(cloud.finisher.unfinished()) == []
            return looks, len(cloud.store.calls)

        assert calls(0) == calls(25)
