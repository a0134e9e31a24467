"""Runs several requests at once on threads, which suffice to wait for a network."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_flight(call: Callable[[Item], Result], items: Iterable[Item], most: int = 8) -> Generator[Result]:
    """Call `call(item)` for every item, at most `most` at a time, and yield the results in the order of completion.

    An item is read only when its call can begin, so an iterable of any length needs little memory. An error in a call
    is raised here after the running calls have ended. After an error or `close()`, no further item is read. The only
    item of a sequence is handled without another thread.
    """
    if isinstance(items, Sequence) and len(items) == 1:
        yield call(items[0])
        return
    rest = iter(items)
    with ThreadPoolExecutor(most, thread_name_prefix="parcelq") as pool:
        under_way: set[Future[Result]] = {pool.submit(call, item) for item in islice(rest, most)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                under_way.update(pool.submit(call, item) for item in islice(rest, 1))
                yield result
