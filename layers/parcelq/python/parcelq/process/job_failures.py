"""Finds out whether the step of a job on a stack is broken. Many processors share the messages of the job.

The processors note the outcomes of entries that ran alone in small objects beside the marks. So the failures that
several processors found can together show that a step is broken:

    marks/.first/<job>/<run>/works      a sampled entry of a message succeeded alone
    marks/.first/<job>/<run>/<digest>   all sampled entries of a message failed: JSON with the places of the entries

`run` identifies the version of the workflow, the step, and how many times the job continued after its end.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from parcelq.errors import ConflictError, NotFoundError, ParcelqError
from parcelq.jobs.record import JobRecord, State, read_job, write_job
from parcelq.lineage.source import job_id, workflow_name
from parcelq.names import MARKS
from parcelq.process.broken import LEAST_ENTRIES, BrokenStep, FirstFailures, RunAlone, broken, sampled
from parcelq.process.dead import reason_of
from parcelq.process.plan import Work
from parcelq.process.runs import Run
from parcelq.store.store import Store
from parcelq.topics.attributes import WORKFLOW

_log = logging.getLogger(__name__)
_WORKS: Final = "works"
_TRIES: Final = 5
"""How often writing a job record is tried if another process writes the same job record."""


class JobFailures(FirstFailures):
    """Finds out for one `Processor` on a stack which jobs must stop because their step is broken."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        super().__init__()
        self._store = store
        self._now = now

    def stops(self, run: Run, run_alone: RunAlone) -> str:
        """Return the reason why the job of a run must stop; see `FirstFailures.stops`."""
        work = run.group[0]
        if self._step_of(work) in self._working:
            return ""
        try:
            return self._reason(work, run, run_alone)
        except (ParcelqError, OSError) as error:
            _log.warning("it could not be determined whether the step is broken: %s", error, extra=work.about)
            return ""

    def _reason(self, work: Work, run: Run, run_alone: RunAlone) -> str:
        source, version, number = self._step_of(work)
        job = job_id(source, workflow_name(version))
        found = read_job(self._store, job)
        if found is None:  # the message belongs to no job with a job record
            return ""
        record = found[0]
        if record.halted:
            return record.problem or "the job was cancelled"
        if record.entries:
            self._working.add(self._step_of(work))
            return ""
        if record.suspicion:
            return record.suspicion
        name = hashlib.blake2b(f"{version} {number}".encode(), digest_size=8).hexdigest()
        failures = sampled(work, run, run_alone, reason_of)
        verdict = self._noted(f"{MARKS}.first/{job}/{record.generation}-{name}/", work, failures)
        return str(verdict) if verdict and self._suspect(job, str(verdict)) else ""

    def _noted(self, folder: str, work: Work, failures: dict[str, str | None]) -> BrokenStep | None:
        """Note the outcomes of a message's entries. Return the conclusion from all notes if there are enough."""
        if None in failures.values():
            self._store.put(folder + _WORKS)
            self._working.add(self._step_of(work))
            return None
        if not failures:
            return None
        key = hashlib.blake2b(str(work.lineage).encode(), digest_size=12).hexdigest()
        self._store.put(folder + key, json.dumps(sorted(failures)).encode())
        keys = list(self._store.keys(folder))
        if folder + _WORKS in keys:
            self._working.add(self._step_of(work))
            return None
        places = set(failures)
        for other in keys[:LEAST_ENTRIES]:
            with suppress(NotFoundError, ValueError):
                places.update(json.loads(self._store.read(other)))
        return broken(failures, len(keys), places)

    def _suspect(self, job: str, problem: str) -> bool:
        """Write into the job's record that the step looks broken, unless the job has ended or is partly done. Return
        whether the job's messages must wait. The next look collects the outputs of all processors, and stops the job
        if there are none.
        """
        for _ in range(_TRIES):
            found = read_job(self._store, job)
            if found is None or not _may_stop(found[0]):
                return bool(found and found[0].halted)
            record, etag = found
            with suppress(ConflictError):
                write_job(self._store, record._replace(suspicion=problem), etag)
                _log.error("the next look stops job %s unless a run has succeeded: %s", job, problem)
                return True
        return False

    def _step_of(self, work: Work) -> tuple[str, str, int]:
        """Return the source of a message, the version of its workflow, and the number of its step."""
        assert work.lineage is not None
        return work.source, work.message.attributes.get(WORKFLOW, ""), len(work.lineage.outputs)


def _may_stop(record: JobRecord) -> bool:
    return not (record.state.is_ended or record.state is State.FINISHING or record.entries)
