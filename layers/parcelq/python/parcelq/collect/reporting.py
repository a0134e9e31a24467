"""Writes the files beside a result (or its future place): the list of dead entries, the page, and the report."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from parcelq.collect.deaths import dead_lines, dead_of
from parcelq.collect.report import Report, report_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.runs import collected_of
from parcelq.errors import NotFoundError
from parcelq.jobs.record import JobRecord
from parcelq.limits import MIB
from parcelq.lineage.source import Source, source_id
from parcelq.result_names import DEAD, PAGE, REPORT, ResultNames
from parcelq.store.store import Store, Stored
from parcelq.topics.cost import NOTHING, Cost
from parcelq.upload.notes import Note, notes_of

_log = logging.getLogger(__name__)
_REPORT_BYTES: Final = 4 * MIB
"""How many bytes of a report are read at most; no report is larger."""
_ID: Final = "parcelq-source"
_URI: Final = "parcelq-uri"
_ORDER: Final = "parcelq-order"
_STATE: Final = "parcelq-state"
"""Names of a result's metadata, which say the result's source and state. Metadata and result are written together."""
_NOTHING_SEEN: Final[Mapping[str, Stored | None]] = {DEAD: None, PAGE: None, REPORT: None}


class Reporter(NamedTuple):
    """Writes reports, with these versions of steps in addition to those that the messages name. `recipe` has the steps,
    settings and other options of a run on one machine.
    """

    out: Store
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = {}

    def read(self, result: str) -> bytes:
        """Read the report beside a result. Raises NotFoundError if the report does not exist."""
        return self.out.read(result + REPORT, 0, _REPORT_BYTES)

    def of_state(self, source: str, result: str, state: str) -> Mapping[str, Any] | None:
        """Return the report beside a result; None if there is no report that belongs to this source and this state."""
        try:
            report: dict[str, Any] = json.loads(self.read(result))
            return report if (report.get("source"), report.get("state")) == (source, state) else None
        except (ValueError, AttributeError, NotFoundError):
            return None

    def write(
        self,
        collected: Collected,
        resolution: Resolution,
        key: str,
        healings: int,
        notes: Sequence[Note],
        looks: Cost = NOTHING,
        created: int | None = None,
    ) -> Mapping[str, Any] | None:
        """Write the list of dead entries, the page and the report beside a result. If another result has replaced this
        result, write nothing and return None, because the writer of the other result also writes these files.

        Args:
            resolution: the resolution of the collected messages; the result must have the state of this resolution.
            created: how many bytes the result has, if it was just created; else None. A result that was just created is
                not read again, because a process that replaces the result writes its own report.
        """
        source = collected.job.source
        listed = key + DEAD if resolution.has_dead else ""
        while True:
            size, created = created, None
            seen: Mapping[str, Stored | None] = _NOTHING_SEEN
            if size is None:
                seen, written = self._seen(key), self.out.stat(key)
                # guard[False]: report and result follow from one resolution
                if written is None or state_in(written, source) != resolution.state:
                    return None
                size = written.size
            report = report_of(
                source,
                collected,
                resolution,
                notes,
                key,
                written=size,
                dead_list=listed,
                healings=healings,
                looks=looks,
            )
            report = report._replace(workflows=(*report.workflows, *self.versions), recipe=self.recipe)
            # Each file is written only if it has not changed since the result was read; otherwise all is read again.
            if self._put(report, collected, resolution, notes, seen):
                if not listed and (seen[DEAD] or seen is _NOTHING_SEEN):  # a list may be left of an earlier result
                    self.out.delete([key + DEAD])
                return cast("dict[str, Any]", json.loads(report.to_json()))

    def write_stopped(self, record: JobRecord, keys: Sequence[str], names: ResultNames) -> None:
        """Write the list of dead entries, page and report of a stopped or cancelled job, beside the key of its result.
        If an earlier result exists at that place, its report stays; the job's record has the figures of the stopped
        job.
        """
        seen = self._seen(names.result)
        if self.out.stat(names.result) is not None:
            _log.info("%s has a result of an earlier run, so the report of that result stays", names.result)
            return
        collected, notes = collected_of(self.out, keys) or Collected(self.out, ()), notes_of(self.out, record.source)
        resolution = collected.resolve().up_to(record.total)
        report = stopped_report(record, collected, resolution, notes, names)
        if not self._put(report, collected, resolution, notes, seen):
            _log.info("another process wrote %s at the same time", names.report)

    def _seen(self, key: str) -> dict[str, Stored | None]:
        return {ending: self.out.stat(key + ending) for ending in (DEAD, PAGE, REPORT)}

    def _put(
        self,
        report: Report,
        collected: Collected,
        resolution: Resolution,
        notes: Sequence[Note],
        seen: Mapping[str, Stored | None],
    ) -> bool:
        """Write list of dead entries, page and report, each only if it has not changed since `seen`; return whether all
        were written. The report is written last, because an existing report means that all files are written.
        """
        # The modules that draw a page are imported here, so that only the end of a job loads these modules.
        from parcelq.collect.page.figures import figures_of
        from parcelq.collect.page.render import report_page

        dead, key = report.dead_list, report.result
        if dead and not self.out.write(dead, dead_lines(dead_of(collected, notes)), {}, seen[DEAD]):
            return False
        page = report_page(report, figures_of(collected, resolution, notes))
        # guard[not self.out.put(key + PAGE, page)]: a page is written only if nobody else wrote one in the meantime
        if not self.out.write(key + PAGE, [page], {}, seen[PAGE]):
            return False
        # guard[return bool(self.out.put(key + REPORT, report.to_json()))]: a report is written only if nobody else
        # wrote one in the meantime
        return self.out.write(key + REPORT, [report.to_json()], {}, seen[REPORT])


def stopped_report(
    record: JobRecord, collected: Collected, resolution: Resolution, notes: Sequence[Note], names: ResultNames
) -> Report:
    """Return the report of a job without a result. In this report, `complete` is false, and holes are listed."""
    listed = names.dead if resolution.has_dead else ""
    report = report_of(
        record.source, collected, resolution, notes, names.result, dead_list=listed, healings=record.healings
    )
    versions = tuple(sorted({*report.workflows, *record.versions}))
    return report._replace(complete=False, workflows=versions, problem=record.why_no_result)


def metadata_of(name: str, state: str) -> dict[str, str]:
    """Return the metadata of a result, given the attribute `Source` and the state of its resolution."""
    source = Source.parse(name)
    return {_ID: source_id(name), _URI: source_id(source.uri), _ORDER: source.order, _STATE: state}


def state_in(present: Stored | None, name: str) -> str:
    """Return the state in a result's metadata; empty if the result does not exist or belongs to another source."""
    if present is None or present.metadata.get(_ID) != source_id(name):
        return ""
    return present.metadata.get(_STATE, "")


def is_newer(present: Stored, source: Source) -> bool:
    """Return whether an existing result belongs to a later upload of the same file."""
    return present.metadata.get(_URI) == source_id(source.uri) and present.metadata.get(_ORDER, "") > source.order
