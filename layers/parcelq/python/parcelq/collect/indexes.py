"""Opens the indexes of segments and of index runs, and reads the rows of these indexes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from parcelq.aws.parallel import in_flight
from parcelq.collect.merge import ReadRows
from parcelq.collect.rows import OFFSET_BITS, WORD, moved, widened, words_of
from parcelq.collect.segments import RUN_SUFFIX, JobKey, index_size
from parcelq.errors import ParcelqError
from parcelq.limits import KIB, MIB
from parcelq.lineage.lineage import MAX_DEPTH
from parcelq.store.store import Store
from parcelq.topics.cost import Cost

_AHEAD: Final = 16 * MIB
"""How many bytes of all indexes together are read by the requests that read the heads of the indexes."""

_SMALLEST_AHEAD: Final = 4 * KIB
_FEW: Final = 8
_BODIES_AHEAD: Final = 64 * KIB
"""The first request reads at least this much of each of few segments, so that small segments need one request."""


@dataclass(frozen=True, slots=True)
class Index:
    """The index of a segment or of an index run, with `count` rows.

    Attributes:
        first: when the first message was pulled, ISO 8601.
        steps: for how many steps a row can contain a slice of the step's output.
        segments: keys of the segments to which the rows refer by number. A segment's index has only the segment's key.
        draining: the cost of collecting these messages.
    """

    key: str
    job: JobKey
    versions: tuple[str, ...]
    first: str
    last: str
    total: int | None
    count: int
    steps: int
    segments: tuple[str, ...] = field(repr=False)
    processing: Cost
    draining: Cost
    _at: int
    _bodies: int
    _ahead: bytes = field(repr=False)

    @property
    def bodies_ahead(self) -> tuple[int, bytes] | None:
        """The offset of the rows, and all bytes that were read from this offset on; None if these are only rows."""
        return (self._at, self._ahead) if self._at + len(self._ahead) > self._bodies > 0 else None

    def reader(self, store: Store, steps: int, number: int) -> ReadRows:
        """Return a function that reads rows, each with fields for the slices of `steps` steps. In these rows, the
        index's first segment has the number `number`.

        The function raises ParcelqError, AwsError, StoreError or OSError if rows cannot be read.
        """
        own, wide = words_of(self.steps), words_of(steps)
        by = (number << OFFSET_BITS) + self._bodies

        def read(count: int, left: int) -> Sequence[bytes]:
            first = (self.count - left) * own * WORD
            size = count * own * WORD
            data = self._ahead[first : first + size]
            if len(data) < size:
                data = store.read(self.key, self._at + first, size)
            if len(data) != size:
                raise ParcelqError(f"{self.key!r} ends before its index does")
            data = moved(widened(data, own, wide), wide, by)
            return [data[at : at + wide * WORD] for at in range(0, len(data), wide * WORD)]

        return read


def open_indexes(store: Store, keys: Sequence[str]) -> list[Index]:
    """Open indexes, and return them in the order of `keys`. Small indexes are read whole, as far as memory allows.
    Raises NotFoundError if one of the objects does not exist.
    """
    ahead = max(_SMALLEST_AHEAD, _AHEAD // max(1, len(keys)))
    bodies = _BODIES_AHEAD if len(keys) <= _FEW else 0
    opened = in_flight(lambda key: _open(store, key, ahead, bodies), keys)
    found = {index.key: index for index in opened}
    return [found[key] for key in keys]


def _open(store: Store, key: str, ahead: int, bodies: int) -> Index:
    size = index_size(key)
    if key.endswith(RUN_SUFFIX):
        ahead, bodies = _SMALLEST_AHEAD, 0
    data = store.read(key, 0, max(min(size, ahead), bodies))
    while b"\n" not in data and ahead < size:  # the head is longer than what was read
        ahead *= 4
        data = store.read(key, 0, min(size, ahead))
    end = data.find(b"\n") + 1
    try:
        head = json.loads(data[:end])
        count, steps = int(head["rows"]), int(head["steps"])
        if not 0 <= steps <= MAX_DEPTH or end + count * words_of(steps) * WORD != size:
            raise ValueError("the size of its index differs from the size in its name")
        job = JobKey(head["source"], head["workflow"])
        segments = tuple(head.get("segments", (key,)))
        times = head["first"], head["last"]
        bodies = 0 if "segments" in head else size
        costs = Cost.parse(head.get("processing")), Cost.parse(head.get("draining"))
        about = key, job, tuple(head["versions"]), *times, head["total"], count, steps, segments, *costs
        return Index(*about, end, bodies, data[end:])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParcelqError(f"{key!r} is not a segment: {error}") from None


def all_indexes(indexes: Sequence[Index], store: Store) -> Iterator[tuple[int, ReadRows]]:
    """Yield the arguments for `merge.merged`. All rows have equal width, and segments are numbered consecutively."""
    steps = max((index.steps for index in indexes), default=0)
    number = 0
    for index in indexes:
        yield index.count, index.reader(store, steps, number)
        number += len(index.segments)
