"""Reports: they add up in entries of the source, and describe the result that they lie beside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from collect_world import DATA, LINES, RESULT, Collecting, Killed, dead, outputs, source
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message
from parcelq.topics.pieces import FIRST
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.files import upload_files
from parcelq.upload.notes import note_upload
from parcelq.upload.sources import Uploaded

pytest_plugins = ["collect_world"]


class TestDeathInALaterStep:
    """The first step makes ten entries of the two lines of a message, and the second fails on all of them."""

    def collect(self, collecting: Collecting, read: str = ":2") -> dict[str, Any]:
        note_upload(collecting.store, source(), 0, Uploaded(3, 6, len(DATA), ((len(DATA), 6),)))
        _, _, *others = outputs()
        between = f"0-{len(LINES[0] + LINES[1])}/{len(DATA)}>0-20/20:aaaaaaaa{read}"
        stone = Message(b"", {SOURCE: source(), LINEAGE: between, ENTRIES: "10", DEAD: "why"})
        collecting.collect(*others, stone)
        return collecting.report()

    def test_all_entries_of_the_source_count_as_dead_of_whose_message_a_dead_entry_was_made(
        self, collecting: Collecting
    ) -> None:
        report = self.collect(collecting)
        assert report["entries"] == {"read": 6, "done": 4, "dead": 2, "missing": 0, "written": 4}
        assert report["dead"] == [{"start": 0, "end": 14, "entries": 10, "reason": "why"}]

    def test_dead_entries_of_the_source_are_unknown_if_the_lineage_does_not_say_how_many_a_run_got(
        self, collecting: Collecting
    ) -> None:
        entries = self.collect(collecting, "")["entries"]
        assert entries == {"read": 6, "done": None, "dead": None, "missing": 0, "written": 4}

    def test_the_source_is_not_read_to_count_dead_entries_of_a_later_step(self, collecting: Collecting) -> None:
        read: list[str] = []
        for operation in ("GetObject", "HeadObject"):
            collecting.s3.meta.events.register(
                f"provide-client-params.s3.{operation}", lambda params, **_: read.append(params["Key"])
            )
        self.collect(collecting)
        assert read
        assert not [key for key in read if key.startswith("inbox/")]


class TestListOfDeadEntries:
    def listed(self, collecting: Collecting) -> list[dict[str, Any]]:
        return [json.loads(line) for line in collecting.result("results/molecules.smi.dead.jsonl").splitlines()]

    def stone(self, number: int, entry: bytes, first: str = "", reason: str = "why") -> Message:
        message = dead(outputs()[number], reason)
        return Message(entry, {**message.attributes, **({FIRST: first} if first else {})})

    def test_the_list_of_dead_entries_has_a_line_for_each_with_numbers_entry_and_reason(
        self, collecting: Collecting
    ) -> None:
        stones = self.stone(0, LINES[0], "1,1"), self.stone(3, b"\xff\n", "4,7", "bad \u2028 text")
        collecting.collect(*stones, *(outputs()[number] for number in (1, 2, 4, 5)))
        assert self.listed(collecting) == [
            {"record": 1, "line": 1, "entry": "line 0\n", "reason": "why"},
            {"record": 4, "line": 7, "entry_base64": "/wo=", "reason": "bad \u2028 text"},
        ]
        assert collecting.report()["dead_list"] == "results/molecules.smi.dead.jsonl"

    def test_the_list_of_dead_entries_leaves_out_numbers_that_nobody_knows(self, collecting: Collecting) -> None:
        stones = self.stone(0, LINES[0]), self.stone(1, b"", "nonsense"), self.stone(2, b"", "+3,3")
        collecting.collect(*stones, *outputs()[3:])
        assert [one.get("record") for one in self.listed(collecting)] == [None, None, 3]

    def test_numbers_of_dead_entries_in_a_range_count_on_from_the_ranges_before(self, collecting: Collecting) -> None:
        middle = len(b"".join(LINES[:3]))
        note_upload(collecting.store, source(), 0, Uploaded(1, 3, middle))
        note_upload(collecting.store, source(), middle, Uploaded(1, 3, len(DATA)))
        collecting.collect(self.stone(4, LINES[4], "+2,2"), *outputs()[:4], outputs()[5])
        (one,) = self.listed(collecting)
        assert one["record"] == 5
        assert "line" not in one

    def test_the_list_of_dead_entries_goes_when_nothing_is_dead_any_more(self, collecting: Collecting) -> None:
        collecting.collect(self.stone(0, LINES[0]), *outputs()[1:])
        assert collecting.keys("results/molecules.smi.dead.jsonl")
        collecting.collect(outputs()[0])
        assert collecting.report()["complete"]
        assert not collecting.keys("results/molecules.smi.dead.jsonl")


def test_result_and_report_agree_whichever_run_of_a_step_counts(collecting: Collecting) -> None:
    """A step that is not deterministic, and a dead entry: what comes later changes the choice."""
    _, *others = outputs()
    collecting.collect(dead(outputs()[0]), *others)
    # The two lines of another delivery, run as one, account for more of the source without what is dead.
    both = Lineage(Span(0, 2 * len(LINES[0]), len(DATA))).child(Span(0, 20, 20), digest(b"x" * 20))
    collecting.collect(Message(b"x" * 19 + b"\n", {SOURCE: source(), LINEAGE: str(both), ENTRIES: "1"}))
    report, result = collecting.report(), collecting.result()
    assert report["entries"]["written"] == result.count(b"\n")
    assert report["bytes_written"] == len(result)


def test_a_report_names_the_put_and_says_that_nothing_is_missing(collecting: Collecting) -> None:
    collecting.collect(*outputs("0A"))
    assert (collecting.report()["version"], collecting.report()["holes"]) == ("0A", [])


def test_a_report_that_comes_late_does_not_replace_one_of_a_newer_result(collecting: Collecting) -> None:
    """Between the result without a dead entry and its report, somebody else writes the whole result and its report."""
    collecting.note()
    one, *others = outputs()
    collecting.publish(*others, dead(one))
    collecting.drain()
    overtaken: list[str] = []

    def overtake(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith(".report.json") and not overtaken:
            overtaken.append(params["Key"])
            collecting.collect(one)

    collecting.s3.meta.events.register("provide-client-params.s3.PutObject", overtake)
    collecting.finish()
    assert overtaken
    assert collecting.result() == RESULT
    assert collecting.report()["complete"]
    assert collecting.report()["bytes_written"] == len(RESULT)


def test_a_report_that_is_overtaken_by_an_older_one_is_written_again(collecting: Collecting) -> None:
    collecting.note()
    overtaken: list[str] = []

    def overtake(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith(".report.json") and not overtaken:
            overtaken.append(params["Key"])
            collecting.store.put(params["Key"], b"older")

    collecting.s3.meta.events.register("provide-client-params.s3.PutObject", overtake)
    collecting.collect(*outputs())
    assert overtaken
    assert collecting.report()["complete"]


class TestPage:
    PAGE = "results/molecules.smi.report.html"

    def page(self, collecting: Collecting) -> str:
        return collecting.result(self.PAGE).decode()

    def test_the_page_lies_beside_the_report_and_says_the_same(self, collecting: Collecting) -> None:
        note_upload(collecting.store, source(), 0, Uploaded(1, 6, len(DATA)))
        collecting.collect(dead(outputs()[0], "bad <b>one</b>"), *outputs()[1:])
        assert "1 of 6 records failed; the other 5 are in the result." in self.page(collecting)
        assert "bad &lt;b&gt;one&lt;/b&gt;" in self.page(collecting)
        collecting.collect(outputs()[0])
        assert "All 6 records are in the result." in self.page(collecting)
        assert "Why records failed" not in self.page(collecting)

    def test_a_browser_shows_the_page_from_the_bucket(self, collecting: Collecting) -> None:
        collecting.collect(*outputs())
        shown = collecting.s3.head_object(Bucket=collecting.bucket, Key=self.PAGE)
        assert shown["ContentType"] == "text/html; charset=utf-8"

    @pytest.mark.parametrize("ending", [".report.html", ".report.json"])
    @pytest.mark.parametrize("whole", [True, False])
    def test_after_a_crash_before_page_and_report_are_written_the_next_look_writes_both(
        self, collecting: Collecting, ending: str, whole: bool
    ) -> None:
        killed: list[str] = []

        def kill(params: dict[str, Any], **_: Any) -> None:
            if params["Key"].endswith(ending) and not killed:
                killed.append(params["Key"])
                raise Killed

        collecting.note()
        one, *others = outputs()
        collecting.publish(one if whole else dead(one), *others)
        collecting.drain()
        collecting.s3.meta.events.register("provide-client-params.s3.PutObject", kill)
        with pytest.raises(Killed):
            collecting.finish()
        assert not collecting.keys("results/molecules.smi.report.json")
        collecting.finish()
        report = collecting.report()
        assert report["complete"] is whole
        assert f">{report['state']}<" in self.page(collecting)

    @pytest.mark.parametrize("ending", [".report.html", ".report.json"])
    def test_a_page_or_report_that_comes_late_does_not_replace_that_of_a_newer_result(
        self, collecting: Collecting, ending: str
    ) -> None:
        """Just before page or report of the result with a dead entry is written, somebody writes the whole one."""
        collecting.note()
        one, *others = outputs()
        collecting.publish(*others, dead(one))
        collecting.drain()
        overtaken: list[str] = []

        def overtake(params: dict[str, Any], **_: Any) -> None:
            if params["Key"].endswith(ending) and not overtaken:
                overtaken.append(params["Key"])
                collecting.collect(one)

        collecting.s3.meta.events.register("provide-client-params.s3.PutObject", overtake)
        collecting.finish()
        assert overtaken
        assert collecting.report()["complete"]
        assert f">{collecting.report()['state']}<" in self.page(collecting)


def test_a_list_of_dead_entries_that_is_left_of_an_earlier_result_is_deleted(collecting: Collecting) -> None:
    listed = "results/molecules.smi.dead.jsonl"
    collecting.s3.put_object(Bucket=collecting.bucket, Key=listed, Body=b"{}")
    collecting.note()
    collecting.collect(*outputs())
    assert collecting.report()["complete"]
    assert not collecting.keys(listed)


def test_the_second_result_of_a_local_file_that_is_uploaded_twice_stays(collecting: Collecting, tmp_path: Any) -> None:
    file = tmp_path / "molecules.smi"
    file.write_bytes(DATA)
    for change in (bytes.upper, bytes.title):
        upload_files(SqsTopic(collecting.sqs, collecting.topic), [file], 1000)
        (pulled,) = collecting.sqs.receive_message(QueueUrl=collecting.topic, MessageAttributeNames=["All"])["Messages"]
        collecting.sqs.delete_message(QueueUrl=collecting.topic, ReceiptHandle=pulled["ReceiptHandle"])
        told = {name: value["StringValue"] for name, value in pulled["MessageAttributes"].items()}
        body = change(DATA)
        child = Lineage.parse(told[LINEAGE]).child(Span(0, len(body), len(body)), digest(body))
        collecting.collect(Message(body, {**told, LINEAGE: str(child)}))
        assert collecting.result(f"results/elsewhere/file{file}") == body
