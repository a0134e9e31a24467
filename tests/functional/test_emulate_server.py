"""The embedded stack's server as a process, and its S3."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from parcelq.limits import MIB
from parcelq_emulator.frames import Frames
from parcelq_emulator.limits import MIN_MULTIPART_BYTES
from parcelq_emulator.server import Server, ServerError

SESSION = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-west-1")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    client = SESSION.client("s3", endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return client


@pytest.fixture(scope="module")
def sqs(server: Server) -> Any:
    return SESSION.client("sqs", endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def listens(address: SplitResult) -> bool:
    try:
        socket.create_connection((str(address.hostname), address.port or 0)).close()
    except ConnectionRefusedError:
        return False
    return True


# The process.


def test_the_server_listens_on_the_loopback_interface_for_as_long_as_its_context_lasts() -> None:
    with Server() as server:
        address = urlsplit(server.url)
        assert address.hostname == "127.0.0.1"
        assert listens(address)
        assert os.getpgid(server.pid) != os.getpgid(0)  # so that Ctrl-C does not reach it
    assert not listens(address)


def start_by_hand(directory: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "parcelq_emulator.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(directory)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"http://127.0.0.1:")
    assert len(list(directory.glob("[!.]*"))) == 1
    return process


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "end of stdin"])
def test_the_server_ends_without_a_message_and_leaves_no_files(tmp_path: Path, end: str) -> None:
    process = start_by_hand(tmp_path)
    if end != "end of stdin":
        process.send_signal(signal.Signals[end])
        process.wait(timeout=10)
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_server_does_not_outlive_the_process_that_started_it() -> None:
    program = (
        "from parcelq_emulator.server import Server\n"
        "with Server() as server:\n"
        "    print(server.url, flush=True)\n"
        "    input()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    address = urlsplit(parent.stdout.readline().decode())
    parent.kill()
    parent.communicate()
    wait_for(lambda: not listens(address))


def test_a_port_that_is_taken_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ServerError, match="is in use"),
        Server(taken.getsockname()[1]),
    ):
        pass


def test_a_start_that_takes_too_long_is_an_error() -> None:
    with pytest.raises(ServerError, match=r"did not listen within 0\.001 s"), Server(start_timeout=0.001):
        pass


def test_a_connection_serves_many_requests_whatever_becomes_of_one(server: Server, sqs: Any) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.connect()
    socket_at_first = connection.sock
    signature = "AWS4-HMAC-SHA256 Credential=x/20261231/eu-west-1/sqs/aws4_request, Signature=x"
    requests = [
        ({"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"}, 200),
        ({"X-Amz-Target": "AmazonSQS.CancelMessageMoveTask", "Content-Type": "application/x-amz-json-1.0"}, 500),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 400),  # refused before the body is read
    ]
    for headers, status in requests + requests:
        connection.request("POST", "/", b"{}", {**headers, "Authorization": signature})
        reply = connection.getresponse()
        reply.read()
        assert reply.status == status
        assert connection.sock is socket_at_first
    connection.close()
    assert "NotImplementedError" in server.stderr_tail()


# S3.


@pytest.fixture
def notified(s3: Any, sqs: Any) -> Callable[[], list[dict[str, Any]]]:
    """Send an event to a queue for each put under `inbox/`; returns the events since the last call."""
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rules = [{"Name": "prefix", "Value": "inbox/"}]
    queue = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
    s3.put_bucket_notification_configuration(
        Bucket="bucket", NotificationConfiguration={"QueueConfigurations": [queue]}
    )

    def events() -> list[dict[str, Any]]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [record for message in messages for record in json.loads(message["Body"]).get("Records", [])]

    events()  # S3 sends one to say that it can
    return events


def test_a_put_causes_the_event_of_s3(s3: Any, notified: Callable[[], list[dict[str, Any]]]) -> None:
    s3.put_object(Bucket="bucket", Key="inbox/a dir/50% é+b.smi", Body=b"CCO\n")
    s3.put_object(Bucket="bucket", Key="elsewhere/file", Body=b"CCO\n")
    [event] = notified()
    assert (event["eventSource"], event["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert event["s3"]["bucket"]["name"] == "bucket"
    told = event["s3"]["object"]
    assert told["key"] == "inbox/a+dir/50%25+%C3%A9%2Bb.smi"
    assert (told["size"], told["eTag"]) == (4, hashlib.md5(b"CCO\n").hexdigest())
    assert int(told["sequencer"], 16)


def test_every_put_of_a_key_has_a_greater_sequencer(s3: Any, notified: Callable[[], list[dict[str, Any]]]) -> None:
    for _ in range(3):
        s3.put_object(Bucket="bucket", Key="inbox/file", Body=b"same")
    sequencers = [event["s3"]["object"]["sequencer"] for event in notified()]
    assert len(set(sequencers)) == 3
    assert sequencers == sorted(sequencers)
    assert len({len(sequencer) for sequencer in sequencers}) == 1


def test_an_upload_in_parts_is_one_event_and_one_object(s3: Any, notified: Callable[[], list[dict[str, Any]]]) -> None:
    parts = [bytes([number]) * (MIN_MULTIPART_BYTES + number) for number in range(2)]
    upload = s3.create_multipart_upload(Bucket="bucket", Key="inbox/file")["UploadId"]
    where = {"Bucket": "bucket", "Key": "inbox/file", "UploadId": upload}
    etags = [
        {"PartNumber": number, "ETag": s3.upload_part(**where, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": etags})
    [event] = notified()
    assert event["eventName"] == "ObjectCreated:CompleteMultipartUpload"
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert event["s3"]["object"]["eTag"] == f"{digest}-2"
    assert s3.get_object(Bucket="bucket", Key="inbox/file")["Body"].read() == b"".join(parts)


@pytest.mark.parametrize(("last_etag", "size"), [('"wrong"', MIN_MULTIPART_BYTES), (None, MIN_MULTIPART_BYTES - 1)])
def test_parts_that_do_not_fit_are_refused(s3: Any, last_etag: str | None, size: int) -> None:
    upload = s3.create_multipart_upload(Bucket="bucket", Key="file")["UploadId"]
    where = {"Bucket": "bucket", "Key": "file", "UploadId": upload}
    etags = [s3.upload_part(**where, PartNumber=number, Body=b"x" * size)["ETag"] for number in (1, 2)]
    listed = [{"PartNumber": 1, "ETag": etags[0]}, {"PartNumber": 2, "ETag": last_etag or etags[1]}]
    with pytest.raises(ClientError, match="InvalidPart" if last_etag else "EntityTooSmall"):
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": listed})


@pytest.mark.parametrize("size", [0, 10, 2 * MIB + 1])
def test_an_object_comes_back_whole_in_ranges_and_as_a_copy(s3: Any, size: int) -> None:
    body = os.urandom(size)
    put = s3.put_object(Bucket="bucket", Key="file", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/file")
    s3.delete_object(Bucket="bucket", Key="file")
    got = s3.get_object(Bucket="bucket", Key="copy")
    assert (got["ContentLength"], got["Body"].read()) == (size, body)
    if size:
        for asked, expected in {"0-0": body[:1], "3-5": body[3:6], "5-": body[5:], "-4": body[-4:]}.items():
            got = s3.get_object(Bucket="bucket", Key="copy", Range=f"bytes={asked}")
            assert (got["Body"].read(), got["ContentLength"]) == (expected, len(expected))
        assert got["ContentRange"] == f"bytes {size - 4}-{size - 1}/{size}"
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(Bucket="bucket", Key="copy", Range=f"bytes={size + 1}-")


def test_a_reader_gets_the_object_that_it_asked_for_though_it_is_replaced(s3: Any) -> None:
    old = os.urandom(8 * MIB)
    s3.put_object(Bucket="bucket", Key="file", Body=old)
    reader = s3.get_object(Bucket="bucket", Key="file")["Body"]
    start = reader.read(10)
    s3.put_object(Bucket="bucket", Key="file", Body=b"new")
    assert start + reader.read() == old


def test_objects_that_are_replaced_or_deleted_take_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Server() as server:
        s3 = SESSION.client("s3", endpoint_url=server.url)
        s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        [directory] = tmp_path.iterdir()
        old, new = b"old " * 5000, b"new " * 5000
        for body in (old, new):
            s3.put_object(Bucket="bucket", Key="file", Body=body)
        assert [file.read_bytes() for file in directory.glob("[!.]*")] == [new]
        s3.delete_object(Bucket="bucket", Key="file")
        assert list(directory.glob("[!.]*")) == []


def test_versions_of_an_object_are_listed_and_read(s3: Any) -> None:
    s3.create_bucket(Bucket="versions", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"22"):
        s3.put_object(Bucket="versions", Key="file", Body=body)
    listed = s3.list_object_versions(Bucket="versions")["Versions"]
    bodies = [
        s3.get_object(Bucket="versions", Key="file", VersionId=version["VersionId"])["Body"].read()
        for version in listed
    ]
    assert sorted(bodies) == [b"1", b"22"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process as Linux tells it")
def test_large_objects_are_never_held_in_memory() -> None:
    with Server() as server:
        s3 = SESSION.client("s3", endpoint_url=server.url)
        s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_object(Bucket="bucket", Key="warm", Body=b"up")
        before = peak_memory(server.pid)
        body = os.urandom(MIB) * 48
        s3.put_object(Bucket="bucket", Key="one", Body=body)
        s3.upload_fileobj(io.BytesIO(body), "bucket", "parts")
        for key in ("one", "parts"):
            assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body
        s3.get_object(Bucket="bucket", Key="one", Range=f"bytes={MIB}-{40 * MIB}")["Body"].read()
        s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/one")
        # Ten connections of 8 MiB parts, and moto reads one at a time to check it.
        assert peak_memory(server.pid) - before < 40 * MIB


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


# S3's common operations, which are answered without moto. A header that only moto reads has moto answer the same.

OWNER = {"ExpectedBucketOwner": "123456789012"}
SAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("put_object", {"Key": "d/new", "Body": b"x", "Metadata": {"one": "1"}, "ContentType": "text/html"}),
    ("put_object", {"Key": "d/a", "Body": b"x", "IfNoneMatch": "*"}),
    ("put_object", {"Key": "d/a", "Body": b"x", "IfMatch": '"wrong"'}),
    ("put_object", {"Key": "d/missing", "Body": b"x", "IfMatch": '"wrong"'}),
    ("get_object", {"Key": "d/a"}),
    ("get_object", {"Key": "d/ü +%2F&<.txt"}),
    ("get_object", {"Key": "d/a", "Range": "bytes=2-4"}),
    ("get_object", {"Key": "d/a", "Range": "bytes=3-"}),
    ("get_object", {"Key": "d/a", "Range": "bytes=2-999"}),
    ("get_object", {"Key": "d/a", "Range": "bytes=99-"}),
    ("get_object", {"Key": "d/a", "IfMatch": '"wrong"'}),
    ("get_object", {"Key": "d/missing"}),
    ("head_object", {"Key": "d/a"}),
    ("head_object", {"Key": "d/missing"}),
    ("list_objects_v2", {"Prefix": "d/"}),
    ("list_objects_v2", {"Prefix": "d/", "MaxKeys": 2}),
    ("list_objects_v2", {"Prefix": "d/", "StartAfter": "d/a"}),
    ("list_objects_v2", {"Prefix": "nothing/"}),
    ("delete_objects", {"Delete": {"Objects": [{"Key": "d/new"}, {"Key": "d/ & <"}], "Quiet": False}}),
]


def answer(s3: Any, operation: str, arguments: dict[str, Any]) -> Any:
    """What a client gets, without what no two answers have in common."""
    try:
        reply = getattr(s3, operation)(Bucket="direct", **arguments)
    except ClientError as error:
        told = error.response
        return told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"]
    metadata, body = reply.pop("ResponseMetadata"), reply.pop("Body", None)
    for name in ("NextContinuationToken", "LastModified", "ContentType"):
        reply[name] = name in reply
    return metadata["HTTPStatusCode"], reply, body and body.read()


@pytest.fixture(scope="module")
def direct(s3: Any) -> Any:
    s3.create_bucket(Bucket="direct", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for key in ("d/a", "d/ü +%2F&<.txt", "d/z", "e"):
        s3.put_object(Bucket="direct", Key=key, Body=b"0123456", Metadata={"state": "whole"})
    return s3


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample[0]} {sample[1].get('Key', '')}")
def test_a_direct_answer_is_the_same_as_that_of_moto(direct: Any, sample: tuple[str, dict[str, Any]]) -> None:
    operation, arguments = sample
    own = answer(direct, operation, arguments)
    assert own == answer(direct, operation, {**arguments, **OWNER})
    if operation == "put_object" and own[0] == 200:
        assert answer(direct, "get_object", {"Key": arguments["Key"]})[1]["Metadata"] == {"one": "1"}


def test_a_long_listing_comes_in_pages_without_what_was_deleted(direct: Any) -> None:
    keys = [f"pages/{number:04d}" for number in range(7)]
    for key in reversed(keys):
        direct.put_object(Bucket="direct", Key=key, Body=b"")
    direct.delete_objects(Bucket="direct", Delete={"Objects": [{"Key": keys[3]}]})
    pages = direct.get_paginator("list_objects_v2").paginate(
        Bucket="direct", Prefix="pages/", PaginationConfig={"PageSize": 2}
    )
    assert [one["Key"] for page in pages for one in page["Contents"]] == keys[:3] + keys[4:]


def test_of_several_who_create_an_object_one_wins(direct: Any) -> None:
    def create(number: int) -> int:
        status: int = answer(direct, "put_object", {"Key": "d/won", "Body": b"%d" % number, "IfNoneMatch": "*"})[0]
        return status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(16))) == [200] + [412] * 15


# Requests without HTTP.


@pytest.fixture(scope="module")
def framed(server: Server, direct: Any) -> Any:
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-west-1")
    Frames(server.url).install(session)
    return session.client("s3", endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample[0]} {sample[1].get('Key', '')}")
def test_a_framed_request_has_the_same_answer_as_one_by_http(
    direct: Any, framed: Any, sample: tuple[str, dict[str, Any]]
) -> None:
    assert answer(framed, *sample) == answer(direct, *sample)
    assert answer(framed, sample[0], {**sample[1], **OWNER}) == answer(direct, *sample)


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, MIB, 3 * MIB + 1])
def test_bodies_of_any_size_pass_in_frames(framed: Any, size: int) -> None:
    body = os.urandom(size)
    framed.put_object(Bucket="direct", Key="body", Body=io.BytesIO(body))
    assert framed.get_object(Bucket="direct", Key="body")["Body"].read() == body
    blocks = framed.get_object(Bucket="direct", Key="body")["Body"].iter_chunks(1000)
    assert b"".join(blocks) == body


def test_an_answer_that_is_not_read_to_its_end_disturbs_no_other(framed: Any) -> None:
    framed.put_object(Bucket="direct", Key="long", Body=bytes(4 * MIB))
    for _ in range(3):
        body = framed.get_object(Bucket="direct", Key="long")["Body"]
        assert body.read(10) == bytes(10)
        body.close()
        assert answer(framed, "get_object", {"Key": "d/a", "Range": "bytes=2-4"})[2] == b"234"


def test_a_framed_request_to_a_server_that_is_gone_fails_as_one_by_http_does() -> None:
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-west-1")
    with Server() as server:
        Frames(server.url).install(session)
        client = session.client("s3", endpoint_url=server.url, config=Config(retries={"total_max_attempts": 1}))
        client.list_buckets()
    for _ in range(2):
        with pytest.raises(HTTPClientError):
            client.list_buckets()


def test_lambda_says_what_the_account_allows(server: Server) -> None:
    functions: Any = SESSION.client("lambda", endpoint_url=server.url)
    assert functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 1000
