"""Uploading: whatever is in a file comes out of the topic again, every byte at its place."""

from __future__ import annotations

import gzip
import tracemalloc
from io import BytesIO
from itertools import pairwise

import pytest
from parcelq.errors import ParcelqError, PublishError, TopicNotFoundError
from parcelq.limits import MAX_MESSAGE_BYTES, MIB
from parcelq.lineage.lineage import Lineage, Span
from parcelq.lineage.source import Source
from parcelq.records import LINES, cut_bytes
from parcelq.topics.attributes import ENTRIES, FIRST, LINEAGE, SOURCE
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.files import upload_files
from parcelq.upload.sources import Uploaded, parcel_messages, upload_stream

SOURCE_OF_TESTS = Source.of_object("b", "inbox/a.smi", etag="e", put="1")

FILES = {
    "empty": b"",
    "one empty line": b"\n",
    "empty lines": b"\n\na\n\n\nb\n\n",
    "crlf": b"a\r\nb\r\n\r\nc\r\n",
    "nul": b"a\0b\nc\n\0\n",
    "invalid utf-8": b"ok\n\xff\xfe\n\xc3\nok\n",
    "emoji": "😀\n🧪🧬\nä\n".encode(),
    "noncharacters": "\uffff\n\ufffe\n".encode(),
    "no newline at the end": b"a\nb\nc",
    "only one unended line": b"abc",
    "a 3 MB line": b"a\n" + b"x" * 3_000_000 + b"\nb\n",
    "a 3 MB line that is no text, at the end": b"a\n" + b"\0" * 3_000_000,
    "lines near the limit": (b"y" * (MAX_MESSAGE_BYTES - 4097) + b"\n") * 2 + (b"\0" * 790_000 + b"\n") * 2,
    "many lines": b"".join(b"line %d\n" % number for number in range(5000)),
    "random bytes": bytes(range(256)) * 20,
}


@pytest.fixture
def contents(overflow, everything_on):
    """What is on a topic, read, in the order of its spans."""

    def read(topic_url: str):
        messages = [overflow.load(one).message() for one in everything_on(topic_url)]
        return sorted(messages, key=lambda one: Lineage.parse(one.attributes[LINEAGE]).order)

    return read


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("parcel_size", [2, 1000])
def test_every_kind_of_file_comes_out_byte_for_byte(sqs, topic, overflow, contents, tmp_path, name, parcel_size):
    data = FILES[name]
    path = tmp_path / "file"
    data = data if parcel_size > 2 else data[:500]  # moto is slow with many messages
    path.write_bytes(data)
    published = upload_files(SqsTopic(sqs, topic, overflow), [path], parcel_size)
    messages = contents(topic)
    assert published == len(messages)
    assert b"".join(one.body for one in messages) == data
    spans = [Lineage.parse(one.attributes[LINEAGE]).span for one in messages]
    assert [span.total for span in spans] == [len(data)] * len(messages)
    assert (spans[0].start, spans[-1].end) == (0, len(data))
    assert all(one.end == following.start for one, following in pairwise(spans))
    assert [len(span) for span in spans] == [len(one.body) for one in messages]
    assert {one.attributes[SOURCE] for one in messages} == {messages[0].attributes[SOURCE]}
    assert all(set(one.attributes) == {SOURCE, LINEAGE, ENTRIES} | ({FIRST} if one.body else set()) for one in messages)
    assert sum(one.entries for one in messages) == data.count(b"\n") + (data[-1:] not in {b"", b"\n"})
    assert all(one.entries <= parcel_size for one in messages)


