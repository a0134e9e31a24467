"""Runs that fail are counted in the message: delayed, halved, and in the end only bad entries are dead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from parcelq.errors import AwsError, StepError
from parcelq.lineage.lineage import Lineage, digest
from parcelq.process.dead import KILLED
from parcelq.process.marks import Marks
from parcelq.process.plan import Work
from parcelq.steps.data import Given
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.store.folder import FolderStore
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURE, FAILURES, LINEAGE, REASON, SOURCE, WORKFLOW
from parcelq.topics.message import Message
from parcelq.topics.pieces import PIECES, pieces_of
from parcelq.topics.topic import Published
from process_stage import FAILS, PICKY, UPPER, FunctionDied, Stage, neighbours, parcel


@pytest.fixture
def stage(make_step: Callable[..., Path], tmp_path: Path) -> Stage:
    return Stage(make_step, tmp_path)


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Lets runs over a line `kill` take the function down; returns the inputs of all runs."""
    run_all, inputs = Runner.run_all, []

    def dies(runner: Runner, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
        for one in given:
            inputs.append(b"".join(one.bodies))
            if b"kill\n" in inputs[-1]:
                raise FunctionDied
        return run_all(runner, given, timeout)

    monkeypatch.setattr(Runner, "run_all", dies)
    return inputs


def work_of(stage: Stage) -> Work:
    """The message of the input topic, which stays there."""
    (pulled,) = stage.receive()
    stage.input.refresh_deadline([pulled], 0)
    return Work.of(pulled, pulled.message())


def invoke(stage: Stage, *, seconds: float = 30, marks: bool = True, most: int = 10, **rules: object) -> bool:
    """One invocation, whose function may die; then its messages are delivered again when their deadline has passed."""
    pulled = stage.receive(most)
    until = stage.clock.now + seconds
    try:
        stage.handle(stage.processor(PICKY, marks=marks, **rules), pulled, time_left=lambda: until - stage.clock.now)
    except FunctionDied:
        return False
    return True


def until_empty(stage: Stage, most: int = 600, **options: object) -> int:
    """Invocations until the input topic is empty; returns how many functions died."""
    died = 0
    for _ in range(most):
        if not any(stage.input.counts()):
            return died
        if stage.input.counts().visible:
            died += not invoke(stage, **options)  # type: ignore[arg-type]
        else:
            stage.clock.now += 5
    raise AssertionError(f"not done after {most} steps: {stage.input.counts()}")


class TestCounting:
    def test_a_message_that_failed_is_published_again_with_its_failures_and_a_delay(self, stage: Stage) -> None:
        stage.publish(parcel("bad", "good", Theirs="1"))
        outcome = stage.handle(stage.processor(PICKY, back_off_seconds=5))
        assert (len(outcome.done), outcome.failed, outcome.published) == (1, [], 1)
        assert tuple(stage.input.counts()) == (0, 0, 1)
        stage.clock.now += 4
        assert stage.receive() == []
        stage.clock.now += 1
        (again,) = stage.receive()
        assert again.message() == parcel("bad", "good", Theirs="1", Failures="1")
        assert again.receive_count == 1

    @pytest.mark.parametrize(("failures", "delay"), [(0, 5), (1, 10), (2, 20), (7, 640), (8, 900), (10**15, 900)])
    def test_the_delay_doubles_up_to_what_sqs_can_delay(self, stage: Stage, failures: int, delay: int) -> None:
        stage.publish(parcel("bad", **({FAILURES: str(failures)} if failures else {})))
        stage.handle(stage.processor(PICKY, max_failures=10**16))
        began = stage.clock.now
        (again,) = stage.input.pull(1, 1, 10_000)
        assert (stage.clock.now - began, again.attributes[FAILURES]) == (delay, str(failures + 1))

    def test_how_often_a_message_was_received_says_nothing(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b", "c"), parcel("bad", start=50))
        stage.die(20)
        stage.handle(stage.processor(PICKY))
        assert [one.body for one in stage.outputs] == [b"A\nB\nC\n"]
        assert (stage.dead, stage.tombstones) == ([], [])
        stage.clock.now += 10
        (again,) = stage.receive()
        assert (again.message().body, again.attributes[FAILURES]) == (b"bad\n", "1")

    @pytest.mark.parametrize("value", ["many", "-1", "", "1" * 30])
    def test_an_invalid_number_of_failures_counts_as_zero(self, stage: Stage, value: str) -> None:
        pulled = parcel("a")
        stage.publish(Message(pulled.body, {**pulled.attributes, **({FAILURES: value} if value else {})}))
        assert stage.handle(stage.processor()).entries == 1


class TestHalving:
    @pytest.mark.parametrize("entries", [2, 5, 8])
    @pytest.mark.parametrize("marks", [True, False])
    def test_every_bad_entry_ends_alone_and_all_the_good_ones_are_done(
        self, stage: Stage, entries: int, marks: bool
    ) -> None:
        names = [f"good{number}" for number in range(entries)]
        names[entries // 2] = "bad"
        message = parcel(*names, start=100)
        stage.publish(message)
        outcomes = stage.until_done(stage.processor(PICKY, marks=marks))
        good = "".join(f"{name}\n" for name in names if name != "bad").upper().encode()
        assert b"".join(one.body for one in stage.outputs) == good
        (letter,), (stone,) = stage.dead, stage.tombstones
        assert letter.body == b"bad\n"
        start = 100 + message.body.index(b"bad")
        assert stone.attributes[LINEAGE] == f"{start}-{start + 4}/1000"
        spans = [Lineage.parse(one.attributes[LINEAGE]).root for one in [*stage.outputs, letter]]
        spans.sort(key=lambda span: span.start)
        assert (spans[0].start, spans[-1].end) == (100, 100 + len(message.body))
        assert all(one.end == following.start for one, following in pairwise(spans))
        assert (sum(one.entries for one in outcomes), sum(one.dead for one in outcomes)) == (entries - 1, 1)

    def test_a_message_that_failed_twice_is_split_into_halves_with_one_run_left(self, stage: Stage) -> None:
        stage.publish(parcel("a", "bad", "c", "d", "e", Failures="1", First="7,9"))
        outcome = stage.handle(stage.processor(PICKY))
        assert (outcome.cut, outcome.dead) == (1, 0)
        halves = sorted(stage.receive(), key=lambda one: one.attributes[LINEAGE])
        assert [(one.message().body, one.attributes[FAILURES], one.attributes["First"]) for one in halves] == [
            (b"a\nbad\nc\n", "1", "7,9"),
            (b"d\ne\n", "1", "10,12"),
        ]

    def test_of_a_thousand_entries_the_bad_one_is_found_in_about_two_runs_a_round(self, stage: Stage) -> None:
        names = [f"good{number}" for number in range(1000)]
        names[617] = "bad"
        stage.publish(parcel(*names, total=9000))
        stage.until_done(stage.processor(PICKY, batch_size=1000))
        assert b"".join(one.body for one in stage.outputs).count(b"\n") == 999
        assert [one.body for one in stage.dead] == [b"bad\n"]
        assert len(stage.runs) <= 2 + 2 * 10

    def test_halves_and_messages_that_failed_before_run_alone_and_first(self, stage: Stage) -> None:
        stage.publish(*neighbours(["a"], ["b"], ["c"]), parcel("x", "x", "x", start=6, Failures="1"))
        stage.handle(stage.processor(marks=False))
        assert stage.runs == [3, 3]
        assert [one.attributes[LINEAGE].partition(">")[0] for one in stage.outputs] == ["0-6/1000", "6-12/1000"]

    def test_without_halving_a_message_is_dead_as_a_whole(self, stage: Stage) -> None:
        stage.publish(parcel("a", "bad", "c"))
        stage.until_done(stage.processor(PICKY, halving=False))
        assert stage.runs == [3, 3]
        assert [one.body for one in stage.dead] == [b"a\nbad\nc\n"]
        (stone,) = stage.tombstones
        assert (stone.attributes[LINEAGE], stone.entries, stone.body) == ("0-8/1000", 3, b"a\nbad\nc\n")

    def test_a_message_that_may_fail_only_once_is_halved_at_its_first_failure(self, stage: Stage) -> None:
        stage.publish(parcel("a", "bad", "c"))
        stage.until_done(stage.processor(PICKY, max_failures=1))
        assert stage.runs == [3, 2, 1, 1, 1]
        assert [one.body for one in stage.outputs] == [b"A\n", b"C\n"]

    def test_the_attributes_of_others_give_way_where_there_is_no_room(self, stage: Stage) -> None:
        stage.publish(Message(b"a\nbad\nc\n\xff\n", {f"Theirs{number}": "x" for number in range(9)}))
        stage.until_done(stage.processor(PICKY, batch_size=2))
        assert b"".join(sorted(one.body for one in stage.outputs)) == b"A\nC\n\xff\n"
        (letter,) = stage.dead
        assert (letter.body, "exited with 3" in letter.attributes[REASON]) == (b"bad\n", True)
        assert "Theirs0" in letter.attributes


class TestDying:
    def test_a_single_entry_is_a_dead_letter_with_the_reason_and_a_tombstone_with_the_entry(self, stage: Stage) -> None:
        stage.publish(parcel("a", start=10, Failures="1", First="3,4"))
        outcome = stage.handle(stage.processor(FAILS))
        (letter,), (stone,) = stage.dead, stage.tombstones
        reason = "why (step 'step' exited with 3)"
        failure = {"step": "step", "when": "2027-01-15T08:00:00+00:00", "runs": 2, "first": "3,4"}
        assert json.loads(letter.attributes[FAILURE]) == failure
        assert {name: value for name, value in letter.attributes.items() if name != FAILURE} == {
            **parcel("a", start=10).attributes,
            WORKFLOW: "wf@1",
            REASON: reason,
        }
        assert letter.body == stone.body == b"a\n"
        place = {SOURCE: "s", LINEAGE: "10-12/1000", ENTRIES: "1"}
        assert stone.attributes == {**place, DEAD: reason, "First": "3,4", WORKFLOW: "wf@1"}
        assert (len(outcome.done), outcome.failed, outcome.dead, outcome.entries) == (1, [], 1, 0)

    def test_without_lineage_there_is_a_dead_letter_but_no_tombstone(self, stage: Stage) -> None:
        stage.publish(Message(b"a", {FAILURES: "1"}))
        stage.handle(stage.processor(FAILS))
        assert ([one.body for one in stage.dead], stage.tombstones) == ([b"a"], [])


class TestFunctionsThatDie:
    def test_a_killer_beside_good_messages_is_dead_alone_with_its_reason(
        self, stage: Stage, deadly: list[bytes]
    ) -> None:
        stage.publish(*neighbours(*[[f"line{number}"] for number in range(9)], ["kill"], ["bad"]))
        until_empty(stage)
        assert stage.result == b"".join(b"LINE%d\n" % number for number in range(9))
        reasons = {one.body: one.attributes[REASON] for one in stage.dead}
        assert reasons == {b"kill\n": KILLED, b"bad\n": "bad (step 'step' exited with 3)"}
        assert {one.body: one.attributes[DEAD] for one in stage.tombstones} == reasons
        # Without a mark, with a mark that all share, alone once for the first failure, and twice for the last.
        assert sum(b"kill\n" in one for one in deadly) == 5

    def test_a_killer_among_a_thousand_entries_costs_minutes(self, stage: Stage, deadly: list[bytes]) -> None:
        names = [f"good{number}" for number in range(1000)]
        names[617] = "kill"
        stage.publish(parcel(*names, total=9000))
        began = stage.clock.now
        died = until_empty(stage, seconds=300, batch_size=1000)
        assert len(set(stage.result.split(b"\n")[:-1])) == 999
        assert [one.body for one in stage.dead] == [b"kill\n"]
        assert died <= 8
        assert stage.clock.now - began < 45 * 60

    def test_messages_received_before_run_side_by_side_under_one_mark(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put, seen = FolderStore.put, []

        def noted(store: FolderStore, key: str, *parts: bytes, **more: object) -> str:
            seen.append((key, json.loads(parts[0])))
            return put(store, key, *parts, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(FolderStore, "put", noted)
        stage.publish(*(parcel("a", source=f"s{number}") for number in range(5)))
        stage.die()
        stage.publish(parcel("fresh", start=500))
        outcome = stage.handle(stage.processor(), invocation="id-1", time_left=lambda: 100.0)
        assert len(outcome.done) == 6
        ((key, names),) = seen
        assert (key, len(names)) == (f"marks/in/{int(stage.clock.now) + 101}-id1", 5)
        assert stage.marks == []

    def test_a_mark_is_gone_before_anything_is_published(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        marks: list[list[str]] = []
        publish = type(stage.output).publish

        def look(topic: object, messages: Iterable[Message], **more: int) -> object:
            def looked() -> Iterator[Message]:
                for message in messages:
                    marks.append(stage.marks)
                    yield message

            return publish(topic, looked(), **more)  # type: ignore[arg-type]

        stage.publish(parcel("a", "b", Failures="1"), parcel("c", start=50))
        stage.die()
        monkeypatch.setattr(type(stage.output), "publish", look)
        stage.handle(stage.processor())
        assert marks == [[], []]

    def test_a_mark_counts_only_when_its_time_is_over(self, stage: Stage, deadly: list[bytes]) -> None:
        stage.publish(parcel("kill", "good", Failures="1"))  # it can be halved, so one mark would count
        assert not invoke(stage, seconds=30)
        assert len(stage.marks) == 1
        stage.clock.now += 25  # SQS may give a message out twice
        (pulled,) = stage.input.pull(1, 1, 100)
        early = stage.processor()
        deadly.clear()
        stage.clock.now -= 25 + 5  # as if it were still within the time of the invocation
        with pytest.raises(FunctionDied):
            early.handle([pulled], lambda: 100.0)
        assert deadly == [b"kill\ngood\n"]
        assert stage.dead == []

    def test_a_mark_is_deleted_where_only_the_reply_to_its_put_was_lost(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put = FolderStore.put

        def lost(*given: Any, **more: Any) -> str:
            put(*given, **more)
            raise AwsError("PutObject", "RequestTimeout", "no reply", 503)

        stage.publish(parcel("a", Failures="1"))
        monkeypatch.setattr(FolderStore, "put", lost)
        assert len(stage.handle(stage.processor()).failed) == 1
        assert len(stage.marks) == 0

    def test_messages_that_are_done_are_acknowledged_before_a_run_that_kills_the_function(
        self, stage: Stage, deadly: list[bytes]
    ) -> None:
        stage.publish(parcel("kill", Failures="1"), parcel("too", "large", start=50))
        with pytest.raises(FunctionDied):
            stage.handle(stage.processor(batch_size=1))
        assert deadly == [b"kill\n"]
        counts = stage.input.counts()
        assert (counts.visible, counts.in_flight) == (2, 1)  # both parts can be pulled, and only the killer is left

    def test_messages_are_not_run_where_their_marks_cannot_be_put(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object, **__: object) -> str:
            raise AwsError("PutObject", "SlowDown", "please", 503)

        stage.publish(parcel("a", Failures="1"), parcel("b", start=50), parcel("fresh", start=90))
        monkeypatch.setattr(FolderStore, "put", refused)
        outcome = stage.handle(stage.processor())
        assert [one.body for one in stage.outputs] == [b"B\n", b"FRESH\n"]
        assert [reason for _, reason in outcome.failed] == [
            "its mark could not be written: PutObject failed with SlowDown: please"
        ]

    def test_only_messages_that_were_received_before_wait_where_marks_cannot_be_read(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object) -> Iterator[str]:
            raise AwsError("ListObjectsV2", "SlowDown", "please", 503)

        stage.publish(parcel("a"))
        stage.die()
        stage.publish(parcel("fresh", start=90))
        monkeypatch.setattr(FolderStore, "keys", refused)
        outcome = stage.handle(stage.processor())
        assert [one.body for one in stage.outputs] == [b"FRESH\n"]
        assert len(outcome.failed) == 1

    def test_a_good_entry_on_its_last_run_survives_a_function_that_died_of_something_else(self, stage: Stage) -> None:
        stage.publish(parcel("a", Failures="1"))
        stage.die()
        Marks(stage.store, "in").put([work_of(stage)], "other", stage.clock.now - 100, alone=True)
        stage.until_done(stage.processor())
        assert (stage.result, stage.dead) == (b"A\n", [])

    def test_a_good_entry_survives_a_mark_that_could_not_be_deleted(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object) -> None:
            raise AwsError("DeleteObjects", "AccessDenied", "no", 403)

        def lost(topic: object, messages: Iterable[Message], **_: int) -> Published:
            if list(messages):
                raise AwsError("SendMessageBatch", "AccessDenied", "no", 403)
            return Published(0, [])

        stage.publish(parcel("a", Failures="1"))
        with monkeypatch.context() as patch:
            patch.setattr(FolderStore, "delete", refused)
            patch.setattr(type(stage.output), "publish", lost)
            assert stage.handle(stage.processor(), time_left=lambda: 30.0).done == []
        assert len(stage.marks) == 1
        stage.clock.now += 100
        stage.until_done(stage.processor())
        assert (stage.result, stage.dead) == (b"A\n", [])

    def test_any_invocation_that_finds_old_marks_deletes_them(self, stage: Stage) -> None:
        stage.publish(parcel("a"))
        stage.die()
        marks = Marks(stage.store, "in")
        marks.put([work_of(stage)], "old", stage.clock.now - 90_000, alone=False)
        recent = marks.put([work_of(stage)], "recent", stage.clock.now - 10, alone=False)
        stage.handle(stage.processor())
        assert stage.marks == [recent]

    def test_a_killed_message_loses_its_marks_when_its_failure_is_published(
        self, stage: Stage, deadly: list[bytes]
    ) -> None:
        stage.publish(parcel("kill", "b", Failures="1"))
        assert not invoke(stage)
        stage.clock.now += 60
        assert invoke(stage)
        assert (stage.marks, len(deadly)) == ([], 1)
        assert sorted(one.attributes[FAILURES] for one in stage.receive()) == ["1", "1"]


class TestWithoutAStore:
    def test_a_message_whose_worker_died_counts_as_failed_and_its_killer_dies_alone(
        self, stage: Stage, deadly: list[bytes]
    ) -> None:
        """On a topic that delivers messages twice at the most, as `topics create` makes them."""
        stage.input = stage.topic("in", max_receive_count=2, dead_letter_topic=stage.dead_letters)
        stage.publish(*neighbours(["a", "b", "kill", "d"], ["e"]))
        until_empty(stage, marks=False)
        assert stage.result == b"A\nB\nD\nE\n"
        (letter,) = stage.dead  # a single entry is run the last time it comes, so SQS moves it when that run dies
        assert letter.body == b"kill\n"

    def test_a_single_entry_that_was_received_before_dies_only_of_a_run_that_failed(self, stage: Stage) -> None:
        stage.publish(parcel("a", Failures="1"), parcel("bad", start=50, Failures="1"))
        stage.die(3)
        stage.until_done(stage.processor(PICKY, marks=False))
        assert [one.body for one in stage.outputs] == [b"A\n"]
        assert [one.attributes[REASON] for one in stage.dead] == ["bad (step 'step' exited with 3)"]

    def test_without_halving_a_good_message_does_not_die_of_being_received(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b"))
        stage.die()
        stage.until_done(stage.processor(marks=False, halving=False))
        assert ([one.body for one in stage.outputs], stage.dead) == ([b"A\nB\n"], [])


REJECTING = r"""awk -v out="$4" -v rejects="$6" '
BEGIN { printf "" > out }
/bad/ { printf "{\"entry\": %d, \"after\": %d, \"reason\": \"bad line: %s\"}\n", NR - 1, written, $0 > rejects; next }
{ print toupper($0) > out; print "more" > out; written += 2 }' "$2" """
"""Names its bad entries; writes two lines for each of the others."""
WITHOUT_AFTER = REJECTING.replace(r"\"after\": %d, ", "").replace("NR - 1, written, $0", "NR - 1, $0")


class TestRejects:
    def test_on_the_last_stage_one_packed_message_has_all_good_parts_and_all_dead_entries(self, stage: Stage) -> None:
        stage.last = True
        stage.publish(parcel("a", "b", "bad1", "c", "bad2", "bad3", start=100))
        outcome = stage.handle(stage.processor(REJECTING, rejects=True))
        (packed,) = stage.tombstones
        assert (packed.attributes[SOURCE], packed.attributes[WORKFLOW], packed.entries) == ("s", "wf@1", 9)
        assert PIECES in packed.attributes
        first, second = b"A\nmore\nB\nmore\n", b"C\nmore\n"
        reason = "bad line: bad"
        assert [(one.lineage, one.body, one.entries, one.dead) for one in pieces_of(packed)] == [
            (f"100-104/1000>0-14/14:{digest(first)}:2", first, 4, ""),
            ("104-109/1000", b"bad1\n", 1, reason + "1"),
            (f"109-111/1000>0-7/7:{digest(second)}:1", second, 2, ""),
            ("111-116/1000", b"bad2\n", 1, reason + "2"),
            ("116-121/1000", b"bad3\n", 1, reason + "3"),
        ]
        letters = {one.body: one for one in stage.dead}
        assert {body: one.attributes[REASON] for body, one in letters.items()} == {
            b"bad%d\n" % number: f"{reason}{number}" for number in (1, 2, 3)
        }
        assert letters[b"bad2\n"].attributes[LINEAGE] == "111-116/1000"
        assert (len(outcome.done), outcome.entries, outcome.dead) == (1, 3, 3)
        assert stage.runs == [6]

    def test_before_another_stage_good_parts_are_messages_of_their_own(self, stage: Stage) -> None:
        stage.publish(parcel("a", "bad1", "c"))
        stage.handle(stage.processor(REJECTING, rejects=True, parcel_size=1))
        assert [(one.body, one.attributes[LINEAGE].partition(">")[0]) for one in stage.outputs] == [
            (b"A\n", "0-2/1000"),
            (b"more\n", "0-2/1000"),
            (b"C\n", "7-9/1000"),
            (b"more\n", "7-9/1000"),
        ]
        (packed,) = stage.tombstones
        assert [(one.lineage, one.dead) for one in pieces_of(packed)] == [("2-7/1000", "bad line: bad1")]

    def test_without_the_place_in_the_output_good_parts_are_run_again_without_a_failure(self, stage: Stage) -> None:
        stage.publish(parcel("a", "b", "bad1", "c"))
        stage.until_done(stage.processor(WITHOUT_AFTER, rejects=True))
        assert stage.runs == [4, 2, 1]
        assert b"".join(one.body for one in stage.outputs) == b"A\nmore\nB\nmore\nC\nmore\n"
        assert [one.body for one in stage.dead] == [b"bad1\n"]

    def test_a_run_of_nothing_but_bad_entries_is_done(self, stage: Stage) -> None:
        stage.last = True
        stage.publish(parcel("bad1", "bad2"))
        outcome = stage.handle(stage.processor(REJECTING, rejects=True))
        assert (len(outcome.done), outcome.dead, len(stage.dead), len(stage.tombstones)) == (1, 2, 2, 1)

    def test_neighbours_that_a_worker_joined_are_cut_as_one(self, stage: Stage) -> None:
        stage.last = True
        stage.publish(*neighbours(["a"], ["bad1"], ["c"]))
        outcome = stage.handle(stage.processor(REJECTING, rejects=True, marks=False))
        (packed,) = stage.tombstones
        assert [one.lineage.partition(">")[0] for one in pieces_of(packed)] == ["0-2/1000", "2-7/1000", "7-9/1000"]
        assert (stage.runs, len(outcome.done)) == ([3], 3)

    def test_without_lineage_the_output_stays_whole_and_bad_entries_are_dead_letters(self, stage: Stage) -> None:
        stage.publish(Message(b"a\nbad1\n"))
        stage.handle(stage.processor(REJECTING, rejects=True))
        assert [one.body for one in stage.outputs] == [b"A\nmore\n"]
        assert ([one.body for one in stage.dead], stage.tombstones) == ([b"bad1\n"], [])

    @pytest.mark.parametrize(
        "line",
        [
            '{"entry": 9, "after": 0, "reason": "no such entry"}',
            '{"entry": 0, "after": 99, "reason": "more than there is"}',
            '{"entry": 0, "after": 1, "reason": "output before the first entry"}',
        ],
    )
    def test_rejected_entries_that_are_not_in_the_run_fail_it(self, stage: Stage, line: str) -> None:
        stage.publish(parcel("a", Failures="1"))
        stage.handle(stage.processor(f"{UPPER}; echo '{line}' > \"$6\"", rejects=True))
        (letter,) = stage.dead
        assert "rejects" in letter.attributes[REASON] or "reject" in letter.attributes[REASON]
        assert stage.outputs == []
