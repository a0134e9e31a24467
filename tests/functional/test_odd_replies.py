"""Replies with a good status that are not what was asked for: bytes of a proxy, lists without an end, other types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from parcelq.aws.clients import other_client
from parcelq.collect import runs
from parcelq.collect.segments import JobKey, write_segment
from parcelq.errors import AwsError, ConflictError
from parcelq.stack import lookup
from parcelq.store.bucket import BucketStore
from parcelq.topics.admin import Topics
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.overflow import Overflow
from parcelq.topics.pieces import Piece
from sqs_calls import acknowledge, publish_many, pull

XML = b'<?xml version="1.0"?>'


class Raw:
    """The body of a reply, as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, *_: object, **__: object) -> list[bytes]:
        return [self.body]

    def read(self, *_: object, **__: object) -> bytes:
        body, self.body = self.body, b""
        return body

    def close(self) -> None: ...


def answer(client: Any, body: bytes, **headers: str) -> None:
    """Let whatever a client asks for be answered with status 200 and this body."""

    def reply(request: Any, **_: object) -> AWSResponse:
        return AWSResponse(request.url, 200, {"Content-Length": str(len(body)), **headers}, Raw(body))  # type: ignore[arg-type]

    client.meta.events.register_first("before-send", reply)


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        (b'{"message": "Forbidden"}', lambda sqs, url: Topics(sqs).names()),
        (b'{"__type": "QueueDoesNotExist"}', lambda sqs, url: pull(sqs, url, 1, 1, 0)),
        (b'{"QueueUrls": ["https://a/b/c"}', lambda sqs, url: Topics(sqs).names()),
        (b'{"QueueUrls": "abc"}', lambda sqs, url: Topics(sqs).names()),
        (b'{"QueueUrls": [null]}', lambda sqs, url: Topics(sqs).names()),
        (b'{"queueUrls": [{}]}', lambda sqs, url: Topics(sqs).source_urls(url)),
        (b'{"QueueUrl": ["x"]}', lambda sqs, url: Topics(sqs).url("topic")),
        (b'{"Attributes": []}', lambda sqs, url: Topics(sqs).count(url)),
        (b'{"Attributes": {"QueueArn": {}}}', lambda sqs, url: Topics(sqs).attributes(url)),
        (b'{"Messages": [[]]}', lambda sqs, url: pull(sqs, url, 1, 1, 0)),
        (
            b'{"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": 5}]}',
            lambda sqs, url: pull(sqs, url, 1, 1, 0),
        ),
        (
            b'{"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": "b", "MessageAttributes": {"A": null}}]}',
            lambda sqs, url: pull(sqs, url, 1, 1, 0),
        ),
        (
            b'{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"b","Attributes":{"SentTimestamp":"x"}}]}',
            lambda sqs, url: pull(sqs, url, 1, 1, 0),
        ),
        (
            b'{"Successful": {"Id": "0"}}',
            lambda sqs, url: publish_many(sqs, url, [Message(b"1\n")], sleep=lambda _: None),
        ),
        (b'{"Successful": [null]}', lambda sqs, url: acknowledge(sqs, url, [Pulled("i", "r", 1, Wire("x", {}))])),
        (b'{"\xff": 1}', lambda sqs, url: Topics(sqs).names()),
    ],
)
def test_json_of_another_form_is_no_reply_of_sqs(sqs, topic, body: bytes, ask: Callable[..., Any]) -> None:
    answer(sqs, body)
    with pytest.raises(AwsError, match=r"failed: the (reply|attributes)"):
        ask(sqs, topic)


def test_an_empty_list_and_unknown_members_are_a_reply_of_sqs(sqs, topic) -> None:
    answer(sqs, b'{"QueueUrls": null, "New": [1], "NextToken": null}')
    assert Topics(sqs).names() == []


@pytest.mark.parametrize("headers", [{}, {"ETag": '"of-another"'}])
@pytest.mark.parametrize("version", ["", "v1"])
def test_a_web_page_is_not_taken_for_the_object_of_a_put(s3, bucket, version: str, headers: dict[str, str]) -> None:
    answer(s3, b"<html>Please log in</html>", **headers)
    with (
        pytest.raises(AwsError, match="GetObject failed: the reply"),
        BucketStore(s3, bucket).opened_put("inbox/a.txt", version=version, etag="e"),
    ):
        pytest.fail("the page was opened")


