"""Pulling, acknowledging and resetting deadlines; long polls end at once here and move a clock instead."""

from __future__ import annotations

import math
import threading

import pytest
from parcelq.errors import AwsError, InvalidValueError, TopicNotFoundError
from parcelq.limits import MAX_DEADLINE_SECONDS
from parcelq.topics.attributes import ENTRIES, SOURCE
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic
from sqs_calls import acknowledge, pull, refresh_deadline


@pytest.fixture
def fill(sqs, topic):
    """Puts a number of messages on the topic."""

    def send(many: int) -> None:
        for start in range(0, many, 10):
            entries = [{"Id": str(n), "MessageBody": f"{n}\n"} for n in range(start, min(many, start + 10))]
            sqs.send_message_batch(QueueUrl=topic, Entries=entries)

    return send


@pytest.fixture
def take(sqs, topic, clock, polls):
    """Pulls with the clock of the tests."""

    def call(*args, **options) -> list[Pulled]:
        return pull(sqs, topic, *args, **options, clock=clock, sleep=clock.sleep)

    return call


@pytest.fixture
def arrive(sqs, topic, polls):
    """Lets messages arrive just before the poll of that number, counted from 0."""

    def plan(*arrivals: int) -> None:
        def hook(**_) -> None:
            for _ in range(arrivals.count(len(polls))):
                sqs.send_message(QueueUrl=topic, MessageBody="late")

        sqs.meta.events.register_first("before-parameter-build.sqs.ReceiveMessage", hook)

    return plan


def failure(number: int, *, sender: bool) -> dict:
    return {"Id": str(number), "Code": "Code", "Message": "words", "SenderFault": sender}


