"""Finds each body of a job once. If messages have no lineage, these bodies are the job's whole output."""

from __future__ import annotations

from collections.abc import Iterator

from parcelq.collect.assembly import Extent, bodies_of, joined_extents, with_line_ends
from parcelq.collect.choice import Choice
from parcelq.collect.resolution import Collected
from parcelq.collect.rows import ENTRIES, FLAG, PAYLOAD, WORD, Columns


def all_extents(collected: Collected) -> Iterator[Extent]:
    """Yield the place of each body once, sorted by lineage. Bodies without lineage come in the order of arrival."""
    bodies = bodies_of(_first_of_each(collected))
    return joined_extents(with_line_ends(bodies if collected.job.source else iter(sorted(bodies))))


def all_entries(collected: Collected) -> int:
    """Return how many entries the bodies have whose places `all_extents` yields."""
    counts = (one.columns[ENTRIES][number] for one in _first_of_each(collected) for number in one.rows)
    return sum(count for count in counts if count < FLAG)


def _first_of_each(collected: Collected) -> Iterator[Choice]:
    """Choose, among all messages with the same lineage, the message that was collected first."""
    key = (collected.words - PAYLOAD) * WORD
    last = b""
    for rows in collected.rows():
        chosen = []
        for number, row in enumerate(rows):
            if row[:key] != last:
                last = row[:key]
                chosen.append(number)
        yield Choice(Columns.of(rows, collected.words), chosen)
