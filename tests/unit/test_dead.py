"""Dead letters and tombstones: whatever a message was and why it failed, SQS takes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.text import legal_text
from parcelq.errors import ParcelqError, StepError
from parcelq.limits import KIB, MAX_ATTRIBUTES, MAX_MESSAGE_BYTES
from parcelq.process.dead import Circumstances, dead_letter, failure_of, reason_of, tombstone
from parcelq.process.output import moved_on
from parcelq.process.plan import Work
from parcelq.steps.reason import reason_first
from parcelq.topics.attributes import (
    DEAD,
    ENCODING,
    ENTRIES,
    FAILURE,
    FAILURES,
    FIRST,
    FORMAT,
    HEADER,
    LINEAGE,
    REASON,
    SIZE_ELSEWHERE,
    SOURCE,
    WORKFLOW,
    TypedValue,
)
from parcelq.topics.message import Message, Pulled, Wire, with_attributes
from parcelq.upload.parcels import MAX_BODY_BYTES

ABOUT = Circumstances("tr", 1_800_000_000.5, "wf@2")
OURS = {SOURCE: "s3://b/k?put=1", LINEAGE: "0-4/9", ENTRIES: "2", WORKFLOW: "wf@1"}
EVERYTHING = {**OURS, FORMAT: "csv", HEADER: "aGVhZA==", FIRST: "+7,9", FAILURES: "1"}
"""All that Parcelq ever puts on a message that is processed, but for what follows from how it travels."""

TRACEBACK = """loading
Traceback (most recent call last):
  File "score.py", line 3, in run
    score(entry)
    ~~~~~^^^^^^^
