"""Distinguishes a broken step from bad data on a stack, if many processors share the messages of a job.

If a message fails for the last time, or all of its entries were rejected, a few of its entries are run alone. If one of
these entries succeeds, the step works. If all of them fail, the processor writes a small object beside the marks. Other
processors read this object. So the failures that several processors found can together show that a step is broken:

    marks/.first/<job>/<run>/works      a sampled entry of a message succeeded alone
    marks/.first/<job>/<run>/<digest>   all sampled entries of a message failed: JSON with the places of the entries

`run` identifies the version of the workflow, the step, and how many times the job continued after its end.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from parcelq.errors import ConflictError, NotFoundError, ParcelqError
from parcelq.jobs.changes import halted
from parcelq.jobs.record import JobRecord, State, read_job, write_job
from parcelq.lineage.source import job_id, workflow_name
from parcelq.names import MARKS
from parcelq.process.broken import LEAST_MESSAGES, MOST_SAMPLES, BrokenStep
from parcelq.process.dead import reason_of
from parcelq.process.output import part_of
from parcelq.process.plan import Work
from parcelq.process.rules import Rules
from parcelq.process.runs import Run
from parcelq.records import cut_bytes
from parcelq.store.store import Store
from parcelq.topics.attributes import WORKFLOW

_log = logging.getLogger(__name__)
_WORKS: Final = "works"
_TRIES: Final = 5
"""How often writing a job record is tried if another process writes the same job record."""

RunAlone = Callable[[Work, Sequence[Work]], "list[Run]"]


class FirstFailures:
    """Finds out for one `Processor` whether its step is broken."""

    def __init__(self, store: Store, rules: Rules, now: Callable[[], float]) -> None:
        self._store = store
        self._rules = rules
        self._now = now
        self._works: set[tuple[str, str, int]] = set()

    def is_suspicious(self, run: Run) -> bool:
        """Return whether a run should be examined with `stops`. If the run of a single message succeeded, and the step
        did not reject all entries, this object remembers that the step works.
        """
        work = run.group[0]
        if len(run.group) > 1 or not work.lineage or not work.entries or _step_of(work) in self._works:
            return False
        if run.ran:
            if len(run.ran.rejects) == work.entries:
                return True
            self._works.add(_step_of(work))
        return run.error is not None and self._rules.is_last(work)

    def stops(self, run: Run, run_alone: RunAlone) -> str:
        """Return the reason why a job must stop after a run; empty if the messages of the run are handled as usual.

        Args:
            run_alone: a function that runs entries of a message one by one.
        """
        work = run.group[0]
        if _step_of(work) in self._works:
            return ""
        try:
            return self._judged(_step_of(work), work, run, run_alone)
        except (ParcelqError, OSError) as error:
            _log.warning("it could not be determined whether the step is broken: %s", error, extra=work.about)
            return ""

    def _judged(self, step: tuple[str, str, int], work: Work, run: Run, run_alone: RunAlone) -> str:
        job, version, number = step
        found = read_job(self._store, job)
        if found is None:  # the message belongs to no job with a job record
            return ""
        record = found[0]
        if record.halted:
            return record.problem or "the job was cancelled"
        if record.covered:
            self._works.add(step)
            return ""
        name = hashlib.blake2b(f"{version} {number}".encode(), digest_size=8).hexdigest()
        failures = _failures(work, run, run_alone)
        places = self._noted(f"{MARKS}.first/{job}/{record.generation}-{name}/", work, failures)
        if places is None:
            self._works.add(step)
        if not places:
            return ""
        verdict = str(BrokenStep(next(filter(None, failures.values())), places))
        return verdict if self._stop(job, verdict) else ""

    def _noted(self, folder: str, work: Work, failures: Mapping[str, str | None]) -> int | None:
        """Record that all sampled entries of a message failed, or that one of the entries succeeded.

        Returns:
            The number of all failed samples if there are enough samples and messages to stop the job, otherwise 0. None
            if a sample succeeded in any processor.
        """
        if None in failures.values():
            self._store.put(folder + _WORKS)
            return None
        if not failures:
            return 0
        key = hashlib.blake2b(str(work.lineage).encode(), digest_size=12).hexdigest()
        self._store.put(folder + key, json.dumps(sorted(failures)).encode())
        keys = list(self._store.keys(folder))
        if folder + _WORKS in keys:
            return None
        places = set(failures)
        for other in keys[:MOST_SAMPLES]:
            with suppress(NotFoundError, ValueError):
                places.update(json.loads(self._store.read(other)))
        return len(places) if len(keys) >= LEAST_MESSAGES and len(places) >= MOST_SAMPLES else 0

    def _stop(self, job: str, problem: str) -> bool:
        """Write into the job's record that the job is stopped, unless the job has ended or is partly done. Return
        whether the job is stopped.
        """
        for _ in range(_TRIES):
            found = read_job(self._store, job)
            if found is None or not _may_stop(found[0]):
                return bool(found and found[0].halted)
            record, etag = found
            with suppress(ConflictError):
                write_job(self._store, halted(record, State.STOPPED, self._now(), problem), etag)
                _log.error("job %s is stopped: %s", job, problem)
                return True
        return False


def _step_of(work: Work) -> tuple[str, str, int]:
    """Return the job of a message, the version of its workflow, and the number of its step."""
    assert work.lineage is not None
    version = work.message.attributes.get(WORKFLOW, "")
    return job_id(work.source, workflow_name(version)), version, len(work.lineage.outputs)


def _may_stop(record: JobRecord) -> bool:
    return not (record.state.is_ended or record.state is State.FINISHING or record.covered)


def _failures(work: Work, run: Run, run_alone: RunAlone) -> dict[str, str | None]:
    """Return a dict from the place of each sampled entry to the reason why the entry failed; None if the entry
    succeeded.
    """
    assert work.lineage is not None
    before = "".join(output.digest for output in work.lineage.outputs[-1:]), work.lineage.span.start
    parcels = list(cut_bytes(work.message.body, work.format, 1, 1))
    places = {number: f"{before[0]} {before[1] + parcels[number].start}" for number in _spread(len(parcels))}
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


def _spread(count: int) -> list[int]:
    """Return the first, the middle and the last of the numbers from 0 to `count - 1`."""
    return sorted({0, count // 2, count - 1})
