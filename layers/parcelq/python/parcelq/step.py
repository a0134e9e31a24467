"""The decorator that turns a Python function into a step: `from parcelq.step import step`, or `@parcelq.step`.

The decorator has the same name as this module, so calling the module calls the decorator.
"""

import sys
from types import ModuleType
from typing import Any

from parcelq.steps.function import StepFunction, reject, step

__all__ = ["StepFunction", "reject", "step"]


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the decorator `step` of this module."""
        return step(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
