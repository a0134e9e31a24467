"""What the same file would cost on a Distributed Map of Step Functions, whose children invoke a function with the step.

https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from parcelq.limits import KIB, MIB

from parcelq_cli.estimate.costs import Row, Till
from parcelq_cli.estimate.duration import REQUEST_SECONDS, VCPU_MB, run_seconds
from parcelq_cli.estimate.known import Measured
from parcelq_cli.estimate.prices import Prices
from parcelq_cli.estimate.work import Setup

MOST_INPUT_BYTES: Final = 256 * KIB
"""Of a child workflow, and so of a batch and of what it returns:
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
MOST_EXPRESS_SECONDS: Final = 300
_EXPRESS_GB: Final = 64 / 1024
"""Memory of an Express execution is billed in steps of 64 MB; 50 MB of it are always used."""
_EXPRESS_STEP_SECONDS: Final = 0.1
_PARENT_TRANSITIONS: Final = 2
_READ_BYTES: Final = 8 * MIB
_ITEM_BYTES: Final = 3
"""What an item has beside its text in the JSON of a batch: quotes and a comma."""
_STORAGE_GB: Final = 2.0


@dataclass(frozen=True, slots=True)
class MapCosts:
    """What a Distributed Map costs.

    Attributes:
        name: of the variant.
        batch: items of a child workflow.
        children: child workflow executions.
        rows: the bill; empty where it cannot be done.
        impossible: why it cannot; empty where it can.
    """

    name: str
    batch: int
    children: int
    rows: Sequence[Row]
    impossible: str = ""


def map_costs(known: Measured, setup: Setup, prices: Prices, slowdown: float = 1.0) -> list[MapCosts]:
    """Standard and Express children, with batches as large as the stack's, or as fit in, and with one item each."""
    item = known.line_bytes * known.escaped + _ITEM_BYTES
    most = min(setup.batch_size, known.lines, max(1, int(MOST_INPUT_BYTES / item)))
    return [
        _variant(known, setup, Till(prices), slowdown, batch, express=express)
        for batch in dict.fromkeys((most, 1))
        for express in (False, True)
    ]


def _variant(known: Measured, setup: Setup, till: Till, slowdown: float, batch: int, *, express: bool) -> MapCosts:
    children = ceil(known.lines / batch)
    vcpus = setup.memory / VCPU_MB / slowdown
    run = run_seconds(known.wall(batch), known.cpu(batch), vcpus)
    seconds = run + REQUEST_SECONDS
    # Every child that is started is a transition, and the only state of a Standard child is another.
    # https://docs.aws.amazon.com/step-functions/latest/dg/concepts-transitions.html
    transitions = _PARENT_TRANSITIONS + children * (1 if express else 2)
    rows = [till.row("Step Functions", "transitions", "states_transitions", transitions)]
    if express:
        billed = ceil(seconds / _EXPRESS_STEP_SECONDS) * _EXPRESS_STEP_SECONDS
        rows += [
            till.row("Step Functions", "Express children", "states_express_requests", children),
            till.row("Step Functions", "Express memory", "states_express_gb_seconds", children * billed * _EXPRESS_GB),
        ]
    rows += till.lambdas("function with the step", children, children * seconds, setup.memory, _STORAGE_GB)
    too_large = batch * known.out_bytes * known.escaped > MOST_INPUT_BYTES  # to be returned, so it is put as an object
    puts = children * too_large + ceil(known.lines * known.out_bytes / _READ_BYTES) + 1
    rows.append(till.row("S3", "results", "s3_puts", puts))
    rows.append(till.row("S3", "reading the file", "s3_gets", ceil(known.size / _READ_BYTES)))
    impossible = ""
    if express and seconds > MOST_EXPRESS_SECONDS:
        impossible = f"a run takes {seconds:,.0f} seconds, and an Express child has {MOST_EXPRESS_SECONDS}"
    elif known.line_bytes * known.escaped > MOST_INPUT_BYTES:
        impossible = "a line is larger than the 256 KiB that a child's input may have"
    name = "Express" if express else "Standard"
    return MapCosts(name, batch, children, () if impossible else rows, impossible)
