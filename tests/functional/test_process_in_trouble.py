"""A processor in trouble: topics that refuse, no time, no room, and outputs that cannot be used."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from parcelq.errors import AwsError, StepError
from parcelq.records.cutting import Parcel
from parcelq.steps.data import Given
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.topics.attributes import FAILURES, FORMAT, HEADER, LINEAGE, SOURCE
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message, Pulled
from parcelq.topics.topic import FailedMessage, Published
from process_stage import FAILS, PICKY, UPPER, Stage, messages_of, neighbours, parcel

pytest_plugins = ["process_stage"]


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


class TestPublishingFails:
    def test_an_input_whose_output_is_not_published_is_not_done_and_has_no_failure(
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

    def test_messages_that_did_not_run_because_a_topic_is_missing_are_not_done_either(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.publish(*(parcel("a", source=f"s{number}") for number in range(30)))
        with monkeypatch.context() as patch:
            refuse(patch, stage)
            outcome = stage.handle(stage.processor())
        assert outcome.done == []
        assert len(stage.runs) < 20
        assert len({one.message_id for one, _ in outcome.failed}) == len(outcome.failed) == 30

    def test_an_input_whose_output_was_not_published_is_processed_the_next_time(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.publish(parcel("a"))
        refuse(monkeypatch, stage, times=1)
        stage.until_done(stage.processor())
        assert [one.body for one in stage.outputs] == [b"A\n"]

    def test_a_message_of_whose_output_a_part_is_missing_is_not_done(
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

    def test_runs_that_were_started_before_time_was_up_are_completed(self, stage: Stage) -> None:
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

    def test_a_message_that_is_delivered_again_comes_later_each_time_up_to_a_limit(self, stage: Stage) -> None:
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


class TestUncuttable:
    """Messages that must be cut, because they have too many entries or failed, but cannot be cut."""

    @pytest.mark.parametrize("failures", [{}, {FAILURES: "1"}])
    def test_a_message_that_can_never_be_cut_is_dead_with_the_reason(
        self, stage: Stage, failures: dict[str, str]
    ) -> None:
        header = base64.b64encode(b"h" * 783_750).decode()
        stage.publish(Message(b"bad\nb\nc\n", {FORMAT: "lines header=1", HEADER: header, **failures}))
        batch = {} if failures else {"batch_size": 2}
        outcome = stage.handle(stage.processor(FAILS, **batch))
        (letter,) = stage.dead
        assert (len(outcome.done), outcome.dead, letter.body) == (1, 1, b"bad\nb\nc\n")
        assert letter.attributes["Reason"].startswith("its parts cannot be read: ")
        assert messages_of(stage.input) == []

    @pytest.mark.parametrize("error", [MemoryError("full"), OSError("full")])
    @pytest.mark.parametrize("failures", [{}, {FAILURES: "1"}])
    def test_a_message_that_cannot_be_cut_now_is_delivered_again_whole(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, failures: dict[str, str], error: Exception
    ) -> None:
        def cut(*_: object) -> Iterator[Parcel]:
            yield Parcel(0, b"bad\n", 1)
            raise error

        stage.publish(parcel("bad", "b", "c", **failures))
        batch = {} if failures else {"batch_size": 2}
        with monkeypatch.context() as patch:
            patch.setattr("parcelq.process.output.cut_for_messages", cut)
            outcome = stage.handle(stage.processor(PICKY, **batch))
        assert (outcome.done, [reason for _, reason in outcome.failed]) == ([], ["its parts cannot be read: full"])
        assert (stage.dead, [one.body for one in messages_of(stage.input)]) == ([], [b"bad\nb\nc\n"])
        stage.until_done(stage.processor(PICKY))
        assert (stage.result, [one.body for one in stage.dead]) == (b"B\nC\n", [b"bad\n"])

    def test_a_message_whose_parts_the_topic_refuses_again_is_dead_with_the_reason(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = MemoryTopic.publish

        def refused(topic: MemoryTopic, messages: Iterable[Message], *, delay_seconds: int = 0) -> Published:
            if topic is not stage.input:
                return publish(topic, messages, delay_seconds=delay_seconds)
            lost = [FailedMessage(one, "InvalidMessageContents", "odd", sender_fault=True) for one in messages]
            return Published(0, lost)

        stage.publish(parcel("a", "b", "c"))
        monkeypatch.setattr(MemoryTopic, "publish", refused)
        assert [reason for _, reason in stage.handle(stage.processor(batch_size=2)).failed] == ["odd"]
        stage.handle(stage.processor(batch_size=2))
        (letter,) = stage.dead
        assert (letter.body, letter.attributes["Reason"]) == (b"a\nb\nc\n", "its parts cannot be published: odd")
        assert len(stage.tombstones) == 1


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
    def test_an_output_that_can_never_be_published_is_a_failed_run(
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
        run_all = Runner.run_all

        def odd(runner: Runner, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
            if any(list(one.bodies) == [b"odd\n"] for one in given):
                raise error
            return run_all(runner, given, timeout)

        monkeypatch.setattr(Runner, "run_all", odd)
        stage.publish(parcel("odd", Failures="1"), parcel("b", source="other"))
        stage.handle(stage.processor())
        assert type(error).__name__ in stage.dead[0].attributes["Reason"]
        assert [one.body for one in stage.outputs] == [b"B\n"]


class TestNoRoom:
    def test_a_machine_without_room_says_nothing_about_messages_however_often(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> list[StepError]:
            return [StepError("step", "could not be given a folder", no_room=True)]

        stage.publish(parcel("a", Failures="1"), parcel("b", start=50))
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "run_all", full)
            for _ in range(4):
                outcome = stage.handle(stage.processor())
                assert (outcome.done, len(outcome.failed)) == ([], 2)
        stage.handle(stage.processor())
        assert ([one.body for one in stage.outputs], stage.dead) == ([b"A\n", b"B\n"], [])
