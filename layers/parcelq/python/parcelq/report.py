"""The report beside a result: what came in, what came out, and what did not. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from parcelq.collector import Dead

REPORT_SUFFIX: Final = ".report.json"


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a source and of its result: `read` is `done`, `dead` and `missing` together.

    `read` and `done` are None where nobody noted how many entries were published.
    """

    read: int | None
    done: int | None
    dead: int
    missing: int
    written: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a source's result.

    Attributes:
        source: the attribute `Source`.
        result: where the result lies.
        workflows: what the steps were told as workflow.
        entries: of the source, and of the result.
        bytes_read: bytes of the source.
        bytes_written: bytes of the result.
        dead: what failed for good, and why.
        duplicates: messages that were dropped because they were there already.
        first: when the first message was collected.
        last: when the last was.
        complete: whether the result is whole; False if entries are dead.
    """

    source: str
    result: str
    workflows: tuple[str, ...]
    entries: Entries
    bytes_read: int | None
    bytes_written: int
    dead: tuple[Dead, ...]
    duplicates: int
    first: str
    last: str
    complete: bool

    def to_json(self) -> bytes:
        """As it lies beside the result."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False).encode() + b"\n"
