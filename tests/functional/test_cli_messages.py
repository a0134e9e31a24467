"""`parcelq publish` and `parcelq pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def topic(cli: Cli) -> str:
    cli.ok("topics", "create", "t")
    return "t"


def counts(cli: Cli) -> tuple[int, int]:
    """Messages that can be pulled, and those that are locked."""
    shown = cli.ok("topics", "show", "t", "--json").document["approximate_counts"]
    return shown["available"], shown["in_flight"]


def pulled(cli: Cli, least: int = 1) -> list[dict[str, Any]]:
    return cli.ok("pull", "t", "--min", str(least), "--json").documents


def test_one_message_is_published_and_its_id_told(cli: Cli, topic: str) -> None:
    told = cli.ok("publish", topic, "hello", "--attribute", "Colour=red=ish", "--json").document
    [message] = pulled(cli)
    assert told == {"published": 1, "failed": [], "message_id": message["message_id"]}
    assert message["body"] == "hello"
    assert message["attributes"] == {"Colour": "red=ish"}
    assert message["receive_count"] == 1


def test_publish_makes_a_message_of_every_body(cli: Cli, topic: str) -> None:
    assert cli.ok("publish", topic, "a", "b", "--json").document == {"published": 2, "failed": []}
    assert sorted(one["body"] for one in pulled(cli, 2)) == ["a", "b"]


def test_every_line_of_stdin_becomes_a_message_even_an_empty_one(cli: Cli, topic: str) -> None:
    done = cli.ok("publish", topic, "-", "--attribute", "Colour=red", stdin=b"a\n\nb")
    assert done.text == "published 3 messages\n"
    messages = pulled(cli, 3)
    assert sorted(one["body"] for one in messages) == ["\n", "a\n", "b"]
    assert all(one["attributes"] == {"Colour": "red"} for one in messages)


def test_every_line_of_a_file_becomes_a_message(cli: Cli, topic: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"line\n" * 25)
    assert cli.ok("publish", topic, "--file", lines, "--json").document["published"] == 25
    assert counts(cli) == (25, 0)


def test_publish_names_a_file_that_is_not_there(cli: Cli, topic: str) -> None:
    assert "file 'nowhere' cannot be read: there is no such file" in cli.fails("publish", topic, "--file", "nowhere")


def test_of_several_messages_only_one_that_is_too_large_fails(cli: Cli, topic: str) -> None:
    done = cli("publish", topic, "-", "--json", stdin=b"a\n" + b"x" * 2**20 + b"x\nb\n")
    assert done.code == 1
    assert done.document["published"] == 2
    [failed] = done.document["failed"]
    assert failed["code"] == "MessageError"
    assert "1048576" in failed["reason"]
    assert "not published: 1 message; reason of the first: the message has" in done.err


def test_publishing_a_single_message_that_is_too_large_is_an_error(cli: Cli, topic: str, tmp_path: Path) -> None:
    attribute = f"Large={'x' * 100_000}"
    assert "1048576" in cli.fails("publish", topic, "a", *(f"--attribute=A{n}{attribute}" for n in range(11)))


def test_a_message_too_large_overflows_into_the_bucket_and_is_pulled_from_there(
    cli: Cli, topic: str, overflow_bucket: str
) -> None:
    large = b"x" * (2**20 + 1)
    cli.ok("publish", topic, "-", "--bucket", overflow_bucket, stdin=large)
    assert cli.ok("pull", topic).out == large + b"\n"


def test_a_bucket_that_is_not_there_is_an_error(cli: Cli, topic: str) -> None:
    done = cli("publish", topic, "-", "--bucket", "nowhere", stdin=b"x" * (2**20 + 1))
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("parcelq: PutObject failed with NoSuchBucket")


def test_bodies_are_printed_as_they_are_one_below_the_other(cli: Cli, topic: str) -> None:
    for body in ("äöü [bold]", "a\tb\nc\n"):
        cli.ok("publish", topic, body)
    done = cli.ok("pull", topic, "--min", "2")
    assert sorted(done.text.splitlines()) == ["a\tb", "c", "äöü [bold]"]
    assert done.err == ""


def test_a_body_that_is_no_text_is_printed_as_base64(cli: Cli, topic: str) -> None:
    cli.ok("publish", topic, "-", stdin=b"\xff\x00")
    assert cli.ok("pull", topic, "--json").document.items() >= {"attributes": {}, "body_base64": "/wA="}.items()
    cli.ok("publish", topic, "-", stdin=b"\x1b[31m")
    assert cli.ok("pull", topic).out == b"G1szMW0=\n"


def test_pull_takes_no_more_messages_than_the_option_max_allows(cli: Cli, topic: str) -> None:
    cli.ok("publish", topic, *"abcde")
    assert len(cli.ok("pull", topic, "--max", "3").text.splitlines()) == 3
    assert counts(cli) == (2, 3)


def test_pull_takes_more_than_ten_messages_in_several_requests(cli: Cli, topic: str) -> None:
    cli.ok("publish", topic, "-", stdin=b"line\n" * 25)
    assert len(cli.ok("pull", topic, "--min", "25", "--json").documents) == 25


def test_pull_of_nothing_says_so_and_prints_nothing(cli: Cli, topic: str) -> None:
    done = cli.ok("pull", topic, "--timeout", "0", "--json")
    assert done.out == b""
    assert done.err == "no message arrived within 0 seconds\n"


def test_messages_are_acknowledged_only_when_asked_for(cli: Cli, topic: str) -> None:
    cli.ok("publish", topic, "a")
    cli.ok("pull", topic)
    assert counts(cli) == (0, 1)
    cli.ok("publish", topic, "b")
    assert cli.ok("pull", topic, "--acknowledge").text == "b\n"
    assert counts(cli) == (0, 1)


def test_a_message_that_cannot_be_read_fails_alone_and_is_not_acknowledged(cli: Cli, topic: str) -> None:
    cli.ok("publish", topic, "good")
    cli.ok("publish", topic, "bad", "--attribute", "Encoding=rot13")
    done = cli("pull", topic, "--min", "2", "--acknowledge")
    assert (done.code, done.text) == (1, "good\n")
    assert "Encoding is 'rot13'" in done.err
    assert done.err.endswith("parcelq: not readable: 1 of 2 messages\n")
    assert counts(cli) == (0, 1)


def test_messages_that_sqs_does_not_delete_are_reported(cli: Cli, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parcelq.topics.sqs.SqsTopic.acknowledge", lambda _topic, messages: messages[:1])
    cli.ok("publish", topic, "a", "b")
    done = cli("pull", topic, "--min", "2", "--acknowledge")
    assert done.code == 1
    assert done.err == "parcelq: not acknowledged: 1 of 2 messages; they will be delivered again\n"
