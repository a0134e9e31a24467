"""What becomes of messages: nothing is lost, only bad entries die, and nothing is done before it is confirmed."""

from __future__ import annotations

import errno
import logging
import math
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import chain, pairwise, repeat

import pytest
from memory_store import collected_of, result_of
from parcelq.errors import AwsError
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.process import processor as process
from parcelq.process.dead import FAILED_AT, REASON, RECEIVED, STEP
from parcelq.process.processor import Outcome, Processor, Route
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from parcelq.topics.message import (
    ALONE,
    DEAD,
    ENTRIES,
    HALVED,
    LINEAGE,
    RECEIVED_BEFORE,
    SOURCE,
    UNTOLD,
    WORKFLOW,
    Message,
    Pulled,
    Wire,
)
from parcelq.topics.overflow import Overflow
from parcelq.topics.publish import publish_many
from parcelq.topics.pull import acknowledge, refresh_deadline

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
UPPER = 'tr a-z A-Z < "$2" > "$4"'
PICKY = f'if grep bad "$2" >&2; then exit 3; fi; {UPPER}'
"""Fails if any of its entries is bad."""
FAILS = "echo why >&2; exit 3"


class FunctionDied(BaseException):
    """The end of the function in the middle of what it did."""


class Stage:
    """A step between topics, and what a test wants to know of it."""

    def __init__(self, sqs, make_topic, make_step, take, requests, log) -> None:
        self.sqs, self.requests, self.take = sqs, requests, take
        self.make_step, self.log = make_step, log
        self.route = Route(*(make_topic(name) for name in ("in", "out", "dead", "stones")))

    def processor(
        self, script: str = UPPER, *, timeout: float | None = None, workflow: str = "wf", **options
    ) -> Processor:
        path = self.make_step(f'wc -l < "$2" >> {self.log}\n{script}', "step")
        step = Step(path, StepSettings(timeout=timeout), workflow)
        return Processor(self.sqs, self.route, step, now=lambda: WHEN, **{"batch_size": 10, "workers": 1, **options})

    def publish(self, *messages: Message) -> None:
        for message in messages:
            self.sqs.send_message(QueueUrl=self.route.input, **message.wire().request())

    def receive(self, most: float = math.inf) -> list[Pulled]:
        pulled: list[Pulled] = []
        while len(pulled) < most and (
            raw := self.sqs.receive_message(
                QueueUrl=self.route.input,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            ).get("Messages")
        ):
            pulled += map(Pulled.from_sqs, raw)
        return pulled

    def again(self, times: int = 1) -> None:
        """Let messages be received and not settled, as by functions that died."""
        for _ in range(times):
            refresh_deadline(self.sqs, self.route.input, self.receive(), 0)

    def handle(self, processor: Processor, **options) -> Outcome:
        """Receive what is there, process it and settle it as Lambda would; the back-off is over at once."""
        outcome = processor.handle(self.receive(), **options)
        acknowledge(self.sqs, self.route.input, outcome.done)
        refresh_deadline(self.sqs, self.route.input, [one for one, _ in outcome.failed], 0)
        return outcome

    def until_done(self, processor: Processor, most: int = 30) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while not outcomes or outcomes[-1].done or outcomes[-1].failed:
            outcomes.append(self.handle(processor))
            assert len(outcomes) < most
        return outcomes

    @property
    def outputs(self) -> list[Message]:
        """The output topic's messages, in order."""
        return sorted((one.message() for one in self.take(self.route.output)), key=place)

    @property
    def dead(self) -> list[Message]:
        return [one.message() for one in self.take(self.route.dead_letter)]

    @property
    def stones(self) -> list[Message]:
        return [one.message() for one in self.take(self.route.tombstones)]

    @property
    def runs(self) -> list[int]:
        """How many line ends each run of the step got, in order."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    def refuse_publishing(self, times: int = 1000) -> None:
        self.requests.refuse("SendMessageBatch", "AccessDenied", 403, times=times)

    def sent_to(self) -> list[str]:
        """Where each request published to, in order."""
        return [one["QueueUrl"].rpartition("/")[2] for one in self.requests.of("SendMessageBatch")]


def place(message: Message) -> tuple:
    text = message.attributes.get(LINEAGE)
    return (message.attributes[SOURCE], Lineage.parse(text).order) if text else ("", message.body)


@pytest.fixture
def stage(sqs, make_topic, make_step, everything_on, requests, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield Stage(sqs, make_topic, make_step, everything_on, requests, tmp_path / "log")
    assert list(folder.iterdir()) == []  # however processing went


def parcel(*entries: str, start: int = 0, source: str = "s", total: int = 1000, **attributes: str) -> Message:
    body = "".join(f"{one}\n" for one in entries).encode()
    span = Span(start, start + len(body), total)
    return Message(body, {SOURCE: source, LINEAGE: str(Lineage(span)), ENTRIES: str(len(entries)), **attributes})


def neighbours(*parcels: list[str], source: str = "s") -> list[Message]:
    """Parcels one after another in their source."""
    messages: list[Message] = []
    for entries in parcels:
        start = sum(len(one.body) for one in messages)
        messages.append(parcel(*entries, start=start, source=source))
    return messages


def handmade(body: bytes = b"a\nb\n") -> Message:
    return Message(body)


class TestOutput:
    def test_it_has_the_lineage_of_its_input_and_its_own_place_in_the_run(self, stage):
        stage.publish(parcel("a", "b", "c", "d", "e", start=100))
        outcome = stage.handle(stage.processor(parcel_size=2))
        run = digest(b"A\nB\nC\nD\nE\n")
        assert [(one.body, dict(one.attributes)) for one in stage.outputs] == [
            (body, {SOURCE: "s", LINEAGE: f"100-110/1000>{span}/10:{run}", ENTRIES: entries, WORKFLOW: "wf"})
            for body, span, entries in ((b"A\nB\n", "0-4", "2"), (b"C\nD\n", "4-8", "2"), (b"E\n", "8-10", "1"))
        ]
        assert (len(outcome.done), outcome.failed, outcome.entries, outcome.published) == (1, [], 5, 3)

    def test_that_of_several_stages_is_a_chain(self, stage):
        first = Lineage(Span(0, 5, 9)).child(Span(2, 4, 8), "0123abcd")
        stage.publish(Message(b"a\n", {SOURCE: "s", LINEAGE: str(first), ENTRIES: "1", WORKFLOW: "before"}))
        stage.handle(stage.processor())
        (output,) = stage.outputs
        assert output.attributes[LINEAGE] == f"0-5/9>2-4/8:0123abcd>0-2/2:{digest(b'A' + bytes([10]))}"
        assert output.attributes[WORKFLOW] == "wf"

    def test_no_output_is_a_message_without_bytes_so_that_its_input_counts_as_done(self, stage):
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor('> "$4"'))
        (output,) = stage.outputs
        assert output.body == b""
        assert output.attributes == {
            SOURCE: "s",
            LINEAGE: f"0-2/1000>0-0/0:{digest(b'')}",
            ENTRIES: "0",
            WORKFLOW: "wf",
        }
        assert (outcome.entries, outcome.published) == (1, 1)

    def test_more_output_than_input_and_bytes_that_are_no_text_are_fine(self, stage):
        stage.publish(parcel("a"))
        stage.handle(stage.processor(r"""printf 'x\000\n\377\nunended' > "$4" """))
        (output,) = stage.outputs
        assert (output.body, output.entries) == (b"x\0\n\xff\nunended", 3)

    def test_without_a_workflow_none_is_told(self, stage):
        stage.publish(parcel("a"))
        stage.handle(stage.processor(workflow=""))
        assert WORKFLOW not in stage.outputs[0].attributes

    def test_a_message_without_entries_is_run_like_any_other(self, stage):
        stage.publish(Message(b"", {SOURCE: "s", LINEAGE: "0-0/0", ENTRIES: "0"}))
        stage.handle(stage.processor('cat "$2" > "$4"'))
        assert stage.outputs[0].attributes[LINEAGE] == f"0-0/0>0-0/0:{digest(b'')}"

    def test_without_lineage_it_has_none(self, stage):
        stage.publish(handmade(b"a\nb"), Message(b"c\n", {"Theirs": "1"}))
        outcome = stage.handle(stage.processor(parcel_size=2))
        outputs = stage.outputs
        assert sorted(b"".join(one.body for one in outputs).split()) == [b"A", b"B", b"C"]
        assert all(set(one.attributes) == {ENTRIES, WORKFLOW} for one in outputs)
        assert (len(outcome.done), outcome.entries) == (2, 3)

    def test_without_lineage_no_output_is_no_message(self, stage):
        stage.publish(handmade())
        outcome = stage.handle(stage.processor('> "$4"'))
        assert stage.outputs == []
        assert len(outcome.done) == 1

    def test_a_lineage_that_cannot_be_right_counts_as_none(self, stage):
        for lineage in ("nonsense", "0-9/9", "{0-5/9,3-8/9}>0-2/2:0123abcd", "{0-1/9,2-3/9}"):
            stage.publish(Message(b"a\n", {SOURCE: "s", LINEAGE: lineage}))
        outcome = stage.handle(stage.processor())
        assert (len(outcome.done), outcome.failed) == (4, [])
        assert all(LINEAGE not in one.attributes for one in stage.outputs)


class TestRunningTogether:
    def test_neighbours_have_one_span_for_a_parent(self, stage):
        stage.publish(*neighbours(["a"], ["b", "c"], ["d"]))
        outcome = stage.handle(stage.processor())
        assert stage.runs == [4]
        (output,) = stage.outputs
        assert (output.body, output.attributes[LINEAGE]) == (b"A\nB\nC\nD\n", f"0-8/1000>0-8/8:{digest(output.body)}")
        assert (len(outcome.done), outcome.entries, outcome.published) == (3, 4, 1)

    def test_outputs_of_different_runs_run_alone(self, stage):
        first, second = (
            Lineage(Span(start, start + 10, 20)).child(Span(0, 2, 2), run)
            for start, run in ((0, "0123abcd"), (10, "4567abcd"))
        )
        stage.publish(
            Message(b"b\n", {SOURCE: "s", LINEAGE: str(second)}), Message(b"a\n", {SOURCE: "s", LINEAGE: str(first)})
        )
        stage.handle(stage.processor())
        assert stage.runs == [1, 1]
        parents = {str(one.attributes[LINEAGE]).rpartition(">")[0] for one in stage.outputs}
        assert parents == {str(first), str(second)}

    def test_what_has_others_in_between_stays_apart_for_the_order(self, stage):
        stage.publish(parcel("b", start=50), parcel("a", start=10))
        stage.handle(stage.processor())
        assert stage.runs == [1, 1]

    def test_as_many_as_reach_batch_size(self, stage):
        stage.publish(*neighbours(*[["x", "y"]] * 7))
        stage.handle(stage.processor(batch_size=5))
        assert stage.runs == [6, 6, 2]

    def test_messages_of_different_sources_never(self, stage):
        stage.publish(parcel("a", source="s1"), parcel("b", source="s2"), handmade(b"c\n"))
        stage.handle(stage.processor())
        assert stage.runs == [1, 1, 1]
        outputs = {one.attributes.get(SOURCE): one.body for one in stage.outputs}
        assert outputs == {"s1": b"A\n", "s2": b"B\n", None: b"C\n"}

    def test_what_overlaps_or_is_of_different_runs_is_not_mixed(self, stage):
        parent = Lineage(Span(0, 9, 9))
        pieces = [
            Message(body, {SOURCE: "s", LINEAGE: str(parent.child(span, run))})
            for body, span, run in (
                (b"a\nb\n", Span(0, 4, 9), "0123abcd"),
                (b"a\n", Span(0, 2, 9), "0123abcd"),
                (b"c\n", Span(0, 2, 7), "4567abcd"),
            )
        ]
        stage.publish(*pieces)
        outcome = stage.handle(stage.processor())
        assert sorted(stage.runs) == [1, 1, 2]
        parents = {str(Lineage.parse(one.attributes[LINEAGE])).rpartition(">")[0] for one in stage.outputs}
        assert parents == {one.attributes[LINEAGE] for one in pieces}
        assert len(outcome.done) == 3

    def test_several_runs_go_on_together(self, stage, tmp_path):
        """Each waits for the other to have begun."""
        meet = f"""touch {tmp_path}/met.$$
        for _ in $(seq 100); do [ $(ls {tmp_path}/met.* | wc -l) = 2 ] && {{ {UPPER}; exit 0; }}; sleep 0.1; done
        exit 1"""
        stage.publish(parcel("a", source="s1"), parcel("b", source="s2"))
        outcome = stage.handle(stage.processor(meet, workers=2))
        assert (len(outcome.done), outcome.failed) == (2, [])


class TestFailingTogether:
    def test_each_is_run_alone_and_only_the_bad_ones_fail(self, stage):
        stage.publish(*neighbours(["a"], ["bad"], ["c"]))
        outcome = stage.handle(stage.processor(PICKY))
        assert stage.runs == [3, 1, 1, 1]
        assert [one.message().body for one, _ in outcome.failed] == [b"bad\n"]
        assert outcome.failed[0][1] == "step 'step' exited with 3: bad"
        assert sorted(one.message().body for one in outcome.done) == [b"a\n", b"c\n"]
        assert [one.attributes[LINEAGE].partition(">")[0] for one in stage.outputs] == ["0-2/1000", "6-8/1000"]
        assert outcome.entries == 2

    def test_and_then_as_many_at_once_as_there_are_workers(self, stage, monkeypatch):
        stage.publish(*neighbours(["a"], ["bad"], ["c"]))
        at_once = threading.Barrier(3)
        run = Runner.run

        @contextmanager
        def meet(runner, bodies, timeout=None):
            given = list(bodies)
            if len(given) == 1:
                at_once.wait(10)
            with run(runner, given, timeout) as output:
                yield output

        monkeypatch.setattr(Runner, "run", meet)
        outcome = stage.handle(stage.processor(PICKY, workers=3))
        assert (len(outcome.done), len(outcome.failed)) == (2, 1)

    def test_what_failed_before_runs_alone_and_fails_nothing_else(self, stage):
        processor = stage.processor(PICKY, max_receive_count=3)
        stage.publish(parcel("bad"))
        stage.handle(processor)
        stage.publish(parcel("a", start=10), parcel("b", start=20))
        stage.handle(processor)
        assert stage.runs == [1, 1, 1, 1]


class TestHalving:
    @pytest.mark.parametrize("entries", [2, 5, 8])
    def test_every_bad_entry_ends_alone_and_all_the_good_ones_are_done(self, stage, entries):
        names = [f"good{number}" for number in range(entries)]
        names[entries // 2] = "bad"
        message = parcel(*names, start=100)
        stage.publish(message)
        outcomes = stage.until_done(stage.processor(PICKY))
        outputs = stage.outputs
        good = "".join(f"{name}\n" for name in names if name != "bad").upper().encode()
        assert b"".join(one.body for one in outputs) == good
        (letter,) = stage.dead
        assert letter.body == b"bad\n"
        start = 100 + message.body.index(b"bad")
        spans = [Lineage.parse(one.attributes[LINEAGE]).root for one in outputs]
        spans.append(Lineage.parse(letter.attributes[LINEAGE]).span)
        spans.sort(key=lambda span: span.start)
        assert (spans[0].start, spans[-1].end) == (100, 100 + len(message.body))
        assert all(one.end == following.start for one, following in pairwise(spans))
        assert {one.attributes[LINEAGE] for one in stage.stones} == {f"{start}-{start + 4}/1000"}
        assert sum(one.entries for one in outcomes) == entries - 1
        assert sum(one.dead for one in outcomes) == 1
        assert len(outcomes) <= 2 * entries.bit_length() + 4

    @pytest.mark.parametrize(
        ("way", "reason"),
        [
            ("exit 3", "step 'step' exited with 3: why"),
            ("kill -KILL $$", "step 'step' was ended by SIGKILL: why"),
            ("sleep 100", "step 'step' timed out after 1 s and was killed: why"),
            ("the function dies", "function"),
        ],
    )
    def test_of_a_thousand_entries_just_the_bad_one_dies_within_few_runs(self, stage, monkeypatch, way, reason):
        names = [f"good{number}" for number in range(1000)]
        names[617] = "bad"
        message = parcel(*names, total=sum(len(name) + 1 for name in names))
        stage.publish(message)
        run, begun = Runner.run, []

        def counted(runner, bodies, timeout=None):
            given = b"".join(bodies)
            begun.append(given.count(b"\n"))
            if way == "the function dies" and b"bad" in given:
                raise FunctionDied
            return run(runner, [given], timeout)

        monkeypatch.setattr(Runner, "run", counted)
        script = f'if grep -q bad "$2"; then echo why >&2; {way}; fi; {UPPER}'
        processor = stage.processor(script, timeout=1 if "sleep" in way else None, batch_size=1000)
        while pulled := stage.receive(10):
            try:
                outcome = processor.handle(pulled)
            except FunctionDied:
                refresh_deadline(stage.sqs, stage.route.input, pulled, 0)
            else:
                acknowledge(stage.sqs, stage.route.input, outcome.done)
                refresh_deadline(stage.sqs, stage.route.input, [one for one, _ in outcome.failed], 0)
        good = "".join(f"{name}\n" for name in names if name != "bad").upper().encode()
        # Whole messages may have come as well as their halves, and word of a death that was none.
        collected = collected_of([*stage.outputs, *stage.stones])
        assert result_of(collected) == good
        start = message.body.index(b"bad")
        assert [(one.start, one.end) for one in collected.dead()] == [(start, start + 4)]
        resolution = collected.resolve()
        assert resolution.finished
        (letter,) = stage.dead
        assert letter.body == b"bad\n"
        assert reason in letter.attributes[REASON]
        assert begun[0] == 1000
        # The first, two a round, and one more of the last that is left, which is for its reason. A function that dies
        # takes up to nine others with it each time, which are split for that.
        assert len(begun) <= (1 + 2 * math.ceil(math.log2(1000)) + 1) * (10 if way == "the function dies" else 1)

    def test_the_last_time_many_entries_are_not_run_again_but_split_in_halves(self, stage):
        """So the good ones are done even where the bad one takes the whole function down."""
        stage.publish(parcel("a", "b", "c", "d", "e"))
        stage.again()
        outcome = stage.handle(stage.processor())
        assert stage.runs == []
        assert (len(outcome.done), outcome.split, outcome.published, outcome.entries) == (1, 1, 2, 0)
        halves = stage.receive()
        assert sorted((one.message().body, one.attributes[LINEAGE], one.receive_count) for one in halves) == [
            (b"a\nb\nc\n", "0-6/1000", 1),
            (b"d\ne\n", "6-10/1000", 1),
        ]

    def test_halves_run_alone_even_when_fresh(self, stage):
        stage.publish(parcel("a", "b"))
        stage.again()
        stage.handle(stage.processor())
        stage.publish(parcel("y", start=200), parcel("z", start=300))
        stage.handle(stage.processor())
        assert stage.runs == [1, 1, 1, 1]

    def test_how_often_a_message_was_halved_is_told_on_its_parts_alone(self, stage):
        stage.publish(parcel("a", "b", "c", "d"))
        for times in ("1", "2"):
            stage.again()
            stage.handle(stage.processor())
            pulled = stage.receive()
            assert {one.attributes[HALVED] for one in pulled} == {times}
            refresh_deadline(stage.sqs, stage.route.input, pulled, 0)
        stage.until_done(stage.processor(max_receive_count=9))
        assert [HALVED in one.attributes for one in stage.outputs] == [False] * 4

    def test_without_halving_it_dies_whole(self, stage):
        stage.publish(parcel("a", "bad", "c"))
        outcomes = stage.until_done(stage.processor(PICKY, halving=False))
        assert stage.runs == [3, 3]
        assert [one.body for one in stage.dead] == [b"a\nbad\nc\n"]
        assert {(one.attributes[LINEAGE], one.entries) for one in stage.stones} == {("0-8/1000", 3)}
        assert sum(one.dead for one in outcomes) == 1

    def test_where_the_first_time_is_the_last_a_failure_is_halved_at_once(self, stage):
        stage.publish(parcel("a", "bad", "c"))
        stage.until_done(stage.processor(PICKY, max_receive_count=1))
        assert stage.runs == [3, 2, 1, 1, 1]
        assert [one.body for one in stage.outputs] == [b"A\n", b"C\n"]

    def test_halves_that_cannot_be_published_leave_the_message(self, stage):
        stage.publish(parcel("a", "b"))
        stage.again()
        stage.refuse_publishing()
        outcome = stage.handle(stage.processor())
        assert (outcome.done, len(outcome.failed), outcome.split) == ([], 1, 0)


class TestReparcelling:
    def test_more_entries_than_batch_size_become_parcels_of_it_on_the_same_topic(self, stage):
        stage.publish(parcel(*"abcdefg", start=100, Theirs="1"))
        processor = stage.processor(batch_size=3)
        outcome = stage.handle(processor)
        assert stage.runs == []
        assert (len(outcome.done), outcome.split, outcome.published) == (1, 1, 3)
        pieces = sorted((one.message() for one in stage.receive()), key=place)
        assert [(one.body, dict(one.attributes)) for one in pieces] == [
            (body, {SOURCE: "s", LINEAGE: span, ENTRIES: entries, "Theirs": "1"})
            for body, span, entries in (
                (b"a\nb\nc\n", "100-106/1000", "3"),
                (b"d\ne\nf\n", "106-112/1000", "3"),
                (b"g\n", "112-114/1000", "1"),
            )
        ]

    @pytest.mark.parametrize("receives", [0, 1])
    def test_others_attributes_give_way_where_there_is_no_room(self, stage, receives):
        stage.publish(Message(b"a\nbad\nc\n\xff\n", {f"Theirs{number}": "x" for number in range(9)}))
        stage.again(receives)
        stage.until_done(stage.processor(PICKY, batch_size=2))
        assert [one.body for one in stage.outputs] == [b"A\n", b"C\n\xff\n"]
        (letter,) = stage.dead
        assert (letter.body, "exited with 3" in letter.attributes[REASON]) == (b"bad\n", True)
        assert "Theirs0" in letter.attributes

    def test_they_are_processed_when_they_come_round(self, stage):
        stage.publish(parcel(*"abcdefg"))
        stage.until_done(stage.processor(batch_size=3))
        assert sorted(stage.runs) in ([1, 3, 3], [3, 4])
        assert b"".join(one.body for one in stage.outputs) == b"A\nB\nC\nD\nE\nF\nG\n"

    def test_a_slice_of_a_steps_output_is_cut_further(self, stage):
        lineage = Lineage(Span(0, 9, 9)).child(Span(10, 14, 50), "0123abcd")
        stage.publish(Message(b"a\nb\n", {SOURCE: "s", LINEAGE: str(lineage), ENTRIES: "2"}))
        stage.handle(stage.processor(batch_size=1))
        assert sorted(one.attributes[LINEAGE] for one in stage.receive()) == [
            "0-9/9>10-12/50:0123abcd",
            "0-9/9>12-14/50:0123abcd",
        ]

    def test_without_lineage_pieces_have_none(self, stage):
        stage.publish(Message(b"a\nb\nc", {LINEAGE: "of nothing"}))
        stage.handle(stage.processor(batch_size=2))
        pieces = sorted((one.message() for one in stage.receive()), key=lambda one: one.body)
        assert [(one.body, dict(one.attributes)) for one in pieces] == [
            (b"a\nb\n", {ENTRIES: "2"}),
            (b"c", {ENTRIES: "1"}),
        ]

    def test_bytes_that_are_no_text_stay_what_they_are(self, stage):
        stage.publish(Message(b"\0\na\n", {SOURCE: "s", LINEAGE: "0-4/4"}))
        stage.handle(stage.processor(batch_size=1))
        assert sorted(one.message().body for one in stage.receive()) == [b"\0\n", b"a\n"]

    def test_a_piece_that_cannot_be_published_leaves_only_its_own_message(self, stage):
        stage.publish(parcel("a", "b"), parcel("c", "d", start=50))
        failures = [{"Id": "0", "Code": "Bad", "Message": "words", "SenderFault": True}]
        stage.requests.reply("SendMessageBatch", {"Failed": failures})
        outcome = stage.handle(stage.processor(batch_size=1))
        assert [(one.message().body, reason) for one, reason in outcome.failed] == [(b"a\nb\n", "words")]
        assert [one.message().body for one in outcome.done] == [b"c\nd\n"]


class TestDying:
    def test_one_entry_on_its_last_receive_goes_to_the_dead_letter_topic_with_the_reason(self, stage):
        stage.publish(parcel("a", start=10))
        stage.again()
        outcome = stage.handle(stage.processor(FAILS))
        (letter,) = stage.dead
        assert letter.body == b"a\n"
        assert letter.attributes == {
            **parcel("a", start=10).attributes,
            WORKFLOW: "wf",
            REASON: "step 'step' exited with 3: why",
            STEP: "step",
            FAILED_AT: "2026-11-23T12:00:00+00:00",
            RECEIVED: "2",
        }
        assert (len(outcome.done), outcome.failed, outcome.dead, outcome.entries) == (1, [], 1, 0)
        assert stage.receive() == []

    def test_and_a_tombstone_tells_where_results_are_collected(self, stage):
        stage.publish(parcel("a", start=10))
        stage.again()
        stage.handle(stage.processor(FAILS))
        stone = stage.stones[-1]
        reason = "step 'step' exited with 3: why"
        assert (stone.body, stone.entries) == (b"", 1)
        assert stone.attributes == {SOURCE: "s", LINEAGE: "10-12/1000", ENTRIES: "1", DEAD: reason, STEP: "step"}

    def test_its_death_is_told_before_its_last_run_lest_the_function_dies_of_it(self, stage):
        stage.publish(parcel("a"))
        stage.again()
        stage.handle(stage.processor(FAILS))
        assert stage.sent_to() == ["stones", "dead", "stones"]
        assert "before it could tell why" in stage.stones[0].attributes[DEAD]

    def test_a_result_comes_after_the_tombstone_that_was_sent_ahead(self, stage):
        stage.publish(parcel("a"))
        stage.again()
        outcome = stage.handle(stage.processor())
        assert stage.sent_to() == ["stones", "out"]
        assert (len(outcome.done), outcome.dead, stage.dead) == (1, 0, [])

    def test_a_tombstone_that_cannot_be_sent_ahead_keeps_nothing_from_running(self, stage):
        stage.publish(parcel("a"))
        stage.again()
        stage.refuse_publishing(1)
        outcome = stage.handle(stage.processor())
        assert (len(outcome.done), stage.runs) == (1, [1])

    def test_without_lineage_there_is_a_letter_but_no_tombstone(self, stage):
        stage.publish(handmade(b"a"))
        stage.again()
        stage.handle(stage.processor(FAILS))
        assert [one.body for one in stage.dead] == [b"a"]
        assert stage.stones == []

    @pytest.mark.parametrize("passing", [1, 2])
    def test_it_is_not_done_before_letter_and_tombstone_are_confirmed(self, stage, passing):
        stage.publish(parcel("a"))
        stage.again()
        stage.requests.let_pass("SendMessageBatch", passing)  # the tombstone ahead, and perhaps the letter
        stage.refuse_publishing()
        outcome = stage.handle(stage.processor(FAILS))
        assert (outcome.done, len(outcome.failed), outcome.dead) == ([], 1, 0)
        assert "AccessDenied" in outcome.failed[0][1]

    def test_what_nobody_can_read_is_a_dead_letter_at_once_as_it_came(self, stage):
        stage.sqs.send_message(
            QueueUrl=stage.route.input,
            MessageBody="no base64!",
            MessageAttributes={"Encoding": {"DataType": "String", "StringValue": "base64"}},
        )
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor())
        (letter,) = stage.take(stage.route.dead_letter)
        assert letter.wire.text == "no base64!"
        assert letter.attributes["Encoding"] == "base64"
        assert "base64" in letter.attributes[REASON]
        assert stage.stones == []
        assert [one.body for one in stage.outputs] == [b"A\n"]
        assert len(outcome.done) == 2

    def test_what_nobody_can_read_stays_if_it_cannot_be_buried(self, stage):
        pulled = Pulled("id", "handle", 1, Wire("no base64!", {"Encoding": "base64"}))
        stage.refuse_publishing()
        outcome = stage.processor().handle([pulled])
        assert (outcome.done, [one for one, _ in outcome.failed]) == ([], [pulled])

    def test_a_tombstone_on_the_way_is_passed_on_as_it_is(self, stage):
        stone = Message(b"", {SOURCE: "s", LINEAGE: "0-2/9", ENTRIES: "1", DEAD: "why", STEP: "before"})
        stage.publish(stone)
        outcome = stage.handle(stage.processor())
        assert stage.stones == [stone]
        assert (len(outcome.done), stage.runs, stage.outputs) == (1, [], [])

    def test_a_tombstone_that_cannot_be_passed_on_stays(self, stage):
        stage.publish(Message(b"", {SOURCE: "s", LINEAGE: "0-2/9", ENTRIES: "1", DEAD: "why"}))
        stage.refuse_publishing()
        outcome = stage.handle(stage.processor())
        assert (outcome.done, len(outcome.failed)) == ([], 1)


class TestWhatTheFunctionDidNotSurvive:
    """SQS gives a message out oftener than it is run."""

    @pytest.fixture
    def came_after_its_last_time(self, stage):
        stage.publish(*neighbours(["one"], ["two"], ["three"]))
        stage.again(2)

    def test_one_runs_with_nothing_beside_it_after_the_others_went_back(self, stage, came_after_its_last_time):
        fresh = parcel("four", start=500)
        stage.publish(fresh)
        pulled = stage.receive()
        outcome = stage.processor().handle(pulled)
        assert (len(stage.runs), outcome.entries, outcome.returned) == (1, 1, 3)
        assert len(outcome.done) == 4
        # Not only told as done: they are gone, whatever becomes of the function now.
        refresh_deadline(stage.sqs, stage.route.input, pulled, 0)
        back = stage.receive()
        assert sorted(ALONE in one.attributes for one in back if one.receive_count == 1) == [False, True, True]
        assert [one.wire.text for one in back if one.receive_count > 1] == [
            one.wire.text for one in pulled if one.receive_count > 1
        ][:1]

    def test_in_the_end_all_are_done(self, stage, came_after_its_last_time):
        stage.until_done(stage.processor())
        assert [one.body for one in stage.outputs if DEAD not in one.attributes] == [b"ONE\n", b"TWO\n", b"THREE\n"]
        assert stage.dead == []

    def test_a_suspect_that_is_bad_dies_of_its_own_reason(self, stage):
        stage.publish(parcel("bad"))
        stage.again(2)
        stage.handle(stage.processor(PICKY))
        (letter,) = stage.dead
        assert "exited with 3" in letter.attributes[REASON]

    @pytest.mark.parametrize(("receives", "attributes"), [(3, {}), (2, {ALONE: "1"})])
    def test_what_took_it_down_alone_dies_without_another_run(self, stage, receives, attributes):
        stage.publish(parcel("one", **attributes))
        stage.again(receives)
        outcome = stage.handle(stage.processor())
        assert (stage.runs, outcome.dead, len(outcome.done)) == ([], 1, 1)
        (letter,) = stage.dead
        assert (letter.attributes[REASON], ALONE in letter.attributes) == (UNTOLD, False)
        (stone,) = stage.stones
        assert stone.attributes[DEAD] == UNTOLD

    def test_what_cannot_be_acknowledged_stops_nothing(self, stage, came_after_its_last_time, caplog):
        pulled = stage.receive()
        stage.requests.refuse("DeleteMessageBatch", "AccessDenied", 403)
        outcome = stage.processor().handle(pulled)
        assert (outcome.entries, len(outcome.done)) == (1, 3)
        assert "could not be acknowledged" in caplog.text

    def test_what_cannot_be_given_back_stays(self, stage, came_after_its_last_time):
        pulled = stage.receive()
        stage.refuse_publishing(1)
        outcome = stage.processor().handle(pulled)
        assert (outcome.entries, len(outcome.done), len(outcome.failed)) == (1, 1, 2)


class TestBackOff:
    def seconds_of(self, stage) -> list[int]:
        asked = stage.requests.of("ChangeMessageVisibilityBatch")
        return [entry["VisibilityTimeout"] for one in asked for entry in one["Entries"]]

    @pytest.mark.parametrize(
        ("receives", "least", "most"),
        [(1, 2, 7), (2, 5, 15), (4, 20, 60), (7, 160, 480), (12, 900, 900), (2000, 900, 900)],
    )
    def test_a_failed_message_comes_again_after_seconds_the_longer_the_oftener_it_failed(
        self, stage, receives, least, most
    ):
        pulled = Pulled("id", "handle", receives, Wire("a\n", {}))
        outcome = stage.processor(FAILS, max_receive_count=10_000).handle([pulled])
        assert [one for one, _ in outcome.failed] == [pulled]
        (seconds,) = self.seconds_of(stage)
        assert least <= seconds <= most

    def test_how_soon_can_be_told(self, stage):
        stage.processor(FAILS, back_off_seconds=100).handle([Pulled("id", "handle", 1, Wire("a\n", {}))])
        assert 50 <= self.seconds_of(stage)[0] <= 150

    def test_many_are_set_together(self, stage):
        stage.publish(*[parcel("bad", start=start) for start in range(0, 120, 10)])
        stage.processor(PICKY).handle(stage.receive())
        assert [len(one["Entries"]) for one in stage.requests.of("ChangeMessageVisibilityBatch")] == [10, 2]

    def test_what_is_done_has_none(self, stage):
        stage.publish(*neighbours(["a"], ["bad"]))
        stage.processor(PICKY).handle(stage.receive())
        assert len(self.seconds_of(stage)) == 1

    def test_one_that_cannot_be_set_is_told_and_no_error(self, stage, caplog):
        stage.publish(parcel("bad"))
        stage.requests.refuse("ChangeMessageVisibilityBatch", "AccessDenied", 403)
        outcome = stage.processor(PICKY).handle(stage.receive())
        assert len(outcome.failed) == 1
        assert "back-off could not be set: " in caplog.text
        stage.processor(PICKY).handle([Pulled("id", "of nothing", 1, Wire("bad\n", {}))])
        assert "back-off could not be set for 1 of 1 messages" in caplog.text


class TestTimeRunningOut:
    def left(self, *seconds: float):
        """Tells these one after another, and the last for ever."""
        told = chain(seconds, repeat(seconds[-1]))
        return lambda: next(told)

    def test_what_was_not_started_goes_back_without_having_used_up_a_receive(self, stage):
        stage.publish(*[parcel("a", start=start, source=f"s{start}") for start in range(0, 24, 2)])
        stage.again(2)
        requests_before = len(stage.requests.asked)
        outcome = stage.handle(stage.processor(max_receive_count=9), time_left=lambda: 0.0)
        assert (len(outcome.done), outcome.failed, outcome.returned, outcome.entries) == (12, [], 12, 0)
        assert stage.runs == []
        assert stage.outputs == []
        sent = [name for name, _ in stage.requests.asked[requests_before:] if name == "SendMessageBatch"]
        assert len(sent) == 2  # not one by one, for time is short
        back = stage.receive()
        # Nor are those forgotten that it had used up, or what hangs in the end of a busy topic would never die.
        assert [one.receive_count for one in back] == [3] * 12
        assert {one.attributes[RECEIVED_BEFORE] for one in back} == {"2"}
        assert sorted(one.message().attributes[SOURCE] for one in back) == sorted(f"s{n}" for n in range(0, 24, 2))

    def test_what_was_started_is_done(self, stage):
        stage.publish(parcel("a", source="s1"), parcel("b", source="s2"))
        outcome = stage.handle(stage.processor(timeout=60), time_left=self.left(100, 100, 40))
        assert (len(outcome.done), outcome.returned, outcome.entries) == (2, 1, 1)
        assert len(stage.outputs) == 1
        assert len(stage.receive()) == 1

    def test_it_goes_back_exactly_as_it_was(self, stage):
        message = Message(b"\0\n", {SOURCE: "s", LINEAGE: "0-2/2", ENTRIES: "1", HALVED: "3", "Theirs": "1"})
        stage.publish(message)
        stage.handle(stage.processor(), time_left=lambda: 0.0)
        assert [one.message() for one in stage.receive()] == [message]

    def test_what_cannot_be_sent_back_stays(self, stage):
        stage.publish(parcel("a"))
        stage.refuse_publishing()
        outcome = stage.handle(stage.processor(), time_left=lambda: 0.0)
        assert (outcome.done, len(outcome.failed), outcome.returned) == ([], 1, 0)

    def test_a_step_that_had_its_time_is_killed_and_has_failed(self, stage):
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor("exec sleep 600", timeout=0.3), time_left=lambda: 60.0)
        ((_, reason),) = outcome.failed
        assert "timed out after 0.3 s" in reason

    def test_a_step_that_began_early_and_is_not_done_in_time_has_failed(self, stage):
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor("exec sleep 600"), time_left=lambda: 0.5)
        assert len(outcome.failed) == 1

    def test_a_step_that_began_late_goes_back_unharmed(self, stage):
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor("exec sleep 600"), time_left=self.left(2, 0.5))
        assert (outcome.failed, outcome.returned) == ([], 1)
        (back,) = stage.receive()
        assert (back.receive_count, back.attributes[HALVED]) == (1, "0")  # so that it runs alone and first

    def test_what_hangs_in_a_group_dies_although_each_time_it_takes_all_the_time(self, stage):
        stage.publish(*neighbours(["a"], ["hang"], ["c"]))
        hangs = f'if grep hang "$2"; then exec sleep 600; fi; {UPPER}'
        processor = stage.processor(hangs)
        for _ in range(8):
            until = time.monotonic() + 1.0
            stage.handle(processor, time_left=lambda until=until: until - time.monotonic())
        assert [one.body for one in stage.dead] == [b"hang\n"]
        assert [one.body for one in stage.outputs if DEAD not in one.attributes] == [b"A\n", b"C\n"]
        assert stage.receive() == []

    def test_two_that_fit_alone_but_not_together_are_done(self, stage):
        stage.publish(*neighbours(["a"], ["b"]))
        processor = stage.processor(f'for _ in $(cat "$2"); do sleep 0.6; done; {UPPER}')
        for _ in range(6):
            until = time.monotonic() + 1.0
            stage.handle(processor, time_left=lambda until=until: until - time.monotonic())
        assert [one.body for one in stage.outputs] == [b"A\n", b"B\n"]
        assert (stage.dead, stage.receive()) == ([], [])

    def test_a_step_that_began_late_and_failed_by_itself_has_failed(self, stage):
        stage.publish(parcel("a"))
        outcome = stage.handle(stage.processor(FAILS), time_left=self.left(100, 30))
        assert (len(outcome.failed), outcome.returned) == (1, 0)


class TestPublishingFails:
    def test_the_input_is_not_done(self, stage):
        stage.publish(parcel("a"))
        stage.refuse_publishing()
        outcome = stage.handle(stage.processor())
        assert (outcome.done, outcome.published, outcome.entries) == ([], 0, 0)
        ((failed, reason),) = outcome.failed
        assert failed.message().body == b"a\n"
        assert "AccessDenied" in reason
        assert [one.receive_count for one in stage.receive()] == [2]

    def test_no_part_of_its_output_may_be_missing(self, stage):
        stage.publish(parcel("a", "b"), parcel("c", source="other"))
        large = """cat "$2" > "$4"; if grep -q a "$2"; then head -c 1100000 /dev/zero | tr '\\0' x >> "$4"; fi"""
        outcome = stage.handle(stage.processor(large))
        ((failed, reason),) = outcome.failed
        assert failed.message().body == b"a\nb\n"
        assert "no bucket was given" in reason
        assert [one.message().body for one in outcome.done] == [b"c\n"]
        assert outcome.entries == 1

    def test_all_that_ran_together_is_not_done(self, stage):
        stage.publish(*neighbours(["a"], ["b"]))
        stage.refuse_publishing()
        assert len(stage.handle(stage.processor()).failed) == 2

    def test_groups_that_did_not_have_their_turn_are_not_done_either(self, stage, monkeypatch):
        monkeypatch.setattr(process, "publish_many", partial(publish_many, requests_in_flight=1))
        messages = [parcel("a", source=f"s{number}") for number in range(30)]
        stage.publish(*messages)
        stage.refuse_publishing()
        outcome = stage.handle(stage.processor())
        assert outcome.done == []
        assert len(stage.runs) < 20
        assert len({one.message_id for one, _ in outcome.failed}) == len(outcome.failed) == 30

    def test_the_next_time_all_is_well(self, stage):
        stage.publish(parcel("a"))
        stage.refuse_publishing(1)
        stage.until_done(stage.processor())
        assert [one.body for one in stage.outputs] == [b"A\n"]

    def test_throttling_is_waited_out(self, stage, monkeypatch):
        monkeypatch.setattr(process, "publish_many", partial(publish_many, sleep=lambda _: None))
        stage.publish(parcel("a"))
        stage.requests.refuse("SendMessageBatch", "RequestThrottled", times=3)
        assert len(stage.handle(stage.processor()).done) == 1


class TestRepeats:
    def test_a_message_that_is_there_twice_is_run_once_and_both_are_done(self, stage):
        stage.publish(parcel("a"), parcel("a"), parcel("b", start=2))
        outcome = stage.handle(stage.processor())
        assert stage.runs == [2]
        assert (len(outcome.done), outcome.entries) == (3, 2)
        assert stage.receive() == []

    def test_or_both_fail(self, stage):
        stage.publish(parcel("bad"), parcel("bad"))
        outcome = stage.handle(stage.processor(PICKY))
        assert stage.runs == [1]
        assert (outcome.done, len(outcome.failed)) == ([], 2)
        assert len(stage.receive()) == 2

    def test_or_both_are_split(self, stage):
        stage.publish(parcel("a", "b"), parcel("a", "b"))
        outcome = stage.handle(stage.processor(batch_size=1))
        assert (len(outcome.done), len(stage.receive())) == (2, 2)

    def test_without_lineage_nobody_knows_and_both_are_run(self, stage):
        stage.publish(handmade(), handmade())
        stage.handle(stage.processor())
        assert stage.runs == [4]


class TestNoRoom:
    """The machine lacks what a run needs: nobody's fault, and nothing to take the function down."""

    @pytest.fixture
    def full(self, monkeypatch):
        def refuse(*_args, **_options):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "mkdtemp", refuse)
            yield patch

    def test_messages_fail_and_others_are_told_all_the_same(self, stage, full):
        stage.publish(*neighbours(["a"], ["b"]), Message(b"x", {"Encoding": "gzip"}))
        outcome = stage.handle(stage.processor())
        assert [reason for _, reason in outcome.failed] == [
            "step 'step' could not be given a folder: No space left on device"
        ] * 2
        assert len(outcome.done) == 1

    def test_at_the_last_time_they_do_not_die_of_it(self, stage, full):
        stage.publish(parcel("a"))
        stage.again()
        outcome = stage.handle(stage.processor())
        assert (outcome.dead, len(outcome.failed)) == (0, 1)
        full.undo()
        assert stage.handle(stage.processor()).entries == 1

    def test_but_with_nothing_beside_them_and_for_that_reason(self, stage, full):
        stage.publish(parcel("a"))
        stage.again(2)
        stage.handle(stage.processor())
        assert [one.attributes[REASON] for one in stage.dead] == [
            "step 'step' could not be given a folder: No space left on device"
        ]


