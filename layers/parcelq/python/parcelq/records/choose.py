"""Chooses a record format from a file's name, a short text, or a mapping of a YAML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Final

from parcelq.checks import Check, Wrong, whole
from parcelq.errors import InvalidValueError
from parcelq.records.compression import without_suffix
from parcelq.records.delimited import Delimited
from parcelq.records.ends import Ends
from parcelq.records.fastq import Fastq
from parcelq.records.format import Format
from parcelq.records.lines import Lines
from parcelq.records.starts import Starts

LINES: Final = Lines()
"""The format that is used by default."""

_NAMED: Final[Mapping[str, Format]] = {
    "lines": LINES,
    "jsonl": Lines("jsonl"),
    "csv": Delimited("csv"),
    "tsv": Delimited("tsv"),
    "fasta": Starts(b">", "fasta"),
    "fastq": Fastq(),
    "sdf": Ends(b"$$$$", "sdf"),
}
_MOL2: Final = Starts(b"@<TRIPOS>MOLECULE")
_SUFFIXES: Final[Mapping[str, Format]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), _NAMED["jsonl"]),
    ".csv": _NAMED["csv"],
    ".tsv": _NAMED["tsv"],
    **dict.fromkeys((".fa", ".fasta", ".faa", ".fna", ".ffn"), _NAMED["fasta"]),
    **dict.fromkeys((".fq", ".fastq"), _NAMED["fastq"]),
    **dict.fromkeys((".sdf", ".sd"), _NAMED["sdf"]),
    ".mol2": _MOL2,
}

MAX_TEXT: Final = 512
"""How many characters a format's short text may have, at most."""
MAX_MARKER_BYTES: Final = 64
MAX_LINES: Final = 1000
MAX_HEADER_LINES: Final = 1000

_TEXT: Final = re.compile(
    r'(?P<kind>[a-z]+)(?:=(?P<value>"(?:[^"\\]|\\.)*"|[^\s"]+))?(?: header=(?P<header>[0-9]{1,4}))?', re.ASCII
)
_WANTED: Final = (
    f'{", ".join(_NAMED)}, or one of starts="TEXT", ends="TEXT" and lines=NUMBER, '
    "each perhaps with header=NUMBER after it"
)


def by_name(name: str) -> Format:
    """Choose the format by a file's name, in any case, without the suffix of its compression; lines by default."""
    return _SUFFIXES.get(PurePosixPath(without_suffix(name).lower()).suffix, LINES)


def parse(text: str) -> Format:
    r"""Read a short text, as from `str()` of a format or from the option `--format`.

    `csv`, `lines header=2`, `csv header=0`, `starts=">"`, `ends="//" header=1`, `lines=4`. The quotes around a text may
    be left out if the text contains no blanks and no quotes. Between quotes, a backslash escapes characters as in JSON.

    Raises:
        InvalidValueError: the text is not a format.
    """
    match = _TEXT.fullmatch(text) if len(text) <= MAX_TEXT else None
    if match is None:
        raise InvalidValueError("format", text[:MAX_TEXT], _WANTED)
    kind, value, header = match["kind"], match["value"], match["header"] and int(match["header"])
    if kind == "lines" and value:
        value = int(value) if re.fullmatch("[0-9]{1,4}", value) else value
    elif value and value.startswith('"'):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidValueError("format", text, _WANTED) from None
    return _made(text, kind, value, header)


def from_settings(setting: object) -> Format:
    """Read a format from a YAML file: a short text, or a mapping such as `{starts: ">", header: 1}` or `{format: csv}`.

    Raises InvalidValueError if the setting is not a format.
    """
    if isinstance(setting, str):
        return parse(setting)
    if not isinstance(setting, Mapping):
        raise InvalidValueError("format", setting, _WANTED)
    rest = dict(setting)
    header = rest.pop("header", None)
    if len(rest) == 1:
        kind, value = rest.popitem()
        if kind == "format" and isinstance(value, str) and value in _NAMED:
            return _made(setting, value, None, header)
        if kind in {"starts", "ends", "lines"} and value is not None:
            return _made(setting, str(kind), value, header)
    raise InvalidValueError(
        "format", dict(setting), 'a mapping with one of "format", "starts", "ends" and "lines", and optionally "header"'
    )


def _made(given: object, kind: str, value: object, header: object) -> Format:
    """Create a format from its parts; any of the parts may be invalid."""
    made: Format | None = None
    if value is None:
        made = _NAMED.get(kind)
    elif kind == "lines":
        lines = _checked(kind, value, whole(1, MAX_LINES))
        made = LINES if lines == 1 else Lines("", lines)
    elif kind in {"starts", "ends"}:
        marker = _checked(kind, value, _marker)
        made = Starts(marker) if kind == "starts" else Ends(marker)
    if made is None:
        raise InvalidValueError("format", given, _WANTED)
    if header is None:
        return made
    return replace(made, header=_checked("header", header, whole(0, MAX_HEADER_LINES)))  # type: ignore[type-var]


def _checked(name: str, value: object, check: Check) -> Any:
    try:
        return check(value)
    except Wrong as wrong:
        raise InvalidValueError(name, value, str(wrong)) from None


def _marker(value: object) -> bytes:
    try:
        marker = value.encode() if isinstance(value, str) else b""
    except UnicodeEncodeError:
        marker = b""
    if not 0 < len(marker) <= MAX_MARKER_BYTES or any(code < 32 and code != ord("\t") for code in marker):
        raise Wrong(f"a text of 1 to {MAX_MARKER_BYTES} bytes in UTF-8, without line ends and other control characters")
    return marker