def test_a_version_that_another_put_replaced_is_not_read(s3, bucket) -> None:
    etags = [s3.put_object(Bucket=bucket, Key="a", Body=body)["ETag"].strip('"') for body in (b"first", b"second")]
    store = BucketStore(s3, bucket)
    with store.opened_put("a", version="null", etag=etags[0]) as replaced:
        assert replaced is None
    with store.opened_put("a", version="null", etag=etags[1]) as found:
        assert found
        assert found.body.read() == b"second"


def lose_the_first_reply(s3: Any) -> None:
    """Let botocore send each put a second time, as if the reply to the first request was lost."""
    s3.meta.events.register_first("needs-retry.s3.PutObject", lambda attempts, **_: 0 if attempts == 1 else None)


@pytest.mark.parametrize("seen", [b"", b"old"])
def test_a_conditional_write_counts_if_only_its_reply_was_lost(s3, bucket, seen: bytes) -> None:
    store = BucketStore(s3, bucket)
    etag = store.put("a", seen) if seen else None
    lose_the_first_reply(s3)
    new = store.put("a", b"ne", b"w", if_match=etag, if_absent=etag is None)
    assert store.read_with_etag("a") == (b"new", new)
    with pytest.raises(ConflictError):
        store.put("a", b"newer", if_match=etag, if_absent=etag is None)


@pytest.mark.parametrize("seen", [b"", b"old"])
def test_an_equal_object_of_another_upload_is_a_conflict(s3, bucket, seen: bytes) -> None:
    store = BucketStore(s3, bucket)
    if seen:
        store.put("result", seen)
    present = store.stat("result")
    assert store.write("result", [b"same"], {"parcelq-source": "newer"}, present)
    assert not store.write("result", [b"same"], {"parcelq-source": "older"}, present)
    assert store.write("result", [b"same"], {"parcelq-source": "newer"}, present)


def test_index_runs_stay_if_the_reply_to_the_write_that_names_them_was_lost(s3, bucket) -> None:
    store, now, job = BucketStore(s3, bucket), datetime.now(UTC), JobKey("s3://bucket/inbox/a?put=1")
    for _ in range(runs.FEWEST):
        write_segment(store, "output", job, [Piece("0-1/9", b"x", 1)], (), now, now)
    lose_the_first_reply(s3)
    record = runs.tidy(store, "output", list(store.keys("segments/")), now)
    assert record.runs
    assert set(record.runs) <= set(store.keys("segments/"))


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        (b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", lambda store: list(store.keys(""))),
        (
            b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
            lambda store: list(store.keys("")),
        ),
        (
            b"<Parts><IsTruncated>true</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker></Parts>",
            lambda store: store.parts("a", "upload"),
        ),
        (
            b"<Parts><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber></Part></Parts>",
            lambda store: store.parts("a", "upload"),
        ),
    ],
)
def test_a_list_of_s3_that_is_cut_off_or_lacks_members_is_an_error(s3, bucket, body: bytes, ask: Any) -> None:
    answer(s3, XML + body)
    with pytest.raises(AwsError, match=r"failed: the (reply|list)"):
        ask(BucketStore(s3, bucket))


def test_a_body_in_s3_whose_size_the_reply_lacks_is_not_read(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="overflow/a", Body=b"x")
    s3.meta.events.register("after-call.s3.GetObject", lambda parsed, **_: parsed.pop("ContentLength") and None)
    pointer = (
        f'["software.amazon.payloadoffloading.PayloadS3Pointer",{{"s3BucketName":"{bucket}","s3Key":"overflow/a"}}]'
    )
    with pytest.raises(AwsError, match="does not contain ContentLength"):
        Overflow(s3, bucket).load(Pulled("m", "r", 1, Wire(pointer, {"ExtendedPayloadSize": "1"})))


@pytest.mark.parametrize("stacks", [b"", b"<Stacks></Stacks>"])
def test_a_reply_without_a_stack_is_an_error(aws, monkeypatch, stacks: bytes) -> None:
    client = other_client("cloudformation")
    body = b"<DescribeStacksResponse><DescribeStacksResult>%s</DescribeStacksResult></DescribeStacksResponse>" % stacks
    answer(client, XML + body)
    monkeypatch.setattr("parcelq.aws.clients.other_client", lambda _: client)
    with pytest.raises(AwsError, match="DescribeStacks failed: the reply does not contain Stacks"):
        lookup.look_up("parcelq")
