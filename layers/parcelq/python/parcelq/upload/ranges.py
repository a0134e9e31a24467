"""Ranges of large objects: tasks that many functions do side by side, each for the entries that belong to a range.

Where an entry's start depends on all bytes before it, as a CSV record's does on the quotes, every range is scanned by a
task first. A scan stores what it found. The scan that finds the last one there publishes the tasks that upload.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from parcelq.errors import ConflictError, MessageError
from parcelq.lineage.source import Source, source_id
from parcelq.names import SCANS
from parcelq.records import Format, parse
from parcelq.store.store import Store

MAX_OBJECT_BYTES: Final = 2**53
"""More bytes than any object has; the largest whole number that is exact in JSON."""
MAX_HEADER: Final = 2048
"""Characters of the attribute `Header`, at most."""
_PUBLISHER: Final = "publisher"


class RangeTask(NamedTuple):
    """A byte range of an object, whose entries are to be uploaded: those that start in it.

    Attributes:
        source: the object's source.
        topic: name of the topic to publish them on.
        start: first byte.
        end: just after the last byte.
        total: bytes of the object.
        format: the record format's short text.
        header: the attribute `Header` of the messages.
        origin: bytes of the header, which is published already.
        line: number of the first line after the header.
        scan: bytes of a range, where this one is only to be scanned; otherwise 0.
        inside: whether the range starts inside quotes.
        part: whether exactly these bytes are to be published, because they are missing; they begin and end where
            entries do.
        workflow: the attribute `Workflow` of the messages; empty for the built-in step.
    """

    source: str
    topic: str
    start: int
    end: int
    total: int
    format: str = "lines"
    header: str = ""
    origin: int = 0
    line: int = 1
    scan: int = 0
    inside: bool = False
    part: bool = False
    workflow: str = ""

    @classmethod
    def parse(cls, text: str) -> RangeTask:
        """Read a task again.

        Raises:
            MessageError: it is none.
        """
        try:
            task = cls(**json.loads(text))
            Source.parse(task.source)
            task._check()
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MessageError(f"{text[:200]!r} is no range of an object: {error}") from None
        return task

    def __str__(self) -> str:
        return json.dumps(self._asdict())

    @property
    def records(self) -> Format:
        """The record format."""
        return parse(self.format)

    def _check(self) -> None:
        numbers = (self.start, self.end, self.total, self.origin, self.line, self.scan)
        texts = (self.topic, self.format, self.header, self.workflow)
        if not (all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)):
            raise ValueError("topic, format, header and workflow must be texts, and all others whole numbers")
        flags = type(self.inside), type(self.part)
        if flags != (bool, bool) or len(self.header) > MAX_HEADER:
            raise ValueError(f"inside and part must be true or false, and header have at most {MAX_HEADER} characters")
        if self.part:
            if not 0 <= self.start <= self.end <= self.total <= MAX_OBJECT_BYTES:
                raise ValueError("it must be 0 <= start <= end <= total")
            return
        if not 0 <= self.start < self.end <= self.total <= MAX_OBJECT_BYTES:
            raise ValueError("it must be 0 <= start < end <= total")
        if not (0 <= self.origin <= self.total and 1 <= self.line <= MAX_OBJECT_BYTES):
            raise ValueError("it must be 0 <= origin <= total, and line at least 1")
        if not self.records.ranges:
            raise ValueError(f"{self.format} cannot be cut from the middle")
        if self.scan and not (self.scan > 0 and self.start % self.scan == 0 and self.records.two_phases):
            raise ValueError("scan must be 0 or the bytes of every range, of a format that has to be scanned")


def tasks_for(whole: RangeTask, range_bytes: int) -> Iterator[RangeTask]:
    """Cut the task for a whole object into tasks for its ranges; these are scans if the format must be scanned
    first."""
    scan = range_bytes if whole.records.two_phases else 0
    for start in range(whole.start, whole.end, range_bytes):
        yield whole._replace(start=start, end=min(start + range_bytes, whole.end), scan=scan)


def note_scan(store: Store, task: RangeTask, *, flips: bool) -> None:
    """Store whether what comes after a range is inside quotes if the range begins outside."""
    store.put(f"{_folder(task)}{task.start:020d}-{int(flips)}")


def tasks_after_scan(store: Store, task: RangeTask) -> list[RangeTask]:
    """Return the tasks that upload the ranges, if this scan must publish them.

    The first scan that finds all ranges scanned must do so. If it dies before it has published them, its own task is
    delivered again and publishes them.

    Raises:
        AwsError, StoreError, OSError: the store refused.
    """
    folder = _folder(task)
    found: dict[int, bool] = {}
    for key in store.keys(folder):
        name, dash, flips = key.removeprefix(folder).partition("-")
        if dash:
            found[int(name)] = flips == "1"
    starts = range(0, task.total, task.scan)
    if len(found) < len(starts):
        return []
    own = str(task.start).encode()
    try:
        # guard[store.put(folder + _PUBLISHER, own)]: of several scans that find all ranges scanned, one publishes the
        # tasks
        store.put(folder + _PUBLISHER, own, if_absent=True)
    except ConflictError:
        # guard[True]: a scan that died before it published the tasks publishes them when it is delivered again
        if store.read(folder + _PUBLISHER) != own:
            return []
    tasks = []
    inside = False
    for start in starts:
        end = min(start + task.scan, task.total)
        tasks.append(task._replace(start=start, end=end, scan=0, inside=inside))
        inside ^= found[start]
    return tasks


def _folder(task: RangeTask) -> str:
    return f"{SCANS}{source_id(task.source)}/{task.scan}/"
