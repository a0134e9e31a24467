"""Bodies in S3, in the format of the Amazon SQS Extended Client Library."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from parcelq.errors import AwsError, MessageError
from parcelq.topics.attributes import ENCODING, ENTRIES, SOURCE
from parcelq.topics.message import Message, Pulled, Wire
from parcelq.topics.overflow import Overflow
from parcelq.topics.sqs import SqsTopic

NEW = "software.amazon.payloadoffloading.PayloadS3Pointer"
OLD = "com.amazon.sqs.javamessaging.MessageS3Pointer"


def pulled(text: str, attributes: dict[str, str]) -> Pulled:
    return Pulled("id", "handle", 1, Wire(text, attributes))


def pointer(kind: str = NEW, **target: object) -> str:
    return json.dumps([kind, target])


def test_a_body_goes_to_s3_and_the_message_points_to_it(overflow, s3, bucket):
    wire = overflow.offload(Wire("ä\n", {ENTRIES: "1", SOURCE: "s"}))
    kind, target = json.loads(wire.text)
    assert kind == NEW
    assert set(target) == {"s3BucketName", "s3Key"}
    assert target["s3BucketName"] == bucket
    assert target["s3Key"].startswith("overflow/")
    assert wire.attributes == {ENTRIES: "1", SOURCE: "s", "ExtendedPayloadSize": "3"}
    assert wire.request()["MessageAttributes"]["ExtendedPayloadSize"]["DataType"] == "Number"
    assert s3.get_object(Bucket=bucket, Key=target["s3Key"])["Body"].read() == "ä\n".encode()


@pytest.mark.parametrize("body", [b"a\n", b"\0\xff", "😀\r\n".encode()])
def test_any_body_that_overflowed_comes_back_as_it_was(overflow, body):
    message = Message(body, {ENTRIES: "1"})
    wire = overflow.offload(message.wire())
    assert overflow.load(pulled(wire.text, dict(wire.attributes))).message() == message


def test_an_overflowed_body_is_stored_in_s3_as_the_text_that_sqs_would_have_got(overflow):
    """A foreign consumer reads the same as without the detour: base64, and the attribute that says so."""
    wire = overflow.offload(Message(b"\0").wire())
    loaded = overflow.load(pulled(wire.text, dict(wire.attributes)))
    assert loaded.wire == Wire("AA==", {ENCODING: "base64"})


def test_two_messages_with_the_same_body_do_not_share_its_object(overflow, s3, bucket):
    first, second = (overflow.offload(Wire("x", {})) for _ in range(2))
    s3.delete_object(Bucket=bucket, Key=json.loads(first.text)[1]["s3Key"])
    assert overflow.load(pulled(second.text, dict(second.attributes))).message() == Message(b"x")


class TestRenewal:
    """A pointer that is published again."""

    def publish_again(self, sqs, topic, overflow, wire):
        message = pulled(wire.text, dict(wire.attributes)).as_it_is()
        again = SqsTopic(sqs, topic, overflow)
        assert again.publish([message]) == (1, [])
        (one,) = again.pull(1, 1, 0)
        return one

    def test_a_body_outlives_the_object_of_the_first_message(self, sqs, topic, overflow, s3, bucket):
        wire = overflow.offload(Wire("ä\n", {ENTRIES: "1"}))
        one = self.publish_again(sqs, topic, overflow, wire)
        s3.delete_object(Bucket=bucket, Key=json.loads(wire.text)[1]["s3Key"])
        assert overflow.load(one).message() == Message("ä\n".encode(), {ENTRIES: "1"})

    def test_without_a_bucket_the_copy_goes_where_the_body_is(self, sqs, topic, overflow, s3, bucket):
        wire = overflow.offload(Wire("x", {}))
        one = self.publish_again(sqs, topic, Overflow(s3, ""), wire)
        s3.delete_object(Bucket=bucket, Key=json.loads(wire.text)[1]["s3Key"])
        assert overflow.load(one).message() == Message(b"x")

    @pytest.mark.parametrize("target", [{"s3BucketName": "none", "s3Key": "k"}, {"s3BucketName": "bucket"}, {}, "x"])
    def test_a_pointer_that_leads_nowhere_is_published_as_it_is(self, sqs, topic, overflow, target):
        wire = Wire(json.dumps([NEW, target]), {"ExtendedPayloadSize": "3"})
        assert self.publish_again(sqs, topic, overflow, wire).wire == wire

    def test_a_body_that_may_not_be_read_is_not_copied_either(self, sqs, topic, s3, bucket):
        s3.put_object(Bucket=bucket, Key="secret/x", Body=b"secret")
        own = Overflow(s3, bucket, only_own=True)
        wire = Wire(json.dumps([NEW, {"s3BucketName": bucket, "s3Key": "secret/x"}]), {"ExtendedPayloadSize": "6"})
        assert self.publish_again(sqs, topic, own, wire).wire == wire
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1

    def test_a_pointer_is_not_published_while_s3_does_not_answer(self, sqs, topic, overflow, s3):
        wire = overflow.offload(Wire("x", {}))

        def refuse(**_):
            raise ClientError(
                {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "CopyObject"
            )

        s3.meta.events.register("before-call.s3.CopyObject", refuse)
        with pytest.raises(AwsError, match="SlowDown"):
            self.publish_again(sqs, topic, overflow, wire)


def test_a_message_that_is_no_pointer_stays_as_it_is(overflow):
    message = pulled(pointer(s3BucketName="b", s3Key="k"), {})
    assert overflow.load(message) is message


@pytest.mark.parametrize(
    ("kind", "mark"), [(NEW, "ExtendedPayloadSize"), (OLD, "SQSLargePayloadSize"), (OLD, "ExtendedPayloadSize")]
)
def test_a_pointer_of_the_java_library_is_read_from_any_bucket(overflow, s3, kind, mark):
    s3.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="theirs", Key="dir/9a0c-uuid", Body=b"their\nlines\n")
    text = f'["{kind}",{{"s3BucketName":"theirs","s3Key":"dir/9a0c-uuid"}}]'
    loaded = overflow.load(pulled(text, {mark: "12", "Theirs": "1"}))
    assert loaded.message() == Message(b"their\nlines\n", {"Theirs": "1"})
    assert (loaded.message_id, loaded.receipt_handle, loaded.receive_count) == ("id", "handle", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text",
        "[]",
        "{}",
        "7",
        "null",
        '["a"]',
        f'["{NEW}"]',
        f'["{NEW}", null]',
        f'["{NEW}", "x"]',
        f'["{NEW}", {{"s3BucketName": "b"}}]',
        f'["{NEW}", {{"s3Key": "k"}}]',
        f'["{NEW}", {{"s3BucketName": "b", "s3Key": "k"}}, 3]',
        pointer("some.other.Class", s3BucketName="b", s3Key="k"),
        '[["a"], {"s3BucketName": "b", "s3Key": "k"}]',
        '[{}, {"s3BucketName": "b", "s3Key": "k"}]',
        "[" * 100_000,
    ],
)
def test_a_broken_pointer_is_a_message_error_that_shows_it(overflow, text):
    with pytest.raises(MessageError, match="pointer") as caught:
        overflow.load(pulled(text, {"ExtendedPayloadSize": "5"}))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "target",
    [
        {"s3BucketName": "bucket", "s3Key": "none"},
        {"s3BucketName": "no-such-bucket", "s3Key": "k"},
        {"s3BucketName": "not a bucket's name!", "s3Key": "k"},
        {"s3BucketName": "bucket", "s3Key": ""},
        {"s3BucketName": "", "s3Key": "k"},
        {"s3BucketName": None, "s3Key": 5},
    ],
)
def test_a_pointer_to_nothing_is_a_message_error(overflow, target):
    with pytest.raises(MessageError, match="this object does not exist"):
        overflow.load(pulled(pointer(**target), {"ExtendedPayloadSize": "5"}))


def test_a_pointer_to_what_is_no_text_is_a_message_error(overflow, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"\xff")
    with pytest.raises(MessageError, match="not UTF-8"):
        overflow.load(pulled(pointer(s3BucketName=bucket, s3Key="k"), {"ExtendedPayloadSize": "1"}))


def test_a_refusal_of_s3_says_nothing_against_the_message(overflow, s3, bucket):
    def refuse(**_):
        from types import SimpleNamespace

        answer = {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        return SimpleNamespace(status_code=403), answer

    s3.meta.events.register("before-call.s3.GetObject", refuse)
    with pytest.raises(AwsError, match="AccessDenied"):
        overflow.load(pulled(pointer(s3BucketName=bucket, s3Key="k"), {"ExtendedPayloadSize": "1"}))


def test_putting_into_a_bucket_that_is_not_there_is_an_error(s3):
    with pytest.raises(AwsError, match="NoSuchBucket"):
        Overflow(s3, "no-such-bucket").offload(Wire("x", {}))


def test_a_body_that_is_larger_than_any_entry_is_not_read_into_memory(overflow, s3, bucket, monkeypatch):
    monkeypatch.setattr("parcelq.topics.overflow.MAX_BODY_BYTES", 1 << 20)
    for key, size in (("just", 1 << 20), ("more", (1 << 20) + 1)):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * size)
    reader = Overflow(s3, "")

    def pointer(key):
        text = json.dumps(
            ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": bucket, "s3Key": key}]
        )
        return Pulled("i", "r", 1, Wire(text, {"ExtendedPayloadSize": "1"}))

    assert len(reader.load(pointer("just")).wire.text) == 1 << 20
    with pytest.raises(MessageError, match="has 1,048,577 bytes, but must have at most 1 MiB"):
        reader.load(pointer("more"))