def test_messages_are_as_full_as_parcel_size_allows(sqs, topic, overflow, contents, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(FILES["many lines"])
    assert upload_files(SqsTopic(sqs, topic, overflow), [path]) == 5
    assert [one.entries for one in contents(topic)] == [1000] * 5


def test_an_empty_file_is_one_message_that_says_so(sqs, topic, contents, tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert upload_files(SqsTopic(sqs, topic), [path]) == 1
    (message,) = contents(topic)
    assert (message.body, message.attributes[LINEAGE], message.attributes[ENTRIES]) == (b"", "0-0/0", "0")


def test_the_source_names_the_file_and_the_upload(sqs, topic, contents, tmp_path):
    path = tmp_path / "my file+ä%.smi"
    path.write_bytes(b"a\n")
    for _ in range(2):
        upload_files(SqsTopic(sqs, topic), [path])
    sources = {Source.parse(one.attributes[SOURCE]) for one in contents(topic)}
    assert {source.key for source in sources} == {str(path)}
    assert len({source.put for source in sources}) == 2


def test_a_file_whose_name_is_no_utf8_can_be_uploaded(sqs, topic, contents, tmp_path):
    path = tmp_path / "\udcff.smi"
    path.write_bytes(b"a\n")
    assert upload_files(SqsTopic(sqs, topic), [path]) == 1
    assert "%FF.smi" in contents(topic)[0].attributes[SOURCE]


def test_an_entry_too_large_without_a_bucket_fails_and_all_others_are_published(sqs, topic, contents, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(FILES["a 3 MB line"])
    with pytest.raises(PublishError, match="no bucket was given") as caught:
        upload_files(SqsTopic(sqs, topic), [path])
    assert len(caught.value.reasons) == 1
    assert [one.body for one in contents(topic)] == [b"a\n", b"b\n"]


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_cannot_be_read_is_an_error(sqs, topic, tmp_path, name):
    with pytest.raises(ParcelqError, match="cannot be read"):
        upload_files(SqsTopic(sqs, topic), [tmp_path / name])


def test_a_topic_that_is_not_there_is_an_error(sqs, topic, tmp_path):
    (tmp_path / "file").write_bytes(b"a\n")
    sqs.delete_queue(QueueUrl=topic)
    with pytest.raises(TopicNotFoundError):
        upload_files(SqsTopic(sqs, topic), [tmp_path / "file"])


def test_several_files_go_one_after_another_and_each_is_reported(sqs, topic, contents, tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for number, path in enumerate(paths):
        path.write_bytes(b"x\n" * (3 + number))
    told = []
    assert upload_files(SqsTopic(sqs, topic), iter(paths), 2, on_file=lambda *one: told.append(one)) == 4
    assert [(path, uploaded.messages) for path, uploaded in told] == [(paths[0], 2), (paths[1], 2)]
    assert len({one.attributes[SOURCE] for one in contents(topic)}) == 2


def test_upload_of_several_files_refuses_all_if_one_is_not_there(sqs, topic, requests, tmp_path):
    (tmp_path / "a").write_bytes(b"x\n")
    with pytest.raises(ParcelqError, match="no such file"):
        upload_files(SqsTopic(sqs, topic), [tmp_path / "a", tmp_path / "none"])
    assert requests.asked == []


class TestStream:
    def test_a_part_of_a_source_is_named_by_its_place_in_it(self, sqs, topic, contents):
        stream = BytesIO(b"a\nb\nc\n")
        uploaded = upload_stream(SqsTopic(sqs, topic), stream, SOURCE_OF_TESTS, 2, total=500, start=100)
        assert uploaded == Uploaded(messages=2, entries=3, end=106, parts=((4, 2), (2, 1)))
        assert [one.attributes[LINEAGE] for one in contents(topic)] == ["100-104/500", "104-106/500"]

    def test_where_only_the_end_shows_the_size_of_a_source_the_last_message_has_it(self, sqs, topic, contents):
        with gzip.open(BytesIO(gzip.compress(b"a\nb\nc\n"))) as stream:
            upload_stream(SqsTopic(sqs, topic), stream, SOURCE_OF_TESTS, 1, total=None)
        assert [one.attributes[LINEAGE] for one in contents(topic)] == ["0-2/*", "2-4/*", "4-6/6"]

    def test_where_the_source_goes_on_behind_the_stream_no_message_has_its_size(self, sqs, topic, contents):
        stream = BytesIO(b"a\nb\n")
        upload_stream(SqsTopic(sqs, topic), stream, SOURCE_OF_TESTS, 1, total=None, start=2, ends=lambda: False)
        assert [one.attributes[LINEAGE] for one in contents(topic)] == ["2-4/*", "4-6/*"]

    def test_a_part_that_owns_no_line_is_no_message(self, sqs, topic, requests):
        uploaded = upload_stream(SqsTopic(sqs, topic), BytesIO(b""), SOURCE_OF_TESTS, 1, total=500, start=100)
        assert uploaded == Uploaded(messages=0, entries=0, end=100)
        assert requests.asked == []

    def test_an_upload_of_a_long_stream_takes_little_memory(self):
        class Generated:
            left = 60 * MIB

            def read(self, size: int, /) -> bytes:
                size = min(size, self.left)
                self.left -= size
                return (b"x" * 63 + b"\n") * (size // 64)

        class Sqs:
            sent = 0

            def send_message_batch(self, QueueUrl: str, Entries: list) -> dict:  # noqa: N803
                self.sent += sum(len(one["MessageBody"]) for one in Entries)
                return {"Successful": [{"Id": one["Id"]} for one in Entries]}

        sqs = Sqs()
        tracemalloc.start()
        try:
            uploaded = upload_stream(SqsTopic(sqs, "url"), Generated(), SOURCE_OF_TESTS, 1000, total=60 * MIB)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (sqs.sent, uploaded.entries, uploaded.end) == (60 * MIB, 60 * MIB // 64, 60 * MIB)
        assert peak < 40 * MIB


def test_parcels_become_messages_one_at_a_time():
    def endless():
        while True:
            yield from cut_bytes(b"a\nb\n", LINES, 1, 10)

    messages = parcel_messages(endless(), SOURCE_OF_TESTS, None, empty=True)
    assert next(messages).attributes == {
        SOURCE: str(SOURCE_OF_TESTS),
        LINEAGE: "0-2/*",
        ENTRIES: "1",
        FIRST: "1,1",
    }


def test_a_stream_without_parcels_is_an_empty_source_or_nothing():
    (message,) = parcel_messages([], SOURCE_OF_TESTS, None, empty=True)
    assert message.attributes[LINEAGE] == str(Lineage(Span(0, 0, 0)))
    assert list(parcel_messages([], SOURCE_OF_TESTS, 9, empty=False)) == []
