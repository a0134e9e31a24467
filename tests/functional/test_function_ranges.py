"""The uploader's handler: large objects are uploaded range by range."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable

import pytest
from function_world import MOLECULES, Stack, event, result_of, spans
from parcelq.records import by_name
from parcelq.topics.attributes import ENTRIES, LINEAGE, REASON
from parcelq.topics.message import Message, Pulled
from parcelq.topics.sqs import SqsTopic
from parcelq.topics.topic import FailedMessage, Published

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

RECORDS = {
    "orders.csv": (
        b'id,note\r\n1,"two\nlines"\r\n2,"a ""quoted"" word"\r\n3,\r\n4,"\n\n\n"\r\n5,plain\r\n',
        b"id,note\r\n",
        5,
    ),
    "sheet.tsv": (b"\xef\xbb\xbfid\tnote\n1\ta\n2\tb\n", b"\xef\xbb\xbfid\tnote\n", 2),
    "proteins.fasta": (b"".join(b">p%d\n%s\n" % (n, b"MKV\n" * n) for n in range(6)), b"", 6),
    "molecules.sdf": (b"".join(b"m%d\n\n%s$$$$\n" % (n, b"atom\n" * n) for n in range(6)), b"", 6),
    "reads.fastq": (b"".join(b"@r%d\nACGT\n+\n@+II\n" % n for n in range(9)), b"", 9),
    "lines.jsonl": (b'{"a": 1}\n' * 9, b"", 9),
}
"""By name: a file, its header, and how many records it has."""


class TestRanges:
    @pytest.mark.parametrize("range_bytes", [1, 7, 12, 13, 64, len(MOLECULES) - 1])
    def test_a_large_object_is_uploaded_range_by_range(
        self, stack: Stack, settings: Callable[..., None], range_bytes: int
    ) -> None:
        settings(RANGE_BYTES=range_bytes)
        stack.call("uploader", stack.put(MOLECULES))
        assert stack.take("parcelq-step") == []
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        found = spans(messages)
        assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
        assert result_of(messages) == MOLECULES

    def test_an_object_as_large_as_a_range_is_uploaded_at_once(
        self, stack: Stack, settings: Callable[..., None]
    ) -> None:
        settings(RANGE_BYTES=len(MOLECULES))
        stack.call("uploader", stack.put(MOLECULES))
        assert stack.take("parcelq-ranges") == []
        assert result_of(stack.take("parcelq-step")) == MOLECULES

    @pytest.mark.parametrize(("key", "options"), [("inbox/m.smi.gz", {}), ("inbox/m.smi", {"ContentEncoding": "gzip"})])
    def test_a_compressed_object_is_never_cut_into_ranges(
        self, stack: Stack, settings: Callable[..., None], key: str, options: dict[str, str]
    ) -> None:
        settings(RANGE_BYTES=10)
        stack.call("uploader", stack.put(gzip.compress(MOLECULES), key=key, **options))
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        assert len(messages) == 2
        assert result_of(messages) == MOLECULES

    def test_the_event_of_a_range_publishes_the_lines_that_start_in_it(self, stack: Stack) -> None:
        etag = stack.put(MOLECULES)["Records"][0]["s3"]["object"]["eTag"]
        given = event("sqs_ranges")
        given["Records"][0]["body"] = given["Records"][0]["body"].replace("c2ea9eccdd093b1d8d53226e9a71e5b4", etag)
        assert stack.call("uploader", given) == {"batchItemFailures": []}
        messages = stack.take("parcelq-step")
        assert spans(messages)[-1][1] == MOLECULES.index(b"NCC")

    def test_a_range_that_fails_is_delivered_again_alone(self, stack: Stack, settings: Callable[..., None]) -> None:
        settings(RANGE_BYTES=40)
        stack.call("uploader", stack.put(MOLECULES))
        delivered = stack.deliver("parcelq-ranges")
        bad = delivered["Records"][1] | {"messageId": "bad"}
        bad["body"] = json.dumps(json.loads(bad["body"]) | {"topic": "parcelq-none"})
        delivered["Records"].append(bad)
        assert stack.call("uploader", delivered) == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
        assert result_of(stack.take("parcelq-step")) == MOLECULES
        assert stack.take("parcelq-ranges-dead-letter") == []

    @pytest.mark.parametrize(
        "body",
        [
            "no json",
            "[]",
            "3",
            "{}",
            '{"Records": [5]}',
            '{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]}',
            '{"source": "ftp://x", "topic": "parcelq-step", "start": 0, "end": 9, "total": 9}',
            '{"source": 5, "topic": "parcelq-step", "start": 0, "end": 9, "total": 9}',
            '{"source": "s3://b/k?put=1", "topic": "parcelq-step", "start": "0", "end": 9, "total": 9}',
            '{"source": "s3://b/k?put=1", "topic": "parcelq-none", "start": 0, "end": 9, "total": 9}',
        ],
    )
    def test_a_message_that_is_no_task_becomes_a_dead_letter_at_once(
        self, stack: Stack, settings: Callable[..., None], body: str
    ) -> None:
        settings(RANGE_BYTES=40)
        stack.call("uploader", stack.put(MOLECULES))
        stack.publish("parcelq-ranges", Message(body.encode()))
        delivered = stack.deliver("parcelq-ranges")
        assert stack.call("uploader", delivered) == {"batchItemFailures": []}
        assert result_of(stack.take("parcelq-step")) == MOLECULES
        (letter,) = stack.take("parcelq-ranges-dead-letter")
        assert letter.message().body == body.encode()
        assert letter.attributes[REASON]

    def test_a_message_that_is_no_task_is_delivered_again_if_it_cannot_become_a_dead_letter(self, stack: Stack) -> None:
        stack.publish("parcelq-ranges", Message(b"no json"))
        delivered = stack.deliver("parcelq-ranges")
        stack.monkeypatch.setattr(
            SqsTopic, "publish", lambda *_: Published(0, [FailedMessage(Message(b""), "x", "no", True)])
        )
        assert len(stack.call("uploader", delivered)["batchItemFailures"]) == 1

    def test_an_event_of_s3_that_is_redriven_uploads_its_objects(self, stack: Stack) -> None:
        """Lambda sends an event to the dead-letter topic of ranges if the uploader failed on it three times."""
        given = stack.put(MOLECULES)
        attributes = {"ErrorCode": {"DataType": "String", "StringValue": "200"}}
        url = stack.urls["parcelq-ranges-dead-letter"]
        stack.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(given), MessageAttributes=attributes)
        stack.call("topic_admin", {"action": "redrive", "topic": "parcelq-ranges"})
        stack.run("uploader", "parcelq-ranges")
        assert result_of(stack.take("parcelq-step")) == MOLECULES
        assert stack.take("parcelq-ranges-dead-letter") == []

    @pytest.mark.parametrize("receives", [1, 3])
    def test_a_range_is_delivered_again_soon_after_it_failed_or_its_uploader_died(
        self, stack: Stack, settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch, receives: int
    ) -> None:
        deadlines: list[int] = []

        def refresh_deadline(_topic: SqsTopic, messages: Iterable[Pulled], seconds: int) -> list[Pulled]:
            deadlines.extend(seconds for _ in messages)
            return []

        monkeypatch.setattr(SqsTopic, "refresh_deadline", refresh_deadline)
        settings(RANGE_BYTES=len(MOLECULES) - 1)
        stack.call("uploader", stack.put(MOLECULES))
        delivered = {"Records": stack.deliver("parcelq-ranges")["Records"][:1]}
        delivered["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(receives)
        assert stack.call("uploader", delivered) == {"batchItemFailures": []}
        assert deadlines == [300 + 20]
        stack.sqs.delete_queue(QueueUrl=stack.urls["parcelq-step"])
        assert stack.call("uploader", delivered)["batchItemFailures"]
        assert deadlines[2:] == [5 * 2 ** (receives - 1)]

    @pytest.mark.parametrize("range_bytes", [3, 16, 40, 200])
    @pytest.mark.parametrize("name", RECORDS)
    def test_an_object_of_any_format_is_uploaded_range_by_range(
        self, stack: Stack, settings: Callable[..., None], name: str, range_bytes: int
    ) -> None:
        data, header, records = RECORDS[name]
        settings(RANGE_BYTES=range_bytes, PARCEL_SIZE=2)
        stack.call("uploader", stack.put(data, key=f"inbox/{name}"))
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        assert result_of(messages) == data
        assert sum(one.message().entries for one in messages) == records
        bodies = [one.message() for one in messages if one.attributes[ENTRIES] != "0"]
        fmt = by_name(name)
        assert all(fmt.count(one.body) == one.entries for one in bodies)
        assert [one.message().body for one in messages if one.attributes[ENTRIES] == "0"] == [header] * bool(header)
        assert {one.attributes.get("Header", "") for one in bodies} == {base64.b64encode(header).decode()}

    def test_ranges_of_csv_whose_scan_is_delivered_again_are_the_same(
        self, stack: Stack, settings: Callable[..., None]
    ) -> None:
        data, _, records = RECORDS["orders.csv"]
        settings(RANGE_BYTES=16, PARCEL_SIZE=2)
        stack.call("uploader", stack.put(data, key="inbox/orders.csv"))
        scans = stack.deliver("parcelq-ranges")
        while (more := stack.deliver("parcelq-ranges"))["Records"]:
            scans["Records"] += more["Records"]
        assert all(json.loads(one["body"])["scan"] for one in scans["Records"])
        for record in [*scans["Records"][::-1], *scans["Records"]]:
            assert stack.call("uploader", {"Records": [record]}) == {"batchItemFailures": []}
        stack.run("uploader", "parcelq-ranges")
        messages = stack.take("parcelq-step")
        unique = list({one.attributes[LINEAGE]: one for one in messages}.values())
        assert result_of(unique) == data
        assert sum(one.message().entries for one in unique) == records

    def test_a_long_header_travels_as_an_object(self, stack: Stack) -> None:
        header = ",".join(f"column{number}" for number in range(300)).encode() + b"\n"
        stack.call("uploader", stack.put(header + b"1,2\n", key="inbox/wide.csv"))
        stack.run("uploader", "parcelq-ranges")
        (key,) = {one.attributes["Header"] for one in stack.take("parcelq-step") if "Header" in one.attributes}
        assert stack.get(key) == header

    def test_ranges_of_an_object_that_was_replaced_are_left_to_its_later_put(
        self, stack: Stack, settings: Callable[..., None]
    ) -> None:
        settings(RANGE_BYTES=40)
        stack.call("uploader", stack.put(MOLECULES))
        later = stack.put(MOLECULES.lower(), sequencer="0055AED6DCD90281FF")
        stack.run("uploader", "parcelq-ranges")
        assert stack.messages() == 0
        stack.call("uploader", later)
        stack.run("uploader", "parcelq-ranges")
        assert result_of(stack.take("parcelq-step")) == MOLECULES.lower()

    @pytest.mark.parametrize("name", ["orders.csv", "orders.csv.gz"])
    def test_a_stream_without_time_for_all_of_it_is_handed_on(
        self, stack: Stack, settings: Callable[..., None], name: str
    ) -> None:
        data, _, records = RECORDS["orders.csv"]
        settings(PARCEL_SIZE=2)
        content = gzip.compress(data) if name.endswith("gz") else data
        stack.call("uploader", stack.put(content, key=f"inbox/{name}"), [1])
        messages, tasks = stack.take("parcelq-step"), 0
        while (delivered := stack.deliver("parcelq-ranges"))["Records"]:
            # There is time to skip what was uploaded before, and then none.
            answer = stack.call("uploader", delivered, [300_000, 300_000, 1] if name.endswith("gz") else [1])
            stack.acknowledge("parcelq-ranges", delivered, answer)
            messages += stack.take("parcelq-step")
            tasks += 1
        assert tasks == (records - 1) // 2
        unique = list({one.attributes[LINEAGE]: one for one in messages}.values())
        assert result_of(unique) == data
        assert sum(one.message().entries for one in unique) == records

    def test_ranges_of_an_object_that_is_gone_are_done(self, stack: Stack) -> None:
        assert stack.call("uploader", event("sqs_ranges")) == {"batchItemFailures": []}
        assert stack.messages() == 0
