"""The options of the embedded stack."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parcelq.steps.find import Step

from parcelq_emulator.function import Runtime

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the embedded stack.

    Attributes:
        steps: the steps, in a row; each gets a stage of its own. Without any, the stack has its built-in step.
        batch_size: how many entries a step should get at a time.
        parcel_size: most entries of a message.
        record_format: what a record is in every file; empty to follow the names of files.
        range_bytes: files larger than this are uploaded range by range.
        instances: processes that take the messages of each topic.
        chaos: a seed for random duplicates, disorder and deaths of functions; None for no such faults.
        runtime: what runs the functions.
        latency: seconds that are added to each request, by service.
    """

    steps: Sequence[Step]
    batch_size: int = 1000
    parcel_size: int = 1000
    record_format: str = ""
    range_bytes: int = 256 * 1024 * 1024
    instances: int = os.cpu_count() or 1
    chaos: int | None = None
    runtime: Runtime = Runtime.EMBEDDED
    latency: Mapping[str, float] = field(default_factory=dict)

    @property
    def stages(self) -> dict[str, Step | None]:
        """The steps by the names of their stages; None for the built-in step."""
        if len(self.steps) <= 1:
            return {"step": self.steps[0] if self.steps else None}
        return {f"step{number}": step for number, step in enumerate(self.steps, 1)}

    def parameters(self) -> dict[str, str]:
        """The template's parameters that follow from it."""
        return {
            "Stages": ",".join(self.stages),
            "BatchSize": str(self.batch_size),
            "ParcelSize": str(self.parcel_size),
            "Format": self.record_format,
            "RangeBytes": str(self.range_bytes),
            "WorkflowId": self.steps[0].workflow_id if self.steps else "",
            # A message that failed is delivered again after about a second, because no cloud has to recover here.
            "BackOffSeconds": "1",
        }
