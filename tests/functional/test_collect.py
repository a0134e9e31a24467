"""Draining a topic into segments, and finishing sources whose messages are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from collect_world import DATA, LINES, RESULT, WHEN, Collecting, Kill, dead, outputs, source
from parcelq.collect.assembly import SegmentReader
from parcelq.collect.deaths import dead_of
from parcelq.collect.finish import Finisher
from parcelq.collect.indexes import open_indexes
from parcelq.collect.resolution import Collected
from parcelq.collect.seeing import SourceState
from parcelq.collect.segments import JobKey, segment_keys, write_segment
from parcelq.errors import AwsError, ParcelqError
from parcelq.lineage.lineage import digest
from parcelq.names import SEGMENTS
from parcelq.store.bucket import BucketStore
from parcelq.store.folder import FolderStore
from parcelq.store.store import Store
from parcelq.topics.attributes import DEAD, ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message
from parcelq.topics.overflow import Overflow
from parcelq.topics.pieces import Piece

pytest_plugins = ["collect_world"]


class TestDraining:
    def test_draining_stores_messages_and_then_acknowledges_them(self, collecting: Collecting) -> None:
        collecting.publish(*outputs())
        drained = collecting.drain()
        assert (drained.messages, drained.entries, drained.exhausted) == (6, 6, True)
        assert collecting.left() == 0
        (keys,) = segment_keys(collecting.store, "topic").values()
        assert Collected(collecting.store, open_indexes(collecting.store, keys)).resolve().whole

    def test_draining_keeps_sources_in_segments_of_their_own(self, collecting: Collecting) -> None:
        collecting.publish(*outputs(), *outputs("0056"), Message(b"by hand\n"))
        assert collecting.drain().segments == 3
        assert len(segment_keys(collecting.store, "topic")) == 3

    def test_tombstones_count_as_messages_but_not_as_entries(self, collecting: Collecting) -> None:
        collecting.publish(dead(outputs()[0]), outputs()[1])
        drained = collecting.drain()
        assert (drained.messages, drained.entries) == (2, 1)

    def test_a_message_that_cannot_be_read_stays_on_the_topic(self, collecting: Collecting) -> None:
        collecting.sqs.send_message(
            QueueUrl=collecting.topic,
            MessageBody="odd",
            MessageAttributes={"Encoding": {"DataType": "String", "StringValue": "rot13"}},
        )
        assert collecting.drain().messages == 0
        assert collecting.left() == 1

    def test_bodies_that_lie_in_s3_are_fetched(self, collecting: Collecting) -> None:
        first, *others = outputs()
        wire = Overflow(collecting.s3, collecting.bucket).offload(first.wire())
        collecting.sqs.send_message(QueueUrl=collecting.topic, **wire.request())
        collecting.collect(*others)
        assert collecting.result() == RESULT

    def test_a_lineage_that_does_not_fit_its_body_counts_as_none(self, collecting: Collecting) -> None:
        told = outputs()[0].attributes
        collecting.collect(Message(b"something else altogether\n", told))
        assert collecting.keys("results/molecules.smi") == []
        (apart,) = collecting.keys("results/without-lineage/")
        assert collecting.result(apart) == b"something else altogether\n"

    def test_draining_stores_the_messages_that_it_pulled_even_when_its_time_is_up(self, collecting: Collecting) -> None:
        collecting.publish(*outputs())
        times = iter([60.0])
        drained = collecting.drain(lambda: next(times, 0.0))
        assert drained.messages == 6
        assert not drained.exhausted

    def test_a_store_that_refuses_leaves_messages_unacknowledged(self, collecting: Collecting) -> None:
        collecting.publish(*outputs())
        collecting.store = BucketStore(collecting.s3, "no-such-bucket")
        with pytest.raises(AwsError, match="NoSuchBucket"):
            collecting.drain()
        assert collecting.left() == 6

    def test_a_full_segment_is_written_before_all_is_pulled(
        self, collecting: Collecting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parcelq.collect.drain.PULLED_TOGETHER", 2)
        monkeypatch.setattr("parcelq.collect.drain.SEGMENT_MESSAGES", 4)
        collecting.publish(*outputs())
        assert collecting.drain().segments == 2
        collecting.finish()
        assert collecting.result() == RESULT


class TestStores:
    @pytest.fixture(params=["bucket", "folder"])
    def store(self, request: pytest.FixtureRequest, collecting: Collecting, tmp_path: Path) -> Store:
        return collecting.store if request.param == "bucket" else FolderStore(tmp_path / "folder")

    def test_a_store_gives_the_bytes_of_an_object_as_far_as_they_go(self, store: Store) -> None:
        store.put("a/b", b"replaced")
        store.put("a/b", b"0123456789")
        assert store.read("a/b", 2, 3) == b"234"
        assert store.read("a/b", 8, 99) == b"89"
        assert store.read("a/b", 3, 0) == b""

    def test_a_store_lists_keys_of_a_prefix_in_order(self, store: Store) -> None:
        assert list(store.keys("a/")) == []
        for key in ("a/c", "b/a", "a/b/x", "ab"):
            store.put(key, b"")
        assert list(store.keys("a/")) == ["a/b/x", "a/c"]

    def test_deleting_takes_many_keys_and_does_not_mind_those_that_are_gone(self, store: Store) -> None:
        store.put("a/b", b"one")
        store.put("a/c", b"two")
        store.delete(["a/b", "a/none", *(f"a/{number}" for number in range(1500))])
        assert list(store.keys("a/")) == ["a/c"]
        store.delete([])

    def test_an_object_that_s3_does_not_delete_is_named(self, collecting: Collecting) -> None:
        def refuse(parsed: dict[str, Any], **_: Any) -> None:
            parsed["Errors"] = [{"Key": "a/b", "Code": "AccessDenied", "Message": "Access Denied"}]

        collecting.s3.meta.events.register("after-call.s3.DeleteObjects", refuse)
        with pytest.raises(ParcelqError, match=r"'a/b': it was not deleted from 'bucket': Access Denied"):
            collecting.store.delete(["a/b"])


class TestSegments:
    def test_a_segment_is_read_as_it_was_written(self, collecting: Collecting) -> None:
        pieces = [
            Piece("4-8/8", b"two", 1),
            Piece("0-4/8", b"one\n", 1),
            Piece("0-2/8", b"d\n", 3, "why", "7,8"),
            Piece("0-2/8>3-5/9:0123456789abcdef", b"x\n", 1),
        ]
        key = write_segment(collecting.store, "topic", JobKey(source(), "w"), pieces, ["b", "a", "b"], WHEN, WHEN)
        (index,) = open_indexes(collecting.store, [key])
        assert (index.job, index.versions, index.total) == (JobKey(source(), "w"), ("a", "b"), 8)
        assert index.first == index.last == "2026-11-23T12:00:00+00:00"
        collected = Collected(collecting.store, [index])
        reader = SegmentReader(collecting.store, [key])
        assert b"".join(block for extent in collected.extents() for block in reader.read(extent)) == b"one\ntwo"
        (index,) = open_indexes(collecting.store, [self.lone(collecting, pieces[2])])
        (dead,) = dead_of(Collected(collecting.store, [index]), [])
        assert (dead.start, dead.end, dead.entries, dead.reason) == (0, 2, 3, "why")
        assert (dead.record, dead.line, dead.entry) == (7, 8, b"d\n")

    def lone(self, collecting: Collecting, piece: Piece) -> str:
        return write_segment(collecting.store, "topic", JobKey(source()), [piece], [], WHEN, WHEN)

    @pytest.mark.parametrize("key", ["segments/topic/id/what.seg", "segments/topic/id/what-9999.seg"])
    def test_an_object_that_is_no_segment_is_named(self, collecting: Collecting, key: str) -> None:
        collecting.store.put(key, b"no json")
        with pytest.raises(ParcelqError, match=r"what.* is not a segment"):
            open_indexes(collecting.store, [key])


class TestFinishing:
    def test_a_whole_source_becomes_a_result_and_its_segments_go(self, collecting: Collecting) -> None:
        collecting.note()
        (state,) = collecting.collect(*reversed(outputs()))
        whole = SourceState(source(), len(DATA), len(DATA), 0, 0, "results/molecules.smi", whole=True)
        assert state._replace(report=None) == whole
        assert collecting.result() == RESULT
        assert collecting.keys(SEGMENTS) == []

    def test_the_numbers_of_the_report_add_up(self, collecting: Collecting) -> None:
        collecting.note()
        messages = outputs(change=lambda line: line * 2)
        collecting.collect(messages[0], *messages)
        report = collecting.report()
        assert report["entries"] == {"read": 6, "done": 6, "dead": 0, "missing": 0, "written": 12}
        assert (report["bytes_read"], report["bytes_written"]) == (len(DATA), 2 * len(DATA))
        assert report["duplicates"] == 1
        assert report["source"] == source()
        assert report["result"] == "results/molecules.smi"
        assert report["workflows"] == ["wf"]
        assert report["first"] == report["last"] == "2026-11-23T12:00:00+00:00"
        assert report["complete"] is True

    def test_the_report_leaves_out_entries_that_the_upload_did_not_note(self, collecting: Collecting) -> None:
        collecting.collect(*outputs())
        assert collecting.report()["entries"] == {"read": None, "done": None, "dead": 0, "missing": 0, "written": 6}

    def test_an_unfinished_source_waits_for_the_rest(self, collecting: Collecting) -> None:
        *some, last = outputs()
        (state,) = collecting.collect(*some)
        assert (state.holes, state.covered, state.result) == (1, len(DATA) - len(LINES[-1]), "")
        assert collecting.keys("results/") == []
        collecting.collect(last)
        assert collecting.result() == RESULT
        assert collecting.keys(SEGMENTS) == []

    def test_a_piece_without_a_line_end_does_not_swallow_the_next_one(self, collecting: Collecting) -> None:
        collecting.collect(*outputs(change=bytes.strip))
        assert collecting.result() == DATA.rstrip(b"\n")

    def test_an_empty_source_has_an_empty_result(self, collecting: Collecting) -> None:
        told = {SOURCE: source(), LINEAGE: f"0-0/0>0-0/0:{digest(b'')}", ENTRIES: "0"}
        collecting.collect(Message(b"", told))
        assert collecting.result() == b""

    def test_looking_for_finished_sources_ends_when_its_time_is_up(self, collecting: Collecting) -> None:
        collecting.publish(*outputs(), Message(b"by hand\n"))
        collecting.drain()
        finisher = Finisher(collecting.store, "topic", bucket=collecting.bucket)
        may = iter([True, False])
        looked_at, left = finisher.finish_all(lambda: next(may))
        assert [looked_at.looked_at, left.looked_at] == [True, False]
        assert collecting.keys(SEGMENTS) == [left.source]

        collecting.finish()
        assert collecting.keys(SEGMENTS) == []

    def test_sources_with_the_fewest_segments_are_finished_first(self, collecting: Collecting) -> None:
        """Here those of four puts, which have from four segments down to one."""
        for number in range(4):
            for put in range(4 - number):
                collecting.publish(outputs(str(put))[number])
            collecting.drain()
        assert [state.source for state in collecting.finish()] == [source(str(put)) for put in (3, 2, 1, 0)]

    def test_messages_without_lineage_are_written_apart_each_once(self, collecting: Collecting) -> None:
        (state,) = collecting.collect(Message(b"one"), Message(b"two\n"), Message(b"one"))
        assert sorted(collecting.result(state.result).splitlines()) == [b"one", b"one", b"two"]
        assert collecting.keys(SEGMENTS) == []
        (later,) = collecting.collect(Message(b"three\n"))
        assert later.result != state.result
        assert collecting.result(later.result) == b"three\n"


REFUSED = "{0-4/9>0-0/2:dddddddd,0-4/9>0-2/2:dddddddd}>0-4/4:eeeeeeee"
"""A lineage that can be read, and yet be part of nothing."""


class TestWhatCannotBeCollected:
    """It does not hinder anything else, and is not lost."""

    def apart(self, collecting: Collecting) -> list[bytes]:
        """The entries of the files of messages that are in no result."""
        return sorted(
            line for key in collecting.keys("results/without-lineage/") for line in collecting.result(key).splitlines()
        )

    @pytest.mark.parametrize("name", ["mine", "s3://bucket/inbox/x", "s3://[", "?put=1"])
    def test_messages_with_an_invalid_source_are_written_to_their_own_file(
        self, collecting: Collecting, name: str
    ) -> None:
        # Two that say they are the same bytes, which means nothing here.
        told = {SOURCE: name, LINEAGE: "0-4/4", ENTRIES: "1"}
        states = collecting.collect(
            Message(b"one\n", told), Message(b"two\n", told), Message(b"", {**told, DEAD: "why"}), *outputs()
        )
        assert collecting.result() == RESULT
        assert self.apart(collecting) == [b"one", b"two"]
        assert {state.source for state in states} == {"", source()}
        assert not any(state.problem for state in states)
        assert collecting.keys(SEGMENTS) == []

    def test_a_lineage_that_fits_nowhere_is_written_apart_once(self, collecting: Collecting) -> None:
        odd = Message(b"odd\n", {SOURCE: source(), LINEAGE: REFUSED, ENTRIES: "1"})
        first, *others = outputs()
        states = collecting.collect(odd, *others, *outputs("0054", change=bytes.title))
        assert collecting.result() == DATA.title()
        assert self.apart(collecting) == [b"odd"]
        assert sorted(state.holes for state in states) == [0, 0, 1]
        (state,) = collecting.finish()
        assert state.holes == 1
        collecting.collect(first)
        assert collecting.result() == RESULT
        assert self.apart(collecting) == [b"odd"]
        assert collecting.keys(SEGMENTS) == []

    def test_an_object_that_is_no_segment_is_a_problem_of_its_own_source(
        self, collecting: Collecting, caplog: pytest.LogCaptureFixture
    ) -> None:
        collecting.store.put("segments/topic/0/broken-9.seg", b"no json")
        collecting.publish(Message(b"by hand\n"), *outputs())
        collecting.drain()
        states = collecting.finish()
        (problem,) = (state for state in states if state.problem)
        assert problem.source == "segments/topic/0/broken-9.seg"
        assert "is not a segment" in problem.problem
        assert caplog.records[-1].levelname == "ERROR"
        assert collecting.result() == RESULT
        assert self.apart(collecting) == [b"by hand"]
        assert collecting.keys(SEGMENTS) == ["segments/topic/0/broken-9.seg"]

    def test_a_result_that_cannot_be_written_is_a_problem_of_its_own_source(self, collecting: Collecting) -> None:
        def refuse(params: dict[str, Any], **_: Any) -> None:
            if params["Key"] == "results/other.smi":
                raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")

        collecting.s3.meta.events.register("provide-client-params.s3.PutObject", refuse)
        others = [
            Message(one.body, {**one.attributes, SOURCE: source(key="inbox/other.smi")})
            for one in outputs(change=bytes.title)
        ]
        states = collecting.collect(*others, *outputs())
        assert {state.source: bool(state.problem) for state in states} == {
            source(): False,
            source(key="inbox/other.smi"): True,
        }
        assert collecting.result() == RESULT
        assert collecting.keys(SEGMENTS)

    def test_a_segment_that_comes_between_writing_and_deleting_is_not_lost(self, collecting: Collecting) -> None:
        """As when two collect at once: one has listed the segments, and the other one more."""
        collecting.publish(Message(b"one\n"))
        collecting.drain()
        kill = Kill(collecting.s3, after=False)
        at = 0
        while True:
            at += 1
            if not kill.run(collecting.finish, at):
                break
            collecting.collect(Message(b"%d\n" % at))
            collecting.publish(Message(b"one\n"))
            collecting.drain()
        assert at > 4
        assert self.apart(collecting) == sorted([*(b"%d" % one for one in range(1, at)), *[b"one"] * at])
        assert collecting.keys(SEGMENTS) == []

    def test_a_message_that_came_twice_is_written_once(self, collecting: Collecting) -> None:
        for body in (b"one\n", b"two\n"):
            pieces = [Piece("id", b"one\n", 1), Piece(f"other {body!r}", body, 1)]
            write_segment(collecting.store, "topic", JobKey(""), pieces, [], WHEN, WHEN)
        collecting.finish()
        assert self.apart(collecting) == [b"one", b"one", b"two"]


class TestTheDead:
    def test_a_source_with_dead_entries_is_written_without_them_and_its_segments_stay(
        self, collecting: Collecting
    ) -> None:
        collecting.note()
        one, *others = outputs()
        (state,) = collecting.collect(*others, dead(one))
        assert (state.dead, state.result) == (1, "results/molecules.smi")
        assert collecting.result() == b"".join(LINES[1:]).upper()
        report = collecting.report()
        assert report["entries"] == {"read": 6, "done": 5, "dead": 1, "missing": 0, "written": 5}
        assert report["dead"] == [{"start": 0, "end": len(LINES[0]), "entries": 1, "reason": "exit code 3"}]
        assert report["complete"] is False
        assert collecting.keys("segments/topic/")

    def test_the_result_of_a_dead_entry_that_comes_late_takes_its_place(self, collecting: Collecting) -> None:
        collecting.note()
        one, *others = outputs()
        collecting.collect(*others, dead(one))
        collecting.collect(one)
        assert collecting.result() == RESULT
        assert collecting.report()["complete"] is True
        assert collecting.report()["entries"]["dead"] == 0
        assert collecting.keys(SEGMENTS) == []

    def test_of_two_dead_entries_the_one_whose_result_comes_late_is_written(self, collecting: Collecting) -> None:
        one, two, *others = outputs()
        collecting.collect(*others, dead(one), dead(two))
        collecting.collect(two)
        assert collecting.result() == b"".join(LINES[1:]).upper()
        assert [entry["start"] for entry in collecting.report()["dead"]] == [0]
        collecting.collect(one)
        assert collecting.result() == RESULT
        assert collecting.keys(SEGMENTS) == []

    def test_a_result_that_has_not_changed_is_not_written_again(self, collecting: Collecting) -> None:
        one, *others = outputs()
        collecting.collect(*others, dead(one))
        puts: list[str] = []
        collecting.s3.meta.events.register(
            "provide-client-params.s3.PutObject", lambda params, **_: puts.append(params["Key"])
        )
        collecting.finish()
        assert "results/molecules.smi" not in puts


class TestLateAndOlder:
    def test_late_duplicates_of_a_written_result_are_cleaned_up(self, collecting: Collecting) -> None:
        collecting.note()
        collecting.collect(*outputs())
        report = collecting.report()
        (state,) = collecting.collect(outputs()[2])
        assert state.result == "results/molecules.smi"
        assert collecting.result() == RESULT
        assert collecting.report() == report
        assert collecting.keys(SEGMENTS) == []

    def test_a_tombstone_that_comes_after_the_result_changes_nothing(self, collecting: Collecting) -> None:
        collecting.collect(*outputs())
        collecting.collect(dead(outputs()[2]))
        assert collecting.result() == RESULT
        assert collecting.report()["complete"] is True
        assert collecting.keys(SEGMENTS) == []

    def test_the_result_of_a_newer_put_replaces_that_of_an_older_one(self, collecting: Collecting) -> None:
        collecting.collect(*outputs("0055"))
        collecting.collect(*outputs("0056", change=bytes.title))
        assert collecting.result() == DATA.title()

    def test_the_result_of_an_older_put_never_replaces_that_of_a_newer_one(self, collecting: Collecting) -> None:
        collecting.collect(*outputs("0056"))
        (state,) = collecting.collect(*outputs("0055", change=bytes.title))
        assert state.superseded
        assert not state.result
        assert collecting.result() == RESULT
        assert collecting.report()["source"] == source("0056")
        assert collecting.keys(SEGMENTS) == []

    def test_sequencers_of_different_lengths_are_compared_from_the_left(self, collecting: Collecting) -> None:
        collecting.collect(*outputs("0056"))
        (state,) = collecting.collect(*outputs("005500000000", change=bytes.title))
        assert state.superseded

    def test_an_unfinished_newer_put_leaves_the_older_result(self, collecting: Collecting) -> None:
        collecting.collect(*outputs("0055"))
        collecting.collect(*outputs("0056", change=bytes.title)[1:])
        assert collecting.result() == RESULT

    def test_a_result_that_changed_since_it_was_looked_at_is_not_overwritten(self, collecting: Collecting) -> None:
        writer = collecting.store
        assert writer.write("results/x", [b"one"], {}, None)
        assert not writer.write("results/x", [b"two"], {}, None)
        seen = writer.stat("results/x")
        assert writer.write("results/x", [b"three"], {}, seen)
        assert not writer.write("results/x", [b"four"], {}, seen)
        assert collecting.result("results/x") == b"three"
