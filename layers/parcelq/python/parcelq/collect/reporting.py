"""Writing what lies beside a result, or where it would lie: the list of dead entries, the page, and the report."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from parcelq.collect.deaths import dead_lines, dead_of
from parcelq.collect.report import Report, report_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.results import state_in
from parcelq.collect.runs import collected_of
from parcelq.errors import NotFoundError
from parcelq.jobs.record import JobRecord
from parcelq.limits import MIB
from parcelq.result_names import DEAD, PAGE, REPORT, ResultNames
from parcelq.store.store import Store, Stored
from parcelq.topics.cost import NOTHING, Cost
from parcelq.upload.notes import Note, notes_of

_log = logging.getLogger(__name__)
_REPORT_BYTES: Final = 4 * MIB
"""The most bytes that are read of a report; no report has more."""
_NOTHING_SEEN: Final[Mapping[str, Stored | None]] = {DEAD: None, PAGE: None, REPORT: None}


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes reports.

    Attributes:
        out: where results are.
        versions: of the steps that ran, beside those that the messages name.
        recipe: steps, settings and other options of a run on one machine.
    """

    out: Store
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def read(self, result: str) -> bytes:
        """Read the report beside a result. Raises NotFoundError if there is none."""
        return self.out.read(result + REPORT, 0, _REPORT_BYTES)

    def of_state(self, source: str, result: str, state: str) -> Mapping[str, Any] | None:
        """The report beside a result, if it is of this source and state."""
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
        """Write list, page and report, unless another result is there by now: those are for others to write.

        Args:
            collected: the job's messages.
            resolution: what they make; the result must be of its state.
            key: key of the result.
            healings: how often what was missing was published again.
            notes: what is noted of the source's uploads.
            looks: what looks at the job cost so far.
            created: bytes of the result if it was just written where there was none. Then no object is looked at first:
                somebody who wrote another result since writes a report too, either before this one or in its place.

        Returns:
            The report; None if it is not written.
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
            report = replace(report, workflows=(*report.workflows, *self.versions), recipe=self.recipe)
            # Each is written only if nobody wrote it since the result was seen to be this one; else look again.
            if self._put(report, collected, resolution, notes, seen):
                if seen[DEAD] and not listed:
                    self.out.delete([key + DEAD])
                return cast("dict[str, Any]", json.loads(report.to_json()))

    def write_stopped(self, record: JobRecord, keys: Sequence[str], names: ResultNames) -> None:
        """Write list, page and report of a stopped or cancelled job where its result would lie.

        An earlier result that lies there keeps its own report. The job's record has the same figures in any case.
        """
        seen = self._seen(names.result)
        if self.out.stat(names.result) is not None:
            _log.info("%s has a result of an earlier run, so the report beside it stays", names.result)
            return
        collected, notes = collected_of(self.out, keys) or Collected(self.out, ()), notes_of(self.out, record.source)
        resolution = collected.resolve().up_to(record.total)
        report = stopped_report(record, collected, resolution, notes, names)
        if not self._put(report, collected, resolution, notes, seen):
            _log.info("somebody else wrote %s at the same time", names.report)

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
        """Write list, page and report, each if nobody wrote it since it was seen, and return whether that is so.

        The report comes last, since a job counts as reported when it is there.
        """
        # The modules that draw a page are imported only where a job ends.
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
    """Return the report of a job that has not ended with a result. `complete` is false, and its holes are listed."""
    listed = names.dead if resolution.has_dead else ""
    report = report_of(
        record.source, collected, resolution, notes, names.result, dead_list=listed, healings=record.healings
    )
    versions = tuple(sorted({*report.workflows, *record.versions}))
    return replace(report, complete=False, workflows=versions, problem=record.why_no_result)
