"""Reports: they add up in entries of the source, and tell of the result that they lie beside and of no other."""

from __future__ import annotations

from typing import Any

import pytest
from parcelq.lineage.lineage import Lineage, Span, digest
from parcelq.lineage.source import Source
from parcelq.topics.message import DEAD, ENTRIES, LINEAGE, SOURCE, Message
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.files import upload_file
from test_collect import DATA, LINES, RESULT, Collecting, dead, outputs


@pytest.fixture
def collecting(sqs: Any, s3: Any, bucket: str, topic: str) -> Collecting:
    return Collecting(sqs, s3, bucket, topic)


def of(text: str, message: Message) -> Message:
    """A message as one of another source."""
    return Message(message.body, {**message.attributes, SOURCE: text})


class TestDeathInALaterStep:
    """The first step makes ten entries of the two lines of a message, and the second fails on all of them."""

    def collect(self, collecting: Collecting, text: str) -> dict[str, Any]:
        _, _, *others = outputs()
        between = f"0-{len(LINES[0] + LINES[1])}/{len(DATA)}>0-20/20:aaaaaaaa"
        stone = Message(b"", {LINEAGE: between, ENTRIES: "10", DEAD: "why"})
        collecting.collect(*(of(text, one) for one in [*others, stone]))
        return collecting.report()

    def test_all_entries_count_as_dead_of_whose_message_they_were_made(self, collecting: Collecting) -> None:
        put = collecting.s3.put_object(Bucket=collecting.bucket, Key="inbox/molecules.smi", Body=DATA)
        text = str(Source.of_object("bucket", "inbox/molecules.smi", etag=put["ETag"].strip('"'), put="0055"))
        collecting.note_of(text)
        report = self.collect(collecting, text)
        assert report["entries"] == {"read": 6, "done": 4, "dead": 2, "missing": 0, "written": 4}
        assert report["dead"] == [{"start": 0, "end": 14, "entries": 10, "reason": "why"}]

    def test_nobody_guesses_where_the_source_is_another_by_now(self, collecting: Collecting) -> None:
        collecting.s3.put_object(Bucket=collecting.bucket, Key="inbox/molecules.smi", Body=DATA.upper())
        text = str(Source.of_object("bucket", "inbox/molecules.smi", etag="e", put="0055"))
        collecting.note_of(text)
        assert self.collect(collecting, text)["entries"] == {
            "read": 6,
            "done": None,
            "dead": None,
            "missing": 0,
            "written": 4,
        }


def test_it_names_the_put_and_that_nothing_is_missing(collecting: Collecting) -> None:
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


def test_of_one_local_file_uploaded_twice_the_second_result_stays(collecting: Collecting, tmp_path: Any) -> None:
    file = tmp_path / "molecules.smi"
    file.write_bytes(DATA)
    for change in (bytes.upper, bytes.title):
        upload_file(SqsTopic(collecting.sqs, collecting.topic), file, 1000)
        (pulled,) = collecting.sqs.receive_message(QueueUrl=collecting.topic, MessageAttributeNames=["All"])["Messages"]
        collecting.sqs.delete_message(QueueUrl=collecting.topic, ReceiptHandle=pulled["ReceiptHandle"])
        told = {name: value["StringValue"] for name, value in pulled["MessageAttributes"].items()}
        body = change(DATA)
        child = Lineage.parse(told[LINEAGE]).child(Span(0, len(body), len(body)), digest(body))
        collecting.collect(Message(body, {**told, LINEAGE: str(child)}))
        assert collecting.result(f"results/elsewhere/file{file}") == body