class TestOddOutput:
    @pytest.mark.parametrize(
        "script",
        [
            'ln -s /etc/passwd "$4"',
            'ln -s /proc/self/mem "$4"',
            'ln -s /dev/zero "$4"',
            'mkfifo "$4"',
            'mkdir "$4"',
            'ln -s nowhere "$4"',
        ],
    )
    def test_what_is_no_file_fails_its_message_alone(self, stage, script):
        stage.publish(parcel("odd"), parcel("b", source="other"))
        outcome = stage.handle(stage.processor(f'if grep odd "$2"; then {script}; exit 0; fi; {UPPER}'))
        assert [one.message().body for one, _ in outcome.failed] == [b"odd\n"]
        assert [one.body for one in stage.outputs] == [b"B\n"]

    @pytest.mark.parametrize(
        "attributes",
        [
            {SOURCE: "s", LINEAGE: "0-4/9" + ">0-4/4:0123456789abcdef" * 64},
            {SOURCE: "s" * 1_047_000, LINEAGE: "0-4/9"},
        ],
    )
    def test_what_cannot_be_told_of_fails_its_message_alone(self, stage, attributes):
        odd = Pulled("odd", "handle", 1, Wire("odd\n", attributes))
        stage.publish(parcel("b", source="other"))
        outcome = stage.processor().handle([odd, *stage.receive()])
        assert [one.message_id for one, _ in outcome.failed] == ["odd"]
        assert [one.body for one in stage.outputs] == [b"B\n"]

    def test_what_can_never_be_published_is_a_dead_letter_with_that_reason(self, stage):
        stage.publish(parcel("a"))
        stage.again()
        stage.handle(stage.processor("""head -c 1100000 /dev/zero | tr '\\0' x > "$4" """))
        (letter,) = stage.dead
        assert "put out what cannot be published" in letter.attributes[REASON]
        assert "no bucket was given" in letter.attributes[REASON]


