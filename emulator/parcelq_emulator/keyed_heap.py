"""A priority queue that can remove and move items."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator


class KeyedHeap:
    """A set of numbers in the order of their keys, smallest key first.

    If a number is discarded or gets another key, the number's old item stays in the heap. An old item is skipped when
    it reaches the top of the heap. The heap is rebuilt before such items become the majority.
    """

    __slots__ = ("_items", "_keys")

    def __init__(self) -> None:
        self._keys: dict[int, float] = {}
        self._items: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, number: int, key: float) -> None:
        """Add a number, or change the key of the number."""
        self._keys[number] = key
        heapq.heappush(self._items, (key, number))
        if len(self._items) > 2 * len(self._keys) + 64:
            self._items = [(key, number) for number, key in self._keys.items()]
            heapq.heapify(self._items)

    def discard(self, number: int) -> None:
        """Remove a number if the heap contains it."""
        self._keys.pop(number, None)

    def first_key(self) -> float:
        """Return the smallest key, or infinity if the heap is empty."""
        items = self._items
        while items and self._keys.get(items[0][1]) != items[0][0]:
            heapq.heappop(items)
        return items[0][0] if items else math.inf

    def take_up_to(self, key: float) -> Iterator[int]:
        """Remove and yield the numbers whose key is at most `key`, smallest key first. Only yielded numbers are
        removed.
        """
        while self._keys and self.first_key() <= key:
            _, number = heapq.heappop(self._items)
            del self._keys[number]
            yield number
