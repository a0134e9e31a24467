"""Writes the files beside a result: the list of dead entries, the page, and last the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, cast

from parcelq.collect.deaths import MOST_LISTED, dead_lines, dead_of
from parcelq.collect.report import report_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.results import state_in
from parcelq.errors import NotFoundError
from parcelq.limits import MIB
from parcelq.result_names import DEAD, PAGE, REPORT
from parcelq.store.store import Store
from parcelq.topics.cost import NOTHING, Cost
from parcelq.upload.notes import Note

_REPORT_BYTES: Final = 4 * MIB
"""The most bytes that are read from a report; no report is larger."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes reports.

    Attributes:
        out: the store of results.
        versions: versions of the steps, in addition to those that the messages name.
        recipe: steps, settings and other options of a run on one machine.
    """

    out: Store
    versions: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def read(self, result: str) -> bytes:
        """Read the report beside a result. Raises NotFoundError if there is none."""
        return self.out.read(result + REPORT, 0, _REPORT_BYTES)

    def of_state(self, source: str, result: str, state: str) -> Mapping[str, Any] | None:
        """Return the report beside a result, if it belongs to this source and state."""
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
    ) -> Mapping[str, Any] | None:
        """Write list, page and report, unless another result has replaced this one; then its writer writes them.

        The report is written last, because its existence means that the job is reported.

        Args:
            collected: the job's messages.
            resolution: their resolution; the result must have its state.
            key: key of the result.
            healings: how often missing records were published again.
            notes: the notes of the source's uploads.
            looks: the cost of looks at the job so far.

        Returns:
            The report; None if it is not written.
        """
        # The modules that draw a page are imported only here, at the end of a job.
        from parcelq.collect.page.figures import figures_of
        from parcelq.collect.page.render import report_page

        name = collected.job.source
        figures = figures_of(collected, resolution, notes)
        dead_key = key + DEAD if resolution.has_dead else ""
        dead = tuple(islice(dead_of(collected, notes), MOST_LISTED)) if resolution.has_dead else ()
        while True:
            seen, seen_dead, seen_page = (self.out.stat(key + ending) for ending in (REPORT, DEAD, PAGE))
            written = self.out.stat(key)
            # guard[False]: report and result follow from one resolution
            if written is None or state_in(written, name) != resolution.state:
                return None
            report = report_of(collected, resolution, notes, key, written.size, dead, dead_key, looks)
            report = replace(
                report, workflows=(*report.workflows, *self.versions), recipe=self.recipe, healings=healings
            )
            # Each file is written only if it has not changed since the result was read; otherwise look again.
            if dead_key and not self.out.write(dead_key, dead_lines(dead_of(collected, notes)), {}, seen_dead):
                continue
            page = report_page(report, figures)
            # guard[self.out.put(key + PAGE, page)]: a page is written only if nobody else wrote one in the meantime
            if not self.out.write(key + PAGE, [page], {}, seen_page):
                continue
            # guard[self.out.put(key + REPORT, report.to_json())]: a report is written only if nobody else wrote one in
            # the meantime
            text = report.to_json()
            if self.out.write(key + REPORT, [text], {}, seen):
                if seen_dead and not dead_key:
                    self.out.delete([key + DEAD])
                return cast("dict[str, Any]", json.loads(text))
