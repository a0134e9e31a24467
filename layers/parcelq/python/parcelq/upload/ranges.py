"""Tasks, which are messages on the topic of ranges: to upload one byte range of a large object beside other Lambda
functions, or to continue the upload of a stream.

In formats such as CSV, the place where an entry starts depends on all bytes before it. For such formats, tasks first
scan every range and store what each scan found. The scan after which all ranges are scanned publishes the tasks that
upload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, get_type_hints

from parcelq.errors import ConflictError, InvalidValueError, MessageError
from parcelq.lineage.source import Source, source_id
from parcelq.names import SCANS
from parcelq.records import Format, parse
from parcelq.store.store import Store
from parcelq.upload.sources import Rest

MAX_OBJECT_BYTES: Final = 2**53
"""More bytes than any object has: the largest whole number that is exact in JSON."""
MAX_HEADER: Final = 2048
"""How many characters the attribute `Header` and other texts of a task, except the source, may have, at most."""
_PUBLISHER: Final = "publisher"
_KINDS: Final = {str: f"a text of at most {MAX_HEADER} characters", int: "a whole number", bool: "true or false"}


class RangeTask(NamedTuple):
    """A task: upload the entries that start in the byte range `[start, end)` of an object.

    Attributes:
        topic: the name of the topic on which the entries are published.
        total: how many bytes the object has.
        format: the short text of the record format.
        header: the attribute `Header` of the messages.
        origin: how many bytes the header has; the header is already published.
        line: the number of the first line after the header.
        scan: if this range is only scanned, how many bytes every range has; otherwise 0.
        inside: whether the range starts inside quotes.
        part: whether to publish exactly the bytes of this range, because they are missing. The range begins and ends at
            boundaries of entries.
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

    def __str__(self) -> str:
        return json.dumps(self._asdict())

    @property
    def records(self) -> Format:
        """The record format of the object."""
        return parse(self.format)

    def check(self) -> None:
        """Raise ValueError if the values of the task are impossible."""
        _check_types(self)
        if not 0 <= self.start <= self.end <= self.total <= MAX_OBJECT_BYTES:
            raise ValueError("it must be 0 <= start <= end <= total")
        if self.part:
            return
        if self.start == self.end:
            raise ValueError("it must be start < end")
        if not (0 <= self.origin <= self.total and 1 <= self.line <= MAX_OBJECT_BYTES):
            raise ValueError("it must be 0 <= origin <= total, and line at least 1")
        if not self.records.ranges:
            raise ValueError(f"{self.format} cannot be cut from the middle")
        if self.scan and not (self.scan > 0 and self.start % self.scan == 0 and self.records.two_phases):
            raise ValueError("scan must be 0 or, if the format has to be scanned, the bytes of every range")


class StreamTask(NamedTuple):
    """A task: upload the rest of a source that is read as one stream; see `RangeTask` and `Rest`."""

    source: str
    topic: str
    format: str
    rest: Rest
    workflow: str = ""

    def __str__(self) -> str:
        return json.dumps({**self._asdict(), "rest": self.rest._asdict()})

    @property
    def records(self) -> Format:
        """The record format of the source."""
        return parse(self.format)

    def check(self) -> None:
        """Raise ValueError if the values of the task are impossible."""
        _check_types(self)
        _check_types(self.rest)
        if not all(1 <= number <= MAX_OBJECT_BYTES for number in self.rest[:3]):
            raise ValueError(f"start, record and line must be from 1 to {MAX_OBJECT_BYTES}")
        parse(self.format)


def task_of(text: str) -> RangeTask | StreamTask:
    """Read a message of the topic of ranges as a task. Raises MessageError if the text is not a valid task."""
    try:
        read = json.loads(text)
        rest = {"rest": Rest(**read["rest"])} if "rest" in read else None
        task = StreamTask(**{**read, **rest}) if rest else RangeTask(**read)
        task.check()
        Source.parse(task.source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MessageError(f"{text[:200]!r} is not a range or the rest of an object: {error}") from None
    return task


def _check_types(task: Any) -> None:
    for name, kind in get_type_hints(type(task)).items():
        value = getattr(task, name)
        str(value).encode()  # raises ValueError if a text cannot be part of a message
        if kind in _KINDS and (
            type(value) is not kind or (kind is str and name != "source" and len(value) > MAX_HEADER)
        ):
            raise InvalidValueError(name, value, _KINDS[kind])


def tasks_for(whole: RangeTask, range_bytes: int) -> Iterator[RangeTask]:
    """Cut the task to upload an object into one task per range. The tasks are scans if the format requires scans."""
    scan = range_bytes if whole.records.two_phases else 0
    for start in range(whole.start, whole.end, range_bytes):
        yield whole._replace(start=start, end=min(start + range_bytes, whole.end), scan=scan)


def note_scan(store: Store, task: RangeTask, *, flips: bool) -> None:
    """Store the result of a scan: whether a range that begins outside quotes ends inside quotes."""
    store.put(f"{_folder(task)}{task.start:020d}-{int(flips)}")


def tasks_after_scan(store: Store, task: RangeTask) -> list[RangeTask]:
    """Return the tasks that upload the ranges, if this scan has to publish the tasks; otherwise an empty list.

    The first scan that finds all ranges scanned has to publish the tasks. If this scan's function dies before it has
    published the tasks, the scan's own task is delivered again and publishes them. Raises AwsError, StoreError or
    OSError if the store fails.
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


def part_tasks(
    source: str, topic: str, ranges: Iterable[tuple[int, int]], total: int, workflow: str
) -> Iterator[RangeTask]:
    """Yield the tasks by which the uploader publishes exactly the bytes of some ranges of an object."""
    return (RangeTask(source, topic, start, end, total, workflow=workflow, part=True) for start, end in ranges)
