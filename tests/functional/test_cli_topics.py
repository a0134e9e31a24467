"""`parcelq topics`."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from parcelq.aws.clients import sqs_client
from parcelq.errors import TopicBlockedError
from parcelq.topics.admin import Topics
from parcelq_cli import clients

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]


def test_topics_list_prints_the_names_in_order(cli: Cli) -> None:
    cli.ok("topics", "create", "zebra")
    cli.ok("topics", "create", "ape")
    assert cli.ok("topics", "list").text == "ape\nape-dead-letter\nzebra\nzebra-dead-letter\n"
    assert cli.ok("topics", "list", "z").text == "zebra\nzebra-dead-letter\n"


def test_topics_list_prints_the_urls_when_they_are_asked_for(cli: Cli, moto_url: str) -> None:
    cli.ok("topics", "create", "ape")
    urls = [f"{moto_url}/123456789012/ape", f"{moto_url}/123456789012/ape-dead-letter"]
    assert cli.ok("topics", "list", "--urls").text.split() == urls
    assert cli.ok("topics", "list", "--urls", "--json").document == {"topics": urls}


def test_topics_list_without_topics_prints_an_empty_document(cli: Cli) -> None:
    assert cli.ok("topics", "list").out == b""
    assert cli.ok("topics", "list", "--json").document == {"topics": []}


def test_topics_create_makes_a_topic_with_a_dead_letter_topic(cli: Cli, moto_url: str) -> None:
    done = cli.ok("topics", "create", "t", "--max-receive-count", "5", "--attribute", "VisibilityTimeout=77", "--json")
    url = f"{moto_url}/123456789012/t"
    assert done.document == {"topic": "t", "url": url, "dead_letter": "t-dead-letter"}
    shown = cli.ok("topics", "show", "t", "--json").document
    assert shown["url"] == url
    assert shown["attributes"]["VisibilityTimeout"] == "77"
    redrive = json.loads(shown["attributes"]["RedrivePolicy"])
    assert redrive["maxReceiveCount"] == 5
    assert redrive["deadLetterTargetArn"].endswith(":t-dead-letter")


def test_topics_create_asks_before_it_replaces_a_topic(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    cli.ok("publish", "t", "a")
    refusal = cli.fails("topics", "create", "t")
    assert "t (about 1 message), t-dead-letter (about 0 messages)" in refusal
    assert "--yes" in refusal
    assert cli.ok("topics", "count", "t", "--json").document["approximate_count"] == 1
    cli.ok("topics", "create", "t", "--yes")
    assert cli.ok("topics", "count", "t", "--json").document["approximate_count"] == 0


def test_topics_create_says_that_it_waits_for_the_name(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    create_queue, refusals = Topics.create_queue, [True]

    def refuses_once(topics: Topics, name: str, attributes: dict[str, str]) -> str:
        if refusals:
            refusals.pop()
            raise TopicBlockedError(name)
        return create_queue(topics, name, attributes)

    monkeypatch.setattr(Topics, "create_queue", refuses_once)
    monkeypatch.setattr(clients, "topics", lambda: Topics(sqs_client(), sleep=lambda _seconds: None))
    done = cli.ok("topics", "create", "t")
    assert "waiting up to 60 seconds" in done.err
    assert "t-dead-letter" in done.err
    assert done.text.endswith("/t\n")


@pytest.mark.parametrize("name", ["a b", "a.fifo", "x" * 69, "t-dead-letter"])
def test_topics_create_refuses_a_name_that_sqs_would_not_take(cli: Cli, name: str) -> None:
    assert f"topic name is '{name}', but must be" in cli.fails("topics", "create", name)


def test_topics_show_prints_the_names_of_attributes_with_their_values(cli: Cli, moto_url: str) -> None:
    cli.ok("topics", "create", "t")
    cli.ok("publish", "t", "a", "b")
    lines = dict(line.split(maxsplit=1) for line in cli.ok("topics", "show", "t").text.splitlines())
    assert lines["url"] == f"{moto_url}/123456789012/t"
    assert lines["available"] == "about 2"
    assert lines["QueueArn"] == "arn:aws:sqs:eu-west-1:123456789012:t"


def test_topics_show_and_topics_count_take_a_url(cli: Cli) -> None:
    url = cli.ok("topics", "create", "t").text.strip()
    cli.ok("publish", "t", "a")
    cli.ok("pull", "t")
    shown = cli.ok("topics", "show", url, "--json").document
    assert (shown["topic"], shown["approximate_counts"]) == ("t", {"available": 0, "in_flight": 1, "delayed": 0})
    assert cli.ok("topics", "count", url, "--json").document == {"topic": "t", "approximate_count": 0}


def test_topics_count_says_that_its_number_is_approximate(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    cli.ok("publish", "t", "a")
    assert cli.ok("topics", "count", "t").text.startswith("about 1 message: the count is approximate")


@pytest.mark.parametrize("by_url", [False, True])
def test_topics_delete_deletes_the_dead_letter_topic_too(cli: Cli, by_url: bool) -> None:
    url = cli.ok("topics", "create", "t").text.strip()
    topic = url if by_url else "t"
    assert "t (about 0 messages), t-dead-letter" in cli.fails("topics", "delete", topic)
    done = cli.ok("topics", "delete", topic, "--yes", "--json")
    assert done.document == {"deleted": ["t", "t-dead-letter"]}
    assert cli.ok("topics", "list").out == b""


def test_topics_delete_of_a_missing_topic_leaves_its_dead_letter_topic(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    cli.ok("topics", "delete", "t", "--yes")
    Topics(sqs_client()).create_queue("t-dead-letter")
    assert "topic 't'" in cli.fails("topics", "delete", "t", "--yes")
    assert cli.ok("topics", "list").text == "t-dead-letter\n"


def test_topics_clear_deletes_the_topics_that_start_with_the_prefix(cli: Cli) -> None:
    cli.ok("topics", "create", "ape")
    cli.ok("topics", "create", "zebra")
    assert "ape (about 0 messages), ape-dead-letter (about 0 messages), and" in cli.fails("topics", "clear", "a")
    assert cli.ok("topics", "clear", "a", "--yes").text == "deleted ape\ndeleted ape-dead-letter\n"
    assert cli.ok("topics", "list").text == "zebra\nzebra-dead-letter\n"


def test_topics_clear_with_all_deletes_every_topic(cli: Cli) -> None:
    cli.ok("topics", "create", "ape")
    assert cli.ok("topics", "clear", "--all", "--yes", "--json").document == {"deleted": ["ape", "ape-dead-letter"]}
    assert cli.ok("topics", "list").out == b""


def test_topics_clear_asks_nothing_when_there_is_no_topic_to_delete(cli: Cli) -> None:
    done = cli.ok("topics", "clear", "a")
    assert done.out == b""
    assert "nothing was deleted" in done.err


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [
        (b"y\n", 0, ""),
        (b"n\n", 1, "t\nt-dead-letter\n"),
        (b"\x04", 1, "t\n"),
        (b"\x03", 130, "t\n"),
    ],
)
def test_topics_clear_on_a_terminal_shows_the_topics_and_asks(cli: Cli, answer: bytes, code: int, left: str) -> None:
    cli.ok("topics", "create", "t")
    cli.ok("publish", "t", "a")
    ended, shown = cli.on_terminal(answer, "topics", "delete", "t")
    # Under load the interrupt is sent a second time, which ends a command at once that is just about to end.
    assert ended == code or (code, ended) == (130, -signal.SIGINT)
    assert "t-dead-letter" in shown
    assert cli.ok("topics", "list").text.startswith(left)
    assert bool(left) == bool(cli.ok("topics", "list").out)
