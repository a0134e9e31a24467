"""Messages that can be part of no result, since nothing says which source they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.extents import Extent
from parcelq.collect.resolution import Collected, all_extents
from parcelq.store.store import Store


def write_unplaced(collected: Collected, out: Store, prefix: str) -> Iterator[tuple[str, int]]:
    """Write messages without lineage to files of their own, none of them twice; yield the files' keys and bytes.

    There is one for each segment, called like it: so doing this at the same time, or once more when others have come,
    writes the same again, and loses none when the segments are deleted.
    """
    for number, extents in groupby(all_extents(collected), lambda extent: extent.segment):
        key = prefix + collected.segments[number].rpartition("/")[2].partition(".")[0]
        if out.stat(key) is None:
            yield key, _write(collected, list(extents), out, key)


def _write(collected: Collected, extents: Sequence[Extent], out: Store, key: str) -> int:
    size = sum(extent.size for extent in extents)
    reader = SegmentReader(collected.store, collected.segments)
    out.write(key, parts_of(reader, extents, out.part_bytes(size)), {}, None)
    return size
