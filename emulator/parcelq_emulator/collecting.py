"""Waits for the results of files in the emulated stack, until all are written or no more can arrive."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from parcelq.result_names import result_names
from parcelq_cli.output import StatusLine, amount

if TYPE_CHECKING:
    from parcelq_emulator.pipeline import Pipeline

_LOOK_SECONDS: Final = 0.2
_PAUSE_FACTOR: Final = 5
"""The pause after a check is this many times longer than the check, which takes long for thousands of files."""


def collect(pipeline: Pipeline, sizes: Mapping[str, int], tell: StatusLine) -> frozenset[str]:
    """Wait until every file has its result, or no more results can arrive.

    A running job always has a message in the topic of looks, so when no message waits, all jobs have ended. Files whose
    events failed for good are left out.

    Args:
        pipeline: the running stack.
        sizes: bytes of the files, by name.
        tell: called with the progress.

    Returns:
        Names of the files without a result.

    Raises:
        ParcelqError: the stack makes no progress.
    """
    began = time.monotonic()
    while waiting := pipeline.waiting():
        given_up = pipeline.given_up().keys()
        missing = _missing(pipeline, sizes)
        done = sum(size for name, size in sizes.items() if name not in missing)
        tell(f"{amount(waiting, 'message')} waiting", done / max(1, sum(sizes.values())))
        if given_up and missing <= given_up:
            break
        time.sleep(max(_LOOK_SECONDS, _PAUSE_FACTOR * (time.monotonic() - began)))
        began = time.monotonic()
    return _missing(pipeline, sizes)


def _missing(pipeline: Pipeline, sizes: Mapping[str, int]) -> frozenset[str]:
    reported = pipeline.results.reported()
    return frozenset(name for name in sizes if result_names(name).result not in reported)
