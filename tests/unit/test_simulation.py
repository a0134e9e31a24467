"""The simulation of the deployed flow: that `parcelq estimate` agrees with it, and what it says of the largest jobs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from parcelq_cli.estimate.bill import usd
from parcelq_cli.estimate.stack import Setup

from benchmarks.scale import DEFAULTS, NEW_ACCOUNT, WIDE, Simulated, simulated
from benchmarks.simulation.case import Case
from benchmarks.simulation.world import Account, Function, Topic, World

LARGE_ACCOUNT = 3000
TERABYTE = 2 * 10**10
MIDDLE = Setup(concurrency=100, uploads=10, collects=10)


@cache
def of(lines: int, setup: Setup, account: int, lost: float = 0.0, seed: int = 1) -> Simulated:
    return simulated(lines, setup, Case(account, lost=lost, seed=seed))


@pytest.mark.parametrize(
    ("lines", "setup", "account"),
    [
        (10, DEFAULTS, NEW_ACCOUNT),
        (1_000, DEFAULTS, NEW_ACCOUNT),
        (100_000, DEFAULTS, NEW_ACCOUNT),
        (1_000_000, DEFAULTS, NEW_ACCOUNT),
        (1_000_000, MIDDLE, LARGE_ACCOUNT),
        (10_000_000, MIDDLE, LARGE_ACCOUNT),
        (10**9, WIDE, LARGE_ACCOUNT),
        (TERABYTE, WIDE, LARGE_ACCOUNT),
    ],
)
def test_the_estimate_agrees_with_the_simulation_within_a_fifth(lines: int, setup: Setup, account: int) -> None:
    one = of(lines, setup, account)
    assert one.job.upload == pytest.approx(one.outcome.uploaded, rel=0.2)
    assert one.job.processed == pytest.approx(one.outcome.processed, rel=0.2)
    assert one.job.latest == pytest.approx(one.outcome.result, rel=0.2)
    assert usd(one.job) == pytest.approx(one.usd, rel=0.2)


def test_a_job_of_a_terabyte_asks_no_invocation_for_more_than_it_can_do() -> None:
    one = of(TERABYTE, WIDE, LARGE_ACCOUNT)
    assert list(one.misses()) == []
    assert one.outcome.writing < one.outcome.processed
    assert max(used.longest for used in one.outcome.used.values()) < 300
    assert one.outcome.healings == 0


def test_uploading_many_ranges_at_once_scatters_a_result_over_segments_so_that_writing_it_takes_longer() -> None:
    lines = 10**9
    few, many = (of(lines, replace(WIDE, uploads=uploads), LARGE_ACCOUNT) for uploads in (20, 1000))
    assert many.outcome.writing > 1.4 * few.outcome.writing
    assert many.outcome.processed == pytest.approx(few.outcome.processed, rel=0.1)


def test_a_simulation_gives_the_same_every_time_and_something_else_with_another_seed() -> None:
    lost = [simulated(100_000, MIDDLE, Case(10, lost=0.2, seed=seed)).document() for seed in (1, 1, 2)]
    assert lost[0] == lost[1]
    assert lost[0] != lost[2]


def test_the_defaults_are_not_throttled_in_a_new_account() -> None:
    one = of(1_000_000, DEFAULTS, NEW_ACCOUNT)
    assert one.outcome.throttled == 0
    assert one.outcome.most <= NEW_ACCOUNT


@pytest.mark.parametrize("lost", [0.0, 0.05])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_job_that_is_throttled_in_a_new_account_is_exact_and_ends(lost: float, seed: int) -> None:
    setup = Setup(concurrency=100, uploads=100, collects=10)
    one = of(1_000_000, setup, NEW_ACCOUNT, lost, seed)
    outcome = one.outcome
    assert outcome.throttled > 0
    assert outcome.most == NEW_ACCOUNT
    assert (outcome.too_long, outcome.healings) == ([], 0)
    assert outcome.collected_messages == outcome.messages
    # Invocations that died come back after the time that they had.
    assert outcome.result < 1.3 * of(1_000_000, DEFAULTS, NEW_ACCOUNT).outcome.result + (600 if lost else 0)


def test_an_event_source_grows_from_five_by_five_a_second_up_to_its_bound() -> None:
    world, begun = World(1), []
    topic = Topic(world, 300)

    def work(batch, number, end) -> None:
        begun.append((round(world.now, 2), number))
        world.after(100.0, lambda: end(100.0))

    Function(Account(1000), topic, work, most=12, together=10)
    topic.publish(1000)
    world.after(10.0, lambda: setattr(world, "is_ended", True))
    world.run()
    at = [time for time, number in begun for _ in range(number)]
    assert len(at) == 12
    assert sum(time < 1.1 for time in at) == 5
    assert at[-1] == pytest.approx(1 + 7 / 5, abs=0.3)


def test_a_batch_that_is_throttled_until_its_deadline_is_delivered_again() -> None:
    world, account = World(1), Account(0)
    topic = Topic(world, 30)
    function = Function(account, topic, lambda batch, number, end: end(0.0), most=2, together=10)
    topic.publish(10)
    world.after(200.0, lambda: setattr(account, "limit", 1))
    world.after(400.0, lambda: setattr(world, "is_ended", True))
    world.run()
    assert function.used.invocations == 1
    assert account.throttled > 5
    assert topic.is_empty
