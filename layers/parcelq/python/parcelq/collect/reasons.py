"""Analyses reasons of dead entries: the line with the error, and the kind of failure."""

from __future__ import annotations

import re
from typing import Final

_STEP: Final = " (step "
"""The headings that may follow the line with the error; see `parcelq.process.dead.reason_of`."""
_QUOTED: Final = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`")
_NUMBER: Final = re.compile(
    r"(?<!with )(?<!code )(?<!signal )(?<!status )(?<!Errno )(?<!, line )(?<![\w.])-?\d[\d.,]*(?<![.,])"
)
_LONGEST: Final = 160


def main_line(reason: str) -> str:
    """Return the line of a reason that names the error, without the step's name and the traceback."""
    return reason.partition("\n")[0].partition(_STEP)[0]


def kind_of(reason: str) -> str:
    """Return the kind of a reason, which is equal for entries that failed in the same way.

    It is the reason's main line with quoted parts and numbers replaced by `…`, because these usually come from the
    entry: `ValueError: bad SMILES 'CX'` becomes `ValueError: bad SMILES …`. Exit codes, signals and line numbers of a
    program stay.
    """
    kind = _NUMBER.sub("…", _QUOTED.sub("…", main_line(reason)))
    return kind if len(kind) <= _LONGEST else kind[: _LONGEST - 1] + "…"
