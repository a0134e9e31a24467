"""Whether another run may begin, and how long it may take."""

from __future__ import annotations

import pytest
from parcelq.process.budget import Budget, Limit


class Invocation:
    """A clock, and the time that is left of an invocation."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0

    def left(self) -> float:
        return self.seconds - self.now

    def clock(self) -> float:
        return self.now


@pytest.fixture
def invocation():
    return Invocation(100)


@pytest.fixture
def budget(invocation):
    return Budget(invocation.left, invocation.clock)


def test_without_an_end_a_run_may_take_what_its_settings_say():
    budget = Budget(lambda: float("inf"))
    assert budget.limit(None) == Limit(None, short=False)
    assert budget.limit(30) == Limit(30, short=False)


def test_some_time_is_kept_for_publishing_and_the_answer(budget):
    assert budget.limit(None) == Limit(90, short=False)


@pytest.mark.parametrize(("whole", "reserve"), [(1, 0.1), (60, 6), (100, 10), (900, 10)])
def test_the_time_that_is_kept_is_a_tenth_and_at_most_ten_seconds(whole, reserve):
    assert Budget(lambda: whole).limit(None) == Limit(pytest.approx(whole - reserve), short=False)


def test_a_steps_own_timeout_counts_where_it_is_shorter(budget):
    assert budget.limit(30) == Limit(30, short=False)
    assert budget.limit(300) == Limit(90, short=False)


def test_a_run_that_begins_late_may_be_cut_short_and_that_says_nothing_against_the_message(budget, invocation):
    invocation.now = 30
    assert budget.limit(None) == Limit(60, short=False)
    invocation.now = 45
    assert budget.limit(None) == Limit(45, short=True)


def test_a_run_that_begins_late_with_its_whole_timeout_is_not_cut_short(budget, invocation):
    invocation.now = 45
    assert budget.limit(45) == Limit(45, short=False)
    assert budget.limit(10) == Limit(10, short=False)


def test_late_in_an_invocation_no_run_begins_whose_timeout_does_not_fit_in(budget, invocation):
    invocation.now = 45
    assert budget.limit(46) is None


def test_early_in_an_invocation_a_timeout_that_does_not_fit_in_is_cut(budget, invocation):
    invocation.now = 20
    assert budget.limit(300) == Limit(70, short=False)


def test_no_run_begins_late_if_the_longest_so_far_would_not_fit(budget, invocation):
    for seconds in (35, 10):
        with budget.running():
            invocation.now += seconds
    invocation.now = 55
    assert budget.limit(None) == Limit(35, short=True)
    invocation.now = 56
    assert budget.limit(None) is None
    assert budget.limit(30) == Limit(30, short=False)


def test_the_time_of_a_run_that_fails_counts_too(budget, invocation):
    def fail() -> None:
        with budget.running():
            invocation.now += 60
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert budget.limit(None) is None


@pytest.mark.parametrize("now", [90, 95, 200])
def test_no_run_begins_when_time_is_up(budget, invocation, now):
    invocation.now = now
    assert budget.limit(None) is None
    assert budget.limit(0.001) is None


def test_an_invocation_that_begins_with_no_time_starts_nothing():
    assert Budget(lambda: 0.0).limit(None) is None
