"""The downloader's handler: results, requests to collect, and the status."""

from __future__ import annotations

import gzip
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from function_world import ALIKE, BUCKET, MOLECULES, Stack, event
from parcelq.collect.segments import JobKey, write_segment
from parcelq.errors import ParcelqError, TopicNotFoundError
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source
from parcelq.store.bucket import BucketStore
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message
from parcelq.topics.pieces import Piece

pytest_plugins = ["function_world"]
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")


class TestDownloader:
    def pipeline(self, stack: Stack, data: bytes = MOLECULES, **put: Any) -> dict[str, Any]:
        stack.call("uploader", stack.put(data, **put))
        stack.run("processor", "parcelq-step")
        return stack.call("downloader", event("download"))

    def test_the_downloader_writes_the_result_and_its_report(self, stack: Stack, upper: None) -> None:
        answer = self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        report = json.loads(stack.get("results/molecules.smi.report.json"))
        assert report["entries"] == {"read": 4, "done": 4, "dead": 0, "missing": 0, "written": 4}
        assert report["bytes_read"] == report["bytes_written"] == len(MOLECULES)
        assert report["complete"]
        assert answer["finished_count"] == 1
        assert answer["waiting"] == []
        assert answer["finished"][0]["result"] == "results/molecules.smi"
        assert answer["drained"]["exhausted"]
        assert stack.keys("segments/") == []
        until = time.monotonic() + 60  # the last look may still have a delay
        while stack.messages(delayed=True) and time.monotonic() < until:
            stack.run("downloader", "parcelq-looks")
            time.sleep(0.1)
        assert stack.messages(delayed=True) == 0

    def test_the_downloader_writes_every_byte_of_a_result(self, stack: Stack, tmp_path: Path, upper: None) -> None:
        (tmp_path / "step" / "step").write_text('#!/bin/sh\ncat "$2" > "$4"\n')
        data = b"\x00\xff\r\n\n\n\xe4\n" + bytes(range(256)) + b"\nno line end"
        self.pipeline(stack, data, key="inbox/folder-less.bin")
        assert stack.get("results/folder-less.bin") == data

    def test_the_result_of_an_empty_object_is_empty(self, stack: Stack, upper: None) -> None:
        self.pipeline(stack, b"", name="s3_put_empty")
        assert stack.get("results/empty.txt") == b""
        assert json.loads(stack.get("results/empty.txt.report.json"))["complete"]

    def test_the_result_of_a_compressed_object_has_a_name_of_its_own(self, stack: Stack, upper: None) -> None:
        self.pipeline(stack, gzip.compress(MOLECULES), key="inbox/molecules.smi.gz")
        assert stack.get("results/molecules.smi.gz.result") == MOLECULES.upper()

    def test_the_schedule_collects_from_the_output_topic(self, stack: Stack, upper: None) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        stack.run("processor", "parcelq-step")
        stack.call("downloader", {**event("schedule"), "receive_message_timeout": 0})
        assert stack.get("results/molecules.smi") == MOLECULES.upper()

    def test_the_downloader_waits_for_the_rest_of_a_source_that_is_not_whole(self, stack: Stack) -> None:
        source = str(Source.of_object(BUCKET, "inbox/molecules.smi", etag="e", put="1"))
        half = Lineage(Span(0, 10, 20)).child(Span(0, 4, 4), digest(b"one\n"))
        stack.publish("parcelq-output", Message(b"one\n", {SOURCE: source, LINEAGE: str(half), ENTRIES: "1"}))
        answer = stack.call("downloader", event("download"))
        assert answer["finished"] == []
        assert [(one["covered"], one["total"], one["holes"]) for one in answer["waiting"]] == [(10, 20, 1)]
        assert stack.keys("results/") == []
        other = Lineage(Span(10, 20, 20)).child(Span(0, 4, 4), digest(b"two\n"))
        stack.publish("parcelq-output", Message(b"two\n", {SOURCE: source, LINEAGE: str(other), ENTRIES: "1"}))
        stack.call("downloader", event("download"))
        assert stack.get("results/molecules.smi") == b"one\ntwo\n"

    def test_messages_without_lineage_get_files_of_their_own(self, stack: Stack, upper: None) -> None:
        stack.publish("parcelq-output", Message(b"by hand"), Message(b"by hand, too\n"))
        self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        (apart,) = stack.keys("results/without-lineage/")
        assert sorted(stack.get(apart).splitlines()) == [b"by hand", b"by hand, too"]
        assert stack.keys("segments/") == []

    def test_a_message_with_an_invalid_source_does_not_hinder_others(self, stack: Stack, upper: None) -> None:
        told = {SOURCE: "mine", LINEAGE: "0-4/4", ENTRIES: "1"}
        stack.publish("parcelq-output", Message(b"odd\n", told))
        answer = self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        assert answer["finished_count"] == 2
        (apart,) = stack.keys("results/without-lineage/")
        assert stack.get(apart) == b"odd\n"
        assert stack.keys("segments/") == []

    def test_a_source_in_trouble_fails_the_invocation_after_all_others_are_done(
        self, stack: Stack, upper: None
    ) -> None:
        stack.s3.put_object(Bucket=BUCKET, Key="segments/parcelq-output/0/broken-9.seg", Body=b"no json")
        with pytest.raises(ParcelqError, match=r"1 source\(s\) have a problem; the first, segments/.*is not a segment"):
            self.pipeline(stack)
        assert stack.get("results/molecules.smi") == MOLECULES.upper()
        assert json.loads(stack.get("results/molecules.smi.report.json"))["complete"]
        with pytest.raises(ParcelqError, match="is not a segment"):  # until somebody looks after it
            stack.call("downloader", event("download"))

    def test_results_go_to_a_folder_that_is_asked_for(self, stack: Stack, upper: None) -> None:
        stack.call("uploader", stack.put(MOLECULES))
        stack.run("processor", "parcelq-step")
        given = {**event("download"), "destination": f"s3://{BUCKET}/results/today"}
        stack.call("downloader", given)
        assert stack.get("results/today/molecules.smi") == MOLECULES.upper()

    def test_a_pointer_to_anything_but_what_overflowed_here_stays_on_the_topic(self, stack: Stack) -> None:
        stack.publish("parcelq-output", stack.pointer("other-bucket", "overflow/0a1b"))
        assert stack.call("downloader", event("download"))["drained"]["messages"] == 0
        assert stack.keys() == []
        assert stack.messages() == 1

    def test_the_downloader_drains_another_topic_of_the_stack_if_asked_to(self, stack: Stack) -> None:
        stack.make_topic("parcelq-extra")
        stack.publish("parcelq-extra", Message(b"one\n"))
        answer = stack.call("downloader", {**event("download"), "topic": stack.urls["parcelq-extra"]})
        assert answer["drained"]["messages"] == 1
        assert [key.split("/")[2] for key in stack.keys("results/")] == ["parcelq-extra"]

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"topic": "other-output"}, "parcelq-"),
            *[({"topic": name}, "topic") for name in ALIKE],
            ({"topic": "https://sqs.eu-central-1.amazonaws.com/1/other"}, "parcelq-"),
            ({"topic": 7}, "topic"),
            ({"destination": "s3://other-bucket/results/"}, "results/"),
            ({"destination": f"s3://{BUCKET}/inbox/"}, "results/"),
            ({"destination": f"s3://{BUCKET}/results/../inbox/"}, "results/"),
            ({"destination": f"s3://{BUCKET}/results-elsewhere"}, "results/"),
            ({"destination": f"s3://{BUCKET}/results"[:-1]}, "results/"),
            ({"destination": f"s3://{BUCKET}/results/a/.."}, "results/"),
            ({"destination": f"s3://{BUCKET}/results/./a"}, "results/"),
            ({"destination": f"s3://{BUCKET}/RESULTS/"}, "results/"),
            ({"destination": f"s3://{BUCKET}-2/results/"}, "results/"),
            ({"destination": f"s3://{BUCKET}@other/results/"}, "results/"),
            ({"destination": f"S3://{BUCKET}/results/"}, "results/"),
            ({"destination": "results/"}, "results/"),
            ({"receive_message_timeout": -1}, "receive_message_timeout"),
            ({"receive_message_timeout": "long"}, "receive_message_timeout"),
        ],
    )
    def test_the_downloader_refuses_a_bad_request_and_collects_nothing(
        self, stack: Stack, changed: dict[str, Any], told: str
    ) -> None:
        stack.publish("parcelq-output", Message(b"one\n"))
        answer = stack.call("downloader", {**event("download"), **changed})
        assert set(answer) == {"error"}
        assert told in answer["error"]["message"]
        assert stack.messages() == 1
        assert stack.keys() == []

    def test_the_downloader_names_a_topic_that_is_missing(self, stack: Stack) -> None:
        with pytest.raises(TopicNotFoundError, match="parcelq-none"):
            stack.call("downloader", {**event("download"), "topic": "parcelq-none"})


