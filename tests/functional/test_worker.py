"""The worker loop: it goes on until nothing comes, tells what it did, and acknowledges last of all."""

from __future__ import annotations

import pytest
from parcelq.errors import AwsError, InvalidValueError, TopicNotFoundError
from parcelq.lineage.lineage import Lineage, Span
from parcelq.process import worker
from parcelq.process.processor import Outcome, Processor, Route
from parcelq.process.worker import Progress, process
from parcelq.steps.find import Step
from parcelq.topics.lease import Lease
from parcelq.topics.message import ENTRIES, LINEAGE, SOURCE, Message, Pulled, Wire

UPPER = 'tr a-z A-Z < "$2" > "$4"'
SOURCE_OF_ALL = "s3://bucket/inbox/a.txt?put=1"
PICKY = f'if grep bad "$2" >&2; then exit 3; fi; {UPPER}'


@pytest.fixture
def route(make_topic):
    return Route(*(make_topic(name) for name in ("in", "out", "dead", "stones")))


@pytest.fixture
def make_processor(sqs, route, make_step):
    def make(script: str = UPPER, **options) -> Processor:
        return Processor(
            sqs, route, Step(make_step(script)), **{"batch_size": 10, "workers": 1, "back_off_seconds": 0, **options}
        )

    return make


@pytest.fixture
def work(clock, polls):
    """Runs the loop with the clock of the tests until nothing has come for 30 seconds."""

    def run(processor: Processor, **options) -> tuple[int, int]:
        return process(processor, **{"receive_message_timeout": 30, "clock": clock, **options})

    return run


@pytest.fixture
def fill(route, publish_raw):
    """Publishes one entry a message, neighbours in one source."""

    def publish(*entries: str) -> None:
        start = 0
        for entry in entries:
            body = f"{entry}\n".encode()
            lineage = Lineage(Span(start, start + len(body), None))
            publish_raw(route.input, Message(body, {SOURCE: SOURCE_OF_ALL, LINEAGE: str(lineage), ENTRIES: "1"}))
            start += len(body)

    return publish


def test_it_goes_on_until_nothing_has_come_for_so_long(work, make_processor, fill, route, everything_on, clock):
    fill(*"abcdefghijklmno")
    began = clock()
    assert work(make_processor()) == (15, 2)
    assert clock() - began == 30
    assert b"".join(sorted(one.message().body for one in everything_on(route.output))) == b"".join(
        f"{letter}\n".encode() for letter in "ABCDEFGHIJKLMNO"
    )
    assert everything_on(route.input) == []


def test_what_comes_late_is_processed_and_the_wait_begins_anew(work, make_processor, sqs, route, clock, polls):
    def arrive(**_) -> None:
        if len(polls) == 1:
            sqs.send_message(QueueUrl=route.input, MessageBody="late\n")

    sqs.meta.events.register_first("before-parameter-build.sqs.ReceiveMessage", arrive)
    began = clock()
    assert work(make_processor()) == (1, 1)
    assert clock() - began == 20 + 30


def test_an_empty_topic_is_exhausted_after_the_timeout(work, make_processor, clock, polls):
    began = clock()
    assert work(make_processor(), receive_message_timeout=45) == (0, 0)
    assert clock() - began == 45
    assert polls == [20, 20, 5]


def test_without_a_timeout_it_goes_on(work, make_processor, sqs, polls):
    def stop(**_) -> None:
        if len(polls) == 50:
            raise KeyboardInterrupt

    sqs.meta.events.register_first("before-parameter-build.sqs.ReceiveMessage", stop)
    with pytest.raises(KeyboardInterrupt):
        process(make_processor(), clock=lambda: 0.0)


