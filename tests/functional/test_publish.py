"""Publishing: requests within SQS's limits, several in flight, and every failure either cured or told."""

from __future__ import annotations

import threading
from itertools import count, pairwise

import pytest
from parcelq.errors import AwsError, MessageError, TopicNotFoundError
from parcelq.limits import MAX_MESSAGE_BYTES
from parcelq.topics.attributes import DEAD, ENTRIES, SOURCE
from parcelq.topics.message import Message, Wire
from parcelq.topics.topic import FailedMessage
from sqs_calls import publish_many, publish_one

FULL = MAX_MESSAGE_BYTES


def request_size(asked: dict) -> int:
    """Bytes of a SendMessageBatch as SQS counts them, found in another way than the library's."""
    size = 0
    for entry in asked["Entries"]:
        size += len(entry["MessageBody"].encode())
        for name, value in entry["MessageAttributes"].items():
            size += len(name.encode()) + len(value["DataType"]) + len(value["StringValue"].encode())
    return size


def failure(number: int, *, sender: bool, code: str = "Code") -> dict:
    return {"Id": str(number), "Code": code, "Message": f"words {number}", "SenderFault": sender}


def numbered(many: int) -> list[Message]:
    return [Message(f"{number}\n".encode(), {ENTRIES: "1"}) for number in range(many)]


def bodies(messages) -> list[bytes]:
    return sorted(one.message().body for one in messages)


class TestOne:
    def test_publishing_a_message_returns_the_id_that_sqs_gave_it(self, sqs, topic, everything_on):
        message_id = publish_one(sqs, topic, Message(b"a\nb\n", {SOURCE: "s"}))
        (pulled,) = everything_on(topic)
        assert (pulled.message_id, pulled.message()) == (message_id, Message(b"a\nb\n", {SOURCE: "s"}))

    def test_a_message_that_cannot_be_sent_is_an_error(self, sqs, topic, requests):
        for message in (
            Message(b"x" * (FULL + 1)),
            Message(b"x", {"A": ""}),
            Message(b"x", {f"A{n}": "1" for n in range(11)}),
        ):
            with pytest.raises(MessageError):
                publish_one(sqs, topic, message)
        assert requests.asked == []

    def test_publishing_one_message_to_a_topic_that_is_not_there_is_an_error(self, sqs, topic):
        sqs.delete_queue(QueueUrl=topic)
        with pytest.raises(TopicNotFoundError, match="topic"):
            publish_one(sqs, topic, Message(b"x"))

    def test_a_message_that_is_too_large_for_sqs_overflows_into_the_bucket(self, sqs, topic, overflow, everything_on):
        publish_one(sqs, topic, Message(b"x" * (FULL + 1)), overflow=overflow)
        (pulled,) = everything_on(topic)
        assert overflow.load(pulled).message().body == b"x" * (FULL + 1)


