"""Requests in flight together."""

from __future__ import annotations

import threading
from itertools import count, islice

import pytest
from parcelq.aws.parallel import in_flight


def no_threads_left() -> bool:
    return not [one for one in threading.enumerate() if one.name.startswith("parcelq")]


class Meter:
    """Counts how many calls are under way together."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.ended = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1
            self.ended += 1


def test_every_item_is_taken_by_exactly_one_call():
    assert sorted(in_flight(lambda item: item * 2, range(100), 7)) == [item * 2 for item in range(100)]
    assert list(in_flight(str, [], 4)) == []
    assert no_threads_left()


def test_as_many_calls_as_allowed_are_under_way_and_never_more():
    meter = Meter()
    together = threading.Barrier(4)  # passes only when four calls wait in it

    def call(_: int) -> None:
        with meter:
            together.wait(10)

    assert len(list(in_flight(call, range(40), 4))) == 40
    assert meter.most == 4


def test_results_come_in_the_order_they_get_done():
    second_done = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            second_done.wait(10)
        return item

    results = in_flight(call, [0, 1], 2)
    assert next(results) == 1
    second_done.set()
    assert next(results) == 0


def test_items_are_taken_only_as_there_is_room():
    numbers = count()
    results = in_flight(lambda item: item, numbers, 3)
    assert len(list(islice(results, 10))) == 10
    results.close()
    assert next(numbers) <= 10 + 3
    assert no_threads_left()


def test_an_error_is_raised_after_what_is_under_way_has_ended_and_no_further_item_is_taken():
    meter = Meter()
    taken: list[int] = []
    failed = threading.Event()

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    def call(item: int) -> None:
        with meter:
            if item == 1:
                failed.set()
                raise ValueError("bad")
            failed.wait(10)

    with pytest.raises(ValueError, match="bad"):
        list(in_flight(call, items(), 4))
    assert meter.now == 0
    assert len(taken) < 12
    assert no_threads_left()


def test_an_error_of_the_items_is_raised_and_nothing_is_left_running():
    def items():
        yield from range(5)
        raise KeyError("items")

    with pytest.raises(KeyError, match="items"):
        list(in_flight(lambda item: item, items(), 2))
    assert no_threads_left()