def test_nothing_is_acknowledged_before_what_it_led_to_is_confirmed(work, make_processor, fill, sqs):
    order: list[str] = []
    events = sqs.meta.events
    events.register("before-call.sqs.SendMessageBatch", lambda **_: order.append("publish"))
    events.register("after-call.sqs.SendMessageBatch", lambda **_: order.append("confirmed"))
    events.register("before-call.sqs.DeleteMessageBatch", lambda **_: order.append("acknowledge"))
    fill("a", "bad", "c")
    work(make_processor(PICKY, parcel_size=1))
    assert order.count("publish") == order.count("confirmed")
    under_way = 0
    for event in order:
        under_way += {"publish": 1, "confirmed": -1, "acknowledge": 0}[event]
        assert event != "acknowledge" or under_way == 0
    assert order.index("confirmed") < order.index("acknowledge")


def test_what_could_not_be_published_is_not_acknowledged(work, make_processor, fill, requests, route):
    fill("a")
    requests.refuse("SendMessageBatch", "AccessDenied", 403)
    told: list[Progress] = []
    assert work(make_processor(), on_progress=lambda this, _: told.append(this)) == (1, 2)
    assert [(one.failed, one.messages_processed) for one in told] == [(1, 0), (0, 1)]


def test_progress_is_told_for_each_round_and_in_all(work, make_processor, fill):
    fill(*"abcdefghijklmnopqrst")
    told: list[tuple[Progress, Progress]] = []
    work(make_processor(batch_size=10), on_progress=lambda *one: told.append(one))
    assert [one for one, _ in told] == [Progress(1, 10, 10, 1), Progress(1, 10, 10, 1)]
    assert [one for _, one in told] == [Progress(1, 10, 10, 1), Progress(2, 20, 20, 2)]


def test_bad_entries_die_and_are_counted(work, make_processor, fill, route, everything_on):
    fill("a", "bad", "c")
    told: list[Progress] = []
    work(make_processor(PICKY), on_progress=lambda _, total: told.append(total))
    assert (told[-1].messages_processed, told[-1].entries_processed, told[-1].dead, told[-1].failed) == (3, 2, 1, 1)
    assert [one.message().body for one in everything_on(route.dead_letter)] == [b"bad\n"]


def test_as_many_are_pulled_as_every_run_needs_to_reach_batch_size(work, make_processor, fill, requests):
    fill(*["a"] * 40)
    work(make_processor(batch_size=15, workers=2))
    # Ten in the first round, and in the second thirty, of which two requests go out together.
    assert [one["MaxNumberOfMessages"] for one in requests.of("ReceiveMessage")][:4] == [10, 10, 10, 10]
    assert [one["WaitTimeSeconds"] > 0 for one in requests.of("ReceiveMessage")][:4] == [True, True, False, False]


def test_few_are_pulled_where_one_has_many_entries(work, make_processor, sqs, route, publish_raw, requests):
    for start in range(0, 60, 20):
        lineage = str(Lineage(Span(start, start + 20, None)))
        publish_raw(route.input, Message(b"a\n" * 10, {SOURCE: SOURCE_OF_ALL, LINEAGE: lineage, ENTRIES: "10"}))
    told: list[Progress] = []
    work(make_processor(batch_size=10), on_progress=lambda this, _: told.append(this))
    assert {one["MaxNumberOfMessages"] for one in requests.of("ReceiveMessage")[-2:]} == {1}


def test_messages_are_kept_locked_until_they_are_settled(work, make_processor, fill, requests, route, monkeypatch):
    leases: list[tuple[int, int, bool]] = []
    ended: list[list[str]] = []

    class Watched(Lease):
        def __init__(self, topic, messages, timeout, *, at_once) -> None:
            held = list(messages)
            assert topic.url == route.input
            leases.append((len(held), timeout, at_once))
            super().__init__(topic, held, timeout, at_once=at_once)

        def __exit__(self, *error: object) -> None:
            ended.append(requests.names())
            super().__exit__(*error)

    monkeypatch.setattr(worker, "Lease", Watched)
    fill("a", "b")
    work(make_processor())
    assert leases == [(2, 30, False)]
    assert ended[0][-1] == "DeleteMessageBatch"


def test_failed_messages_are_let_go_so_that_their_back_off_stays(work, make_processor, fill, monkeypatch):
    dropped: list[int] = []
    drop = Lease.drop

    def watched(self: Lease, messages) -> None:
        held = list(messages)
        dropped.append(len(held))
        drop(self, held)

    monkeypatch.setattr(Lease, "drop", watched)
    fill("a", "bad", "c")
    work(make_processor(PICKY))
    assert dropped == [1, 0]


