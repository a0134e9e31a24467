"""Filling requests."""

from __future__ import annotations

from itertools import chain, count, islice, pairwise

from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.batching import batches, sized_batches

ITEMS = st.lists(st.integers(0, 30), max_size=60)


@given(ITEMS, st.integers(1, 12))
def test_batches_keep_all_items_in_order_and_are_full_but_for_the_last(items, most):
    made = list(batches(items, most))
    assert list(chain.from_iterable(made)) == items
    assert all(len(batch) == most for batch in made[:-1])
    assert all(1 <= len(batch) <= most for batch in made)


@given(ITEMS, st.integers(1, 12), st.integers(1, 40))
def test_sized_batches_keep_all_items_in_order_and_within_both_limits(items, most, most_bytes):
    made = list(sized_batches(items, lambda item: item, most, most_bytes))
    assert list(chain.from_iterable(made)) == items
    for batch in made:
        assert 1 <= len(batch) <= most
        assert sum(batch) <= most_bytes or len(batch) == 1
    for batch, following in pairwise(made):
        assert len(batch) == most or sum(batch) + following[0] > most_bytes


def test_both_kinds_of_batches_take_items_only_as_they_are_asked():
    numbers = count()
    assert list(islice(batches(numbers, 3), 2)) == [[0, 1, 2], [3, 4, 5]]
    assert next(numbers) == 6
    numbers = count()
    assert list(islice(sized_batches(numbers, lambda _: 1, 3, 100), 2)) == [[0, 1, 2], [3, 4, 5]]
    assert next(numbers) == 7