class TestPull:
    def test_messages_are_pulled_as_they_were_published(self, take, topic, publish_raw):
        message = Message(b"a\0b\n", {ENTRIES: "1", SOURCE: "s"})
        publish_raw(topic, message)
        (pulled,) = take()
        assert pulled.message() == message
        assert pulled.receive_count == 1

    def test_a_topic_gives_no_message_for_a_while_when_too_many_are_locked(self, take, fill, requests, clock):
        fill(3)
        requests.refuse("ReceiveMessage", "OverLimit", status=403, times=2)
        assert take(receive_message_timeout=0) == []
        assert len(take(receive_message_timeout=45)) == 3
        assert clock.slept == [0.0, 1.0]  # not one request after another

    def test_a_pulled_message_says_how_often_it_was_received(self, take, sqs, topic, publish_raw):
        publish_raw(topic, Message(b"a"))
        for count in (1, 2, 3):
            (pulled,) = take()
            assert pulled.receive_count == count
            refresh_deadline(sqs, topic, [pulled], 0)

    @pytest.mark.parametrize("timeout", [0, 0.25, 1, 1.5, 19.9, 20, 20.5, 45, 300])
    def test_pulling_from_an_empty_topic_waits_exactly_for_its_timeout(self, take, clock, polls, timeout):
        began = clock()
        assert take(receive_message_timeout=timeout) == []
        assert clock() - began == pytest.approx(timeout, abs=0.01)
        assert all(0 <= wait <= 20 for wait in polls)
        assert len(polls) <= math.ceil(timeout / 20) + 2  # so no waiting by asking again and again

    @pytest.mark.parametrize(("timeout", "wanted"), [(0, [0]), (7, [7]), (20, [20]), (45, [20, 20, 5])])
    def test_pulling_waits_for_whole_seconds_in_as_few_polls_as_possible(self, take, polls, timeout, wanted):
        take(receive_message_timeout=timeout)
        assert polls == wanted

    def test_time_before_the_first_request_does_not_shorten_its_poll(self, take, clock, polls, monkeypatch):
        ticks = iter(range(10**6))
        monkeypatch.setattr(type(clock), "__call__", lambda self: self.now + next(ticks) * 1e-5)
        assert take(receive_message_timeout=20) == []
        assert polls[0] == 20

    def test_pulling_returns_as_soon_as_there_are_enough_messages(self, take, fill, clock):
        fill(3)
        began = clock()
        assert len(take(3, 10, 300)) == 3
        assert clock() == began

    def test_pulling_goes_on_after_an_empty_poll(self, take, arrive, clock, polls):
        arrive(4)
        began = clock()
        assert len(take(1, 10, 300)) == 1
        assert clock() - began == 80

    def test_pulling_goes_on_until_there_are_as_many_messages_as_wanted(self, take, fill, arrive, polls):
        fill(2)
        arrive(3, 5)
        assert len(take(4, 10, 300)) == 4

    def test_after_the_timeout_pull_returns_the_messages_so_far(self, take, fill, clock):
        fill(2)
        began = clock()
        assert len(take(3, 10, 30)) == 2
        assert clock() - began == pytest.approx(30, abs=0.01)

    def test_a_message_that_comes_in_the_last_moment_is_returned(self, take, arrive, polls):
        arrive(1)
        assert len(take(1, 10, 0.5)) == 1

    def test_pulling_with_a_timeout_of_zero_makes_one_request(self, take, fill, requests):
        assert take(1, 10, 0) == []
        assert len(requests.of("ReceiveMessage")) == 1
        fill(1)
        assert len(take(1, 10, 0)) == 1

    @pytest.mark.parametrize("most", [1, 7, 10, 11, 25])
    def test_pulling_never_returns_more_messages_than_wanted(self, take, fill, sqs, topic, most):
        fill(30)
        assert len(take(1, most, 0)) == most
        left = sqs.get_queue_attributes(QueueUrl=topic, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
        assert left == {"ApproximateNumberOfMessages": str(30 - most)}

    def test_pulling_returns_all_messages_there_are_below_the_limit(self, take, fill):
        fill(33)
        assert len({one.message_id for one in take(1, 500, 10)}) == 33

    def test_pulling_asks_only_once_more_where_messages_come_slowly(self, take, fill, requests):
        fill(3)
        assert len(take(1, 100, 0)) == 3
        assert len(requests.of("ReceiveMessage")) == 2

    def test_pulling_asks_for_more_than_ten_messages_in_parallel_requests(self, take, fill, sqs):
        fill(50)
        first = threading.Event()
        together = threading.Barrier(4)

        def meet(**_) -> None:
            if first.is_set():
                together.wait(10)
            first.set()

        sqs.meta.events.register("before-call.sqs.ReceiveMessage", meet)
        assert len(take(1, 50, 10)) == 50

    @pytest.mark.parametrize("numbers", [(0, 10), (-1, 10), (11, 10), (1, 0)])
    def test_numbers_that_do_not_fit_together_are_refused(self, take, requests, numbers):
        with pytest.raises(InvalidValueError, match="min_messages"):
            take(*numbers)
        with pytest.raises(InvalidValueError, match="receive_message_timeout"):
            take(receive_message_timeout=-1)
        assert requests.asked == []

    def test_a_topic_that_is_not_there_is_an_error(self, take, sqs, topic):
        sqs.delete_queue(QueueUrl=topic)
        with pytest.raises(TopicNotFoundError):
            take()


class TestAcknowledge:
    def test_any_number_of_messages_is_acknowledged_in_requests_of_ten(
        self, take, fill, sqs, topic, requests, everything_on
    ):
        fill(25)
        assert acknowledge(sqs, topic, iter(take(25, 25, 10))) == []
        assert sorted(len(asked["Entries"]) for asked in requests.of("DeleteMessageBatch")) == [5, 10, 10]
        sizes = sqs.get_queue_attributes(QueueUrl=topic, AttributeNames=["All"])["Attributes"]
        assert (sizes["ApproximateNumberOfMessages"], sizes["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")

    def test_acknowledging_no_messages_makes_no_request(self, sqs, topic, requests):
        assert acknowledge(sqs, topic, []) == []
        assert requests.asked == []

    def test_acknowledging_returns_the_messages_that_sqs_did_not_delete(self, take, fill, sqs, topic):
        fill(12)
        pulled = take(12, 12, 10)
        stranger = Pulled("id", "no receipt handle", 1, Wire("x", {}))
        assert acknowledge(sqs, topic, [*pulled[:5], stranger, *pulled[5:]]) == [stranger]

    def test_only_acknowledgements_that_failed_by_the_fault_of_the_server_are_tried_again(
        self, take, fill, sqs, topic, requests
    ):
        fill(4)
        pulled = take(4, 4, 10)
        failures = [failure(1, sender=True), failure(2, sender=False), failure(3, sender=False)]
        requests.reply("DeleteMessageBatch", {"Successful": [{"Id": "0"}], "Failed": failures})
        requests.reply("DeleteMessageBatch", {"Successful": [{"Id": "0"}], "Failed": [failure(1, sender=False)]})
        assert acknowledge(sqs, topic, pulled) == [pulled[1]]
        handles = [
            [entry["ReceiptHandle"] for entry in asked["Entries"]] for asked in requests.of("DeleteMessageBatch")
        ]
        assert handles[1:] == [[pulled[2].receipt_handle, pulled[3].receipt_handle], [pulled[3].receipt_handle]]

    def test_messages_whose_acknowledgement_goes_on_failing_are_returned(self, take, fill, sqs, topic, requests):
        fill(2)
        pulled = take(2, 2, 10)
        for _ in range(20):
            requests.reply("DeleteMessageBatch", {"Successful": [{"Id": "1"}], "Failed": [failure(0, sender=False)]})
        assert acknowledge(sqs, topic, pulled) == [pulled[0]]
        assert len(requests.of("DeleteMessageBatch")) == 3

    def test_an_acknowledgement_that_the_server_failed_is_tried_again(self, take, fill, sqs, topic, requests):
        fill(2)
        pulled = take(2, 2, 10)
        requests.refuse("DeleteMessageBatch", "ServiceUnavailable", 503)
        assert acknowledge(sqs, topic, pulled) == []

    @pytest.mark.parametrize(("code", "status", "tries"), [("AccessDenied", 403, 1), ("ServiceUnavailable", 503, 3)])
    def test_an_acknowledgement_that_sqs_refuses_is_an_error(
        self, take, fill, sqs, topic, requests, code, status, tries
    ):
        fill(1)
        pulled = take()
        requests.refuse("DeleteMessageBatch", code, status, times=10)
        with pytest.raises(AwsError, match=code):
            acknowledge(sqs, topic, pulled)
        assert len(requests.of("DeleteMessageBatch")) == tries


class TestRefreshDeadline:
    def test_the_deadline_is_set_for_any_number_in_requests_of_ten(self, take, fill, sqs, topic, requests):
        fill(12)
        assert refresh_deadline(sqs, topic, take(12, 12, 10), 77) == []
        asked = requests.of("ChangeMessageVisibilityBatch")
        assert sorted(len(one["Entries"]) for one in asked) == [2, 10]
        assert {entry["VisibilityTimeout"] for one in asked for entry in one["Entries"]} == {77}

    def test_the_deadline_is_five_minutes_by_default(self, take, fill, sqs, topic, requests):
        fill(1)
        refresh_deadline(sqs, topic, take())
        (asked,) = requests.of("ChangeMessageVisibilityBatch")
        assert asked["Entries"][0]["VisibilityTimeout"] == 300

    def test_a_deadline_of_zero_unlocks_a_message_at_once(self, take, fill, sqs, topic):
        fill(1)
        pulled = take()
        assert take(receive_message_timeout=0) == []
        assert refresh_deadline(sqs, topic, pulled, 0) == []
        assert len(take(receive_message_timeout=0)) == 1

    def test_messages_whose_deadline_could_not_be_set_are_returned(self, take, fill, sqs, topic):
        fill(2)
        stranger = Pulled("id", "no receipt handle", 1, Wire("x", {}))
        assert refresh_deadline(sqs, topic, [*take(2, 2, 10), stranger], 30) == [stranger]

    @pytest.mark.parametrize("timeout", [-1, MAX_DEADLINE_SECONDS + 1])
    def test_more_than_twelve_hours_and_less_than_nothing_are_refused(self, take, fill, sqs, topic, requests, timeout):
        with pytest.raises(InvalidValueError, match="timeout"):
            refresh_deadline(sqs, topic, [], timeout)
        assert requests.asked == []


class TestMessagesThatNeverLeftTheProcess:
    def test_they_are_read_without_a_request_and_need_no_acknowledgement(self, sqs, topic, s3):
        stage = SqsTopic(sqs, topic, Overflow(s3, "bucket"))
        stage.publish([Message(b"sent")])
        (sent,) = stage.pull(1, 1, 5)
        handed = Pulled("1", "handed over: 1", 1, Message(b"handed over"))
        assert stage.read(handed) is handed.content
        assert stage.refresh_deadline([handed]) == []
        assert stage.acknowledge([handed]) == []
        assert stage.counts().in_flight == 1
        assert stage.acknowledge([handed, sent]) == []
        assert stage.counts().in_flight == 0