class TestOverflow:
    def test_a_body_in_s3_is_processed_like_any_other(self, stage, overflow):
        wire = overflow.offload(parcel("a", "b").wire())
        stage.sqs.send_message(QueueUrl=stage.route.input, **wire.request())
        outcome = stage.handle(stage.processor(overflow=overflow))
        assert [(one.body, one.attributes[SOURCE]) for one in stage.outputs] == [(b"A\nB\n", "s")]
        assert len(outcome.done) == 1

    def test_large_output_goes_to_s3(self, stage, overflow):
        stage.publish(parcel("a"))
        script = """head -c 1100000 /dev/zero | tr '\\0' x > "$4" """
        assert len(stage.handle(stage.processor(script, overflow=overflow)).done) == 1
        (pulled,) = stage.take(stage.route.output)
        assert overflow.load(pulled).message().body == b"x" * 1_100_000

    def test_a_pointer_to_nothing_is_a_dead_letter(self, stage, overflow):
        wire = overflow.offload(parcel("a").wire())
        overflow.s3.delete_object(Bucket=overflow.bucket, Key=wire.text.split('"')[-2])
        stage.sqs.send_message(QueueUrl=stage.route.input, **wire.request())
        outcome = stage.handle(stage.processor(overflow=overflow))
        assert len(outcome.done) == 1
        (letter,) = stage.take(stage.route.dead_letter)
        assert letter.wire.text == wire.text
        assert "nothing is there" in letter.attributes[REASON]
        (stone,) = stage.stones  # so that its source is finished
        assert (stone.attributes[LINEAGE], stone.entries) == ("0-2/1000", 1)
        assert stone.attributes[DEAD] == letter.attributes[REASON]

    @pytest.mark.parametrize(("receives", "dead"), [(1, 0), (2, 1)])
    def test_a_pointer_that_s3_refuses_dies_at_the_last_time(self, stage, overflow, monkeypatch, receives, dead):
        def refuse(*_):
            raise AwsError("GetObject", "AccessDenied", "no", 403)

        monkeypatch.setattr(Overflow, "load", refuse)
        pulled = Pulled("id", "handle", receives, overflow.offload(parcel("a").wire()))
        outcome = stage.processor(overflow=overflow).handle([pulled])
        assert (outcome.dead, len(outcome.failed)) == (dead, 1 - dead)
        letters = stage.take(stage.route.dead_letter)
        assert [one.attributes[REASON] for one in letters] == ["GetObject failed with AccessDenied: no"] * dead

    def test_s3_refusing_says_nothing_against_the_message(self, stage, overflow, monkeypatch):
        def refuse(*_):
            raise AwsError("GetObject", "SlowDown", "please", 503)

        wire = overflow.offload(parcel("a").wire())
        stage.sqs.send_message(QueueUrl=stage.route.input, **wire.request())
        stage.publish(parcel("b", start=50))
        monkeypatch.setattr(Overflow, "load", lambda self, one: refuse() if one.wire.is_pointer else one)
        outcome = stage.handle(stage.processor(overflow=overflow))
        assert [reason for _, reason in outcome.failed] == ["GetObject failed with SlowDown: please"]
        assert stage.dead == []
        assert [one.body for one in stage.outputs] == [b"B\n"]


