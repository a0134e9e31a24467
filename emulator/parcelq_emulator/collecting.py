"""Collecting the results of files that were put into the emulated stack, until all are there or no more will come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from parcelq.result_names import result_names
from parcelq_cli.output import Report, amount

from parcelq_emulator.function import DIED, InvocationError

if TYPE_CHECKING:
    from parcelq_emulator.pipeline import Pipeline

_QUIET_SECONDS: Final = 0.2
"""How long nothing comes before collecting stops, and results are written."""
_LONG_QUIET_SECONDS: Final = 1.0
"""The same, before what has not come counts as lost."""
_LOOK_SECONDS: Final = 0.1
_REPAIRS: Final = 5
"""How often what is missing is published again, before it counts as lost."""
_FAILURES: Final = 5
"""How often in a row collecting may fail, before that counts as what it always does."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of collecting.

    Attributes:
        messages: how many messages were collected.
        missing: names of the files without a result.
        repairs: how often what was missing was published again.
    """

    messages: int
    missing: frozenset[str]
    repairs: int


def collect(pipeline: Pipeline, sizes: Mapping[str, int], tell: Report) -> Collected:
    """Collect until every file has its result, or nothing more will come.

    Args:
        pipeline: the running stack.
        sizes: bytes of the files, by name.
        tell: called with how far it is.

    Raises:
        InvocationError: collecting fails again and again, and not for dying.
    """
    waiting = collected = repairs = failures = 0
    missing = set(sizes)
    share, quiet, has_begun = 0.0, _QUIET_SECONDS, False
    while missing - pipeline.given_up().keys():
        waiting, uncollected = pipeline.waiting(), pipeline.uncollected()
        tell(f"{amount(waiting, 'message')} waiting, {collected:,} collected", share)
        if has_begun and waiting and not uncollected:
            time.sleep(_LOOK_SECONDS)
            continue
        has_begun = True  # in any case once, so that the downloader is there when it is needed
        try:
            answer = pipeline.collect(quiet)
        except InvocationError as error:  # what it had not acknowledged is delivered again
            failures += error.kind != DIED
            if failures == _FAILURES:
                raise
            continue
        failures = 0
        drained = answer["drained"]["messages"]
        collected += drained
        # A result without its dead entries may still be written again, as long as anything is under way.
        may_change = bool(waiting or uncollected)
        if answer["finished_count"] or not may_change:  # the answer lists only the newest; the reports are all there
            reports = pipeline.results.reports()
            missing = {name for name in missing if not _is_written(reports, result_names(name).result, may_change)}
        covered = sum(state["covered"] for state in answer["waiting"])
        covered += sum(size for name, size in sizes.items() if name not in missing)
        share = min(1.0, covered / max(1, sum(sizes.values())))
        if waiting or uncollected or drained:
            quiet = _QUIET_SECONDS
        elif quiet < _LONG_QUIET_SECONDS:  # perhaps something was just on its way from one topic to another
            quiet = _LONG_QUIET_SECONDS
        elif missing:
            # All is quiet, so what is missing was lost on the way, or came only in pieces that do not fit together.
            if repairs == _REPAIRS or not pipeline.repair():
                break
            repairs += 1
    tell(f"{amount(waiting, 'message')} waiting, {collected:,} collected", share)
    return Collected(collected, frozenset(missing), repairs)


def _is_written(reports: Mapping[str, Any], key: str, may_change: bool) -> bool:
    return key in reports and not (reports[key]["dead"] and may_change)
