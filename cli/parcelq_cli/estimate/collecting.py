"""What it takes to collect messages and write a result, by the sizes that the downloader works with."""

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
    """Seconds in which an invocation drains a message of `size` bytes: its network, CPU or requests bound it."""
    requests = (2 / PULLED_TOGETHER + 1 / (8 * MAX_REQUEST_MESSAGES)) * facts.SQS_SECONDS / RECEIVERS
    return max(2 * size / facts.BYTES_PER_SECOND, facts.DRAINED_MESSAGE + facts.DRAINED_BYTE * size, requests)


def segments_of(messages: float, size: float) -> int:
    """Segments that an invocation writes for messages of `size` bytes each that it drained."""
    full = max(messages * size / SEGMENT_BYTES, messages / SEGMENT_MESSAGES)
    return max(ceil(full), min(RECEIVERS, ceil(messages)))


@dataclass(frozen=True, slots=True)
class Result:
    """A result that is to be written in parts. What has no unit is in seconds.

    Attributes:
        size: its bytes, at least 1.
        messages: messages that it is made of.
        mixed: how many ranges of the source were uploaded side by side, so that each segment has messages of as many.
    """

    size: float
    messages: int
    mixed: float = 1.0

    @property
    def is_large(self) -> bool:
        """Whether its parts are written by several invocations."""
        return LargeResults.takes(ceil(self.size))

    @property
    def part(self) -> int:
        """Bytes of a part."""
        return part_bytes(round(self.size))

    @property
    def parts(self) -> int:
        """How many there are."""
        return ceil(self.size / self.part)

    @property
    def gets(self) -> float:
        """Requests that read a part. What lies together in a segment is fetched at once, up to a window.

        A segment is sorted, so its messages of one range of the source lie together.
        """
        size = self.size / self.parts
        together = min(size, max(self.size / self.messages, SEGMENT_BYTES / self.mixed))
        window = min(LARGEST_WINDOW, max(SMALLEST_WINDOW, CACHE_BYTES / ceil(size / together)))
        return 1 + size / min(window, together)

    @property
    def in_task(self) -> int:
        """Parts of a task."""
        return max(1, TASK_BYTES // self.part)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return ceil(self.parts / self.in_task)

    @property
    def side_by_side(self) -> int:
        """Parts that one invocation writes side by side: those of a task, if there is memory for them."""
        return max(1, min(PARTS_IN_FLIGHT, HELD_BYTES // self.part, self.in_task))

    def task_seconds(self, invocations: float = 1) -> float:
        """One task, written by one of `invocations` at a time, which together get what one prefix of S3 takes."""
        size, most = self.size / self.parts, self.side_by_side
        waiting = max(facts.S3_SECONDS, invocations * most / facts.S3_GETS) * self.gets + 3 * facts.S3_SECONDS
        together = max(waiting, 2 * most * size / facts.BYTES_PER_SECOND) + most * size / facts.ASSEMBLED
        return ceil(min(self.in_task, self.parts) / most) * together

    @property
    def seeing(self) -> float:
        """A look that sees that all messages are there."""
        listings = ceil(segments_of(self.messages, self.size / self.messages) / facts.LISTED)
        return self.messages / facts.RESOLVED + listings * facts.S3_SECONDS

    @property
    def planning(self) -> float:
        """Writing where every byte lies."""
        return self.messages * (1 / facts.LOCATED + facts.EXTENT / facts.BYTES_PER_SECOND) + 3 * facts.S3_SECONDS

    @property
    def drawing(self) -> float:
        """Writing the report and its page."""
        return self.messages / facts.DRAWN + 6 * facts.S3_SECONDS

    @property
    def alone(self) -> float:
        """Writing all of a small result by one invocation."""
        return self.messages / facts.LOCATED + self.tasks * self.task_seconds()

    @property
    def busy(self) -> float:
        """All invocations that write it and its report, together."""
        if not self.is_large:
            return self.seeing + self.alone + self.drawing
        return 2 * self.seeing + self.planning + self.tasks * self.task_seconds() + self.drawing

    def seconds(self, invocations: float) -> float:
        """From the moment at which all messages are collected, with so many invocations at most."""
        if not self.is_large:
            return self.busy
        # An invocation takes ten tasks one after another, so the last of them are late.
        rounds = min(self.tasks, self.tasks / invocations + facts.TASKS_TOGETHER)
        writing = rounds * self.task_seconds(min(invocations, self.tasks))
        return 2 * self.seeing + self.planning + writing + PARTS_SECONDS + self.drawing
