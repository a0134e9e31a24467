"""`parcelq dead` and `parcelq topics redrive`."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from parcelq.lineage.lineage import Lineage, Span
from parcelq.lineage.source import Source
from parcelq.process.dead import NO_REASON, Circumstances, dead_letter
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Wire
from parcelq.topics.overflow import Overflow

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]

BUCKET = "a-bucket"
LINES = [b"first\n", b"second\n", b"third\n", b"fourth\n"]
DATA = b"".join(LINES)
START = len(LINES[0] + LINES[1])
END = START + len(LINES[2])
WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class World:
    """A topic with its dead letters, and a bucket."""

    def __init__(self, cli: Cli) -> None:
        self.url = cli.ok("topics", "create", "t").text.strip()
        self.sqs: Any = boto3.client("sqs")
        self.s3: Any = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def put(self, key: str = "inbox/a b.smi", data: bytes = DATA, **options: str) -> Source:
        answer = self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, **options)
        etag, version = answer["ETag"].strip('"'), answer.get("VersionId", "")
        return Source.of_object(BUCKET, key, etag=etag, put="0055", version=version)

    def send(self, wire: Wire) -> str:
        return self.sqs.send_message(QueueUrl=f"{self.url}-dead-letter", **wire.request())["MessageId"]

    def die(self, message: Message, reason: str = "exit code 3: no such atom") -> str:
        """Send the dead letter of a message that failed permanently, and return its id."""
        about = Circumstances("strict.py", WHEN.timestamp(), "wf-7")
        return self.send(dead_letter(message, reason, about, 2).wire())

    def third_line(self, source: Source | str, body: bytes = LINES[2], **more: str) -> Message:
        """The third line of a source, as a message."""
        lineage = f"{START}-{START + len(body)}/{len(DATA)}"
        return Message(body, {SOURCE: str(source), LINEAGE: lineage, ENTRIES: "1", **more})

    def count(self, topic: str = "t-dead-letter") -> int:
        url = self.sqs.get_queue_url(QueueName=topic)["QueueUrl"]
        name = "ApproximateNumberOfMessages"
        return int(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


@pytest.fixture
def world(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("parcelq.process.redrive._QUIET_SECONDS", 0)
    return World(cli)


class TestDead:
    def line(self, cli: Cli) -> int | None:
        """The line number of the only dead letter, the same as text and as JSON."""
        told: int | None = cli.ok("dead", "t", "--json").document["line"]
        assert f"line {told or 'unknown'}: " in cli.ok("dead", "t").text
        return told

    def test_dead_says_which_line_failed_and_why(self, cli: Cli, world: World) -> None:
        world.die(world.third_line(world.put()))
        done = cli.ok("dead", "t")
        assert done.text == "s3://a-bucket/inbox/a%20b.smi, line 3: 'third': exit code 3: no such atom\n"
        assert done.err == "1 dead letter\n"
        assert world.count() == 1

    def test_dead_with_json_prints_all_that_is_known_of_a_dead_letter(self, cli: Cli, world: World) -> None:
        name = world.die(world.third_line(world.put(), Workflow="wf-1"))
        assert cli.ok("dead", world.url, "--json").document == {
            "message_id": name,
            "source": "s3://a-bucket/inbox/a%20b.smi",
            "version": "0055",
            "line": 3,
            "start": START,
            "end": END,
            "lineage": f"{START}-{END}/{len(DATA)}",
            "entries": 1,
            "entry": "third\n",
            "encoding": "utf-8",
            "reason": "exit code 3: no such atom",
            "step": "strict.py",
            "workflow": "wf-7",
            "failed_at": "2026-11-23T12:00:00+00:00",
            "runs": 2,
        }

    def test_a_dead_letter_that_sqs_moved_is_shown_without_a_reason(self, cli: Cli, world: World) -> None:
        world.send(world.third_line(world.put()).wire())
        document = cli.ok("dead", "t", "--json").document
        assert (document["line"], document["reason"], document["runs"]) == (3, NO_REASON, None)

    def test_a_topic_without_dead_letters_says_so(self, cli: Cli, world: World) -> None:
        done = cli.ok("dead", "t")
        assert (done.out, done.err) == (b"", "0 dead letters\n")

    def test_dead_says_that_a_topic_is_not_there(self, cli: Cli, world: World) -> None:
        assert "topic 'x': there is no topic of that name" in cli.fails("dead", "x")

    @pytest.mark.parametrize(
        ("body", "shown", "entry", "encoding"),
        [
            (b"nul \0 and bell \a\n", r"'nul \x00 and bell \x07'", "nul \0 and bell \a\n", "utf-8"),
            ("😀 \u2028 \uffff\n".encode(), r"'😀 \u2028 \uffff'", "😀 \u2028 \uffff\n", "utf-8"),
            (b"\xff\xfe bad\n", r"b'\xff\xfe bad'", base64.b64encode(b"\xff\xfe bad\n").decode(), "base64"),
            (b"several\nlines\n", "'several' …", "several\nlines\n", "utf-8"),
            (b"x" * 5000 + b"\n", f"'{'x' * 80}' …", "x" * 5000 + "\n", "utf-8"),
            (b"\n", "''", "\n", "utf-8"),
        ],
    )
    def test_an_entry_is_shown_as_it_is_whatever_it_travels_as(
        self, cli: Cli, world: World, body: bytes, shown: str, entry: str, encoding: str
    ) -> None:
        world.die(Message(body))
        assert cli.ok("dead", "t").text.startswith(f"no source, line unknown: {shown}: exit code 3")
        document = cli.ok("dead", "t", "--json").document
        assert (document["entry"], document["encoding"]) == (entry, encoding)
        assert (document["source"], document["start"], document["end"]) == ("", None, None)

    def test_an_entry_that_lies_in_s3_is_fetched(self, cli: Cli, world: World) -> None:
        world.send(Overflow(world.s3, BUCKET).offload(Message(b"\xff large\n").wire()))
        assert "b'\\xff large'" in cli.ok("dead", "t").text
        document = cli.ok("dead", "t", "--json").document
        assert base64.b64decode(document["entry"]) == b"\xff large\n"

    def test_a_missing_body_is_reported_and_the_others_are_listed(self, cli: Cli, world: World) -> None:
        world.send(Overflow(world.s3, BUCKET).offload(Message(b"large\n").wire()))
        (gone,) = world.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        world.s3.delete_object(Bucket=BUCKET, Key=gone["Key"])
        world.die(Message(b"other\n"))
        done = cli.ok("dead", "t", "--json")
        one, other = sorted(done.documents, key=lambda document: str(document["entry"]))
        assert (one["entry"], one["encoding"]) == (None, None)
        assert one["problem"] == f"the body should be at s3://{BUCKET}/{gone['Key']}, but this object does not exist"
        assert (other["entry"], "problem" in other) == ("other\n", False)
        assert one["problem"] in cli.ok("dead", "t").text

    def test_a_dead_letter_with_an_unknown_encoding_is_reported(self, cli: Cli, world: World) -> None:
        world.send(Wire("odd", {"Encoding": "rot13"}))
        assert "rot13" in cli.ok("dead", "t").text

    def test_an_object_that_was_replaced_gives_no_line_number(self, cli: Cli, world: World) -> None:
        source = world.put()
        world.die(world.third_line(source))
        assert self.line(cli) == 3
        world.put(data=b"\n" + DATA)
        assert self.line(cli) is None
        assert cli.ok("dead", "t", "--json").document["start"] == START

    @pytest.mark.parametrize("bucket", [BUCKET, "no-such-bucket"])
    def test_an_object_that_is_gone_gives_no_line_number(self, cli: Cli, world: World, bucket: str) -> None:
        source = Source.of_object(bucket, "inbox/x", etag="e", put="1")
        world.die(world.third_line(source))
        assert self.line(cli) is None

    def test_in_a_bucket_with_versions_dead_counts_lines_in_the_version_that_was_put(
        self, cli: Cli, world: World
    ) -> None:
        world.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        source = world.put()
        world.put(data=b"\n" + DATA)
        world.die(world.third_line(source))
        assert self.line(cli) == 3
        assert cli.ok("dead", "t", "--json").document["version"] == source.version

    @pytest.mark.parametrize(("key", "options"), [("inbox/a.gz", {}), ("inbox/a", {"ContentEncoding": "gzip"})])
    def test_lines_of_a_compressed_object_are_counted_in_what_it_holds(
        self, cli: Cli, world: World, key: str, options: dict[str, str]
    ) -> None:
        world.die(world.third_line(world.put(key, gzip.compress(DATA), **options)))
        assert self.line(cli) == 3

    def test_an_object_that_is_only_named_compressed_gives_no_line_number(self, cli: Cli, world: World) -> None:
        world.die(world.third_line(world.put("inbox/a.gz")))
        assert self.line(cli) is None

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            (lambda data: data, 3),
            (lambda data: b"\n" + data, None),
            (lambda data: data + b"more\n", None),
            (lambda data: data.replace(b"third", b"THIRD"), None),
            (lambda data: b"", None),
        ],
        ids=["the same", "a line before", "a line behind", "another line", "empty"],
    )
    def test_a_file_that_has_changed_gives_no_line_number(
        self, cli: Cli, world: World, tmp_path: Path, change: Callable[[bytes], bytes], line: int | None
    ) -> None:
        file = tmp_path / "a b.txt"
        file.write_bytes(change(DATA))
        world.die(world.third_line(Source.of_file(str(file), "1")))
        assert self.line(cli) == line

    def test_a_file_that_is_gone_gives_no_line_number(self, cli: Cli, world: World, tmp_path: Path) -> None:
        world.die(world.third_line(Source.of_file(str(tmp_path / "none"), "1")))
        assert self.line(cli) is None

    def test_the_output_of_a_step_is_located_by_its_origin(self, cli: Cli, world: World, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        file.write_bytes(DATA)
        parents = [Lineage(Span(START, END, len(DATA))), Lineage(Span(6, len(DATA), len(DATA)))]
        for source in (Source.of_file(str(file), "1"), world.put()):
            for parent in parents:
                child = parent.child(Span(0, 5, 10), "0123456789abcdef")
                world.die(Message(b"made\n", {SOURCE: str(source), LINEAGE: str(child), ENTRIES: "1"}))
        told = [(one["line"], one["start"], one["end"]) for one in cli.ok("dead", "t", "--json").documents]
        assert sorted(told) == [(2, 6, len(DATA))] * 2 + [(3, START, END)] * 2

    @pytest.mark.parametrize("told", [{SOURCE: "mine"}, {LINEAGE: "1-2-3"}, {SOURCE: "s3://b/k?put=1", LINEAGE: "x"}])
    def test_a_dead_letter_with_a_nonsensical_lineage_is_shown_nevertheless(
        self, cli: Cli, world: World, told: dict[str, str]
    ) -> None:
        world.die(Message(b"a\n", told))
        document = cli.ok("dead", "t", "--json").document
        assert (document["line"], document["start"], document["lineage"]) == (None, None, told.get(LINEAGE, ""))


class TestRedrive:
    def test_redrive_sends_all_dead_letters_back(self, cli: Cli, world: World) -> None:
        for number in range(3):
            world.die(Message(b"%d\n" % number))
        assert cli.ok("topics", "redrive", "t").text == "sent 3 messages back to t\n"
        assert (world.count(), world.count("t")) == (0, 3)
        assert cli.ok("topics", "redrive", "t", "--json").document == {"redriven": 0}

    def test_redrive_sends_only_the_chosen_dead_letters_back(self, cli: Cli, world: World) -> None:
        one, other, _ = (world.die(Message(b"%d\n" % number)) for number in range(3))
        done = cli.ok("topics", "redrive", world.url, "--id", one, "--id", other, "--json")
        assert done.document == {"redriven": 2}
        assert (world.count(), world.count("t")) == (1, 2)
        bodies = cli.ok("pull", "t", "--min", "2", "--json").documents
        assert sorted(message["body"] for message in bodies) == ["0\n", "1\n"]

    def test_chosen_dead_letters_that_do_not_exist_are_named(self, cli: Cli, world: World) -> None:
        one = world.die(Message(b"a\n"))
        done = cli("topics", "redrive", "t", "--id", one, "--id", "none", "--json")
        assert (done.code, done.document) == (1, {"redriven": 1})
        assert "not sent back: 1 of 2 chosen; see parcelq dead t" in done.err

    def test_a_refused_dead_letter_stays_and_is_reported(
        self, cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.die(Message(b"a\n"))
        monkeypatch.setattr("parcelq.process.redrive._revived", lambda _: Message(b"x" * 2_000_000))
        done = cli.ok("topics", "redrive", "t")
        assert done.text == "sent 0 messages back to t\n"
        assert "a dead letter stays" in done.err
        assert world.count() == 1

    def test_redrive_says_that_a_topic_is_not_there(self, cli: Cli, world: World) -> None:
        assert "topic 'x': there is no topic of that name" in cli.fails("topics", "redrive", "x")


def test_dead_letters_are_found_by_any_name_of_their_topic(cli: Cli, world: World) -> None:
    world.send(world.third_line(world.put()).wire())
    topic = cli.ok("topics", "show", "t", "--json").document["url"]
    for name in ("t", topic, "t-dead-letter", f"{topic}-dead-letter"):
        assert len(cli.ok("dead", name, "--json").out.splitlines()) == 1
    assert cli.ok("topics", "redrive", "t-dead-letter", "--json").document == {"redriven": 1}
    assert cli.ok("pull", "t", "--json").document["receive_count"] == 1
