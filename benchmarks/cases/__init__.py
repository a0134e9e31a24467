"""The cases, each a module with a function `measure(bench)` that yields figures."""

from typing import Final

CASES: Final = (
    "cut",
    "records",
    "publish",
    "requests",
    "pull",
    "collector",
    "assembly",
    "memory",
    "processor",
    "warm",
    "run",
    "soon",
    "whole",
    "cold_start",
    "growth",
    "scale",
)
"""The names of all cases, in the order of the table's rows."""
