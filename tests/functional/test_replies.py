"""Success is what a reply confirms: replies that are cut off, or that something other than AWS sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from parcelq.aws.clients import s3_client, sqs_client
from parcelq.aws.events import put_event
from parcelq.errors import AwsError
from parcelq.store.bucket import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic
from sqs_calls import acknowledge, publish_many, publish_one, pull, refresh_deadline

MESSAGES = [Message(b"%d\n" % number) for number in range(3)]


class TestBatches:
    """Each entry of a request is matched with the reply by its id."""

    @pytest.mark.parametrize(
        ("reply", "published"),
        [
            ({}, 0),
            ({"Successful": [], "Failed": []}, 0),
            ({"Successful": [{"Id": "0"}, {"Id": "2"}]}, 2),
            ({"Successful": [{"Id": "1"}, {"Id": "1"}, {"Id": "1"}]}, 1),
            ({"Successful": [{"Id": "7"}, {"Id": "8"}, {"Id": "9"}]}, 0),
            ({"Successful": [{"Id": "0"}, {}, {"MessageId": "m"}]}, 1),
            ({"Successful": [{"Id": "0"}], "Failed": [{"Id": "0"}, {"Id": "9", "SenderFault": True}]}, 0),
        ],
    )
    def test_only_entries_that_the_reply_confirms_are_published(
        self, sqs, topic, requests, clock, reply: dict[str, Any], published: int
    ) -> None:
        requests.reply("SendMessageBatch", reply)
        for _ in range(20):
            requests.reply("SendMessageBatch", {})
        count, failed = publish_many(sqs, topic, MESSAGES, sleep=clock.sleep)
        assert count == published
        assert len(failed) == len(MESSAGES) - published
        assert not any(one.sender_fault for one in failed)
        assert all("neither" in one.reason for one in failed)

    def test_an_entry_that_no_list_names_is_sent_again(self, sqs, topic, requests, clock) -> None:
        requests.reply("SendMessageBatch", {"Successful": [{"Id": "0"}, {"Id": "2"}]})
        assert publish_many(sqs, topic, MESSAGES, sleep=clock.sleep) == (3, [])
        assert [one["MessageBody"] for one in requests.of("SendMessageBatch")[1]["Entries"]] == ["1\n"]

    @pytest.mark.parametrize("operation", ["DeleteMessageBatch", "ChangeMessageVisibilityBatch"])
    @pytest.mark.parametrize(
        ("reply", "lost"),
        [
            ({}, [0, 1, 2]),
            ({"Successful": [{"Id": "0"}, {"Id": "0"}, {"Id": "5"}]}, [1, 2]),
            (
                {"Successful": [{"Id": "0"}, {"Id": "1"}, {"Id": "2"}], "Failed": [{"Id": "1", "SenderFault": True}]},
                [1],
            ),
        ],
    )
    def test_only_entries_that_the_reply_confirms_are_acknowledged_or_kept(
        self, sqs, topic, requests, operation: str, reply: dict[str, Any], lost: list[int]
    ) -> None:
        change = acknowledge if operation == "DeleteMessageBatch" else refresh_deadline
        pulled = [Pulled(str(number), f"r{number}", 1, Wire("x", {})) for number in range(3)]
        requests.reply(operation, reply)
        for _ in range(5):
            requests.reply(operation, {})
        assert sorted(one.message_id for one in change(sqs, topic, pulled)) == [str(number) for number in lost]

    @pytest.mark.parametrize(
        "reply", [{}, {"Deleted": [{"Key": "a"}]}, {"Deleted": [{"Key": "a"}, {"Key": "a"}, {"Key": "c"}]}]
    )
    def test_an_object_that_the_reply_does_not_name_is_not_deleted(self, s3, bucket, reply: dict[str, Any]) -> None:
        s3.meta.events.register("after-call.s3.DeleteObjects", replaced_by(reply))
        with pytest.raises(AwsError, match=r"DeleteObjects failed: the reply does not say that '[ab]' was deleted"):
            BucketStore(s3, bucket).delete(["a", "b"])


def replaced_by(reply: dict[str, Any]) -> Callable[..., None]:
    def replace(parsed: dict[str, Any], **_: Any) -> None:
        parsed.clear()
        parsed.update(reply)

    return replace


def pointer_to(store: BucketStore, key: str) -> Pulled:
    target = {"s3BucketName": store.bucket, "s3Key": key}
    text = json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", target])
    return Pulled("i", "r", 1, Wire(text, {"ExtendedPayloadSize": "1"}))


class TestMembers:
    """A reply that lacks what it must contain is an error, whatever its status is."""

    @pytest.mark.parametrize(
        ("reply", "told"),
        [
            ({}, "does not confirm the event"),
            ({"FailedEntryCount": 0}, "does not confirm the event"),
            ({"FailedEntryCount": 0, "Entries": [{}]}, "does not confirm the event"),
            ({"Entries": [{"EventId": "1"}]}, "does not confirm the event"),
            (
                {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow"}]},
                "slow",
            ),
        ],
    )
    def test_an_event_that_is_not_confirmed_is_an_error(self, reply: dict[str, Any], told: str) -> None:
        with pytest.raises(AwsError, match=told):
            put_event(SimpleNamespace(put_events=lambda **_: reply), "ended", {}, "arn:aws:s3:::bucket")

    def test_an_event_that_is_confirmed_is_put(self) -> None:
        asked: list[dict[str, Any]] = []
        reply = {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}
        events = SimpleNamespace(put_events=lambda **given: asked.append(given) or reply)
        put_event(events, "ended", {"job": 1}, "arn:aws:s3:::bucket")
        (entry,) = asked[0]["Entries"]
        assert (entry["Source"], entry["DetailType"], entry["Detail"]) == ("parcelq", "ended", '{"job": 1}')

    @pytest.mark.parametrize(
        ("operation", "ask"),
        [
            ("GetQueueUrl", lambda sqs, url: Topics(sqs).url("topic")),
            ("CreateQueue", lambda sqs, url: Topics(sqs).create_queue("other")),
            ("GetQueueAttributes", lambda sqs, url: Topics(sqs).count(url)),
            ("GetQueueAttributes", lambda sqs, url: Topics(sqs).attributes(url)),
            ("GetQueueAttributes", lambda sqs, url: SqsTopic(sqs, url).counts()),
            ("SendMessage", lambda sqs, url: publish_one(sqs, url, MESSAGES[0])),
        ],
    )
    def test_an_empty_reply_of_sqs_is_an_error(self, sqs, topic, requests, operation: str, ask: Any) -> None:
        requests.reply(operation, {})
        with pytest.raises(AwsError, match=f"{operation} failed: the reply"):
            ask(sqs, topic)

    @pytest.mark.parametrize("counts", [{}, {"ApproximateNumberOfMessages": "1"}, {"ApproximateNumberOfMessages": "?"}])
    def test_counts_that_are_missing_or_no_numbers_are_an_error(self, sqs, topic, requests, counts) -> None:
        told = {f"ApproximateNumberOfMessages{kind}": "1" for kind in ("NotVisible", "Delayed")}
        attributes = {**told, **counts} if counts.get("ApproximateNumberOfMessages") == "?" else counts
        requests.reply("GetQueueAttributes", {"Attributes": attributes})
        with pytest.raises(AwsError, match="GetQueueAttributes failed: the reply"):
            Topics(sqs).count(topic)

    @pytest.mark.parametrize("lacking", ["MessageId", "ReceiptHandle", "Body"])
    def test_a_message_that_lacks_what_it_needs_is_an_error(self, sqs, topic, requests, lacking: str) -> None:
        message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "b"}
        del message[lacking]
        requests.reply("ReceiveMessage", {"Messages": [message]})
        with pytest.raises(AwsError, match=f"does not contain {lacking}"):
            pull(sqs, topic, 1, 1, 0)

    @pytest.mark.parametrize(
        ("operation", "ask"),
        [
            ("PutObject", lambda store: store.put("a", b"x")),
            ("PutObject", lambda store: store.write("a", [b"x"], {}, None)),
            ("PutObject", lambda store: Overflow(store.s3, store.bucket).offload(Wire("x", {}))),
            ("GetObject", lambda store: store.read("there")),
            ("GetObject", lambda store: Overflow(store.s3, store.bucket).load(pointer_to(store, "there"))),
            ("HeadObject", lambda store: store.stat("there")),
            ("ListObjectsV2", lambda store: list(store.keys(""))),
        ],
    )
    def test_an_empty_reply_of_s3_is_an_error(self, s3, bucket, operation: str, ask: Any) -> None:
        store = BucketStore(s3, bucket)
        store.put("there", b"x")
        s3.meta.events.register(f"after-call.s3.{operation}", replaced_by({}))
        with pytest.raises(AwsError, match=f"{operation} failed: the reply"):
            ask(store)

    @pytest.mark.parametrize("answered", [{}, {"Range": "bytes=5-7"}])
    def test_a_reply_with_another_part_of_the_object_is_an_error(self, s3, bucket, answered: dict[str, str]) -> None:
        store = BucketStore(s3, bucket)
        store.put("a", b"0123456789")

        def forget(params: dict[str, Any], **_: Any) -> None:
            params["headers"].pop("Range")
            params["headers"].update(answered)

        s3.meta.events.register("before-call.s3.GetObject", forget)
        with pytest.raises(AwsError, match="not the requested part of 'a'"):
            store.read("a", 2, 3)


class Proxy(BaseHTTPRequestHandler):
    """Answers whatever it is asked with status 200 and a page of its own."""

    page: ClassVar[bytes] = b""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@contextmanager
def proxy(page: bytes) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Page", (Proxy,), {"page": page}))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PAGES = [b"", b"<html><body>Please log in</body></html>", b"null", b'{"cut": "of', b"[]"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "ask",
    [
        lambda sqs, url: Topics(sqs).names(),
        lambda sqs, url: Topics(sqs).url("topic"),
        lambda sqs, url: Topics(sqs).count(url),
        lambda sqs, url: pull(sqs, url, 1, 1, 0),
        lambda sqs, url: publish_many(sqs, url, MESSAGES, sleep=lambda _: None),
        lambda sqs, url: acknowledge(sqs, url, [Pulled("i", "r", 1, Wire("x", {}))]),
    ],
)
def test_an_answer_that_is_no_reply_of_sqs_is_an_error(monkeypatch, page: bytes, ask: Callable[..., Any]) -> None:
    with proxy(page) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", endpoint)
        with pytest.raises(AwsError, match=r"failed: the reply|Unable to parse"):
            ask(sqs_client(), f"{endpoint}/123456789012/topic")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.put("a", b"x"),
        lambda store: store.read("a"),
        lambda store: store.stat("a"),
        lambda store: list(store.keys("")),
        lambda store: store.delete(["a"]),
    ],
)
def test_an_answer_that_is_no_reply_of_s3_is_an_error(monkeypatch, page: bytes, ask: Callable[..., Any]) -> None:
    with proxy(page) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        with pytest.raises(AwsError):
            ask(BucketStore(s3_client(), "bucket"))