ValueError: bad SMILES 'C1'
"""


def work(attributes: dict[str, str], body: bytes = b"a\nb\n") -> Work:
    return Work.of(Pulled("id", "handle", 2, Wire("", attributes)), Message(body, attributes))


class TestReason:
    def test_a_reason_begins_with_the_exception_of_a_python_step_and_the_traceback_follows(self) -> None:
        reason = reason_of(StepError("score.py", "exited with 1", exit_code=1, stderr_tail=reason_first(TRACEBACK)))
        assert reason.startswith("ValueError: bad SMILES 'C1' (step 'score.py' exited with 1): Traceback ")
        assert reason.endswith("score(entry) ~~~~~^^^^^^^ loading")

    def test_the_reason_of_a_chain_of_exceptions_is_the_last_one(self) -> None:
        tail = TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
        tail += TRACEBACK.replace("bad SMILES", "no molecule") + "cleaning up\n"
        assert reason_of(StepError("s", "exited with 1", stderr_tail=reason_first(tail))).startswith(
            "ValueError: no molecule 'C1' ("
        )

    def test_the_reason_of_any_other_step_begins_with_its_last_line(self) -> None:
        error = StepError("tr", "exited with 2", exit_code=2, stderr_tail="line 1\n\tline 2\n\n")
        assert reason_of(error) == "line 2 (step 'tr' exited with 2): line 1"

    def test_a_step_that_says_nothing_has_its_end_for_a_reason(self) -> None:
        assert reason_of(StepError("tr", "was ended by SIGKILL")) == "step 'tr' was ended by SIGKILL"

    @pytest.mark.parametrize("frames", [50, 5000])
    def test_shortening_never_cuts_the_line_that_says_what_went_wrong(self, frames: int) -> None:
        tail = (
            "Traceback (most recent call last):\n" + '  File "x.py", line 1\n' * frames + "KeyError: 'the very thing'\n"
        )
        reason = reason_of(StepError("s", "exited with 1", stderr_tail=reason_first(tail)))
        assert reason.startswith("KeyError: 'the very thing' (step 's' exited with 1): ")
        assert reason.endswith('File "x.py", line 1')
        assert len(reason.encode()) <= KIB

    @pytest.mark.parametrize("frames", ["", 'Traceback (most recent call last):\n  File "x.py", line 1\n'])
    def test_the_middle_is_cut_where_the_line_that_says_what_went_wrong_is_too_long(self, frames: str) -> None:
        tail = f"{frames}ValueError: {'x' * 5000} the end\n"
        reason = reason_of(StepError("s", "exited with 1", stderr_tail=reason_first(tail)))
        assert reason.startswith("ValueError: xxx")
        assert reason.endswith("the end (step 's' exited with 1)")
        assert " … " in reason

    def test_one_illegal_character_does_not_escape_the_others(self) -> None:
        assert (
            reason_of(ParcelqError("a \x1b[31mrot\x1b[0m \0 ü 😀 \udc80")) == r"a \x1b[31mrot\x1b[0m \x00 ü 😀 \udc80"
        )

    @given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=3000), st.booleans())
    def test_a_reason_is_always_short_and_of_characters_that_sqs_takes(self, text: str, stderr: bool) -> None:
        error = StepError("s", "exited with 1", stderr_tail=text) if stderr else ParcelqError(f"step: {text}")
        reason = reason_of(error)
        assert reason
        assert legal_text(reason.encode()) == reason
        assert len(reason.encode()) <= KIB

    @pytest.mark.parametrize("character", ["😀", "ä", "\x01", "\udc80"])
    def test_the_length_of_a_reason_is_counted_in_bytes(self, character: str) -> None:
        assert 500 < len(reason_of(ParcelqError(character * 4000)).encode()) <= KIB


class TestDeadLetter:
    def test_a_dead_letter_is_the_message_with_the_reason_and_without_attributes_of_its_way(self) -> None:
        letter = dead_letter(Message(b"a\nb\n", EVERYTHING), "why", ABOUT, 2)
        failure = {"step": "tr", "when": "2027-01-15T08:00:00+00:00", "runs": 2, "first": "+7,9"}
        assert (letter.body, failure_of(letter.attributes)) == (b"a\nb\n", failure)
        kept = {name: value for name, value in EVERYTHING.items() if name not in {FIRST, FAILURES}}
        assert {**letter.attributes, FAILURE: ""} == {**kept, WORKFLOW: "wf@2", REASON: "why", FAILURE: ""}

    def test_a_dead_letter_of_a_broken_pointer_stays_a_pointer(self) -> None:
        pulled = Pulled("id", "handle", 1, Wire("[]", {SIZE_ELSEWHERE: "5"}))
        assert dead_letter(pulled.as_it_is(), "why", ABOUT, 0).wire().is_pointer

    def test_a_second_death_takes_the_place_of_the_first(self) -> None:
        first = dead_letter(Message(b"a\n", OURS), "why", ABOUT, 2)
        second = dead_letter(first, "why now", ABOUT, 3)
        assert len(second.attributes) == len(first.attributes)
        assert (second.attributes[REASON], failure_of(second.attributes)["runs"]) == ("why now", 3)

    @given(
        st.sets(st.sampled_from([*EVERYTHING, REASON, FAILURE])),
        st.integers(0, 10),
        st.sampled_from([b"a\n", b"\0\n"]),
    )
    def test_no_message_ever_has_more_attributes_than_sqs_takes(self, ours: set[str], others: int, body: bytes) -> None:
        """However it travels: in base64, or as a pointer to S3."""
        attributes = {name: EVERYTHING.get(name, "1") for name in sorted(ours)}
        attributes |= {f"Other{number}": "x" for number in range(min(others, MAX_ATTRIBUTES - len(attributes)))}
        message = Message(body, attributes)
        for made in (
            dead_letter(message, "why", ABOUT, 2),
            with_attributes(message, Reason=None, Failure=None, Failures="1"),
        ):
            on_the_way = {**made.wire().attributes, SIZE_ELSEWHERE: "9", ENCODING: "base64"}
            assert len(on_the_way) <= MAX_ATTRIBUTES
            assert (ours - {FIRST, FAILURES, REASON, FAILURE}) <= set(on_the_way)

    def test_the_dead_letter_with_the_most_attributes_has_exactly_ten(self) -> None:
        letter = dead_letter(Message(b"\0\n", {**EVERYTHING, "Theirs": "1"}), "why", ABOUT, 2)
        assert len({**letter.wire().attributes, SIZE_ELSEWHERE: "9"}) == MAX_ATTRIBUTES
        again = with_attributes(Message(b"\0\n", {**EVERYTHING, "Theirs": "1"}), Failures="2")
        assert len({**again.wire().attributes, SIZE_ELSEWHERE: "9"}) == MAX_ATTRIBUTES

    def test_the_types_of_other_peoples_attributes_stay(self) -> None:
        raw = {
            "MessageId": "i",
            "ReceiptHandle": "h",
            "Body": "a\n",
            "MessageAttributes": {
                "Picture": {"DataType": "Binary.png", "BinaryValue": b"\0\xff"},
                "Count": {"DataType": "Number.int", "StringValue": "7"},
                "Document": {"DataType": "String.json", "StringValue": "{}"},
                "Plain": {"DataType": "String", "StringValue": "x"},
            },
        }
        letter = dead_letter(Pulled.from_sqs(raw).message(), "why", ABOUT, 2)
        sent = letter.wire().request()["MessageAttributes"]
        assert {name: sent[name] for name in raw["MessageAttributes"]} == raw["MessageAttributes"]

    def test_lambda_gives_attributes_the_same_types_as_sqs(self) -> None:
        record = {
            "messageId": "i",
            "receiptHandle": "h",
            "body": "a\n",
            "messageAttributes": {
                "Picture": {"dataType": "Binary", "binaryValue": "AP8=", "stringListValues": []},
                "Count": {"dataType": "Number", "stringValue": "7"},
            },
        }
        sent = Pulled.from_lambda(record).message().wire().request()["MessageAttributes"]
        assert sent["Picture"] == {"DataType": "Binary", "BinaryValue": b"\0\xff"}
        assert sent["Count"] == {"DataType": "Number", "StringValue": "7"}
        assert isinstance(Pulled.from_lambda(record).attributes["Count"], TypedValue)

    def test_the_largest_message_of_parcelq_fits_with_its_reason(self) -> None:
        source = "s3://" + "b" * 63 + "/" + "k" * 1024 + "?etag=" + "0" * 32 + "&put=" + "0" * 18
        attributes = {SOURCE: source, LINEAGE: f"0-{2**62}/{2**62}>0-{2**62}/{2**62}:" + "0" * 16, ENTRIES: "1000000"}
        reason = reason_of(ParcelqError("😀" * 5000))
        about = Circumstances("s" * 255, 0.0)
        assert (
            dead_letter(Message(b"x" * MAX_BODY_BYTES, attributes), reason, about, 2).wire().size <= MAX_MESSAGE_BYTES
        )


class TestFailure:
    @pytest.mark.parametrize("text", ["", "nonsense", "[]", "7", "[" * 100_000])
    def test_an_attribute_that_is_no_failure_says_nothing(self, text: str) -> None:
        assert failure_of({FAILURE: text}) == {}

    def test_a_failure_is_json_that_fits_an_attribute(self) -> None:
        assert json.loads(ABOUT.failure(2)) == {"step": "tr", "when": "2027-01-15T08:00:00+00:00", "runs": 2}


class TestTombstone:
    def test_a_tombstone_says_what_died_and_carries_the_entries(self) -> None:
        stone = tombstone(work(EVERYTHING), "why", ABOUT)
        place = {SOURCE: OURS[SOURCE], LINEAGE: "0-4/9", ENTRIES: "2"}
        assert stone.body == b"a\nb\n"
        assert stone.attributes == {**place, DEAD: "why", WORKFLOW: "wf@2", FORMAT: "csv", FIRST: "+7,9"}

    @pytest.mark.parametrize(("size", "kept"), [(64 * KIB, True), (64 * KIB + 1, False)])
    def test_a_tombstone_leaves_out_an_entry_that_is_too_large(self, size: int, kept: bool) -> None:
        body = b"x" * size
        stone = tombstone(work({SOURCE: "s", LINEAGE: f"0-{size}/{size}"}, body), "why", ABOUT)
        assert stone.body == (body if kept else b"")


@pytest.mark.parametrize(
    ("first", "moved"), [("1,1", "4,6"), ("+0,0", "+3,5"), ("1", None), ("a,b", None), ("-1,1", None), ("", None)]
)
def test_the_number_of_the_first_entry_moves_with_a_part(first: str, moved: str | None) -> None:
    assert moved_on(first, 3, 5) == moved
