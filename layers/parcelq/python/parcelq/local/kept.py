"""Stores the state of jobs on one machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parcelq.collect.segments import folder, segments_among
from parcelq.lineage.source import source_id
from parcelq.local.state import LocalRecord, StateFolder
from parcelq.names import HEADERS, OUTPUT
from parcelq.result_names import STATE
from parcelq.store.folder import FolderStore
from parcelq.upload.notes import upload_folder

if TYPE_CHECKING:
    from parcelq.collect.resolution import Collected


class Kept(NamedTuple):
    """The stores for the state of jobs, in folders beside and below a folder of results.

    Attributes:
        store: the store of segments and headers.
        notes: the store of the numbers of records of sources. If a crash loses one, the records are counted again.
        results: the store of results and of the files beside them.
    """

    state: StateFolder
    store: FolderStore
    notes: FolderStore
    results: FolderStore

    @classmethod
    def beside(cls, results: Path) -> Kept:
        """Return the stores that belong to a folder of results."""
        folder = results / STATE
        stores = FolderStore(folder), FolderStore(folder, durable=False), FolderStore(results, own=f"{STATE}/results")
        return cls(StateFolder(results), *stores)

    def segments(self, job: str) -> list[str]:
        """Return the keys of the objects in the folder of a job's segments; empty if no segment is stored."""
        keys = list(self.store.keys(folder(OUTPUT, job)))
        return keys if segments_among(keys) else []

    def collected(self, job: str, *, tidies: bool = True) -> Collected | None:
        """Return all stored messages of a job; None if no message is stored.

        If `tidies`, indexes are merged, which only the command that runs the job may do. Raises NotFoundError if
        another command finished the job in the meantime.
        """
        return self.opened(self.segments(job), tidies=tidies)

    def opened(self, keys: Sequence[str], *, tidies: bool = False) -> Collected | None:
        """Return the messages in the segments with the given keys; see `collected`."""
        if not keys:
            return None
        from parcelq.collect.runs import collected_of, tidy

        return collected_of(self.store, keys, tidy(self.store, OUTPUT, keys, datetime.now(UTC)) if tidies else None)

    def drop_stored(self, record: LocalRecord) -> None:
        """Delete the segments, the headers and the stored number of records of a job."""
        source = source_id(record.source)
        places = upload_folder(record.source), f"{HEADERS}{source}", f"{HEADERS}{record.id}", folder(OUTPUT, record.id)
        for place in places:  # segments are deleted last, because this deletion is repeated as long as a segment exists
            shutil.rmtree(self.store.folder / place, ignore_errors=True)

    def drop(self, record: LocalRecord) -> None:
        """Delete all state of a job, but not its result."""
        self.drop_stored(record)
        self.state.remove(record)

    def forget(self, closed: Sequence[LocalRecord]) -> None:
        """Delete the job records of closed jobs, and of whole jobs of stopped commands that have no other jobs left."""
        for record in closed:
            self.state.remove(record)
        others = [(one, self.is_whole(one)) for one in self.state.records()]
        needed = {one.command for one, is_whole in others if not is_whole}
        for record, is_whole in others:
            if is_whole and record.command not in needed and not self.state.is_running(record):
                self.state.remove(record)

    def is_whole(self, record: LocalRecord) -> bool:
        """Return whether only the job record of a job is left, because the job's result is complete."""
        return not self.segments(record.id) and self.written(record) is not None

    def is_old(self, record: LocalRecord) -> bool:
        """Return whether the result at a job's place was there before the job began."""
        present = self.results.stat(record.result)
        return present is not None and present.etag == record.before

    def written(self, record: LocalRecord) -> Mapping[str, Any] | None:
        """Return the report of a job whose result is complete but whose state is not yet deleted; else None."""
        present = self.results.stat(record.result)
        if present is None or present.etag == record.before:
            return None
        from parcelq.collect.reporting import Reporter
        from parcelq.collect.resolution import WHOLE

        state = present.metadata.get("parcelq-state", "")
        if present.metadata.get("parcelq-source") != source_id(record.source) or not state.startswith(WHOLE):
            return None
        return Reporter(self.results).of_state(record.source, record.result, state)
