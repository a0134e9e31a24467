"""Records the sizes of the parts of an upload."""

from __future__ import annotations

from typing import Final

_MOST_PARTS: Final = 2048
"""The most parts of a note, which then has about 30 KB."""


class Parts:
    """Bytes and entries of parcels. If there are many, adjacent parcels are added up, so that the list stays short."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []
        self._of_each = 1
        self._size = self._entries = self._parcels = 0

    def add(self, size: int, entries: int) -> None:
        """Add a parcel, or several that are counted together."""
        self._size, self._entries, self._parcels = self._size + size, self._entries + entries, self._parcels + 1
        if self._parcels == self._of_each:
            self._parts.append((self._size, self._entries))
            self._size = self._entries = self._parcels = 0
            if len(self._parts) == _MOST_PARTS:
                pairs = zip(self._parts[::2], self._parts[1::2], strict=True)
                self._parts = [(one[0] + other[0], one[1] + other[1]) for one, other in pairs]
                self._of_each *= 2

    def all(self) -> tuple[tuple[int, int], ...]:
        """Bytes and entries of each part, in order."""
        return (*self._parts, *[(self._size, self._entries)] * bool(self._parcels))
