"""Fills requests with as many items as fit into SQS's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Yield lists of `most` items, read from an iterable only as needed. The last list may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, most)):
        yield batch


def sized_batches(
    items: Iterable[Item], size: Callable[[Item], int], most: int, most_bytes: int
) -> Iterator[list[Item]]:
    """Yield lists of at most `most` items with at most `most_bytes` together, in the order of an iterable.

    An item larger than `most_bytes` is alone in its list; the caller refuses this item.
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        item_size = size(item)
        if batch and (len(batch) == most or total + item_size > most_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += item_size
    if batch:
        yield batch
