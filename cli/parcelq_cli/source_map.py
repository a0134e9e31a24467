"""The map of a source as one line of block characters, for terminals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from parcelq.collect.source_map import Cell

_BLOCKS: Final = {"done": ("█", "green"), "dead": ("▒", "red"), "missing": ("░", "dim"), "both": ("▓", "yellow")}


def map_line(cells: Sequence[Cell]) -> Text:
    """Return one block for each part of a source: `█` done, `▒` some failed, `░` some missing, `▓` both.

    Even the smallest dead or missing part shows. The characters differ, so the line says the same without colours.
    """
    line = Text()
    for kind, some in groupby(cell.kind for cell in cells):
        block, style = _BLOCKS[kind]
        line.append(block * len(list(some)), style)
    return line
