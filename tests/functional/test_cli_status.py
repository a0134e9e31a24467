"""`parcelq status` and `parcelq repair`: they list what a source lacks, and publish only that again."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.segments import JobKey, write_segment
from parcelq.collect.status import statuses
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source
from parcelq.records import LINES as PLAIN_LINES
from parcelq.store.bucket import BucketStore
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow
from parcelq.topics.pieces import Piece
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.notes import EntryCounts, note_upload, noted_sources
from parcelq.upload.objects import ObjectUploader
from parcelq.upload.ranges import RangeTask
from parcelq.upload.sources import Uploaded, upload_stream

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]

BUCKET = "a-bucket"
LINES = [b"line %d\n" % number for number in range(6)]
DATA = b"".join(LINES)
LINE = len(LINES[0])
WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class World:
    """A bucket, the topics of a stack, and a step that makes everything upper case."""

    def __init__(self) -> None:
        self.sqs: Any = boto3.client("sqs")
        self.s3: Any = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.store = BucketStore(self.s3, BUCKET)
        self.overflow = Overflow(self.s3, BUCKET)
        self.urls = {
            name: self.sqs.create_queue(QueueName=name)["QueueUrl"]
            for name in ("parcelq-step", "parcelq-output", "parcelq-extra")
        }
        outputs = dict.fromkeys(("parcelq-step", "parcelq-output"), "parcelq-output")
        self.uploader = ObjectUploader(self.store, self.store, 1, outputs)

    def put(self, data: bytes = DATA, name: str = "m.smi", put: str = "0055", **options: str) -> Source:
        answer = self.s3.put_object(Bucket=BUCKET, Key=f"inbox/{name}", Body=data, **options)
        return Source.of_object(BUCKET, f"inbox/{name}", etag=answer["ETag"].strip('"'), put=put)

    def topic(self, name: str) -> SqsTopic:
        return SqsTopic(self.sqs, self.urls[name], self.overflow)

    def upload(self, source: Source, topic: str = "parcelq-step") -> None:
        self.uploader.upload(source, self.topic(topic))

    def upload_range(self, source: Source, start: int, end: int) -> None:
        self.uploader.upload_range(
            RangeTask(str(source), "parcelq-step", start, end, len(DATA)),
            self.topic("parcelq-step"),
            self.topic("parcelq-extra"),
        )

    def take(self, topic: str = "parcelq-step") -> list[Pulled]:
        """All messages of a topic, in the order of their bytes."""
        taken: list[Pulled] = []
        while raw := self.sqs.receive_message(
            QueueUrl=self.urls[topic],
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages"):
            taken += map(Pulled.from_sqs, raw)
            for one in raw:
                self.sqs.delete_message(QueueUrl=self.urls[topic], ReceiptHandle=one["ReceiptHandle"])
        return sorted(taken, key=lambda one: Lineage.parse(one.attributes[LINEAGE]).span.start)

    def process(self, *lost: int, dead: int | None = None) -> list[str]:
        """Do what waits but for the messages of some numbers, and collect it; returns the lineages of what waited."""
        taken = self.take()
        for number, one in enumerate(taken):
            lineage = Lineage.parse(one.attributes[LINEAGE])
            body = one.message().body.upper()
            child = str(lineage.child(Span(0, len(body), len(body)), digest(body)))
            told = {SOURCE: one.attributes[SOURCE], LINEAGE: child, ENTRIES: str(PLAIN_LINES.count(body))}
            if number == dead:
                body, told = b"", {**told, LINEAGE: str(lineage), ENTRIES: "1", DEAD: "exit code 3"}
            if number not in lost:
                self.sqs.send_message(QueueUrl=self.urls["parcelq-output"], **Message(body, told).wire().request())
        self.collect()
        return [one.attributes[LINEAGE] for one in taken]

    def collect(self) -> None:
        topic = SqsTopic(self.sqs, self.urls["parcelq-output"], self.overflow)
        Drainer(topic, self.store, receivers=1, now=lambda: WHEN).drain(0, lambda: 9.0)
        list(Finisher(self.store, "parcelq-output", bucket=BUCKET).finish_all())

    def result(self, source: Source | None = None) -> bytes:
        key = source.names(BUCKET).result if source else "results/m.smi"
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


@pytest.fixture
def world(cli: Cli) -> World:
    return World()


def status(cli: Cli, *arguments: str) -> list[Any]:
    return cli.ok("status", *arguments, "--bucket", BUCKET, "--json").documents


def repair(cli: Cli, name: str, *arguments: str) -> int:
    options = ("--bucket", BUCKET, "--parcel-size", "1", "--json")
    return int(cli.ok("repair", name, *arguments, *options).document["messages"])


def spans(*numbers: int, total: object = len(DATA)) -> list[str]:
    """Lineages of some of the lines."""
    return [f"{LINE * number}-{LINE * (number + 1)}/{total}" for number in numbers]


class TestRepair:
    @pytest.mark.parametrize("lost", [(2,), (5,), (0,), (1, 4), (2, 5), (0, 1, 2, 3, 4, 5)])
    @pytest.mark.parametrize(
        "put",
        [
            lambda world: world.put(),
            lambda world: world.put(gzip.compress(DATA), "m.smi.gz"),
            lambda world: world.put(gzip.compress(DATA), ContentEncoding="gzip"),
        ],
        ids=["plain", "gz", "content-encoding"],
    )
    def test_repair_publishes_the_missing_bytes_and_nothing_else(
        self, cli: Cli, world: World, put: Callable[[World], Source], lost: tuple[int, ...]
    ) -> None:
        source = put(world)
        world.upload(source)
        world.process(*lost)
        assert repair(cli, source.name) == len(lost)
        assert world.process() == spans(*lost)
        assert world.result(source) == DATA.upper()
        assert status(cli) == []

    @pytest.mark.parametrize("noted", [(0, 14), (14, 28), (28, 42)])
    def test_ranges_that_never_came_are_published_though_nothing_was_collected(
        self, cli: Cli, world: World, noted: tuple[int, int]
    ) -> None:
        world.upload_range(world.put(), *noted)
        world.take()
        (one,) = status(cli)
        assert (one["total"], one["percent"], one["holes"]) == (len(DATA), 0, [[0, len(DATA)]])
        repair(cli, "m.smi")
        assert world.process() == spans(0, 1, 2, 3, 4, 5)
        assert world.result() == DATA.upper()

    def test_repair_closes_a_hole_between_ranges(self, cli: Cli, world: World) -> None:
        source = world.put()
        world.upload_range(source, 0, 20)
        world.upload_range(source, 20, 42)
        world.process(1, 4)
        assert repair(cli, "m.smi") == 2
        assert world.process() == spans(1, 4)
        assert world.result() == DATA.upper()

    def test_repair_publishes_all_holes_although_a_status_lists_only_the_first(
        self, cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.collect.resolution.MOST_HOLES", 1)
        world.upload(world.put())
        world.process(0, 2, 5)
        (one,) = status(cli)
        assert (len(one["holes"]), one["hole_count"]) == (1, 3)
        assert repair(cli, "m.smi") == 3
        assert world.process() == spans(0, 2, 5)
        assert world.result() == DATA.upper()

    def test_repair_does_not_publish_a_dead_entry_again(self, cli: Cli, world: World) -> None:
        world.upload(world.put())
        world.process(4, dead=1)
        assert repair(cli, "m.smi") == 1
        assert world.process() == spans(4)
        assert world.result() == b"".join(LINES[:1] + LINES[2:]).upper()
        assert repair(cli, "m.smi") == 0

    def test_repair_publishes_an_empty_source_again(self, cli: Cli, world: World) -> None:
        world.upload(world.put(b""))
        world.process(0)
        assert repair(cli, "m.smi") == 1
        assert world.process() == ["0-0/0"]
        assert world.result() == b""

    def test_a_compressed_source_may_be_much_larger_than_its_object(self, cli: Cli, world: World) -> None:
        data = (b"A" * 1000 + b"\n") * 3
        world.upload(world.put(gzip.compress(data), ContentEncoding="gzip"))
        world.process(2)
        repair(cli, "m.smi")
        world.process()
        assert world.result() == data

    def test_nothing_is_guessed_if_a_note_does_not_say_how_large_the_source_is(self, cli: Cli, world: World) -> None:
        note_upload(world.store, str(world.put()), 14, Uploaded(1, 1, 21))
        (one,) = status(cli)
        assert (one["total"], one["percent"], one["holes"]) == (None, None, [])
        assert one["missing"] == {"bytes": None, "percent": None, "entries": None}
        done = cli.ok("repair", "m.smi", "--bucket", BUCKET)
        assert done.text == "published 0 messages again\n"
        assert "the size of m.smi is unknown" in done.err
        assert world.take() == []

    @pytest.mark.parametrize(("lost", "repaired"), [((2, 5), [2]), ((1, 3, 4), [1, 3, 4])])
    def test_no_hole_of_an_upload_that_never_ended_pretends_to_be_the_end(
        self, cli: Cli, world: World, lost: tuple[int, ...], repaired: list[int]
    ) -> None:
        source = world.put(gzip.compress(DATA), "m.smi.gz")
        topic, stream = world.topic("parcelq-step"), BytesIO(DATA)
        upload_stream(topic, stream, source, 1, total=None, ends=lambda: False)
        world.process(*lost)
        (one,) = status(cli)
        assert one["total"] is None
        repair(cli, "m.smi.gz")
        assert world.process() == spans(*repaired, total="*")
        assert list(world.store.keys("results/")) == []
        world.upload(source)  # Lambda tries again
        world.process()
        assert world.result(source) == DATA.upper()

    def test_lines_go_to_the_topic_that_they_were_uploaded_to_or_to_one_that_is_given(
        self, cli: Cli, world: World
    ) -> None:
        world.uploader = ObjectUploader(world.store, world.store, 1)
        world.upload(world.put(), "parcelq-extra")
        world.take("parcelq-extra")
        assert repair(cli, "m.smi") == 6
        assert len(world.take("parcelq-extra")) == 6
        assert repair(cli, "m.smi", "--input-topic", "parcelq-step") == 6
        assert len(world.take()) == 6

    def test_repair_takes_the_latest_of_several_puts(self, cli: Cli, world: World) -> None:
        for put in ("0054", "0056", "0055"):
            world.upload(world.put(DATA + put.encode() if put != "0056" else DATA, put=put))
        world.put(put="0056")
        world.take()
        assert repair(cli, "m.smi") == 6
        assert {Source.parse(one.attributes[SOURCE]).put for one in world.take()} == {"0056"}

    def test_repair_refuses_a_source_that_was_replaced(self, cli: Cli, world: World) -> None:
        world.upload(world.put())
        world.put(b"another\n")
        error = cli.fails("repair", "m.smi", "--bucket", BUCKET, "--quiet")
        assert "cannot be repaired: it was deleted or replaced after it was put" in error

    def test_repair_refuses_a_source_that_is_a_local_file(self, cli: Cli, world: World) -> None:
        text = str(Source.of_file("/a/x.txt", "00"))
        write_segment(world.store, "parcelq-output", JobKey(text), [Piece("0-5/10", b"abcd\n", 1)], [], WHEN, WHEN)
        error = cli.fails("repair", "x.txt", "--bucket", BUCKET)
        assert "file:///a/x.txt cannot be repaired: it is a file of the machine that uploaded it" in error

    def test_repair_refuses_a_name_that_status_does_not_list(self, cli: Cli, world: World) -> None:
        assert "must be an incomplete source" in cli.fails("repair", "m.smi", "--bucket", BUCKET)

    def test_a_source_is_never_taken_for_another_with_a_similar_name(self, cli: Cli, world: World) -> None:
        world.upload(world.put(gzip.compress(DATA), "m n.smi.gz"))
        world.take()
        assert repair(cli, "m n.smi.gz") == 6
        assert "'m n.smi', but must be" in cli.fails("repair", "m n.smi", "--bucket", BUCKET)


class TestStatus:
    def test_status_calls_a_finished_source_whole(self, cli: Cli, world: World) -> None:
        source = world.put()
        world.upload(source)
        world.process()
        done = cli.ok("status", "m.smi", "--bucket", BUCKET)
        assert done.text.splitlines() == [
            "m.smi  whole",
            "  format  lines",
            "  read    6 entries",
            "  written 6 entries",
            "  dead    0 entries",
            "  missing 0 entries",
            "  result  results/m.smi",
        ]
        assert cli.ok("status", "m.smi", "--bucket", BUCKET, "--json").document["complete"] is True

    def test_status_never_calls_a_source_with_dead_entries_whole(self, cli: Cli, world: World) -> None:
        world.upload(world.put())
        world.process(dead=2)
        assert "dead      16.7 %  7 bytes, 1 entry" in cli.ok("status", "m.smi", "--bucket", BUCKET).text
        world.store.delete(world.store.keys("segments/"))  # as the bucket does after a time
        done = cli.ok("status", "m.smi", "--bucket", BUCKET).text
        assert "m.smi  not whole" in done
        assert "dead    1 entry" in done

    @pytest.mark.parametrize("command", ["status", "repair"])
    def test_a_bucket_that_is_not_there_is_named(self, cli: Cli, command: str) -> None:
        assert cli.fails(command, "x", "--bucket", "no-such-bucket") == "parcelq: there is no bucket 'no-such-bucket'\n"

    def test_status_of_a_name_that_never_was_is_an_error(self, cli: Cli, world: World) -> None:
        error = cli.fails("status", "nowhere.smi", "--bucket", BUCKET)
        assert error == "parcelq: no source is known whose name contains 'nowhere.smi'\n"

    def test_a_file_in_the_inbox_that_nothing_was_uploaded_of_is_said_to_be_there(self, cli: Cli, world: World) -> None:
        world.put(name="new.smi")
        assert "It is in the inbox, but has not been uploaded" in cli.fails("status", "new.smi", "--bucket", BUCKET)

    def test_a_name_with_a_line_end_stays_within_its_line(self, cli: Cli, world: World) -> None:
        source = Source.of_object(BUCKET, "inbox/two\nlines\x1b[31m.smi", etag="e", put="1")
        note_upload(world.store, str(source), 0, Uploaded(1, 1, 7), topic="parcelq-step", output="parcelq-output")
        first, *_ = cli.ok("status", "--bucket", BUCKET).text.splitlines()
        assert first == r"two\nlines\x1b[31m.smi  uploaded to parcelq-step"

    def test_status_gives_what_is_covered_dead_and_missing_in_percent_and_entries(self, cli: Cli, world: World) -> None:
        world.upload(world.put())
        world.process(0, 4, 5, dead=2)
        (one,) = status(cli)
        assert one["covered"] == {"bytes": 14, "percent": 33.33, "entries": 2}
        assert one["dead"] == {"bytes": 7, "percent": 16.67, "entries": 1}
        assert one["missing"] == {"bytes": 21, "percent": 50.0, "entries": 3}
        assert (one["entries_read"], one["entries_written"]) == (6, 2)
        assert one["holes"] == [[0, 7], [28, 42]]
        assert one["deaths"] == [{"start": 14, "end": 21, "entries": 1, "reason": "exit code 3"}]
        lines = cli.ok("status", "--bucket", BUCKET).text.splitlines()
        assert lines == [
            "m.smi  uploaded to parcelq-step",
            "  " + "█" * 13 + "▒" * 7 + "░" * 20 + "  42 bytes, 6 entries",
            "  covered   33.3 %  14 bytes, 2 entries",
            "  dead      16.7 %  7 bytes, 1 entry",
            "  missing   50.0 %  21 bytes, 3 entries, 2 holes",
        ]

    def test_status_says_what_is_not_known_and_draws_no_bar_for_it(self, cli: Cli, world: World) -> None:
        note_upload(world.store, str(world.put()), 0, Uploaded(1, 1, 7))
        assert cli.ok("status", "--bucket", BUCKET).text.splitlines() == [
            "m.smi",
            "  its size is not known yet",
            "  covered       ?   0 bytes, 0 entries",
            "  dead          ?   0 bytes, 0 entries",
            "  missing       ?   unknown bytes, unknown entries",
        ]

    def test_status_does_not_guess_numbers_of_entries_from_bytes(self, cli: Cli, world: World) -> None:
        source = str(world.put())
        note_upload(world.store, source, 0, Uploaded(1, 6, len(DATA)), total=len(DATA))
        write_segment(world.store, "parcelq-output", JobKey(source), [Piece("0-7/42", b"x", 1)], [], WHEN, WHEN)
        (one,) = status(cli)
        assert (one["covered"]["entries"], one["missing"]["entries"], one["entries_read"]) == (None, None, 6)

    def test_the_tail_of_a_compressed_source_is_missing_once_its_size_is_noted(self, cli: Cli, world: World) -> None:
        world.upload(world.put(gzip.compress(DATA), "m.smi.gz"))
        world.process(5)
        (one,) = status(cli)
        assert (one["total"], one["holes"]) == (42, [[35, 42]])

    def test_status_leaves_out_sources_that_lead_to_another_topic(self, cli: Cli, world: World) -> None:
        world.upload(world.put(name="parcelq-extra/m.smi"), "parcelq-extra")
        assert status(cli) == []
        (one,) = status(cli, "--topic", "parcelq-extra")
        assert one["topic"] == "parcelq-extra"

    def test_status_leaves_out_a_note_that_comes_after_the_result(self, cli: Cli, world: World) -> None:
        source = world.put()
        world.upload(source)
        world.process()
        note_upload(world.store, str(source), 0, Uploaded(6, 6, 42), total=42)
        note_upload(world.store, str(world.put(put="0054")), 0, Uploaded(6, 6, 42), total=42)
        assert status(cli) == []
        note_upload(world.store, str(world.put(put="0056")), 0, Uploaded(6, 6, 42), total=42)
        assert len(status(cli)) == 1

    def test_status_finds_a_source_by_its_decoded_and_by_its_encoded_name(self, cli: Cli, world: World) -> None:
        world.upload(world.put(name="two words.smi"))
        for text in ("two w", "two%20w", ""):
            assert len(status(cli, text)) == 1
        assert "whose name contains 'three'" in cli.fails("status", "three", "--bucket", BUCKET)

    def test_a_segment_that_cannot_be_read_does_not_hide_other_sources(self, cli: Cli, world: World) -> None:
        world.upload(world.put())
        world.store.put("segments/parcelq-output/000/x-5.seg", b"hello")
        done = cli.ok("status", "--bucket", BUCKET, "--json")
        assert len(done.documents) == 1
        assert "is not a segment" in done.err

    def test_status_says_that_there_is_no_unfinished_source(self, cli: Cli, world: World) -> None:
        done = cli.ok("status", "--bucket", BUCKET)
        assert (done.text, done.err) == ("", "there is no unfinished source\n")

    def test_status_lists_as_many_holes_and_dead_entries_as_were_asked_for(self, world: World) -> None:
        world.upload(world.put())
        world.process(0, 2, 4, dead=1)
        (one,) = statuses(world.store, "parcelq-output")
        document = one.document(1)
        assert (document["holes"], document["hole_count"]) == ([[0, 7]], 3)
        assert (len(document["deaths"]), document["death_count"]) == (1, 1)


class TestNotes:
    def test_a_long_upload_is_noted_in_a_few_ranges(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("parcelq.upload.sources._MOST_PARTS", 4)
        world.upload(world.put())
        ((note,),) = noted_sources(world.store).values()
        assert note.parts == ((14, 2), (14, 2), (14, 2))
        counts = EntryCounts([note], 42)
        assert counts.between(14, 42) == 4
        assert counts.between(7, 42) is None
        assert counts.between(14, 35) is None
