"""Writing what lies beside a result: the list of dead entries, the page, and the report, which comes last."""

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
"""The most bytes that are read of a report; no report has more."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes reports.

    Attributes:
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
    ) -> Mapping[str, Any] | None:
        """Write list, page and report, unless another result is there by now: those are for others to write.

        The report comes last, since a job counts as reported when it is there.

        Args:
            resolution: what they make; the result must be of its state.
            healings: how often what was missing was published again.
            looks: what looks at the job cost so far.

        Returns:
            The report; None if it is not written.
        """
        # The modules that draw a page are imported only where a job ends.
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
            # Each is written only if nobody wrote it since the result was seen to be this one; else look again.
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
