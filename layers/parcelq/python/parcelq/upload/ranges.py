"""Tasks on the topic of ranges: byte ranges of large objects, which many functions upload in parallel, and the rest of
a single stream, which another invocation continues.

In formats such as CSV, an entry's start depends on all bytes before it. Then a task scans every range first and stores
what it found. The scan that finds all ranges scanned publishes the tasks that upload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

from parcelq.errors import ConflictError, InvalidValueError, MessageError
from parcelq.lineage.source import Source, source_id
from parcelq.names import SCANS
from parcelq.records import Format, parse
from parcelq.store.store import Store
from parcelq.topics.message import Message
from parcelq.upload.sources import Rest

MAX_OBJECT_BYTES: Final = 2**53
"""More bytes than any object has; the largest whole number that is exact in JSON."""
MAX_HEADER: Final = 2048
"""Most characters of the attribute `Header`, and of other texts."""
_PUBLISHER: Final = "publisher"
_KINDS: Final = {str: f"a text of at most {MAX_HEADER} characters", int: "a whole number", bool: "true or false"}


class RangeTask(NamedTuple):
    """A task: upload the entries that start in a byte range of an object.

    Attributes:
        source: the object's source.
        topic: name of the topic to publish them on.
        start: first byte.
        end: offset just after the last byte.
        total: bytes of the object.
        format: the record format's short text.
        header: the attribute `Header` of the messages.
        origin: bytes of the header, which is already published.
        line: number of the first line after the header.
        scan: bytes of every range, if this range is only scanned; otherwise 0.
        inside: whether the range starts inside quotes.
        part: whether to publish exactly these bytes, because they are missing; they begin and end at boundaries of
            entries.
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
        """Read a task from its text. Raises MessageError if it is not valid."""
        return _read(text, cls, "not a range of an object")

    def __str__(self) -> str:
        return json.dumps(self._asdict())

    @property
    def records(self) -> Format:
        """The record format."""
        return parse(self.format)

    def check(self) -> None:
        """Raise ValueError for impossible values."""
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
            raise ValueError("scan must be 0 or the bytes of every range, of a format that has to be scanned")


class StreamTask(NamedTuple):
    """A task: upload the rest of a source that is one stream; see `RangeTask` and `Rest`."""

    source: str
    topic: str
    format: str
    rest: Rest
    workflow: str = ""

    def __str__(self) -> str:
        return json.dumps({**self._asdict(), "rest": self.rest._asdict()})

    @property
    def records(self) -> Format:
        """The record format."""
        return parse(self.format)

    def check(self) -> None:
        """Raise ValueError for impossible values."""
        _check_types(self)
        _check_types(self.rest)
        if not all(1 <= number <= MAX_OBJECT_BYTES for number in self.rest[:3]):
            raise ValueError(f"start, record and line must be from 1 to {MAX_OBJECT_BYTES}")
        parse(self.format)


Task = TypeVar("Task", RangeTask, StreamTask)


def task_of(text: str) -> RangeTask | StreamTask:
    """Read a task of the topic of ranges. Raises MessageError if it is not valid."""
    if '"rest"' in text:
        return _read(
            text, lambda **told: StreamTask(**{**told, "rest": Rest(**told["rest"])}), "not the rest of an object"
        )
    return RangeTask.parse(text)


def _read(text: str, make: Callable[..., Task], what: str) -> Task:
    try:
        task = make(**json.loads(text))
        task.check()
        Source.parse(task.source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MessageError(f"{text[:200]!r} is {what}: {error}") from None
    return task


def _check_types(task: Any) -> None:
    for name, kind in get_type_hints(type(task)).items():
        value = getattr(task, name)
        if kind in _KINDS and (
            type(value) is not kind or (kind is str and name != "source" and len(value) > MAX_HEADER)
        ):
            raise InvalidValueError(name, value, _KINDS[kind])


def tasks_for(whole: RangeTask, range_bytes: int) -> Iterator[RangeTask]:
    """Cut the task for a whole object into tasks for its ranges; these are scans if the format needs them first."""
    scan = range_bytes if whole.records.two_phases else 0
    for start in range(whole.start, whole.end, range_bytes):
        yield whole._replace(start=start, end=min(start + range_bytes, whole.end), scan=scan)


def note_scan(store: Store, task: RangeTask, *, flips: bool) -> None:
    """Store whether the bytes after a range are inside quotes if the range begins outside quotes."""
    store.put(f"{_folder(task)}{task.start:020d}-{int(flips)}")


def tasks_after_scan(store: Store, task: RangeTask) -> list[RangeTask]:
    """Return the tasks that upload the ranges, if this scan has to publish them.

    The first scan that finds all ranges scanned has to. If it dies before it has published them, its own task is
    delivered again and publishes them.

    Raises:
        AwsError, StoreError, OSError: the store failed.
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
) -> Iterator[Message]:
    """Yield the messages by which the uploader publishes exactly these ranges of an object; see `RangeTask`."""
    for start, end in ranges:
        yield Message(str(RangeTask(source, topic, start, end, total, workflow=workflow, part=True)).encode())
