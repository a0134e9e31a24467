"""Simulates the downloader: it drains topics, checks jobs (looks), and writes results, as `jobs.changes` decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from parcelq.collect.drain import RECEIVERS, SEGMENT_BYTES, SEGMENT_MESSAGES
from parcelq.collect.draining import DRAIN_PAUSE, DRAIN_SHARE, LOOK_DRAIN_SECONDS, VAIN_DRAIN_PAUSE, VAIN_DRAINS
from parcelq.collect.looks import PARTS_SECONDS
from parcelq.jobs.changes import Found, Next, after, ended, wants_counts
from parcelq.jobs.look import Look, LookVerdict, more_drainers, verdict
from parcelq.jobs.record import JobRecord, State, new_record
from parcelq_cli.estimate.bill import billed
from parcelq_cli.estimate.collecting import Result, drained_seconds, segments_of
from parcelq_cli.estimate.facts import EXTENT, LISTED, S3_SECONDS, SQS_SECONDS
from parcelq_cli.estimate.model import Estimate

from benchmarks.simulation.case import Case, Outcome, Topics
from benchmarks.simulation.merging import Indexes
from benchmarks.simulation.world import Batch, World, size

_TICK: Final = 2.5
"""After how many seconds an invocation that drains updates its counts."""
_SOURCE: Final = "s3://bucket/inbox/lines.txt?etag=0&put=0"


@dataclass(slots=True)
class Collector:
    """Simulates the invocations that collect the messages of a job.

    Attributes:
        out: the outcome of the job so far.
        is_uploaded: a function that returns whether the whole source is published, which the uploader's notes say.
        mixed: a function that returns how many ranges were uploaded at the same time.
        collected: how many messages are in segments.
        parts_left: how many parts of a large result are not written yet; None before the parts are planned.
        writers: how many invocations write parts.
    """

    world: World
    job: Estimate
    case: Case
    topics: Topics
    out: Outcome
    is_uploaded: Callable[[], bool]
    mixed: Callable[[], float]
    indexes: Indexes = field(init=False)
    record: JobRecord = field(default_factory=lambda: new_record(_SOURCE, "", 0.0)._replace(due=1.0))
    collected: int = 0
    parts_left: int | None = None
    writers: int = 0

    def __post_init__(self) -> None:
        self.indexes = Indexes(self.out.s3)

    def take(self, batch: Batch, _: int, end: Callable[[float], None]) -> None:
        """Simulate an invocation: drain, check the job if `batch` has the message for its look, and write parts."""
        began = self.world.now
        tasks = [task for task, _ in batch if isinstance(task, range)]
        looks = [look for look, _ in batch if isinstance(look, Look)]
        numbers = [look.number for look in looks if not look.job]
        of_job = sorted((look for look in looks if look.job), key=lambda look: -look.number)
        until = began + min(LOOK_DRAIN_SECONDS, self.case.collecting * DRAIN_SHARE)
        self.out.sqs += 2 + len(looks) / 10

        def taken() -> None:
            self._write_parts(tasks, began, lambda: end(self.world.now - began))

        def drained(messages: int, *, exhausted: bool) -> None:
            self._go_on_draining(messages, numbers, exhausted=exhausted)
            if of_job:
                self._take_look(of_job[0], began, taken)
            else:
                taken()

        if looks:
            waiting = self.topics.looks.visible + self.topics.looks.delayed
            self._ask_for_drainers(more_drainers(self.topics.output.visible, waiting))
            self._drain(until, 0, 0, drained)
        else:
            taken()

    def _drain(self, until: float, drained: int, held: int, end: Callable[..., None]) -> None:
        """Drain until the topic is empty or time is up. So far, `drained` messages were drained, and `held` of them are
        in no segment yet. The function `end` is called with the number of messages, and whether the topic is empty.
        """
        bytes_of_one = self.job.outputs[1]
        each, output = drained_seconds(bytes_of_one), self.topics.output
        batch = output.take(max(1, int(_TICK / each))) if self.world.now < until else []
        count = size(batch)
        if count:
            self.out.sqs += billed(count, bytes_of_one) + ceil(count / 10)
            full = RECEIVERS * int(min(SEGMENT_MESSAGES, SEGMENT_BYTES / bytes_of_one))

            def came() -> None:
                stored = held + count if held + count > full else 0
                output.acknowledge(stored)
                self._drain(until, drained + count, held + count - stored, end)

            self.world.after(count * each, came)
            return

        def stored() -> None:
            output.acknowledge(held)
            if drained:
                self.indexes.add(drained, segments_of(drained, bytes_of_one))
                self.collected += drained
                self.out.collected = self.world.now
            end(drained, exhausted=self.world.now < until)

        self.out.sqs += 2 * RECEIVERS
        self.world.after(SQS_SECONDS + S3_SECONDS * bool(drained), stored)

    def _go_on_draining(self, messages: int, numbers: list[int], *, exhausted: bool) -> None:
        if not exhausted:
            self._ask_for_drainers(1)
        elif numbers and (messages or not self.topics.are_empty):
            self.topics.looks.publish(1, Look(), DRAIN_PAUSE)
        elif numbers and min(numbers) < VAIN_DRAINS:
            self.topics.looks.publish(1, Look(number=min(numbers) + 1), VAIN_DRAIN_PAUSE)

    def _ask_for_drainers(self, number: int) -> None:
        for _ in range(number):
            self.topics.looks.publish(1, Look())
        self.out.sqs += number

    def _take_look(self, look: Look, began: float, end: Callable[[], None]) -> None:
        if verdict(self.record, look.number, self.world.now) is not LookVerdict.TAKE:
            end()
            return
        now, record = self.world.now, self.record
        complete = self.collected >= self.out.messages
        self.out.looks += 1
        seconds = 3 * S3_SECONDS + (self.indexes.look(complete=complete) if self.indexes.segments else S3_SECONDS)
        self.out.s3.puts += 2
        self.out.s3.gets += 2
        found = self._found(record, now, complete=complete)
        if complete and self.is_uploaded() and self.job.ranges:  # this reads the notes of all ranges
            seconds += self.job.ranges * S3_SECONDS / 8
            self.out.s3.gets += self.job.ranges
        new, following = after(found)
        if following is Next.HEAL:
            self._note("messages that were only late were published again")
        if following is Next.FINISH:
            writing, is_done = self._finish()
            seconds += writing
            if is_done:
                new = ended(new, State.FINISHED, now + seconds, result="results/lines.txt")
            else:
                new = new._replace(due=now + seconds + PARTS_SECONDS)
        if now - began + seconds > self.case.collecting:
            self._note(f"a look takes {now - began + seconds:,.0f} s ({following.name.lower()})")

        def looked() -> None:
            self.record = new
            self.world.is_ended = new.state.is_ended
            if not new.state.is_ended:
                self.out.sqs += 1
                self.topics.looks.publish(1, Look(new.id, new.look), max(0.0, ceil(new.due - self.world.now)))
            end()

        self.world.after(seconds, looked)

    def _found(self, record: JobRecord, now: float, *, complete: bool) -> Found:
        total = self.job.known.size
        covered = total if complete else total * self.collected // self.out.messages
        segments = self.indexes.segments
        found = record._replace(
            segments=segments,
            total=total if segments else None,
            covered=covered,
            missing=total - covered,
            hole_count=int(not complete),
            uploaded=record.uploaded or self.is_uploaded(),
        )
        empty = self.topics.are_empty if wants_counts(record, segments, now) else None
        return Found(record, found, now, complete, empty)

    # ---- Writing the result.

    @property
    def result(self) -> Result:
        """Return the result that must be written."""
        return Result(max(1.0, self.job.output_bytes), self.out.messages, max(1.0, self.mixed()))

    def _finish(self) -> tuple[float, bool]:
        """Simulate the end of a look that has found all messages. Return how many seconds it takes, and whether the
        result and the report are written.
        """
        result = self.result
        self.out.s3.puts += 5
        if not result.is_large:
            self.out.s3.gets += result.parts * result.gets
            self.out.s3.puts += result.parts
            return result.alone + result.drawing, True
        if self.parts_left is None:
            self.parts_left = result.parts
            each = result.in_task
            seconds = result.planning

            def ask() -> None:
                for first in range(0, result.parts, each):
                    self.topics.looks.publish(1, range(first, min(first + each, result.parts)))
                self.out.sqs += result.tasks / 10

            self.world.after(seconds, ask)
            self.out.s3.puts += 2 + result.messages * EXTENT / 16e6
            return seconds, False
        listings = ceil(result.parts / LISTED)
        self.out.s3.puts += listings
        self.out.s3.gets += 2
        if self.parts_left:
            return (2 + listings) * S3_SECONDS, False
        return (3 + listings) * S3_SECONDS + result.drawing, True

    def _write_parts(self, tasks: list[range], began: float, end: Callable[[], None]) -> None:
        """Write the parts of tasks, one task after another. When time is up, the remaining parts are published again as
        a task.
        """
        result = self.result
        if not tasks:
            end()
            return
        if self.world.now - began > 0.7 * self.case.collecting:
            for task in tasks:
                self.topics.looks.publish(1, task)
            end()
            return
        self.writers += 1
        seconds = result.task_seconds(self.writers)
        if self.world.now - began + seconds > self.case.collecting:
            self._note(f"writing parts of {result.part / 1e6:,.0f} MB takes {seconds:,.0f} s")

        def written() -> None:
            self.writers -= 1
            self.parts_left = (self.parts_left or 0) - len(tasks[0])
            self.out.s3.gets += len(tasks[0]) * (1 + result.gets) + 1
            self.out.s3.puts += len(tasks[0]) + 1
            self._write_parts(tasks[1:], began, end)

        self.world.after(seconds, written)

    def _note(self, text: str) -> None:
        """Add a sentence to the outcome, once, about work for which one invocation has not enough time."""
        if text not in self.out.too_long:
            self.out.too_long.append(text)
