"""What a processor makes of messages: its output, what runs together, what is cut further."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from parcelq.errors import AwsError, StepError
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.process.apply import Outcome
from parcelq.steps.data import Given
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURES, LINEAGE, SOURCE, WORKFLOW
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.topic import FailedMessage, Published
from process_stage import PICKY, UPPER, Stage, neighbours, parcel, place

pytest_plugins = ["process_stage"]


def handmade(body: bytes = b"a\nb\n") -> Message:
    return Message(body)


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

    def test_output_of_a_message_without_a_workflow_names_none(self, stage: Stage) -> None:
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

    def test_an_empty_output_without_lineage_is_no_message(self, stage: Stage) -> None:
        stage.publish(handmade())
        outcome = stage.handle(stage.processor('> "$4"'))
        assert (stage.outputs, len(outcome.done)) == ([], 1)

    @pytest.mark.parametrize("lineage", ["nonsense", "0-9/9", "{0-1/9,2-3/9}>0-2/2:0123abcd"])
    def test_a_message_with_an_impossible_lineage_is_processed_as_one_without(self, stage: Stage, lineage: str) -> None:
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
        at_once, run_all = threading.Barrier(3), Runner.run_all

        def meet(runner: Runner, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
            if len(list(given[0].bodies)) == 1:
                at_once.wait(10)
            return run_all(runner, given, timeout)

        monkeypatch.setattr(Runner, "run_all", meet)
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

    def test_parts_of_a_message_that_was_cut_are_processed_when_they_come(self, stage: Stage) -> None:
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

    def test_parts_of_a_message_without_lineage_have_no_lineage(self, stage: Stage) -> None:
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

    def test_a_part_that_is_not_published_keeps_only_its_own_message_on_the_topic(
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

    def test_a_message_and_its_copy_that_are_too_large_are_cut_once(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b"), parcel("a", "b"))
        outcome = stage.handle(stage.processor(batch_size=1))
        assert (len(outcome.done), len(stage.receive())) == (2, 2)

    def test_two_equal_messages_without_lineage_are_both_run(self, stage: Stage) -> None:
        stage.publish(handmade(), handmade())
        stage.handle(stage.processor())
        assert stage.runs == [4]


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


def test_processing_no_messages_does_nothing(stage: Stage) -> None:
    assert stage.processor().handle([]) == Outcome()


def test_a_worker_acknowledges_messages_and_the_processor_on_lambda_leaves_that_to_lambda(stage: Stage) -> None:
    stage.publish(parcel("a"))
    stage.processor().handle(stage.receive(), lambda: 100.0)
    assert stage.input.counts().in_flight == 1
    stage.clock.now += 200
    stage.processor(marks=False).handle(stage.receive(), acknowledges=True)
    assert not stage.input.counts().in_flight


def test_every_processed_message_has_exactly_one_outcome(stage: Stage) -> None:
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
