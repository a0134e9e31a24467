"""What counts of entries say about a step."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.collect.rows import FLAG, UNKNOWN
from parcelq.collect.yields import Yields


def doubts_of(*runs: tuple[int, int]) -> tuple[str, ...]:
    """What is said of runs, each given as the entries that it got and those that it wrote."""
    yields = Yields()
    yields.add([read for read, _ in runs], [written for _, written in runs])
    return yields.doubts()


def halved(size: int, lost: int = 0) -> list[tuple[int, int]]:
    """The runs that end in one bad entry: halves, a quarter, …, one entry; each writes all that it got, but `lost`."""
    made = []
    while size > 1:
        size, half = size // 2, size - size // 2
        made.append((half, max(0, half - lost)))
    return made


def test_a_step_that_treats_each_record_by_itself_gives_no_doubt() -> None:
    assert doubts_of(*[(1000, 1000)] * 9, *halved(1000), (37, 37)) == ()


def test_runs_of_single_records_that_write_nothing_though_runs_of_many_do_are_a_doubt() -> None:
    (doubt,) = doubts_of(*[(1000, 999)] * 9, *halved(1000, lost=1), (1, 0))
    assert doubt.startswith("1 run over a single record wrote nothing, but 9 runs over many wrote 8,991 for 9,000")


def test_fewer_records_out_of_halves_than_of_whole_parcels_are_a_doubt() -> None:
    (doubt,) = doubts_of(*[(1000, 999)] * 9, *[(500, 490)] * 2)
    assert "2 runs over fewer records, such as halves, wrote 980 for 1,000" in doubt


def test_one_record_lost_in_every_run_is_a_doubt() -> None:
    (doubt,) = doubts_of((1000, 999), (1000, 999), (1000, 999))
    assert doubt.startswith("each of 3 runs wrote 1 record fewer than it got")


def test_one_record_gained_in_every_run_is_a_doubt() -> None:
    (doubt,) = doubts_of((1000, 1001), (1000, 1001), (500, 501))
    assert doubt == "each of 3 runs wrote 1 record more than it got; a step that writes a header does that"


@pytest.mark.parametrize(
    "runs",
    [
        [(1000, 2000)] * 5,
        [(1000, 1001), (1000, 1000), (1000, 1001)],
        [(1, 2)] * 3000,
        [(1000, 1001)] * 2,
        [(1000, 1)] * 5,  # a step that counts
        [(1000, 0)] * 5,  # a step that only checks
        [(1, 0)] * 3000,  # nothing but single records
        [(2, 1)] * 50,  # pairs
        [(1000, 999), (1000, 1000), (1000, 999)],
        [(1000, 100), (1000, 120), (1000, 80), (500, 45), (250, 30), (1, 0)],  # a filter
        [(1000, 5000), *((1, 5) for _ in range(9))],
        [],
    ],
)
def test_a_sound_step_gives_no_doubt_whatever_it_may_do(runs: list[tuple[int, int]]) -> None:
    assert doubts_of(*runs) == ()


@given(st.floats(0, 1), st.integers(0, 10_000))
def test_a_filter_that_keeps_records_by_chance_is_hardly_ever_doubted(share: float, seed: int) -> None:
    chance = random.Random(seed)
    sizes = [200] * 10 + [read for read, _ in halved(200)]
    runs = [(size, sum(chance.random() < share for _ in range(size))) for size in sizes]
    doubts = doubts_of(*runs)
    if doubts:  # one of a hundred may be
        again = [(size, sum(chance.random() < share for _ in range(size))) for size in sizes * 20]
        assert doubts_of(*again) == ()


def test_messages_of_one_run_count_together_and_those_with_dead_slices_do_not() -> None:
    together, apart = Yields(), Yields()
    together.add([1000, 1000, 500, UNKNOWN, 7], [1000, 900, 300, 7, 7])
    apart.add(
        [1000, 0, 0, 1000, 0, 500, UNKNOWN, 0, 3, 0, 7],
        [300, 300, 400, 900, 0, 300, 6, 1, 1, FLAG | 2, 7],
    )
    assert together == apart
    assert sorted(together.sizes) == [3, 9, 10]


@pytest.mark.parametrize(
    "runs",
    [
        [(1000, 1000), (1000, 1000), (1, 0)],  # the filter drops the last record
        [*[(1000, 1000)] * 3, (400, 0)],  # the filter drops the last 400 records
        [*[(1000, 1000)] * 3, *[(1, 1)] * 50, *[(1, 0)] * 20],
    ],
)
def test_a_filter_that_drops_all_records_of_a_run_causes_no_doubt(runs: list[tuple[int, int]]) -> None:
    yields = Yields()
    yields.add([read for read, _ in runs], [written for _, written in runs])
    assert yields.doubts() == ()


def test_a_step_that_loses_a_record_in_every_run_is_doubted_although_many_runs_are_empty() -> None:
    yields = Yields()
    yields.add([1000] * 3 + [1] * 5, [999] * 3 + [0] * 5)
    (doubt,) = yields.doubts()
    assert "5 runs over a single record wrote nothing" in doubt
