"""Pure functions that choose which of the collected messages form the result.

Rows are sorted by lineage, the bytes of the source from which a message was made. Messages with overlapping lineage
form a *cluster*. Nearly every cluster is a single message, or the messages of one output. Rules for other clusters:

- A *candidate* covers a range of bytes. A candidate is one message, or the whole output of one run if every byte of the
  output was collected. Candidates for the parts of an output are found in the same way, step by step.
- Among candidates for one range, those without dead entries are preferred, then the candidate that was complete first.
  Of several messages with the same dead entries, the newest is chosen, because it has the reason of the last run.
- Ranges can overlap, for example if a message ran as a whole on one delivery and was halved on another delivery. Then
  the ranges are chosen that together cover most bytes and, among equal choices, have the fewest dead bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, islice, pairwise

from parcelq.collect.rows import ENTRIES, FLAG, NUMBER, WHERE, Columns


@dataclass(slots=True)
class Choice:
    """The rows of an index that were chosen for the result, out of some consecutive rows.

    Attributes:
        rows: numbers of the chosen rows, in the order of the result, including dead rows.
        covered: how many bytes of the source are covered by chosen rows without dead entries; `dead` by the others.
        holes: ranges of the source that no message covers, in order.
        duplicates: how many messages without dead entries repeat other messages.
    """

    columns: Columns
    rows: list[int] = field(default_factory=list)
    covered: int = 0
    dead: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)
    duplicates: int = 0


@dataclass(slots=True)
class _Candidate:
    """A range of bytes and the messages that cover it; `since` tells when the last of these was collected."""

    start: int
    end: int
    rows: list[int]
    dead: bool
    since: int


def choose(chunks: Iterable[list[bytes]], words: int, total: int | None) -> Iterator[Choice]:
    """Choose rows for the result from sorted rows of a source of `total` bytes (None if unknown); find its holes."""
    at = 0
    is_empty = True
    for rows, begins in _clusters(chunks, words, total):
        columns = Columns.of(rows, words)
        chooser = _Chooser(columns, total)
        chooser.at = at
        chooser.choose(begins)
        at = chooser.at
        is_empty &= not chooser.choice.rows
        yield chooser.choice
    if total is not None and (at < total or is_empty):
        yield Choice(Columns.of((), words), holes=[(at, total)])


def _clusters(chunks: Iterable[list[bytes]], words: int, total: int | None) -> Iterator[tuple[list[bytes], list[int]]]:
    """Yield rows of whole clusters, with the number of each cluster's first row, and the number after the last row."""
    rows: list[bytes] = []
    kept = 0
    for chunk in chunks:
        rows += chunk
        if len(rows) < 2 * kept:  # a cluster larger than a chunk is not searched again with each chunk
            continue
        begins = _begins(rows, words, total)
        last = begins[-1] if begins else 0
        if last:
            yield rows[:last], begins
        rows = rows[last:]
        kept = len(rows)
    if rows:
        yield rows, [*_begins(rows, words, total), len(rows)]


def _begins(rows: list[bytes], words: int, total: int | None) -> list[int]:
    """Return the numbers of the rows that begin a cluster."""
    if not total and total is not None:
        return [0]  # all rows cover the same empty range
    starts, ends = Columns.of(rows, words).spans(0)
    reached = accumulate(ends, max)
    later = zip(count(1), islice(starts, 1, None), reached, strict=False)
    return [0, *(number for number, start, end in later if start >= end)]


