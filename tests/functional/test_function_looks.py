"""The downloader's handler: looks at jobs, from the first to the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from function_world import BUCKET, MOLECULES, Stack, event, record_of
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


class TestLooks:
    """What the downloader does with messages of the topic of looks."""

    def test_looks_go_on_until_the_result_is_there_and_an_event_is_sent(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        (look,) = stack.deliver("parcelq-looks")["Records"]
        assert stack.call("downloader", {"Records": [look]}) == {"batchItemFailures": []}
        assert stack.keys("results/") == []
        assert stack.call("downloader", {"Records": [look]})["batchItemFailures"] == [
            {"itemIdentifier": look["messageId"]}
        ]  # until it is known that the next one was taken
        stack.run("processor", "parcelq-step")
        assert told == []
        stack.run("downloader", "parcelq-looks")
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        (detail,) = told
        assert (detail["complete"], detail["report"]["entries"]["written"]) == (True, 4)
        assert "dead" not in detail["report"]
        (key,) = stack.keys("jobs/")
        record = json.loads(stack.get(key))
        assert record == detail["job"]
        assert (record["state"], record["result"], record["covered"]) == ("finished", "results/molecules.smi", 76)
        assert record["cost"]["invocations"] == 1  # the other one counts as draining
        assert record["cost"]["requests"] > 10
        cost = detail["report"]["cost"]
        # The functions share a process here, so each may carry what is left of another.
        assert sum(cost[name]["invocations"] for name in ("uploader", "processors", "downloader")) == 5
        assert all(cost[name]["requests"] > 2 for name in ("uploader", "processors", "downloader"))
        assert cost["runs"]["count"] == sum(count for _, count in cost["runs"]["durations"]) > 0
        assert cost["usd"]["total"] == pytest.approx(sum(cost["usd"][name] for name in ("lambda", "sqs", "s3")))
        assert 0 < cost["usd"]["total"] < 0.01
        assert record["bytes"] == 2 * len(MOLECULES)
        assert stack.keys("segments/") == []

    def test_an_event_that_is_delivered_again_after_the_job_publishes_nothing(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        given = stack.put(MOLECULES)
        stack.call("uploader", given)
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        stack.call("uploader", given)
        assert stack.messages() == 0
        assert len(told) == 1

    def test_an_event_that_is_delivered_again_after_the_file_was_deleted_does_not_stop_the_job(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.jobs.changes.COUNTING_SECONDS", 0.0)
        given = stack.put(MOLECULES)
        stack.call("uploader", given)
        stack.s3.delete_object(Bucket=BUCKET, Key="inbox/molecules.smi")
        stack.call("uploader", given)
        look = stack.deliver("parcelq-looks")
        stack.acknowledge("parcelq-looks", look, stack.call("downloader", look))
        assert told == []
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        assert [one["complete"] for one in told] == [True]
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        assert stack.keys("segments/") == []

    def test_messages_that_come_late_are_deleted_and_make_no_new_job(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        late = [one.message() for one in stack.take("parcelq-step")]
        stack.publish("parcelq-step", *late)
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        stack.publish("parcelq-step", *late)
        stack.run("processor", "parcelq-step")
        stack.publish("parcelq-looks", Message(b"{}"))
        stack.run("downloader", "parcelq-looks")
        assert (stack.messages(), stack.keys("segments/"), len(told)) == (0, [], 1)
        assert len(stack.keys("jobs/")) == 1

    def test_a_dead_letter_that_is_redriven_takes_its_place_in_the_result(
        self,
        stack: Stack,
        tmp_path: Path,
        upper: None,
        told: list[dict[str, Any]],
        at_once: None,
        settings: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        data = b"good\nbad\nfine\n"
        settings(MAX_FAILURES=1)
        monkeypatch.setattr("parcelq.jobs.jobs.WAKING_SECONDS", 0)
        stack.call("uploader", stack.put(data))
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        assert stack.get("results/molecules.smi") == b"GOOD\nFINE\n"
        (tmp_path / "step" / "step").write_text('#!/bin/sh\ntr a-z A-Z < "$2" > "$4"\n')
        assert stack.call("topic_admin", {"action": "redrive", "topic": "parcelq-step"}) == {"redriven": 1}
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        assert stack.get("results/molecules.smi") == data.upper()
        assert [one["complete"] for one in told] == [False, True]
        assert stack.messages() == 0

    def test_messages_that_were_published_by_hand_are_collected_without_a_job(
        self, stack: Stack, upper: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("DRAIN_PAUSE", "VAIN_DRAIN_PAUSE"):
            monkeypatch.setattr(f"parcelq.collect.draining.{name}", 0)
        asked = {"action": "publish", "topic": "parcelq-step", "messages": [{"body": "by hand\n"}]}
        assert stack.call("topic_admin", asked)["published"] == 1
        for _ in range(2):  # the step takes its time
            delivered = stack.deliver("parcelq-looks")
            stack.acknowledge("parcelq-looks", delivered, stack.call("downloader", delivered))
        stack.run("processor", "parcelq-step")
        stack.run("downloader", "parcelq-looks")
        (key,) = stack.keys("results/")
        assert stack.get(key) == b"BY HAND\n"
        assert (stack.messages(), stack.keys("jobs/")) == (0, [])

    def test_messages_of_a_source_that_nobody_began_get_a_job(
        self, stack: Stack, told: list[dict[str, Any]], at_once: None
    ) -> None:
        source = str(Source.of_file("/home/me/a.txt", "1"))
        whole = Lineage(Span(0, 4, 4)).child(Span(0, 4, 4), digest(b"one\n"))
        stack.publish("parcelq-output", Message(b"one\n", {SOURCE: source, LINEAGE: str(whole), ENTRIES: "1"}))
        stack.publish("parcelq-looks", Message(b"{}"))
        stack.run("downloader", "parcelq-looks")
        (detail,) = told
        assert stack.get(detail["job"]["result"]) == b"one\n"

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"job": 1}', '{"number": -1}', '{"job": "x", "source": "y"}', "[" * 9999]
    )
    def test_a_message_that_is_no_look_is_left_out(self, stack: Stack, text: str) -> None:
        record = record_of(Pulled("id", "handle", 1, Message(b"x").wire()), "parcelq-looks")
        answer = stack.call("downloader", {"Records": [{**record, "body": text}]})
        assert answer == {"batchItemFailures": []}

    def test_a_look_that_fails_is_delivered_again_alone_and_later_each_time(
        self, stack: Stack, upper: None, told: list[dict[str, Any]], at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        stack.run("processor", "parcelq-step")
        stack.s3.put_object(Bucket=BUCKET, Key="jobs/broken.json", Body=b"no json")
        stack.publish("parcelq-looks", Message(b'{"job": "broken", "number": 1}'))
        given = stack.deliver("parcelq-looks")
        (failed,) = stack.call("downloader", given)["batchItemFailures"]
        names = {one["messageId"]: one["body"] for one in given["Records"]}
        assert "broken" in names[failed["itemIdentifier"]]
        assert stack.get("results/molecules.smi") == MOLECULES.upper()

    def test_the_schedule_publishes_a_look_again_that_was_lost(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch, at_once: None
    ) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        assert len(stack.take("parcelq-looks")) == 1
        stack.call("downloader", event("schedule"))
        assert stack.take("parcelq-looks") == []  # it is not overdue yet
        monkeypatch.setattr("parcelq.jobs.jobs.LATE_SECONDS", -1.0)
        stack.call("downloader", event("schedule"))
        assert [one.wire.text for one in stack.take("parcelq-looks")] == [
            json.dumps({"job": stack.keys("jobs/")[0][5:-5], "number": 1}, separators=(",", ":"))
        ]
