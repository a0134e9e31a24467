"""The decorator for steps that are Python functions: `from parcelq.step import step`, or `@parcelq.step`.

The module has the name of the function, so that it can be called like the function.
"""

import sys
from types import ModuleType
from typing import Any

from parcelq.steps.function import StepFunction, reject, step

__all__ = ["StepFunction", "reject", "step"]


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function `step`."""
        return step(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
