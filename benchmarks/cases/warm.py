"""Measures a Python step with heavy imports: a process that stays alive, compared with a process per message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.find import local_step
from parcelq.steps.settings import StepSettings

from benchmarks.cases.processor import handle, messages, route_of
from benchmarks.data import lines
from benchmarks.harness import Bench, Figure, side_by_side, speeds
from benchmarks.stub import stub_server

if TYPE_CHECKING:
    from parcelq.topics.message import Pulled

_LINES: Final = 10
_INVOCATION: Final = 10
"""How many messages an invocation gets by default."""
_STEP: Final = Path(__file__).parents[1] / "steps" / "heavy.py"


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    count = bench.size(200, 4)
    pulled = messages([lines(_LINES)] * count)
    with stub_server() as url:
        kept, cold = (partial(_process, url, pulled, warm=warm) for warm in (True, False))
        pairs = side_by_side(kept, cold, bench.long_runs)
    yield Figure(
        f"Python step with a 300 ms import, {count} small messages, warm: speed",
        "the same step, one process a message",
        pairs.ratio(lambda sample: sample.speed),
        f"{speeds(pairs, 1)} messages a second",
    )


def _process(url: str, pulled: list[Pulled], *, warm: bool) -> float:
    """Process messages with a new processor, whose first runs start the processes of the step."""
    step = local_step(str(_STEP))._replace(settings=StepSettings(warm=warm))
    with closing(Processor(route_of(url), step, Rules(batch_size=_LINES, parcel_size=_LINES))) as processor:
        for at in range(0, len(pulled), _INVOCATION):
            handle(processor, pulled[at : at + _INVOCATION])
    return len(pulled)
