"""The time and cost of collecting messages and writing a result, calculated with the sizes that the downloader uses."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from parcelq.collect.assembly import CACHE_BYTES, LARGEST_WINDOW, SMALLEST_WINDOW
from parcelq.collect.drain import PULLED_TOGETHER, RECEIVERS, SEGMENT_BYTES, SEGMENT_MESSAGES
from parcelq.collect.large import HELD_BYTES, PARTS_IN_FLIGHT, TASK_BYTES, LargeResults
from parcelq.collect.looks import PARTS_SECONDS
from parcelq.limits import MAX_REQUEST_MESSAGES
from parcelq.store.store import part_bytes

from parcelq_cli.estimate import facts


def drained_seconds(size: float) -> float:
    """Return how many seconds an invocation needs to drain a message of `size` bytes. The slowest of the network, the
    CPU and the requests decides.
    """
    requests = (2 / PULLED_TOGETHER + 1 / (8 * MAX_REQUEST_MESSAGES)) * facts.SQS_SECONDS / RECEIVERS
    return max(2 * size / facts.BYTES_PER_SECOND, facts.DRAINED_MESSAGE + facts.DRAINED_BYTE * size, requests)


def segments_of(messages: float, size: float) -> int:
    """Return how many segments an invocation writes for messages of `size` bytes that it drained."""
    full = max(messages * size / SEGMENT_BYTES, messages / SEGMENT_MESSAGES)
    return max(ceil(full), min(RECEIVERS, ceil(messages)))


@dataclass(frozen=True, slots=True)
class Result:
    """The size of a result, and the time that writing its parts takes, in seconds.

    Attributes:
        size: how many bytes the result has, at least 1.
        messages: how many output messages form the result.
        mixed: how many ranges of the source were uploaded at the same time. Each segment has messages from all of these
            ranges.
    """

    size: float
    messages: int
    mixed: float = 1.0

    @property
    def is_large(self) -> bool:
        """Whether several invocations write the parts of the result."""
        return LargeResults.takes(ceil(self.size))

    @property
    def part(self) -> int:
        """How many bytes a part has."""
        return part_bytes(round(self.size))

    @property
    def parts(self) -> int:
        """How many parts the result has."""
        return ceil(self.size / self.part)

    @property
    def gets(self) -> float:
        """How many requests read the bytes of a part. One request fetches adjacent bytes of a segment, up to a window.

        A segment is sorted, so its messages of one range of the source are adjacent.
        """
        size = self.size / self.parts
        together = min(size, max(self.size / self.messages, SEGMENT_BYTES / self.mixed))
        window = min(LARGEST_WINDOW, max(SMALLEST_WINDOW, CACHE_BYTES / ceil(size / together)))
        return 1 + size / min(window, together)

    @property
    def in_task(self) -> int:
        """How many parts a task has."""
        return max(1, TASK_BYTES // self.part)

    @property
    def tasks(self) -> int:
        """The number of tasks that write the parts of the result."""
        return ceil(self.parts / self.in_task)

    @property
    def side_by_side(self) -> int:
        """How many parts one invocation writes in parallel: all parts of a task if the memory suffices."""
        return max(1, min(PARTS_IN_FLIGHT, HELD_BYTES // self.part, self.in_task))

    def task_seconds(self, invocations: float = 1) -> float:
        """How many seconds a task takes if `invocations` work at the same time and share the request rate of an S3
        prefix.
        """
        size, most = self.size / self.parts, self.side_by_side
        waiting = max(facts.S3_SECONDS, invocations * most / facts.S3_GETS) * self.gets + 3 * facts.S3_SECONDS
        together = max(waiting, 2 * most * size / facts.BYTES_PER_SECOND) + most * size / facts.ASSEMBLED
        return ceil(min(self.in_task, self.parts) / most) * together

    @property
    def seeing(self) -> float:
        """How many seconds the last check of a job takes, which finds that all messages are collected."""
        listings = ceil(segments_of(self.messages, self.size / self.messages) / facts.LISTED)
        return self.messages / facts.RESOLVED + listings * facts.S3_SECONDS

    @property
    def planning(self) -> float:
        """How many seconds it takes to plan where every byte of the result is stored."""
        return self.messages * (1 / facts.LOCATED + facts.EXTENT / facts.BYTES_PER_SECOND) + 3 * facts.S3_SECONDS

    @property
    def drawing(self) -> float:
        """How many seconds it takes to write the report and the report's web page."""
        return self.messages / facts.DRAWN + 6 * facts.S3_SECONDS

    @property
    def alone(self) -> float:
        """How many seconds one invocation needs to write a small result."""
        return self.messages / facts.LOCATED + self.tasks * self.task_seconds()

    @property
    def busy(self) -> float:
        """The total seconds of all invocations that write the result and its report."""
        if not self.is_large:
            return self.seeing + self.alone + self.drawing
        return 2 * self.seeing + self.planning + self.tasks * self.task_seconds() + self.drawing

    def seconds(self, invocations: float) -> float:
        """Return in how many seconds `invocations` invocations write the result, after all messages were collected."""
        if not self.is_large:
            return self.busy
        # An invocation takes ten tasks one after another, so the last tasks are late.
        rounds = min(self.tasks, self.tasks / invocations + facts.TASKS_TOGETHER)
        writing = rounds * self.task_seconds(min(invocations, self.tasks))
        return 2 * self.seeing + self.planning + writing + PARTS_SECONDS + self.drawing
