"""The report beside a result: what came in, what came out, and what did not. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from parcelq.collect.collector import Dead


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a source and of its result: `read` is `done`, `dead` and `missing` together.

    Where an entry of what an earlier step made died, all entries of the source count as dead of whose message it was
    made. `read` is None where nobody noted how many entries were published, `dead` where the source is not there any
    more to tell them, and `done` where either is.
    """

    read: int | None
    done: int | None
    dead: int | None
    missing: int
    written: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a source's result.

    Attributes:
        source: the attribute `Source`.
        version: which put of the object it is: its version id if it has one, else the event's sequencer.
        result: where the result lies.
        workflows: what the steps were told as workflow.
        entries: of the source, and of the result.
        bytes_read: bytes of the source.
        bytes_written: bytes of the result.
        dead: what failed for good, and why.
        holes: byte ranges of the source that are missing; none in a result that is finished.
        duplicates: messages that were dropped because they were there already.
        first: when the first message was collected.
        last: when the last was.
        complete: whether the result is whole; False if entries are dead.
    """

    source: str
    version: str
    result: str
    workflows: tuple[str, ...]
    entries: Entries
    bytes_read: int | None
    bytes_written: int
    dead: tuple[Dead, ...]
    holes: tuple[tuple[int, int], ...]
    duplicates: int
    first: str
    last: str
    complete: bool

    def to_json(self) -> bytes:
        """As it lies beside the result."""
        told = asdict(self)
        for one in told["dead"]:
            del one["of_source"]
        return json.dumps(told, indent=2, ensure_ascii=False).encode() + b"\n"
