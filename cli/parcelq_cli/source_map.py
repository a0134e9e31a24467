"""Draws the map of a source as one line of block characters, for terminals."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.text import Text

_BLOCKS: Final = {"=": ("█", "green"), "x": ("▒", "red"), ".": ("░", "dim"), "?": ("▓", "yellow")}
"""Maps each letter of `parcelq.collect.source_map.KINDS` to a character and its colour."""


def map_line(letters: str) -> Text:
    """Return one block for each part of a source: `█` done, `▒` some failed, `░` some missing, `▓` both.

    Even the smallest dead or missing part is visible, even on a terminal without colours.
    """
    from rich.text import Text  # the import takes time, and a quiet command does not need it

    line = Text()
    for letter, some in groupby(letters):
        block, style = _BLOCKS.get(letter, (letter, ""))
        line.append(block * len(list(some)), style)
    return line
