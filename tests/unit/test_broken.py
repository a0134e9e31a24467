"""A step that fails on everything is distinguished from data in which much is bad."""

from __future__ import annotations

import pytest
from parcelq.process.broken import MOST_SAMPLES, BrokenStep, FirstRuns, sample

BODIES = [b"a1\na2\na3\na4\n", b"b1\n", b"c1\nc2\nc3\nc4\nc5\nc6"]


def all_failed(*bodies: bytes) -> FirstRuns:
    runs = FirstRuns()
    for body in bodies:
        runs = runs.after(body, succeeded=False)
    return runs


def test_three_messages_that_all_failed_are_suspicious() -> None:
    assert not all_failed(*BODIES[:2]).are_suspicious
    assert all_failed(*BODIES).are_suspicious


def test_single_entries_are_taken_from_all_of_them_in_turn() -> None:
    assert all_failed(*BODIES).samples() == [b"a1\n", b"b1\n", b"c1\n", b"a2\n", b"c2\n", b"a3\n", b"c3\n", b"a4\n"]


@pytest.mark.parametrize("bodies", [[b"one\n", b"two\n", b"three"], [b"\n\n", b"\r\n", b"x"], [b"x\n" * 1000] * 50])
def test_a_suspicion_is_tested_with_eight_samples_at_the_most(bodies: list[bytes]) -> None:
    samples = sample(bodies)
    assert len(samples) == min(MOST_SAMPLES, sum(body.count(b"\n") + (not body.endswith(b"\n")) for body in bodies))
    assert all(one.count(b"\n") <= 1 for one in samples)


def test_a_step_is_broken_where_every_single_entry_of_the_sample_fails_too() -> None:
    runs, verdict = all_failed(*BODIES).judged(["no module 'x'"] * 8)
    assert verdict == BrokenStep("no module 'x'", 8)
    assert str(verdict) == "the step failed in each of 8 runs with a single record, so it is broken: no module 'x'"
    assert runs.is_over


def test_a_step_works_where_one_single_entry_succeeds_however_many_fail_later() -> None:
    runs, verdict = all_failed(*BODIES).judged(["bad"] * 7 + [None])
    assert (verdict, runs.works) == (None, True)
    for _ in range(10):
        runs = runs.after(b"bad\n", succeeded=False)
    assert not runs.are_suspicious


def test_nothing_is_suspicious_any_more_when_one_message_succeeded() -> None:
    runs = all_failed(*BODIES[:2]).after(b"good\n", succeeded=True)
    assert not all_failed(*BODIES[:2]).works
    assert not runs.after(b"bad\n", succeeded=False).after(b"bad\n", succeeded=False).are_suspicious


def test_a_step_is_not_called_broken_without_a_sample() -> None:
    assert all_failed(b"", b"", b"").judged([])[1] is None
