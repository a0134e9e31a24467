"""Reads and checks the file of `--rejects`, in which a step reports the entries that it rejects."""

from __future__ import annotations

import json
import os
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.steps.folder import open_regular
from parcelq.steps.reason import shortened

MAX_REASON_BYTES: Final = 2048
"""How many bytes a reason may have, at most, because the reason must fit into the attributes of a message."""
_MAX_LINE_BYTES: Final = 1 << 20


class Reject(NamedTuple):
    """An entry that a step rejected.

    Attributes:
        entry: the number of the entry in the run's input, counted from 0 without the header.
        after: how many output entries the step had written before the entry; None if unknown.
        reason: why the entry is bad, in at most `MAX_REASON_BYTES` bytes of UTF-8.
    """

    entry: int
    after: int | None
    reason: str


class RejectsError(ValueError):
    """A file of rejects has an invalid line. The message says which line is invalid, and how to correct it."""


def read_rejects(source: Path | bytes, entries: int | None = None) -> tuple[Reject, ...]:
    """Read the entries that a step rejected, sorted by entry, from JSON lines `{"entry": 17, "after": 16, "reason":
    "…"}`. If `source` is a file that does not exist, there are none.

    Raises RejectsError if a line is not such an object, an entry is reported twice or was not in the input, or `after`
    of an entry is less than `after` of an earlier entry.
    """
    try:
        file = BytesIO(source) if isinstance(source, bytes) else os.fdopen(open_regular(source), "rb")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RejectsError(f"the file of rejects cannot be read: {error.strerror}") from None
    rejects: dict[int, Reject] = {}
    with file:
        for number, line in enumerate(iter(partial(file.readline, _MAX_LINE_BYTES), b""), 1):
            if not line.strip():
                continue
            try:
                reject = _reject(line, entries)
                if reject.entry in rejects:
                    raise RejectsError(f"entry {reject.entry} is reported twice")
            except RejectsError as error:
                raise RejectsError(f"line {number} of the rejects: {error}") from None
            rejects[reject.entry] = reject
    ordered = tuple(rejects[entry] for entry in sorted(rejects))
    _check_order(ordered)
    return ordered


def _reject(line: bytes, entries: int | None) -> Reject:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise RejectsError(f"{_shown(line)} is not JSON") from None
    wanted = '{"entry": 17, "after": 16, "reason": "why"}'
    if not isinstance(value, dict) or not {"entry", "reason"} <= value.keys() <= {"entry", "after", "reason"}:
        raise RejectsError(f"{_shown(line)} must be an object like {wanted}; 'after' may be left out")
    entry, after, reason = value["entry"], value.get("after"), value["reason"]
    if not _is_count(entry) or (entries is not None and entry >= entries):
        limit = "" if entries is None else f" below {entries}, the number of entries in the input"
        raise RejectsError(f"entry is {_shown(entry)}, but must be a whole number from 0{limit}")
    if after is not None and not _is_count(after):
        raise RejectsError(f"after is {_shown(after)}, but must be a whole number from 0")
    if not isinstance(reason, str) or not reason.strip():
        raise RejectsError(f"reason is {_shown(reason)}, but must be a text that says what is wrong")
    return Reject(entry, after, shortened(reason.strip(), MAX_REASON_BYTES))


def _check_order(rejects: tuple[Reject, ...]) -> None:
    """Check that `after` never decreases from one entry to a later entry, because output only grows."""
    most, at = 0, 0
    for one in rejects:
        if one.after is None:
            continue
        if one.after < most:
            raise RejectsError(
                f"the rejects report {one.after} entries of output before entry {one.entry}, "
                f"but {most} before entry {at}, which comes earlier"
            )
        most, at = one.after, one.entry


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _shown(value: object) -> str:
    text = value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else value
    try:
        return repr(text)[:100]
    except ValueError:  # a number with thousands of digits
        return "a number too large to be shown"
