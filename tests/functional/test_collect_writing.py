"""Writing a result: by parts, in several runs, by several at once, and killed anywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from collect_world import DATA, RESULT, WHEN, Collecting, Kill, Killed, outputs, source
from parcelq.collect.finish import Finisher
from parcelq.collect.segments import JobKey, write_segment
from parcelq.errors import AwsError
from parcelq.limits import MIB
from parcelq.names import SEGMENTS
from parcelq.store.bucket import BucketStore
from parcelq.topics.attributes import LINEAGE
from parcelq.topics.message import Message
from parcelq.topics.pieces import Piece

pytest_plugins = ["collect_world"]


class TestParts:
    def bodies(self, done: int = 0) -> Iterator[bytes]:
        return (bytes([number]) * 5 * MIB for number in range(done, 3))

    def test_a_large_result_is_written_by_parts(self, collecting: Collecting) -> None:
        writer = collecting.store
        assert writer.write("results/x", self.bodies(), {"parcelq-state": "whole"}, None)
        assert collecting.result("results/x") == b"".join(self.bodies())
        seen = writer.stat("results/x")
        assert seen
        assert seen.metadata == {"parcelq-state": "whole"}
        assert seen.etag.strip('"').endswith("-3")

    def test_parts_that_cannot_be_put_leave_no_upload_behind(self, collecting: Collecting) -> None:
        def broken() -> Iterator[bytes]:
            yield from self.bodies()
            raise Killed

        with pytest.raises(Killed):
            collecting.store.write("results/x", broken(), {}, None)
        assert not collecting.s3.list_multipart_uploads(Bucket=collecting.bucket).get("Uploads")
        assert collecting.keys("results/") == []

    def test_an_upload_in_parts_is_completed_only_if_the_result_is_still_the_one_that_was_seen(
        self, collecting: Collecting
    ) -> None:
        asked: list[dict[str, Any]] = []
        collecting.s3.meta.events.register(
            "provide-client-params.s3.CompleteMultipartUpload", lambda params, **_: asked.append(dict(params))
        )
        writer = collecting.store
        writer.write("results/x", self.bodies(), {}, None)
        seen = writer.stat("results/x")
        assert seen
        writer.write("results/x", self.bodies(), {}, seen)
        assert [(one.get("IfNoneMatch"), one.get("IfMatch")) for one in asked] == [("*", None), (None, seen.etag)]

    @pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
    def test_a_refused_completion_means_that_somebody_else_wrote_the_result(
        self, collecting: Collecting, code: str
    ) -> None:
        def refuse(**_: Any) -> None:
            raise ClientError({"Error": {"Code": code}}, "CompleteMultipartUpload")

        collecting.s3.meta.events.register("before-call.s3.CompleteMultipartUpload", refuse)
        assert not collecting.store.write("results/x", self.bodies(), {}, None)
        assert not collecting.s3.list_multipart_uploads(Bucket=collecting.bucket).get("Uploads")

    def test_a_completion_that_is_refused_for_another_reason_is_an_error(self, collecting: Collecting) -> None:
        with pytest.raises(AwsError, match="NoSuchBucket"):
            BucketStore(collecting.s3, "no-such-bucket").write("results/x", [b"one"], {}, None)


@pytest.mark.parametrize("after", [False, True], ids=["before a request", "after a request"])
class TestKilled:
    def test_the_next_finisher_completes_what_one_that_was_killed_at_any_call_left(
        self, collecting: Collecting, after: bool
    ) -> None:
        kill = Kill(collecting.s3, after=after)
        at, killed = 0, True
        while killed:
            at += 1
            put = f"{0x1000 + at:04X}"
            collecting.note(put)
            collecting.publish(*outputs(put)[:3])
            collecting.drain()
            collecting.publish(*outputs(put)[3:])
            collecting.drain()
            killed = kill.run(collecting.finish, at)
            collecting.finish()
            assert collecting.result() == RESULT
            assert collecting.report()["source"] == source(put)
            assert collecting.report()["entries"]["written"] == 6
            assert collecting.keys(SEGMENTS) == []
        assert at > 6

    @pytest.mark.parametrize("service", ["s3", "sqs"])
    def test_draining_that_is_killed_anywhere_loses_and_doubles_nothing(
        self, collecting: Collecting, after: bool, service: str
    ) -> None:
        kill = Kill(getattr(collecting, service), after=after)
        at, killed = 0, True
        while killed:
            at += 1
            put = f"{0x1000 + at:04X}"
            collecting.publish(*outputs(put))
            killed = kill.run(collecting.drain, at)
            if killed:  # then what it had not acknowledged is delivered again
                collecting.publish(*outputs(put))
            collecting.drain()
            collecting.finish()
            assert collecting.result() == RESULT
            assert collecting.report()["source"] == source(put)
            assert collecting.keys(SEGMENTS) == []
        assert at > 1


def test_two_finishers_at_once_make_one_exact_result(collecting: Collecting) -> None:
    for turn in range(5):
        put = f"{0x1000 + turn:04X}"
        collecting.note(put)
        collecting.publish(*outputs(put), Message(b"by hand\n"))
        collecting.drain()
        barrier = threading.Barrier(2)
        failures: list[BaseException] = []

        def finish(barrier: threading.Barrier = barrier, failures: list[BaseException] = failures) -> None:
            barrier.wait()
            try:
                collecting.finish()
            except BaseException as error:
                failures.append(error)

        both = [threading.Thread(target=finish) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert failures == []
        collecting.finish()
        assert collecting.result() == RESULT
        assert collecting.report()["source"] == source(put)
        assert collecting.keys(SEGMENTS) == []


def test_a_finisher_notices_a_result_that_somebody_else_wrote_in_between(collecting: Collecting) -> None:
    collecting.publish(*outputs("0055"))
    collecting.drain()
    other = Collecting(collecting.sqs, collecting.s3, collecting.bucket, collecting.topic)
    done: list[bool] = []

    def overtake(**_: Any) -> None:
        """Just before the result is put, a newer put of the file is finished."""
        if not done:
            done.append(True)
            newer = Finisher(other.store, "topic", bucket=other.bucket)
            pieces = [Piece(one.attributes[LINEAGE], one.body, 1) for one in outputs("0056", change=bytes.title)]
            key = write_segment(other.store, "topic", JobKey(source("0056")), pieces, [], WHEN, WHEN)
            list(newer._look([key]))

    collecting.s3.meta.events.register("provide-client-params.s3.PutObject", overtake)
    (state,) = collecting.finish()
    assert not state.result
    assert collecting.result() == DATA.title()
    assert all(one.superseded or one.source == source("0056") for one in collecting.finish())
    assert collecting.result() == DATA.title()
    assert collecting.report()["source"] == source("0056")
    assert collecting.keys(SEGMENTS) == []