class TestMany:
    def test_many_messages_arrive_in_requests_as_full_as_possible(self, sqs, topic, requests, everything_on):
        messages = numbered(25)
        assert publish_many(sqs, topic, messages) == (25, [])
        assert sorted(len(asked["Entries"]) for asked in requests.of("SendMessageBatch")) == [5, 10, 10]
        assert bodies(everything_on(topic)) == sorted(one.body for one in messages)

    def test_publishing_no_messages_makes_no_request(self, sqs, topic, requests):
        assert publish_many(sqs, topic, []) == (0, [])
        assert requests.asked == []

    def test_a_request_never_has_more_than_sqs_takes_attributes_included(self, sqs, topic, requests):
        sizes = [FULL - 30, 40, FULL // 2, FULL // 2 - 100, 30, FULL // 3, FULL // 3, FULL // 3 - 50, *[9] * 25]
        attributes = {SOURCE: "ä" * 20, ENTRIES: "1", "Other": "😀"}
        messages = [Message(b"x" * max(1, size - 120), attributes) for size in sizes]
        assert publish_many(sqs, topic, messages, requests_in_flight=1) == (len(sizes), [])
        batches = requests.of("SendMessageBatch")
        assert all(request_size(asked) <= FULL and len(asked["Entries"]) <= 10 for asked in batches)
        for asked, following in pairwise(batches):
            one_more = request_size({"Entries": asked["Entries"] + following["Entries"][:1]})
            assert len(asked["Entries"]) == 10 or one_more > FULL

    def test_a_message_of_exactly_the_limit_is_sent_and_one_byte_more_is_not(self, sqs, topic):
        attributes = {ENTRIES: "1"}
        room = FULL - Wire("", attributes).size
        largest, larger = Message(b"x" * room, attributes), Message(b"x" * (room + 1), attributes)
        published, failed = publish_many(sqs, topic, [largest, larger])
        assert (published, [one.message for one in failed]) == (1, [larger])

    def test_messages_to_publish_are_taken_only_as_they_are_sent(self, sqs, topic, requests):
        """An endless iterable goes on until SQS refuses; what was taken by then is a few requests' worth."""
        taken = count()
        requests.let_pass("SendMessageBatch", 5)
        requests.refuse("SendMessageBatch", "AccessDenied", 403)
        with pytest.raises(AwsError, match="AccessDenied"):
            publish_many(sqs, topic, (Message(f"{number}".encode()) for number in taken), requests_in_flight=2)
        assert next(taken) <= 10 * (6 + 2 + 1)

    def test_several_requests_are_in_flight_together_but_no_more_than_allowed(self, sqs, topic):
        together = threading.Barrier(4)
        lock, under_way, most = threading.Lock(), set(), []

        def meet(**_):
            with lock:
                under_way.add(threading.get_ident())
                most.append(len(under_way))
            together.wait(10)
            with lock:
                under_way.discard(threading.get_ident())

        sqs.meta.events.register("before-call.sqs.SendMessageBatch", meet)
        assert publish_many(sqs, topic, numbered(80), requests_in_flight=4).published == 80
        assert max(most) == 4


class TestBadMessages:
    def test_bad_messages_are_returned_and_all_others_are_published(self, sqs, topic, everything_on):
        good = numbered(12)
        bad = [
            Message(b"x" * (FULL + 1)),
            Message(b"x", {"A": ""}),
            Message(b"x", {"A": "\x01"}),
            Message(b"x", {"A": "\ud800"}),
            Message(b"x", {f"A{number}": "1" for number in range(11)}),
            Message(b"\0", {f"A{number}": "1" for number in range(10)}),  # and its encoding is the eleventh
        ]
        mixed = [one for pair in zip(good, bad, strict=False) for one in pair] + good[len(bad) :]
        published, failed = publish_many(sqs, topic, mixed)
        assert published == 12
        assert [one.message for one in failed] == bad
        assert all(one.sender_fault and one.code == "MessageError" and one.reason for one in failed)
        assert bodies(everything_on(topic)) == sorted(one.body for one in good)

    def test_a_message_that_is_too_large_says_how_large_it_is_and_what_it_lacks(self, sqs, topic):
        _, (failed,) = publish_many(sqs, topic, [Message(b"x" * (FULL + 1))])
        assert str(FULL + 1) in failed.reason
        assert "bucket" in failed.reason

    def test_attributes_that_are_too_large_cannot_overflow(self, sqs, topic, overflow):
        _, (failed,) = publish_many(sqs, topic, [Message(b"x", {"A": "1" * FULL})], overflow=overflow)
        assert "attributes alone" in failed.reason

    @pytest.mark.parametrize(
        "code", ["InvalidMessageContents", "InvalidParameterValue", "AWS.SimpleQueueService.BatchRequestTooLong"]
    )
    def test_a_message_for_which_sqs_refuses_a_whole_request_is_found(self, sqs, topic, requests, everything_on, code):
        messages = numbered(10)
        requests.refuse("SendMessageBatch", code)  # all ten
        requests.let_pass("SendMessageBatch", 4)  # then each alone
        requests.refuse("SendMessageBatch", code)
        published, failed = publish_many(sqs, topic, messages, requests_in_flight=1)
        assert published == 9
        assert [(one.message, one.code, one.sender_fault) for one in failed] == [
            (messages[4], code.rpartition(".")[2], True)
        ]
        assert bodies(everything_on(topic)) == sorted(one.body for one in messages if one is not messages[4])

    def test_moto_refuses_a_message_with_a_bad_attribute_name_and_takes_the_others(self, sqs, topic):
        messages = [*numbered(3), Message(b"x", {"bad name!": "1"})]
        published, failed = publish_many(sqs, topic, messages)
        assert published == 3
        assert [one.message for one in failed] == messages[3:]


class TestFaults:
    def test_entries_that_failed_by_the_servers_fault_are_sent_again_with_growing_pauses(
        self, sqs, topic, requests, clock
    ):
        for _ in range(3):
            requests.reply("SendMessageBatch", {"Failed": [failure(0, sender=False), failure(1, sender=False)]})
        assert publish_many(sqs, topic, numbered(2), sleep=clock.sleep) == (2, [])
        assert len(clock.slept) == 3
        for pause, wanted in zip(clock.slept, (0.2, 0.4, 0.8), strict=True):
            assert 0.5 * wanted <= pause <= 1.5 * wanted

    def test_only_those_that_failed_are_sent_again(self, sqs, topic, requests, clock):
        successful = [{"Id": str(number), "MessageId": "m", "MD5OfMessageBody": "x"} for number in (0, 2)]
        requests.reply("SendMessageBatch", {"Successful": successful, "Failed": [failure(1, sender=False)]})
        assert publish_many(sqs, topic, numbered(3), sleep=clock.sleep) == (3, [])
        again = requests.of("SendMessageBatch")[1]["Entries"]
        assert [entry["MessageBody"] for entry in again] == ["1\n"]

    def test_entries_that_failed_by_the_senders_fault_are_returned_at_once(self, sqs, topic, requests, clock):
        messages = numbered(3)
        refused = [failure(1, sender=True, code="InvalidMessageContents")]
        requests.reply("SendMessageBatch", {"Successful": [{"Id": "0"}, {"Id": "2"}], "Failed": refused})
        assert publish_many(sqs, topic, messages, sleep=clock.sleep) == (
            2,
            [FailedMessage(messages[1], "InvalidMessageContents", "words 1", sender_fault=True)],
        )
        assert clock.slept == []
        assert len(requests.asked) == 1

    def test_faults_of_the_server_and_of_the_sender_in_one_reply_are_treated_separately(
        self, sqs, topic, requests, clock
    ):
        messages = numbered(4)
        refused = [failure(3, sender=True), failure(1, sender=False)]
        requests.reply("SendMessageBatch", {"Successful": [{"Id": "0"}, {"Id": "2"}], "Failed": refused})
        requests.reply("SendMessageBatch", {"Failed": [failure(0, sender=True)]})  # that was message 1
        published, failed = publish_many(sqs, topic, messages, sleep=clock.sleep)
        assert published == 2
        assert [one.message for one in failed] == [messages[3], messages[1]]

    def test_a_servers_fault_that_does_not_end_is_returned_in_the_end(self, sqs, topic, requests, clock):
        for _ in range(100):
            requests.reply("SendMessageBatch", {"Failed": [failure(0, sender=False)]})
        messages = numbered(1)
        published, failed = publish_many(sqs, topic, messages, sleep=clock.sleep)
        assert (published, [(one.message, one.sender_fault) for one in failed]) == (0, [(messages[0], False)])
        assert len(requests.asked) == 6

    @pytest.mark.parametrize(
        ("code", "status"), [("RequestThrottled", 400), ("ServiceUnavailable", 503), ("InternalError", 500)]
    )
    def test_throttling_and_faults_of_whole_requests_are_waited_out(self, sqs, topic, requests, clock, code, status):
        requests.refuse("SendMessageBatch", code, status, times=3)
        assert publish_many(sqs, topic, numbered(2), sleep=clock.sleep) == (2, [])
        assert len(clock.slept) == 3
        assert len(requests.asked) == 4

    def test_throttling_that_does_not_end_is_an_error(self, sqs, topic, requests, clock):
        requests.refuse("SendMessageBatch", "RequestThrottled", times=100)
        with pytest.raises(AwsError, match="RequestThrottled"):
            publish_many(sqs, topic, numbered(2), sleep=clock.sleep)
        assert len(requests.asked) == 6

    def test_an_error_that_no_retry_can_cure_is_raised_at_once(self, sqs, topic, requests, clock):
        requests.refuse("SendMessageBatch", "AccessDenied", 403)
        with pytest.raises(AwsError, match="AccessDenied"):
            publish_many(sqs, topic, numbered(2), sleep=clock.sleep)
        assert (len(requests.asked), clock.slept) == (1, [])

    def test_missing_credentials_are_an_error_at_once(self, topic, monkeypatch, clock):
        from parcelq.aws.clients import sqs_client

        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
        with pytest.raises(AwsError, match="Unable to locate credentials"):
            publish_many(sqs_client(), topic, numbered(1), sleep=clock.sleep)
        assert clock.slept == []

    def test_publishing_many_messages_to_a_topic_that_is_not_there_is_an_error(self, sqs, topic):
        sqs.delete_queue(QueueUrl=topic)
        with pytest.raises(TopicNotFoundError):
            publish_many(sqs, topic, numbered(30))

    def test_an_error_of_the_iterable_is_raised(self, sqs, topic):
        def broken():
            yield Message(b"a")
            raise KeyError("broken")

        with pytest.raises(KeyError, match="broken"):
            publish_many(sqs, topic, broken())


class TestOverflow:
    @pytest.mark.parametrize("body", [b"x" * (FULL + 1), b"\0" * FULL])
    def test_large_bodies_go_to_s3_and_come_back(self, sqs, topic, overflow, everything_on, body):
        message = Message(body, {ENTRIES: "1"})
        assert publish_many(sqs, topic, [message, *numbered(2)], overflow=overflow) == (3, [])
        back = sorted((overflow.load(one).message() for one in everything_on(topic)), key=lambda one: len(one.body))
        assert back[-1] == message
        assert [one.body for one in back[:2]] == [b"0\n", b"1\n"]

    def test_an_overflow_that_s3_refuses_is_an_error(self, sqs, topic, overflow, s3, bucket):
        s3.delete_bucket(Bucket=bucket)
        with pytest.raises(AwsError, match="NoSuchBucket"):
            publish_many(sqs, topic, [Message(b"x" * (FULL + 1))], overflow=overflow)


def test_messages_without_bytes_arrive_as_messages_without_bytes(sqs, topic, everything_on):
    publish_many(sqs, topic, [Message(b"", {ENTRIES: "0"}), Message(b"", {ENTRIES: "3", DEAD: "why"})])
    assert bodies(everything_on(topic)) == [b"", b""]
