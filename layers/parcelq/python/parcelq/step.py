"""Writing a step as a Python function: `from parcelq.step import step`, or `@parcelq.step`.

The module has the name of the function, so it can be called like it.
"""

import sys
from types import ModuleType
from typing import Any

from parcelq.steps.function import StepFunction, reject, step

__all__ = ["StepFunction", "reject", "step"]


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Do what the function does."""
        return step(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
