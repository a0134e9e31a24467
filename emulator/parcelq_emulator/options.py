"""The options with which the emulated stack runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parcelq.steps.find import Step

from parcelq_emulator.function import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an emulated stack.

    Attributes:
        steps: the steps, in order; each step becomes a stage. If there are no steps, the stack runs its built-in step.
        batch_size: how many entries each run of a step should get.
        parcel_size: the most entries of a message.
        record_format: the record format of all files; empty to derive the format from the files' names.
        range_bytes: the size in bytes above which a file is uploaded range by range.
        instances: how many processes receive the messages of each topic.
        chaos: a seed for random duplicates, disorder and deaths of functions; None for no such faults.
        runtime: the program that runs the functions.
        latency: maps services to the seconds by which each request is delayed.
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
        """Maps the name of each stage to its step, or to None for the built-in step."""
        if len(self.steps) <= 1:
            return {"step": self.steps[0] if self.steps else None}
        return {f"step{number}": step for number, step in enumerate(self.steps, 1)}

    def parameters(self) -> dict[str, str]:
        """The parameters of the template that correspond to these options."""
        return {
            "Stages": ",".join(self.stages),
            "BatchSize": str(self.batch_size),
            "ParcelSize": str(self.parcel_size),
            "Format": self.record_format,
            "RangeBytes": str(self.range_bytes),
            "WorkflowId": self.steps[0].workflow_id if self.steps else "",
            # A message that failed is delivered again after about a second, because no remote service has to recover.
            "BackOffSeconds": "1",
        }
