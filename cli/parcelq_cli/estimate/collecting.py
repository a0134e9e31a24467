"""The time of collecting messages and writing a result, calculated with the sizes that the downloader uses."""

from __future__ import annotations

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


class Result:
    """A result of `size` bytes (at least 1) from output messages. Each segment has messages from `mixed` ranges of the
    source, which were uploaded at the same time. Times are in seconds.

    Attributes:
        is_large: whether several invocations write the parts of the result.
        part: how many bytes a part has.
        in_task: how many parts a task has.
        side_by_side: how many parts one invocation writes in parallel: all parts of a task if the memory suffices.
        gets: how many requests read the bytes of a part.
        seeing: how long the last check of the job takes, which finds that all messages are collected.
        planning: how long it takes to plan where every byte of the result is stored.
        drawing: how long it takes to write the report and its web page.
        alone: how long one invocation needs to write a small result.
        busy: the total seconds of all invocations that write the result and its report.
    """

    def __init__(self, size: float, messages: int, mixed: float = 1.0) -> None:
        self.size, self.messages, self.mixed = size, messages, mixed
        self.is_large = LargeResults.takes(ceil(size))
        self.part = part_bytes(round(size))
        self.parts = ceil(size / self.part)
        self.in_task = max(1, TASK_BYTES // self.part)
        self.tasks = ceil(self.parts / self.in_task)
        self.side_by_side = max(1, min(PARTS_IN_FLIGHT, HELD_BYTES // self.part, self.in_task))
        # One request fetches adjacent bytes of a segment, up to a window. A segment is sorted, so its messages of one
        # range of the source are adjacent.
        part = size / self.parts
        together = min(part, max(size / messages, SEGMENT_BYTES / mixed))
        window = min(LARGEST_WINDOW, max(SMALLEST_WINDOW, CACHE_BYTES / ceil(part / together)))
        self.gets = 1 + part / min(window, together)
        listings = ceil(segments_of(messages, size / messages) / facts.LISTED)
        self.seeing = messages / facts.RESOLVED + listings * facts.S3_SECONDS
        extents = messages * facts.EXTENT / facts.BYTES_PER_SECOND
        self.planning = messages / facts.LOCATED + extents + 3 * facts.S3_SECONDS
        self.drawing = messages / facts.DRAWN + 6 * facts.S3_SECONDS
        writing = self.tasks * self.task_seconds()
        self.alone = messages / facts.LOCATED + writing
        if self.is_large:
            self.busy = 2 * self.seeing + self.planning + writing + self.drawing
        else:
            self.busy = self.seeing + self.alone + self.drawing

    def task_seconds(self, invocations: float = 1) -> float:
        """Return how long a task takes if `invocations` share the request rate of an S3 prefix."""
        size, most = self.size / self.parts, self.side_by_side
        waiting = max(facts.S3_SECONDS, invocations * most / facts.S3_GETS) * self.gets + 3 * facts.S3_SECONDS
        together = max(waiting, 2 * most * size / facts.BYTES_PER_SECOND) + most * size / facts.ASSEMBLED
        return ceil(min(self.in_task, self.parts) / most) * together

    def seconds(self, invocations: float) -> float:
        """Return how long `invocations` invocations write the result, after all messages were collected."""
        if not self.is_large:
            return self.busy
        # An invocation takes ten tasks one after another, so the last tasks are late.
        rounds = min(self.tasks, self.tasks / invocations + facts.TASKS_TOGETHER)
        writing = rounds * self.task_seconds(min(invocations, self.tasks))
        return 2 * self.seeing + self.planning + writing + PARTS_SECONDS + self.drawing
