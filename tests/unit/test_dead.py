"""Letters and tombstones: whatever a message was and why it failed, SQS takes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.text import legal_text
from parcelq.errors import ParcelqError, StepError
from parcelq.limits import MAX_ATTRIBUTES, MAX_MESSAGE_BYTES
from parcelq.process.dead import (
    ABOUT_DEATH,
    FAILED_AT,
    REASON,
    RECEIVED,
    STEP,
    letter,
    reason_of,
    tombstone,
    unread_letter,
)
from parcelq.process.plan import Work
from parcelq.topics.message import (
    DEAD,
    ENCODING,
    ENTRIES,
    LINEAGE,
    SIZE_ELSEWHERE,
    SOURCE,
    WORKFLOW,
    Message,
    Pulled,
    Wire,
)
from parcelq.upload.files import MAX_BODY_BYTES

WHEN = datetime(2026, 11, 23, 12, 30, 45, 678, tzinfo=UTC)
OURS = {SOURCE: "s3://b/k?put=1", LINEAGE: "0-4/9", ENTRIES: "2", WORKFLOW: "wf"}


def work(attributes: dict[str, str], body: bytes = b"a\nb\n", receive_count: int = 2) -> Work:
    return Work.of(Pulled("id", "handle", receive_count, Wire("", attributes)), Message(body, attributes))


class TestReason:
    def test_it_is_what_the_error_says_on_one_line(self):
        error = StepError("tr", "exited with 2", exit_code=2, stderr_tail="line 1\n\tline 2\n")
        assert reason_of(error) == "step 'tr' exited with 2: line 1 line 2"

    def test_of_a_long_one_the_beginning_and_the_end_are_kept(self):
        kept = reason_of(StepError("tr", "exited with 2", stderr_tail="x" * 5000 + " the very end"))
        assert kept.startswith("step 'tr' exited with 2: xxx")
        assert kept.endswith("xxx the very end")
        assert " … " in kept

    def test_colours_and_control_characters_become_visible(self):
        assert reason_of(ParcelqError("a \x1b[31mred\x1b[0m \0 ü")) == r"a \x1b[31mred\x1b[0m \x00 ü"

    @given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=3000))
    def test_it_is_always_what_sqs_takes_and_short(self, text):
        kept = reason_of(ParcelqError(f"step: {text}"))
        assert kept
        assert legal_text(kept.encode()) == kept
        assert len(kept.encode()) <= 1024

    @pytest.mark.parametrize("letter_", ["😀", "ä", "\x01", "\udc80"])
    def test_its_length_is_counted_in_bytes(self, letter_):
        assert 500 < len(reason_of(ParcelqError(letter_ * 4000)).encode()) <= 1024


class TestLetter:
    def test_it_is_the_message_with_what_killed_it(self):
        dead = letter(work(OURS), "why", "tr", WHEN)
        assert dead.body == b"a\nb\n"
        assert dead.attributes == {
            **OURS,
            REASON: "why",
            STEP: "tr",
            FAILED_AT: "2026-11-23T12:30:45+00:00",
            RECEIVED: "2",
        }
        assert set(dead.attributes) - set(OURS) == set(ABOUT_DEATH)

    def test_an_unread_one_goes_as_it_came(self):
        wire = Wire("not base64!", {ENCODING: "base64", ENTRIES: "2"})
        dead = unread_letter(Pulled("id", "handle", 1, wire), "why", "tr", WHEN)
        assert dead.wire().text == wire.text
        assert dead.wire().attributes.items() >= wire.attributes.items()

    def test_a_broken_pointer_stays_a_pointer(self):
        wire = Wire("[]", {SIZE_ELSEWHERE: "5"})
        dead = unread_letter(Pulled("id", "handle", 1, wire), "why", "tr", WHEN)
        assert dead.wire().is_pointer

    def test_a_second_death_takes_the_place_of_the_first(self):
        first = letter(work(OURS), "why", "tr", WHEN)
        second = letter(work(dict(first.attributes), receive_count=4), "why now", "tr", WHEN)
        assert len(second.attributes) == len(first.attributes)
        assert (second.attributes[REASON], second.attributes[RECEIVED]) == ("why now", "4")

    @given(
        st.sets(st.sampled_from([*OURS, ENCODING, SIZE_ELSEWHERE, *ABOUT_DEATH])),
        st.integers(0, 10),
        st.sampled_from([b"a\n", b"\0\n"]),
    )
    def test_it_never_has_more_attributes_than_sqs_takes_even_offloaded(self, ours, others, body):
        attributes = dict.fromkeys(sorted(ours), "1")
        attributes |= {f"Other{number}": "x" for number in range(min(others, MAX_ATTRIBUTES - len(attributes)))}
        pulled = Pulled("id", "handle", 2, Wire("x", attributes))
        for dead in (unread_letter(pulled, "why", "tr", WHEN), letter(work(attributes, body), "why", "tr", WHEN)):
            on_the_way = {**dead.wire().attributes, SIZE_ELSEWHERE: "9"}
            assert len(on_the_way) <= MAX_ATTRIBUTES
            assert set(ABOUT_DEATH) <= set(on_the_way)
            assert (ours - set(ABOUT_DEATH)) <= set(on_the_way)

    def test_others_attributes_are_kept_as_far_as_there_is_room(self):
        attributes = {f"Other{number}": "x" for number in range(10)}
        dead = letter(work(attributes), "why", "tr", WHEN)
        assert [name for name in dead.attributes if name.startswith("Other")] == [
            "Other0",
            "Other1",
            "Other2",
            "Other3",
        ]

    def test_the_largest_message_of_ours_fits_with_its_reason(self):
        source = "s3://" + "b" * 63 + "/" + "k" * 1024 + "?etag=" + "0" * 32 + "&put=" + "0" * 18
        attributes = {SOURCE: source, LINEAGE: f"0-{2**62}/{2**62}>0-{2**62}/{2**62}:" + "0" * 16, ENTRIES: "1000000"}
        reason = reason_of(ParcelqError("😀" * 5000))
        dead = letter(work(attributes, b"x" * MAX_BODY_BYTES), reason, "s" * 255, WHEN)
        assert dead.wire().size <= MAX_MESSAGE_BYTES


class TestTombstone:
    def test_it_says_what_died_and_has_no_bytes(self):
        stone = tombstone(work(OURS), "why", "tr")
        assert stone.body == b""
        assert stone.attributes == {SOURCE: OURS[SOURCE], LINEAGE: "0-4/9", ENTRIES: "2", DEAD: "why", STEP: "tr"}
        assert stone.wire().text == "\n"
