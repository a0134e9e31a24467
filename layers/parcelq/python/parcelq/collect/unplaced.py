"""Messages that cannot be part of a result, because nothing says which source they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.extents import Extent
from parcelq.collect.resolution import Collected, all_extents
from parcelq.store.store import Store


def write_unplaced(collected: Collected, out: Store, prefix: str) -> Iterator[tuple[str, int]]:
    """Write messages without lineage to files of their own, each once; yield the files' keys and bytes.

    Each segment gives one file with the same name. So repeating this, even at the same time or after more messages
    arrived, writes the same files, and no message is lost when segments are deleted.
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
