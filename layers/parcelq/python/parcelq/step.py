"""Writing a step as a Python function: `from parcelq.step import step`."""

from parcelq.steps.function import StepFunction, step

__all__ = ["StepFunction", "step"]
