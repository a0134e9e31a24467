"""Distinguishes a broken step from bad data.

Bad entries become dead entries one by one. A step that cannot work at all would make every entry of a job dead. So as
long as no run of a step has succeeded, a few entries of each failed message are run alone. If one of these entries
succeeds, the step works. If enough entries of enough messages failed, and none succeeded, the step is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Final, NamedTuple

from parcelq.errors import StepError
from parcelq.process.dead import full_reason_of
from parcelq.process.output import part_of
from parcelq.process.plan import Work
from parcelq.process.runs import Run
from parcelq.records import cut_bytes

LEAST_ENTRIES: Final = 8
"""How many single entries must have failed before a step counts as broken; fewer if the failed messages have fewer."""
LEAST_MESSAGES: Final = 3
"""From how many messages these entries must come."""

RunAlone = Callable[[Work, Sequence[Work]], list[Run]]
"""A function that runs entries of a message one by one."""


class BrokenStep(NamedTuple):
    """The conclusion that a step fails on every input: why one of the entries failed, and how many were run alone."""

    reason: str
    entries: int

    def __str__(self) -> str:
        first = next(iter(self.reason.splitlines()), "")
        return f"the step failed in each of {self.entries} runs with a single record, so it is broken: {first}"


class FirstFailures:
    """Finds out whether one step is broken; if so, `verdict` is this conclusion. Any threads may share this object,
    which keeps all failures in memory.
    """

    def __init__(self) -> None:
        self.verdict: BrokenStep | None = None
        self._working: set[Hashable] = set()
        self._failed: dict[str, list[str]] = {}
        self._entries = 0
        self._lock = Lock()

    @property
    def all_failed(self) -> bool:
        """Whether there were runs, and all of them failed."""
        return bool(self._failed) and not self._working

    def is_suspicious(self, run: Run) -> bool:
        """Return whether a run should be examined with `stops`. If the run of a single message succeeded, and the step
        did not reject all entries, this object remembers that the step works.
        """
        work = run.group[0]
        if len(run.group) > 1 or not work.lineage or not work.entries or self._step_of(work) in self._working:
            return False
        if run.ran and len(run.ran.rejects) < work.entries:
            self._working.add(self._step_of(work))
            return False
        return bool(run.ran or run.error)

    def stops(self, run: Run, run_alone: RunAlone) -> str:
        """Return the reason why the job must stop after a run; empty if its messages are handled as usual."""
        with self._lock:  # so that no more entries than necessary are run alone
            work = run.group[0]
            if self.verdict is None and self._step_of(work) not in self._working:
                self.verdict = self._judged(work, run, run_alone)
            return str(self.verdict or "")

    def _judged(self, work: Work, run: Run, run_alone: RunAlone) -> BrokenStep | None:
        failures = sampled(work, run, run_alone, full_reason_of)
        if None in failures.values():
            self._working.add(self._step_of(work))
        if not failures or self._step_of(work) in self._working:
            return None
        self._failed[work.place] = [f"{work.source} {place}" for place in failures]
        self._entries += 0 if work.failures else work.entries  # halves and repeated messages are counted already
        places = {place for places in self._failed.values() for place in places}
        return broken(failures, len(self._failed), places, min(LEAST_ENTRIES, self._entries))

    def _step_of(self, _work: Work) -> Hashable:
        """Return a key of the step that runs a message."""
        return None


def broken(
    failures: dict[str, str | None], messages: int, places: set[str], least: int = LEAST_ENTRIES
) -> BrokenStep | None:
    """Return the conclusion from the latest `failures`, after failures in `messages` messages and in all of `places`;
    None if these are too few.
    """
    if messages < LEAST_MESSAGES or len(places) < least:
        return None
    return BrokenStep(next(filter(None, failures.values())), len(places))


def sampled(work: Work, run: Run, run_alone: RunAlone, reason_of: Callable[[StepError], str]) -> dict[str, str | None]:
    """Run the first, the middle and the last entry of a message alone, unless the run already shows their outcomes.

    Returns:
        A dict from the place of each entry to the reason why the entry failed; None if the entry succeeded.
    """
    assert work.lineage is not None
    before = "".join(output.digest for output in work.lineage.outputs[-1:]), work.lineage.span.start
    parcels = list(cut_bytes(work.message.body, work.format, 1, 1))
    numbers = sorted({0, len(parcels) // 2, len(parcels) - 1}) if parcels else []  # `Entries` may be wrong
    places = {number: f"{before[0]} {before[1] + parcels[number].start}" for number in numbers}
    if run.ran:
        reasons = {one.entry: one.reason for one in run.ran.rejects}
        return {place: reasons.get(number) for number, place in places.items()}
    assert run.error is not None
    if len(parcels) == 1:
        return {places[0]: reason_of(run.error)}
    samples = [part_of(work, parcels[number].start, parcels[number].end, 1, number, work.failures) for number in places]
    failures: dict[str, str | None] = {}
    for place, one in zip(places.values(), run_alone(work, samples), strict=False):
        if one.error:
            failures[place] = reason_of(one.error)
        elif one.ran:
            failures[place] = one.ran.rejects[0].reason if one.ran.rejects else None
        one.close()
    return failures