class _Chooser:
    """Chooses among the rows of whole clusters; `at` is the offset in the source up to which it has chosen."""

    def __init__(self, columns: Columns, total: int | None) -> None:
        self.choice = Choice(columns)
        self.at = 0
        self._total = total
        self._steps = columns.steps
        self._spans = [columns.spans(step) for step in range(columns.steps + 1)]
        self._outputs = [columns.outputs(step) for step in range(1, columns.steps + 1)]
        self._wheres = columns[WHERE]
        self._entries = columns[ENTRIES]

    def choose(self, begins: Sequence[int]) -> None:
        """Choose rows in clusters, given the number of each cluster's first row, and the number after the last row."""
        starts, ends = self._spans[0]
        digests = self._outputs[0][0] if self._outputs else None
        last_byte = NUMBER if self._total is None else self._total
        for first, after in pairwise(begins):
            if after - first == 1:
                is_one_thing = not (digests and digests[first])
            else:
                is_one_thing = digests is not None and self._is_whole_run(first, after)
            if is_one_thing:
                start, end = starts[first], ends[first]
                if end <= last_byte and (start < end or not last_byte):
                    self._take(start, end, range(first, after), dead=self._entries[first] >= FLAG)
            else:
                for one in self._best(first, after, 0):
                    self._take(one.start, one.end, one.rows, dead=one.dead)

    def _take(self, start: int, end: int, rows: Sequence[int], *, dead: bool) -> None:
        choice = self.choice
        if start > self.at:
            choice.holes.append((self.at, start))
        self.at = end
        choice.rows.extend(rows)
        if dead:
            choice.dead += end - start
        else:
            choice.covered += end - start

    def _is_whole_run(self, first: int, after: int) -> bool:
        """Return whether rows are all messages of one output, each message exactly once, and none of them dead."""
        starts, ends = self._spans[0]
        last = after - 1
        same = starts[first] == starts[last] and ends[first] == ends[last]
        return same and max(self._entries[first:after]) < FLAG and self._is_tiled(first, after, 1)

    def _is_tiled(self, first: int, after: int, step: int) -> bool:
        """Return whether rows are slices of one output of a step, and cover this output without gaps or overlaps."""
        digests, totals = self._outputs[step - 1]
        begins, stops = self._spans[step]
        last = after - 1
        if (
            not digests[first] == digests[last] != 0
            or begins[first]
            or not stops[last] == totals[first] == totals[last]
        ):
            return False
        # guard[True]: an output counts only if all of its slices are there
        if stops[first:last] == begins[first + 1 : after]:
            return step == self._steps or not any(self._outputs[step][0][first:after])
        if step == self._steps:
            return False
        at = 0
        while first < after:
            if begins[first] != at:
                return False
            at = stops[first]
            stop = bisect_right(begins, begins[first], first, after)
            is_slice = stop - first == 1 and not self._outputs[step][0][first]
            if stops[stop - 1] != at or not (is_slice or self._is_tiled(first, stop, step + 1)):
                return False
            first = stop
        return True

    def _best(self, first: int, after: int, step: int) -> list[_Candidate]:
        """Choose rows for the result from rows that are slices of the source, or slices of one output of a step."""
        starts, ends = self._spans[step]
        total = self._total if step == 0 else self._outputs[step - 1][1][first]
        candidates = []
        for begin, stop in _runs((starts, ends), first, after):
            start, end = starts[begin], ends[begin]
            one = self._candidate(start, end, begin, stop, step)
            if one and (start < end or total == 0) and (total is None or end <= total):
                candidates.append(one)
        if all(one.end <= other.start for one, other in pairwise(candidates)):
            return candidates
        return _heaviest(candidates)

    def _candidate(self, start: int, end: int, first: int, after: int, step: int) -> _Candidate | None:
        """Choose between all rows for one slice: messages that cover the whole slice, and parts of outputs that a step
        wrote in runs over this slice.
        """
        found: list[_Candidate] = []
        if step == self._steps:
            whole, slices = range(first, after), range(0)
        else:
            digests, totals = self._outputs[step]
            parted = bisect_right(digests, 0, first, after)
            whole, slices = range(first, parted), range(parted, after)
        alive = [number for number in whole if self._entries[number] < FLAG]
        dead = [number for number in whole if self._entries[number] >= FLAG]
        self.choice.duplicates += max(0, len(alive) - 1)  # an entry that is redriven may die several times
        if alive:
            found.append(_Candidate(start, end, alive[:1], dead=False, since=self._wheres[alive[0]]))
        if slices:
            for begin, stop in _runs((digests, totals), slices.start, slices.stop):
                run = self._run(start, end, begin, stop, step + 1)
                if run:
                    found.append(run)
        if found:
            return min(found, key=lambda one: (one.dead, one.since))
        if dead:
            # The newest message is chosen, because this message has the reason of the last run.
            return _Candidate(start, end, dead[-1:], dead=True, since=self._wheres[dead[-1]])
        return None

    def _run(self, start: int, end: int, first: int, after: int, step: int) -> _Candidate | None:
        """Return a candidate that is the output of a run of a step; None if parts of the output were not collected."""
        parts = self._best(first, after, step)
        if not parts or sum(one.end - one.start for one in parts) != self._outputs[step - 1][1][first]:
            return None
        rows = [number for one in parts for number in one.rows]
        return _Candidate(start, end, rows, any(one.dead for one in parts), max(one.since for one in parts))


def _runs(columns: tuple[array[int], array[int]], first: int, after: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each group of consecutive rows that are equal in two columns."""
    one, other = columns
    begin = first
    for number in range(first + 1, after):
        if one[number] != one[begin] or other[number] != other[begin]:
            yield begin, number
            begin = number
    yield begin, after


def _heaviest(candidates: list[_Candidate]) -> list[_Candidate]:
    """Return disjoint candidates that together cover most bytes. Among equal choices, choose the fewest dead bytes.

    This is weighted interval scheduling: ranges are sorted by end, and each range is either left out or added to the
    best choice of ranges that end before it.
    """
    by_end = sorted(candidates, key=lambda one: (one.end, one.start))
    ends = [one.end for one in by_end]
    weights: list[tuple[int, int]] = [(0, 0)]
    taken: list[int] = []
    for number, one in enumerate(by_end):
        before = bisect_right(ends, one.start, 0, number)
        size = one.end - one.start
        weight = weights[before][0] + size, weights[before][1] + (0 if one.dead else size)
        taken.append(before if weight > weights[-1] else -1)
        weights.append(max(weight, weights[-1]))
    chosen = []
    number = len(by_end)
    while number:
        if taken[number - 1] >= 0:
            chosen.append(by_end[number - 1])
            number = taken[number - 1]
        else:
            number -= 1
    return chosen[::-1]
