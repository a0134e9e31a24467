"""Finds the n-th marker in bytes as fast as memory can be read. Cutting spends most of its time in this loop."""

from __future__ import annotations

from typing import Final

_FEW: Final = 16
"""If no more than this number of markers is wanted, they are searched one by one. For more, counting is faster."""
_RARE: Final = 200
"""If markers of two bytes have this distance or more, searching one by one is faster. The C library searches one byte
with vector instructions, but not two bytes.
"""


def nth(data: bytes, marker: bytes, at: int, stop: int, wanted: int, mean: float) -> tuple[int, int]:
    """Find the `wanted`-th marker, counted from 1, in `data[at:stop]`. Only markers completely in these bytes count.

    The search jumps to the place where the marker should be if all distances were equal to the mean. Then the search
    counts the markers up to this place, and corrects the place. If distances are similar, one jump is enough.

    Two markers must not be able to overlap. `mean` is the approximate distance between markers, in bytes.

    Returns:
        The offset of the marker, and `wanted`. If there are fewer markers: the offset of the last marker, and the
        number of markers. If there are none: `(-1, 0)`.
    """
    overlap = len(marker) - 1
    if overlap == 1 and mean >= _RARE:
        return _nth_rare(data, marker, at, stop, wanted)
    left, here, leap = wanted, at, at
    while leap < stop and left > 0:
        leap = min(stop, here + overlap + max(1, int(min(left * mean, stop))))
        passed = data.count(marker, here, leap)
        if passed > left + _FEW:  # much too many markers: the entries here are shorter than the mean
            mean *= left / passed
            leap = here
            continue
        left -= passed
        here = leap - overlap  # a marker across the boundary of `leap` is not counted yet
        if 0 < left <= _FEW:
            break
    if left <= 0:
        found, end = -1, leap
        for _ in range(1 - left):  # go back over the surplus markers
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
    """Find the same as `nth`, for a marker of two bytes, by a search for its second byte."""
    first, second = marker[0], marker[1:]
    place, passed, here = -1, 0, at
    while passed < wanted:
        here = data.find(second, here + 1, stop)
        if here < 0:
            break
        if data[here - 1] == first:
            place, passed = here - 1, passed + 1
    return place, passed
