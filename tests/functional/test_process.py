"""The step runs over messages, and its output is published with its lineage before anything is acknowledged."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from parcelq.errors import AwsError, StepError
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.process.apply import Outcome
from parcelq.steps.run import Ran, Runner
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURES, LINEAGE, SOURCE, WORKFLOW
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.topic import FailedMessage, Published
from process_stage import FAILS, PICKY, UPPER, Stage, neighbours, parcel, place


@pytest.fixture
def stage(make_step: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    made = Stage(make_step, tmp_path)
    yield made
    assert [one for one in folder.rglob("*") if not one.is_dir()] == [], "a run left a file behind"


def handmade(body: bytes = b"a\nb\n") -> Message:
    return Message(body)


def refuse(monkeypatch: pytest.MonkeyPatch, stage: Stage, *names: str, times: int = 10**6) -> None:
    """Have topics of these names refuse whole requests."""
    publish, left = MemoryTopic.publish, times

    def refused(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
        nonlocal left
        messages = iter(messages)
        if topic.name in (names or ("in", "following", "in-dead-letter", "output")):
            first = next(messages, None)
            if first is not None and left:
                left -= 1
                raise AwsError("SendMessageBatch", "AccessDenied", "no", 403)
            messages = iter([] if first is None else [first, *messages])
        return publish(topic, messages, delay_seconds=delay_seconds)

    monkeypatch.setattr(MemoryTopic, "publish", refused)


class TestOutput:
    def test_output_has_the_lineage_of_its_input_and_its_own_place_in_the_run(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b", "c", "d", "e", start=100))
        outcome = stage.handle(stage.processor(parcel_size=2))
        run = digest(b"A\nB\nC\nD\nE\n")
        assert [(one.body, dict(one.attributes)) for one in stage.outputs] == [
            (body, {SOURCE: "s", LINEAGE: f"100-110/1000>{span}/10:{run}:5", ENTRIES: entries, WORKFLOW: "wf@1"})
            for body, span, entries in ((b"A\nB\n", "0-4", "2"), (b"C\nD\n", "4-8", "2"), (b"E\n", "8-10", "1"))
        ]
        assert (len(outcome.done), outcome.failed, outcome.entries, outcome.published) == (1, [], 5, 3)

    def test_output_of_several_stages_has_a_chain_of_spans(self, stage: Stage) -> None:
        first = Lineage(Span(0, 5, 9)).child(Span(2, 4, 8), "0123abcd")
        stage.publish(Message(b"a\n", {SOURCE: "s", LINEAGE: str(first), ENTRIES: "1", WORKFLOW: "before"}))
        stage.handle(stage.processor())
        (output,) = stage.outputs
        assert output.attributes[LINEAGE] == f"0-5/9>2-4/8:0123abcd>0-2/2:{digest(b'A' + bytes([10]))}:1"
        assert output.attributes[WORKFLOW] == "wf@1"

    def test_no_output_is_a_message_without_bytes_so_that_its_input_counts_as_done(self, stage: Stage) -> None:
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor('> "$4"'))
        (output,) = stage.outputs
        empty = f"0-2/1000>0-0/0:{digest(b'')}:1"
        assert output == Message(b"", {SOURCE: "s", LINEAGE: empty, ENTRIES: "0", WORKFLOW: "wf@1"})
        assert (outcome.entries, outcome.published) == (1, 1)

    def test_output_may_be_longer_than_input_and_need_not_be_text(self, stage: Stage) -> None:
        stage.publish(parcel("a"))
        stage.handle(stage.processor(r"""printf 'x\000\n\377\nunended' > "$4" """))
        (output,) = stage.outputs
        assert (output.body, output.entries) == (b"x\0\n\xff\nunended", 3)

    def test_without_a_workflow_the_output_names_none(self, stage: Stage) -> None:
        stage.publish(parcel("a"))
        stage.handle(stage.processor(workflow=""))
        assert WORKFLOW not in stage.outputs[0].attributes

    def test_a_message_without_entries_is_run_like_any_other(self, stage: Stage) -> None:
        stage.publish(Message(b"", {SOURCE: "s", LINEAGE: "0-0/0", ENTRIES: "0"}))
        stage.handle(stage.processor('cat "$2" > "$4"'))
        assert stage.outputs[0].attributes[LINEAGE] == f"0-0/0>0-0/0:{digest(b'')}:0"

    def test_messages_without_lineage_run_together_and_their_output_has_none(self, stage: Stage) -> None:
        stage.publish(handmade(b"a\nb"), Message(b"c\n", {"Theirs": "1"}))
        outcome = stage.handle(stage.processor(parcel_size=2))
        assert stage.runs == [3]
        assert sorted(b"".join(one.body for one in stage.outputs).split()) == [b"A", b"B", b"C"]
        assert all(set(one.attributes) == {ENTRIES, WORKFLOW} for one in stage.outputs)
        assert (len(outcome.done), outcome.entries) == (2, 3)

    def test_without_lineage_no_output_is_no_message(self, stage: Stage) -> None:
        stage.publish(handmade())
        outcome = stage.handle(stage.processor('> "$4"'))
        assert (stage.outputs, len(outcome.done)) == ([], 1)

    @pytest.mark.parametrize("lineage", ["nonsense", "0-9/9", "{0-1/9,2-3/9}>0-2/2:0123abcd"])
    def test_an_impossible_lineage_counts_as_none(self, stage: Stage, lineage: str) -> None:
        stage.publish(Message(b"a\n", {SOURCE: "s", LINEAGE: lineage}))
        outcome = stage.handle(stage.processor())
        assert (len(outcome.done), outcome.failed) == (1, [])
        assert all(LINEAGE not in one.attributes for one in stage.outputs)


class TestRunningTogether:
    def test_the_deployed_processor_runs_messages_with_lineage_one_by_one(self, stage: Stage) -> None:
        stage.publish(*neighbours(["a"], ["b"], ["c"]))
        outcome = stage.handle(stage.processor())
        assert stage.runs == [1, 1, 1]
        assert (len(outcome.done), len(stage.outputs)) == (3, 3)

    def test_a_worker_runs_neighbours_of_one_source_together(self, stage: Stage) -> None:
        stage.publish(*neighbours(["a"], ["b", "c"], ["d"]))
        outcome = stage.handle(stage.processor(marks=False))
        assert stage.runs == [4]
        (output,) = stage.outputs
        assert output.body == b"A\nB\nC\nD\n"
        assert output.attributes[LINEAGE] == f"0-8/1000>0-8/8:{digest(output.body)}:4"
        assert (len(outcome.done), outcome.entries, outcome.published) == (3, 4, 1)

    def test_a_worker_runs_neighbours_of_one_output_together(self, stage: Stage) -> None:
        parent = Lineage(Span(0, 9, 9))
        pieces = [(b"a\n", Span(0, 2, 4)), (b"b\n", Span(2, 4, 4))]
        stage.publish(
            *(Message(body, {SOURCE: "s", LINEAGE: str(parent.child(span, "0123abcd"))}) for body, span in pieces)
        )
        stage.handle(stage.processor(marks=False))
        (output,) = stage.outputs
        assert (
            output.attributes[LINEAGE]
            == f"0-9/9>0-4/4:0123abcd>0-4/4:{digest(b'A' + bytes([10]) + b'B' + bytes([10]))}:2"
        )

    def test_a_worker_never_joins_outputs_of_different_runs(self, stage: Stage) -> None:
        parents = (
            Lineage(Span(0, 10, 20)).child(Span(0, 2, 2), "0123abcd"),
            Lineage(Span(10, 20, 20)).child(Span(0, 2, 2), "4567abcd"),
        )
        stage.publish(*(Message(b"a\n", {SOURCE: "s", LINEAGE: str(one)}) for one in parents))
        stage.handle(stage.processor(marks=False))
        assert stage.runs == [1, 1]

    def test_a_worker_stops_joining_when_a_batch_is_full(self, stage: Stage) -> None:
        stage.publish(*neighbours(*[["x", "y"]] * 7))
        stage.handle(stage.processor(marks=False, batch_size=5))
        assert stage.runs == [6, 6, 2]

    def test_messages_of_different_sources_never_run_together(self, stage: Stage) -> None:
        stage.publish(parcel("a", source="s1"), parcel("b", source="s2"), handmade(b"c\n"))
        stage.handle(stage.processor(marks=False))
        assert stage.runs == [1, 1, 1]
        assert {one.attributes.get(SOURCE): one.body for one in stage.outputs} == {
            "s1": b"A\n",
            "s2": b"B\n",
            None: b"C\n",
        }

    def test_several_runs_go_on_side_by_side(self, stage: Stage, tmp_path: Path) -> None:
        meet = f"""touch {tmp_path}/met.$$
        for _ in $(seq 100); do [ $(ls {tmp_path}/met.* | wc -l) = 2 ] && {{ {UPPER}; exit 0; }}; sleep 0.1; done
        exit 1"""
        stage.publish(parcel("a", source="s1"), parcel("b", source="s2"))
        outcome = stage.handle(stage.processor(meet, workers=2))
        assert (len(outcome.done), outcome.failed) == (2, [])

    def test_messages_that_failed_together_are_each_run_alone_and_only_the_bad_ones_fail(self, stage: Stage) -> None:
        stage.publish(*neighbours(["a"], ["bad"], ["c"]))
        outcome = stage.handle(stage.processor(PICKY, marks=False))
        assert stage.runs == [3, 1, 1, 1]
        assert [one.attributes[LINEAGE].partition(">")[0] for one in stage.outputs] == ["0-2/1000", "6-8/1000"]
        assert (len(outcome.done), outcome.entries) == (3, 2)
        stage.clock.now += 10
        (again,) = stage.receive()
        assert (again.message().body, again.attributes[FAILURES]) == (b"bad\n", "1")

    def test_messages_that_failed_together_are_run_by_all_workers(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.publish(*neighbours(["a"], ["bad"], ["c"]))
        at_once, run = threading.Barrier(3), Runner.run

        @contextmanager
        def meet(runner: Runner, bodies: Iterable[bytes], timeout: float | None = None, **more: int) -> Iterator[Ran]:
            given = list(bodies)
            if len(given) == 1:
                at_once.wait(10)
            with run(runner, given, timeout, **more) as ran:
                yield ran

        monkeypatch.setattr(Runner, "run", meet)
        outcome = stage.handle(stage.processor(PICKY, workers=3, marks=False))
        assert (len(outcome.done), outcome.failed, outcome.entries) == (3, [], 2)


class TestReparcelling:
    def test_more_entries_than_a_batch_become_parcels_of_a_batch_on_the_same_topic(self, stage: Stage) -> None:
        stage.publish(parcel(*"abcdefg", start=100, Theirs="1", First="11,12"))
        outcome = stage.handle(stage.processor(batch_size=3))
        assert stage.runs == []
        assert (len(outcome.done), outcome.cut, outcome.published) == (1, 1, 3)
        parts = sorted((one.message() for one in stage.receive()), key=place)
        assert [(one.body, dict(one.attributes)) for one in parts] == [
            (body, {SOURCE: "s", LINEAGE: span, ENTRIES: entries, "Theirs": "1", "First": first})
            for body, span, entries, first in (
                (b"a\nb\nc\n", "100-106/1000", "3", "11,12"),
                (b"d\ne\nf\n", "106-112/1000", "3", "14,15"),
                (b"g\n", "112-114/1000", "1", "17,18"),
            )
        ]

    def test_parts_are_processed_when_they_come(self, stage: Stage) -> None:
        stage.publish(parcel(*"abcdefg"))
        stage.until_done(stage.processor(batch_size=3))
        assert sorted(stage.runs) == [1, 3, 3]
        assert b"".join(one.body for one in stage.outputs) == b"A\nB\nC\nD\nE\nF\nG\n"

    def test_a_slice_of_an_output_is_cut_further(self, stage: Stage) -> None:
        lineage = Lineage(Span(0, 9, 9)).child(Span(10, 14, 50), "0123abcd")
        stage.publish(Message(b"a\nb\n", {SOURCE: "s", LINEAGE: str(lineage), ENTRIES: "2"}))
        stage.handle(stage.processor(batch_size=1))
        assert sorted(one.attributes[LINEAGE] for one in stage.receive()) == [
            "0-9/9>10-12/50:0123abcd",
            "0-9/9>12-14/50:0123abcd",
        ]

    def test_parts_of_a_message_without_lineage_have_none(self, stage: Stage) -> None:
        stage.publish(Message(b"a\nb\nc", {LINEAGE: "of nothing"}))
        stage.handle(stage.processor(batch_size=2))
        parts = sorted((one.message() for one in stage.receive()), key=lambda one: one.body)
        assert [(one.body, dict(one.attributes)) for one in parts] == [
            (b"a\nb\n", {ENTRIES: "2"}),
            (b"c", {ENTRIES: "1"}),
        ]

    def test_a_part_keeps_the_failures_of_the_message(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b", Failures="1"))
        stage.handle(stage.processor(batch_size=1))
        assert [one.attributes[FAILURES] for one in stage.receive()] == ["1", "1"]

    def test_a_part_that_is_not_published_leaves_only_its_own_message(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = MemoryTopic.publish

        def lose_one(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
            given = list(messages)
            lost = [FailedMessage(one, "Bad", "words", sender_fault=True) for one in given if one.body == b"a\n"]
            kept = publish(topic, [one for one in given if one.body != b"a\n"], delay_seconds=delay_seconds)
            return Published(kept.published, kept.failed + lost)

        stage.publish(parcel("a", "b"), parcel("c", "d", start=50))
        with monkeypatch.context() as patch:
            patch.setattr(MemoryTopic, "publish", lose_one)
            outcome = stage.handle(stage.processor(batch_size=1))
        assert [(one.message().body, reason) for one, reason in outcome.failed] == [(b"a\nb\n", "words")]
        assert [one.message().body for one in outcome.done] == [b"c\nd\n"]


class TestPublishingFails:
    def test_the_input_is_not_done_and_no_failure_is_counted(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.publish(parcel("a"))
        with monkeypatch.context() as patch:
            refuse(patch, stage)
            outcome = stage.handle(stage.processor())
        assert (outcome.done, outcome.published, outcome.entries) == ([], 0, 0)
        ((failed, reason),) = outcome.failed
        assert failed.message().body == b"a\n"
        assert "AccessDenied" in reason
        (again,) = stage.receive()
        assert (again.receive_count, FAILURES in again.attributes) == (2, False)

    def test_messages_that_did_not_get_their_turn_are_not_done_either(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.publish(*(parcel("a", source=f"s{number}") for number in range(30)))
        with monkeypatch.context() as patch:
            refuse(patch, stage)
            outcome = stage.handle(stage.processor())
        assert outcome.done == []
        assert len(stage.runs) < 20
        assert len({one.message_id for one, _ in outcome.failed}) == len(outcome.failed) == 30

    def test_the_next_time_all_is_well(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        stage.publish(parcel("a"))
        refuse(monkeypatch, stage, times=1)
        stage.until_done(stage.processor())
        assert [one.body for one in stage.outputs] == [b"A\n"]

    def test_of_a_message_no_part_of_the_output_may_be_missing(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = MemoryTopic.publish

        def lose_b(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
            given = list(messages)
            lost = [FailedMessage(one, "InternalError", "", sender_fault=False) for one in given if one.body == b"B\n"]
            kept = publish(topic, [one for one in given if one.body != b"B\n"], delay_seconds=delay_seconds)
            return Published(kept.published, kept.failed + lost)

        stage.publish(parcel("a", "b"), parcel("c", source="other"))
        with monkeypatch.context() as patch:
            patch.setattr(MemoryTopic, "publish", lose_b)
            outcome = stage.handle(stage.processor(parcel_size=1))
        assert [(one.message().body, reason) for one, reason in outcome.failed] == [(b"a\nb\n", "InternalError")]
        assert [one.message().body for one in outcome.done] == [b"c\n"]

    @pytest.mark.parametrize("topic", ["in-dead-letter", "output"])
    def test_a_message_is_not_done_before_dead_letter_and_tombstone_are_confirmed(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, topic: str
    ) -> None:
        stage.publish(parcel("a", Failures="1"))
        with monkeypatch.context() as patch:
            refuse(patch, stage, topic)
            outcome = stage.handle(stage.processor(FAILS))
        assert (outcome.done, len(outcome.failed), outcome.dead) == ([], 1, 0)
        assert "AccessDenied" in outcome.failed[0][1]
        assert (stage.handle(stage.processor(FAILS)).dead, len(stage.dead) > 0, len(stage.tombstones) > 0) == (
            1,
            True,
            True,
        )

    def test_a_message_that_is_to_be_delayed_is_not_done_before_its_copy_is_confirmed(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.publish(parcel("a"))
        with monkeypatch.context() as patch:
            refuse(patch, stage, "in")
            assert stage.handle(stage.processor(FAILS)).done == []
        assert len(stage.receive()) == 1


class TestRepeats:
    def test_a_message_that_comes_twice_is_run_once_and_both_are_done(self, stage: Stage) -> None:
        stage.publish(parcel("a"), parcel("a"), parcel("b", start=2))
        outcome = stage.handle(stage.processor())
        assert stage.runs == [1, 1]
        assert (len(outcome.done), outcome.entries) == (3, 2)
        assert not any(stage.input.counts())

    def test_of_a_message_and_its_copy_after_a_failure_the_copy_counts(self, stage: Stage) -> None:
        stage.publish(parcel("bad"), parcel("bad", Failures="1"))
        outcome = stage.handle(stage.processor(PICKY))
        assert (stage.runs, len(outcome.done), len(stage.dead)) == ([1], 2, 1)

    def test_both_are_cut_once(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b"), parcel("a", "b"))
        outcome = stage.handle(stage.processor(batch_size=1))
        assert (len(outcome.done), len(stage.receive())) == (2, 2)

    def test_without_lineage_nobody_knows_and_both_are_run(self, stage: Stage) -> None:
        stage.publish(handmade(), handmade())
        stage.handle(stage.processor())
        assert stage.runs == [4]


class TestTime:
    @staticmethod
    def left(*seconds: float) -> Callable[[], float]:
        """The time that is left: these values, and then the last of them."""
        told = list(seconds)
        return lambda: told.pop(0) if len(told) > 1 else told[0]

    def test_a_message_that_there_is_no_time_for_is_delivered_again_without_a_failure(self, stage: Stage) -> None:
        stage.publish(*(parcel("a", source=f"s{number}") for number in range(5)))
        outcome = stage.handle(stage.processor(), time_left=lambda: 0.0)
        assert (outcome.done, len(outcome.failed), stage.runs) == ([], 5, [])
        assert {reason for _, reason in outcome.failed} == {"there was no time left to run it"}
        assert all(FAILURES not in one.attributes for one in stage.receive())

    def test_what_was_started_is_done(self, stage: Stage) -> None:
        stage.publish(parcel("a", source="s1"), parcel("b", source="s2"))
        outcome = stage.handle(stage.processor(timeout=60), time_left=self.left(100, 100, 100, 40))
        assert (len(outcome.done), len(outcome.failed), outcome.entries) == (1, 1, 1)
        assert len(stage.outputs) == 1

    def test_a_step_that_was_killed_after_its_own_timeout_has_failed(self, stage: Stage) -> None:
        stage.publish(parcel("a", Failures="1"))
        stage.handle(stage.processor("exec sleep 600", timeout=0.3), time_left=lambda: 60.0)
        assert [one.body for one in stage.dead] == [b"a\n"]

    def test_a_run_that_began_late_and_was_cut_off_is_delivered_again_without_a_failure(self, stage: Stage) -> None:
        stage.publish(parcel("a", Failures="1"))
        outcome = stage.handle(stage.processor("exec sleep 600"), time_left=self.left(2, 2, 0.5))
        assert [reason for _, reason in outcome.failed] == ["there was too little time left to run it"]
        (again,) = stage.receive()
        assert again.attributes[FAILURES] == "1"
        assert stage.marks == []

    def test_a_run_that_began_late_and_failed_by_itself_has_failed(self, stage: Stage) -> None:
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor(FAILS), time_left=self.left(100, 100, 30))
        assert (len(outcome.done), outcome.failed) == (1, [])

    def test_a_message_that_hangs_dies_although_it_takes_all_the_time_of_each_invocation(self, stage: Stage) -> None:
        stage.publish(*neighbours(["a"], ["hang"], ["c"]))
        processor = stage.processor(f'if grep hang "$2"; then exec sleep 600; fi; {UPPER}')
        for _ in range(6):
            until = time.monotonic() + 1.0
            stage.handle(processor, time_left=lambda until=until: until - time.monotonic())
            stage.clock.now += 1000
        assert [one.body for one in stage.dead] == [b"hang\n"]
        assert [one.body for one in stage.outputs] == [b"A\n", b"C\n"]
        assert not any(stage.input.counts())

    def test_messages_are_locked_for_as_long_as_the_invocation_may_take(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        refresh = MemoryTopic.refresh_deadline

        def watched(topic: MemoryTopic, messages: Iterable[Pulled], timeout: int = 300) -> list[Pulled]:
            asked.append(timeout)
            return refresh(topic, messages, timeout)

        monkeypatch.setattr(MemoryTopic, "refresh_deadline", watched)
        stage.publish(parcel("a"))
        stage.processor().handle(stage.receive(), lambda: 100.0)
        assert asked == [120]

    def test_what_is_delivered_again_comes_later_each_time_up_to_a_limit(self, stage: Stage) -> None:
        waits = []
        stage.publish(parcel("a"))
        processor = stage.processor()
        for _ in range(9):
            (pulled,) = stage.input.pull(1, 1, 10_000)
            processor.back_off([pulled])
            began = stage.clock.now
            stage.input.pull(1, 1, 10_000)
            waits.append(round(stage.clock.now - began))
            stage.clock.now += stage.deadline + 1
        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (5, 160)


class TestUnreadableAndPassingMessages:
    def test_a_message_that_nobody_can_read_is_a_dead_letter_at_once_as_it_came(self, stage: Stage) -> None:
        pulled = Pulled(
            "id", "handle", 1, Wire("no base64!", {"Encoding": "base64", SOURCE: "s", LINEAGE: "0-4/9", ENTRIES: "1"})
        )
        stage.publish(parcel("a", start=50))
        outcome = stage.processor().handle([pulled, *stage.receive()])
        (letter,) = stage.dead
        assert (letter.body, letter.attributes["Encoding"]) == (b"no base64!", "base64")
        assert "base64" in letter.attributes["Reason"]
        (stone,) = stage.tombstones
        assert (stone.attributes[LINEAGE], stone.attributes[DEAD]) == ("0-4/9", letter.attributes["Reason"])
        assert (len(outcome.done), outcome.dead, [one.body for one in stage.outputs]) == (2, 1, [b"A\n"])

    @pytest.mark.parametrize(("receives", "dead"), [(1, 0), (2, 1)])
    def test_a_body_that_s3_refuses_to_give_is_dead_the_second_time(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, receives: int, dead: int
    ) -> None:
        def refused(*_: object) -> Message:
            raise AwsError("GetObject", "AccessDenied", "no", 403)

        monkeypatch.setattr(MemoryTopic, "read", refused)
        outcome = stage.processor().handle([Pulled("id", "handle", receives, parcel("a"))])
        assert (outcome.dead, len(outcome.failed)) == (dead, 1 - dead)

    def test_s3_being_busy_says_nothing_against_a_message(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        read = MemoryTopic.read

        def busy(topic: MemoryTopic, pulled: Pulled) -> Message:
            if pulled.receive_count > 50:
                raise AwsError("GetObject", "SlowDown", "please", 503)
            return read(topic, pulled)

        monkeypatch.setattr(MemoryTopic, "read", busy)
        outcome = stage.processor().handle(
            [Pulled("1", "1", 99, parcel("a")), Pulled("2", "2", 1, parcel("b", start=50))]
        )
        assert [reason for _, reason in outcome.failed] == ["GetObject failed with SlowDown: please"]
        assert (outcome.dead, [one.body for one in stage.outputs]) == (0, [b"B\n"])

    def test_a_tombstone_of_an_earlier_stage_is_passed_on_as_it_is(self, stage: Stage) -> None:
        stone = Message(b"a\n", {SOURCE: "s", LINEAGE: "0-2/9", ENTRIES: "1", DEAD: "why"})
        stage.publish(stone)
        outcome = stage.handle(stage.processor())
        assert (stage.tombstones, stage.runs, stage.outputs, len(outcome.done)) == ([stone], [], [], 1)


class TestOddOutput:
    @pytest.mark.parametrize(
        "script", ['ln -s /etc/passwd "$4"', 'ln -s /dev/zero "$4"', 'mkfifo "$4"', 'mkdir "$4"', 'ln -s nowhere "$4"']
    )
    def test_an_output_that_is_no_file_fails_its_message_alone(self, stage: Stage, script: str) -> None:
        stage.publish(parcel("odd", Failures="1"), parcel("b", source="other"))
        stage.handle(stage.processor(f'if grep odd "$2"; then {script}; exit 0; fi; {UPPER}'))
        assert [one.body for one in stage.dead] == [b"odd\n"]
        assert [one.body for one in stage.outputs] == [b"B\n"]

    def test_an_output_with_too_long_a_lineage_fails_its_message_alone(self, stage: Stage) -> None:
        lineage = "0-4/9" + ">0-4/4:0123456789abcdef" * 64
        stage.publish(Message(b"odd\n", {SOURCE: "s", LINEAGE: lineage, FAILURES: "1"}), parcel("b", source="other"))
        outcome = stage.handle(stage.processor())
        assert (len(outcome.done), [one.body for one in stage.outputs]) == (2, [b"B\n"])
        assert "at most 64 steps" in stage.dead[0].attributes["Reason"]

    @pytest.mark.parametrize("marks", [True, False])
    def test_what_can_never_be_published_is_a_failed_run(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, marks: bool
    ) -> None:
        publish = MemoryTopic.publish

        def too_large(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
            given = list(messages)
            lost = [
                FailedMessage(one, "MessageError", "too large", sender_fault=True)
                for one in given
                if b"BAD" in one.body
            ]
            kept = publish(topic, [one for one in given if b"BAD" not in one.body], delay_seconds=delay_seconds)
            return Published(kept.published, kept.failed + lost)

        stage.publish(*neighbours(["a"], ["bad"]))
        monkeypatch.setattr(MemoryTopic, "publish", too_large)
        stage.until_done(stage.processor(marks=marks))
        (letter,) = stage.dead
        assert (letter.body, "cannot be published: too large" in letter.attributes["Reason"]) == (b"bad\n", True)
        assert [one.body for one in stage.outputs] == [b"A\n"]

    @pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError(), ValueError("odd")])
    def test_whatever_a_run_does_is_the_failure_of_that_run_alone(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        run = Runner.run

        @contextmanager
        def odd(runner: Runner, bodies: Iterable[bytes], timeout: float | None = None, **more: int) -> Iterator[Ran]:
            given = list(bodies)
            if given == [b"odd\n"]:
                raise error
            with run(runner, given, timeout, **more) as ran:
                yield ran

        monkeypatch.setattr(Runner, "run", odd)
        stage.publish(parcel("odd", Failures="1"), parcel("b", source="other"))
        stage.handle(stage.processor())
        assert type(error).__name__ in stage.dead[0].attributes["Reason"]
        assert [one.body for one in stage.outputs] == [b"B\n"]


class TestNoRoom:
    def test_a_machine_without_room_says_nothing_about_messages_however_often(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise StepError("step", "could not be given a folder", no_room=True)

        stage.publish(parcel("a", Failures="1"), parcel("b", start=50))
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "run", full)
            for _ in range(4):
                outcome = stage.handle(stage.processor())
                assert (outcome.done, len(outcome.failed)) == ([], 2)
        stage.handle(stage.processor())
        assert ([one.body for one in stage.outputs], stage.dead) == ([b"A\n", b"B\n"], [])


def test_nothing_is_nothing(stage: Stage) -> None:
    assert stage.processor().handle([]) == Outcome()


def test_on_lambda_nothing_is_acknowledged_but_a_worker_acknowledges(stage: Stage) -> None:
    stage.publish(parcel("a"))
    stage.processor().handle(stage.receive(), lambda: 100.0)
    assert stage.input.counts().in_flight == 1
    stage.clock.now += 200
    stage.processor(marks=False).handle(stage.receive(), acknowledges=True)
    assert not stage.input.counts().in_flight


def test_every_message_has_exactly_one_outcome(stage: Stage) -> None:
    stage.publish(parcel("old", "older", start=500), parcel("ancient", start=600))
    stage.die()
    stage.publish(
        *neighbours(["a"], ["bad"], ["c"]),
        parcel("a"),
        parcel(*"abcdefghijkl", start=100),
        Message(b"", {SOURCE: "s", LINEAGE: "200-202/1000", ENTRIES: "1", DEAD: "why"}),
        handmade(),
    )
    pulled = stage.receive()
    outcome = stage.processor(PICKY).handle(pulled)
    settled = [one.message_id for one in outcome.done] + [one.message_id for one, _ in outcome.failed]
    assert sorted(settled) == sorted(one.message_id for one in pulled)
    assert (outcome.failed, outcome.cut) == ([], 1)


def test_failures_are_logged_with_what_they_are_about(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.publish(parcel("bad", start=10))
    with caplog.at_level(logging.WARNING):
        stage.handle(stage.processor(PICKY))
    (record,) = caplog.records
    assert (vars(record)["source"], vars(record)["lineage"], vars(record)["failures"]) == ("s", "10-14/1000", "0")
    assert "exited with 3: bad" in record.getMessage()