def test_a_back_off_that_the_lease_has_overwritten_is_set_again(work, make_processor, fill, requests, monkeypatch):
    leases: list[Lease] = []
    enter = Lease.__enter__

    def entered(self: Lease) -> Lease:
        leases.append(self)
        return enter(self)

    class Slow(Processor):
        def handle(self, *given) -> Outcome:
            outcome = super().handle(*given)
            leases[-1]._refresh()  # as its thread does when half of the deadline has passed just now
            return outcome

    monkeypatch.setattr(Lease, "__enter__", entered)
    fill("bad")
    slow = make_processor(PICKY, back_off_seconds=4)
    told: list[list[int]] = []

    def tell(*_) -> None:
        asked = requests.of("ChangeMessageVisibilityBatch")
        told.append([one["Entries"][0]["VisibilityTimeout"] for one in asked])

    options = {name: getattr(slow, name) for name in ("batch_size", "workers", "back_off_seconds")}
    work(Slow(slow.sqs, slow.route, slow.step, **options), on_progress=tell)
    before, overwritten, after = told[0]
    assert (before in range(2, 7), overwritten, after in range(2, 7)) == (True, 30, True)


def test_a_round_has_the_time_that_sqs_keeps_its_messages_locked(work, make_processor, fill, clock):
    left: list[float] = []

    class Watched(Processor):
        def handle(self, pulled, time_left) -> Outcome:
            left.append(time_left())
            clock.now += 100
            left.append(time_left())
            return super().handle(pulled, time_left)

    fill("a")
    processor = make_processor()
    assert work(Watched(processor.sqs, processor.route, processor.step)) == (1, 1)
    assert left == [12 * 60 * 60, 12 * 60 * 60 - 100]


def test_a_step_that_hangs_is_killed_when_sqs_would_give_its_message_to_another(
    make_processor, fill, route, everything_on, monkeypatch
):
    monkeypatch.setattr(worker, "MAX_DEADLINE_SECONDS", 1.5)
    fill("a")
    assert process(make_processor("sleep 1000", max_receive_count=1), receive_message_timeout=0) == (1, 2)
    (dead,) = everything_on(route.dead_letter)
    assert "was killed, for its 1." in dead.attributes["Reason"]


def test_what_sqs_does_not_forget_counts_as_failed(work, make_processor, fill, requests):
    fill("a")
    failure = {"Id": "0", "Code": "Code", "Message": "words", "SenderFault": True}
    requests.reply("DeleteMessageBatch", {"Failed": [failure]})
    told: list[Progress] = []
    work(make_processor(), on_progress=lambda this, _: told.append(this))
    assert (told[0].messages_processed, told[0].failed) == (0, 1)


def test_a_topic_that_is_not_there_is_an_error(work, make_processor, sqs, route):
    sqs.delete_queue(QueueUrl=route.input)
    with pytest.raises(TopicNotFoundError):
        work(make_processor())


def test_sqs_refusing_to_give_messages_out_is_an_error(work, make_processor, requests):
    requests.refuse("ReceiveMessage", "AccessDenied", 403)
    with pytest.raises(AwsError, match="AccessDenied"):
        work(make_processor())


def test_a_topic_whose_deadline_cannot_be_kept_is_refused(work, make_processor, sqs, route, fill):
    sqs.set_queue_attributes(QueueUrl=route.input, Attributes={"VisibilityTimeout": "0"})
    fill("a")
    with pytest.raises(InvalidValueError, match="deadline"):
        work(make_processor())


def test_a_round_adds_to_what_was_done():
    one, two = (Pulled("id", name, 1, Wire("a", {})) for name in "12")
    outcome = Outcome(done=[one, two], failed=[(one, "why")], entries=7, published=5, split=1, dead=3)
    progress = Progress(1, 10, 20, 30, 40, 50).plus(outcome, unacknowledged=1)
    assert progress == Progress(2, 11, 27, 35, 42, 53)
