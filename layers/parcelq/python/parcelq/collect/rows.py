"""Reading what a segment tells of its messages: nearly all at once, in columns. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import lt, not_
from typing import Final, TypeAlias

from parcelq.lineage.lineage import DIGEST, MAX_POSITION, NUMBER

Row: TypeAlias = tuple[str, int, int, int, str]
"""A message in a segment: lineage, offset of its bytes, how many they are, its entries, and why they are dead."""

_ONE_WHOLE_RUN: Final = re.compile(
    rf"^({NUMBER})-({NUMBER})/({NUMBER}|\*)(?:>0-({NUMBER})/\4:{DIGEST})*$", re.MULTILINE
)
"""What nearly all lineages look like: bytes of the source, or all that a run of a step, or of several, made of them."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Results with simple lineages, in columns: the bytes of the source that each stands for, and where it lies.

    Attributes:
        total: bytes of the source, if one of them told.
    """

    starts: Sequence[int] = ()
    ends: Sequence[int] = ()
    offsets: Sequence[int] = ()
    lengths: Sequence[int] = ()
    entries: Sequence[int] = ()
    total: int | None = None


def in_columns(rows: Sequence[Row]) -> tuple[Columns, Sequence[Row]]:
    """Tell apart results with simple lineages, which are read together, and all other messages."""
    results = _read(rows)
    if results is not None:
        return results, ()
    is_simple = [not row[4] and _ONE_WHOLE_RUN.fullmatch(row[0]) is not None for row in rows]
    results = _read(list(compress(rows, is_simple)))
    return (Columns(), rows) if results is None else (results, list(compress(rows, map(not_, is_simple))))


def _read(rows: Sequence[Row]) -> Columns | None:
    """Read messages if all of them are results that look like `_ONE_WHOLE_RUN`; None if not, or if one is odd."""
    if not rows:
        return Columns()
    lineages, offsets, lengths, entries, deaths = zip(*rows, strict=True)
    text = "\n".join(lineages)
    found = _ONE_WHOLE_RUN.findall(text)
    if any(deaths) or not len(rows) == len(found) == text.count("\n") + 1:
        return None
    start_texts, end_texts, total_texts, _ = zip(*found, strict=True)
    starts, ends = [*map(int, start_texts)], [*map(int, end_texts)]
    totals = {int(text) for text in {*total_texts} - {"*"}}
    total = totals.pop() if totals else None
    last = MAX_POSITION if total is None else total
    is_odd = totals or max(ends) > last or last > MAX_POSITION or not all(map(lt, starts, ends))
    return None if is_odd else Columns(starts, ends, offsets, lengths, entries, total)