def test_nothing_is_nothing(stage):
    stage.requests.asked.clear()
    assert stage.processor().handle([]) == Outcome()
    assert stage.requests.asked == []


def test_handling_itself_acknowledges_nothing(stage):
    stage.publish(*neighbours(["a"], ["bad"], ["c"]))
    stage.processor(PICKY).handle(stage.receive())
    assert "DeleteMessageBatch" not in stage.requests.names()


def test_every_message_has_exactly_one_outcome(stage):
    """All of it in one go: whole, repeated, bad, unreadable, too large for a run, a tombstone, halved, handmade."""
    stage.publish(parcel("old", "older", start=500), parcel("ancient", start=600))
    stage.again()
    stage.publish(
        *neighbours(["a"], ["bad"], ["c"]),
        parcel("a"),
        parcel(*"abcdefghijkl", start=100),
        Message(b"", {SOURCE: "s", LINEAGE: "200-202/1000", ENTRIES: "1", DEAD: "why"}),
        handmade(),
        Message(b"x", {"Encoding": "gzip"}),
    )
    pulled = stage.receive()
    outcome = stage.processor(PICKY).handle(pulled)
    settled = [one.message_id for one in outcome.done] + [one.message_id for one, _ in outcome.failed]
    assert sorted(settled) == sorted(one.message_id for one in pulled)
    assert [one.message().body for one, _ in outcome.failed] == [b"bad\n"]
    assert outcome.split == 2


def test_failures_are_logged_with_what_they_are_about(stage, caplog):
    stage.publish(parcel("bad", start=10))
    with caplog.at_level(logging.WARNING):
        stage.handle(stage.processor(PICKY))
    (record,) = caplog.records
    assert (record.source, record.lineage, record.receive_count) == ("s", "10-14/1000", "1")
    assert "exited with 3: bad" in record.getMessage()
