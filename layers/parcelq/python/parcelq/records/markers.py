"""Finds the n-th marker in bytes at memory speed. Cutting spends most of its time in this loop."""

from __future__ import annotations

from typing import Final

_FEW: Final = 16
"""Up to this many markers are searched one by one; for more markers, counting is faster."""
_RARE: Final = 200
"""Two-byte markers at this distance or more are found faster one by one: the C library searches one byte with vector
instructions, but not two.
"""


def nth(data: bytes, marker: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
    """Find the `wanted`-th marker that is completely in `data[at:stop]`.

    It jumps to the place where the marker should be by the mean distance, counts the markers up to there, and corrects
    its position. If distances are similar, one jump is enough.

    Args:
        data: bytes to search.
        marker: what to search for; it must not be able to overlap itself.
        at: begin of the search.
        stop: end of the search.
        wanted: number of the marker, from 1.
        mean: approximate distance of markers, in bytes.

    Returns:
        The offset of the marker, and `wanted`. If there are fewer markers, the offset of the last one, and their
        number; `(-1, 0)` if there are none.
    """
    overlap = len(marker) - 1
    if overlap == 1 and mean >= _RARE:
        return _nth_rare(data, marker, at, stop, wanted)
    left, here, leap = wanted, at, at
    while leap < stop and left > 0:
        leap = min(stop, here + overlap + max(1, int(min(left * mean, stop))))
        passed = data.count(marker, here, leap)
        if passed > left + _FEW:  # far too many: the entries here are shorter than the mean
            mean *= left / passed
            leap = here
            continue
        left -= passed
        here = leap - overlap  # a marker across the boundary of `leap` is not counted yet
        if 0 < left <= _FEW:
            break
    if left <= 0:
        found, end = -1, leap
        for _ in range(1 - left):  # back over the markers that are too many
            found = data.rfind(marker, at, end)
            end = found + overlap
        return found, wanted
    while left:
        found = data.find(marker, here, stop)
        if found < 0:
            return (data.rfind(marker, at, stop), wanted - left) if left < wanted else (-1, 0)
        here, left = found + 1, left - 1
    return here - 1, wanted


def _nth_rare(data: bytes, marker: bytes, at: int, stop: int, wanted: int) -> tuple[int, int]:
    """Like `nth`, for a marker of two bytes: searches for its second byte."""
    first, second = marker[0], marker[1:]
    place, passed, here = -1, 0, at
    while passed < wanted:
        here = data.find(second, here + 1, stop)
        if here < 0:
            break
        if data[here - 1] == first:
            place, passed = here - 1, passed + 1
    return place, passed
