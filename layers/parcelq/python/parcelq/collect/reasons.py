"""Reasons of dead entries, and what kind of failure each is."""

from __future__ import annotations

import re
from typing import Final

_STEP: Final = " (step "
"""What follows the line that says what went wrong; see `parcelq.process.dead.reason_of`."""
_QUOTED: Final = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`")
_NUMBER: Final = re.compile(
    r"(?<!with )(?<!code )(?<!signal )(?<!status )(?<!Errno )(?<!, line )(?<![\w.])-?\d[\d.,]*(?<![.,])"
)
_LONGEST: Final = 160


def main_line(reason: str) -> str:
    """Return the line of a reason that says what went wrong, without the step's name and the traceback."""
    return reason.partition("\n")[0].partition(_STEP)[0]


def kind_of(reason: str) -> str:
    """Return what a reason has in common with those of other entries that failed in the same way.

    It is the reason's main line, with quoted parts and numbers replaced by `…`, since these are usually taken from the
    entry: `ValueError: bad SMILES 'CX'` becomes `ValueError: bad SMILES …`. Exit codes, signals
    and lines of a program stay.
    """
    kind = _NUMBER.sub("…", _QUOTED.sub("…", main_line(reason)))
    return kind if len(kind) <= _LONGEST else kind[: _LONGEST - 1] + "…"