def test_the_status_includes_sources_that_were_uploaded_and_not_collected_yet(stack: Stack) -> None:
    stack.call("uploader", stack.put(MOLECULES))
    answer = stack.call("topic_admin", {"action": "status", "source": "molecules"})
    (source,) = answer["sources"]
    assert (source["total"], source["percent"], source["entries_read"]) == (len(MOLECULES), 0, 4)
    assert source["covered"] == {"bytes": 0, "percent": 0, "entries": 0}
    assert source["missing"] == {"bytes": len(MOLECULES), "percent": 100, "entries": 4}
    assert (source["holes"], source["hole_count"], source["topic"]) == ([[0, len(MOLECULES)]], 1, "parcelq-step")
    assert source["entries_read"] == MOLECULES.count(b"\n")
    assert stack.call("topic_admin", {"action": "status", "source": "another"})["count"] == 0


def test_the_status_leaves_out_sources_that_lead_to_another_topic(stack: Stack) -> None:
    stack.make_topic("parcelq-extra")
    stack.call("uploader", stack.put(MOLECULES, key="inbox/parcelq-extra/m.smi"))
    assert stack.call("topic_admin", {"action": "status"}) == {"sources": [], "count": 0}


def test_the_status_of_very_many_holes_fits_into_an_answer(stack: Stack) -> None:
    store = BucketStore(stack.s3, BUCKET)
    name = "\u00e4" * 500
    reason = "\x01" * 5000
    for number in range(2):
        source = str(Source.of_object(BUCKET, f"inbox/{name}", etag="e", put=str(number)))
        tombs = [Piece(f"{at}-{at + 1}/100000", b"", 1, reason) for at in range(0, 2000, 2)]
        when = datetime(2026, 11, 23, tzinfo=UTC)
        write_segment(store, "parcelq-output", JobKey(source), tombs, [], when, when)
    answer = stack.call("topic_admin", {"action": "status", "source": name})
    assert [(one["hole_count"], one["death_count"]) for one in answer["sources"]] == [(1000, 1000)] * 2
    assert len(json.dumps(answer)) / 2 * sys.modules["actions"].MOST_SOURCES < 6_000_000
