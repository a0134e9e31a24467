"""Writing a step as a Python function: `from parcelq.step import step`."""

from parcelq.steps.function import StepFunction, reject, step

__all__ = ["StepFunction", "reject", "step"]
