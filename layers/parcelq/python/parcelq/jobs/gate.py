"""Decides whether messages of a job are still processed; the uploader and processors ask before they run messages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from parcelq.errors import ParcelqError
from parcelq.jobs.record import read_job
from parcelq.lineage.source import job_id, workflow_name
from parcelq.store.store import Store
from parcelq.topics.attributes import SOURCE, WORKFLOW
from parcelq.topics.message import Pulled

_log = logging.getLogger(__name__)
OPEN_SECONDS: Final = 3.0
"""For how many seconds the state of a running job is not read again; a halted job may be resumed at any time."""
_MOST_KNOWN: Final = 10_000


class Gate:
    """Reads the records of jobs to decide which jobs were cancelled or stopped."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._open: dict[str, float] = {}

    def is_open(self, source: str, version: str) -> bool:
        """Return whether a job continues, given the attributes `Source` and `Workflow` of its messages.

        If the store does not answer, return True, because running a message in vain is better than losing a message.
        """
        if not source:
            return True
        job, now = job_id(source, workflow_name(version)), self._clock()
        if self._open.get(job, 0.0) > now:
            return True
        try:
            found = read_job(self._store, job)
        except (ParcelqError, OSError) as error:
            _log.warning("the state of job %s cannot be read, so it continues: %s", job, error)
            return True
        # guard[False]: messages of a job that was cancelled or stopped are not run
        if found and found[0].halted:
            return False
        if len(self._open) >= _MOST_KNOWN:
            self._open.clear()
        self._open[job] = now + OPEN_SECONDS
        return True

    def passing(self, pulled: Iterable[Pulled]) -> list[Pulled]:
        """Return the messages whose jobs continue. The caller should acknowledge other messages, not run them."""
        return [one for one in pulled if self.is_open(one.attributes.get(SOURCE, ""), one.attributes.get(WORKFLOW, ""))]
