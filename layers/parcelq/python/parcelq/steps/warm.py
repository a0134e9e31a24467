"""The former place of `Runner`, which is in `parcelq.steps.run` now."""

from parcelq.steps.run import Runner

__all__ = ["Runner"]
