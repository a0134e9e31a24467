"""Waits until the emulated stack has written the results of all files, or no more results can arrive."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from parcelq.amounts import amount
from parcelq.result_names import result_names
from parcelq_cli.output import StatusLine

if TYPE_CHECKING:
    from parcelq_emulator.pipeline import Pipeline

_LOOK_SECONDS: Final = 0.2
_POLLS_FACTOR: Final = 10
_PAUSE_FACTOR: Final = 20
"""How many times longer a pause is than the check before it. A check reads the topics and the results, which may be
thousands.
"""


def collect(pipeline: Pipeline, sizes: Mapping[str, int], tell: StatusLine) -> frozenset[str]:
    """Wait until every file has its result, or no more results can arrive.

    A running job always has a message, because the next check of the job is a message. So if no message waits, all jobs
    have ended. This function does not wait for files whose events failed in every attempt.

    Args:
        pipeline: the running stack.
        sizes: maps the names of the files to their bytes.
        tell: a function that is called with a text that describes the progress.

    Returns:
        The names of the files without a result.

    Raises:
        ParcelqError: if the stack makes no progress.
    """
    share, next_look = 0.0, 0.0
    began = time.monotonic()
    while waiting := pipeline.waiting():
        pause = max(_LOOK_SECONDS, _POLLS_FACTOR * (time.monotonic() - began))
        began = time.monotonic()
        if began >= next_look:
            given_up, missing = pipeline.given_up().keys(), _missing(pipeline, sizes)
            if given_up and missing <= given_up:
                break
            share = sum(size for name, size in sizes.items() if name not in missing) / max(1, sum(sizes.values()))
            now = time.monotonic()
            next_look = now + _PAUSE_FACTOR * (now - began)
        tell(f"{amount(waiting, 'message')} waiting", share)
        time.sleep(pause)
        began = time.monotonic()
    return _missing(pipeline, sizes)


def _missing(pipeline: Pipeline, sizes: Mapping[str, int]) -> frozenset[str]:
    reported = pipeline.results.reported()
    return frozenset(name for name in sizes if result_names(name).result not in reported)
