"""Simulates a job from the upload of the file to the result, including the uploader and the processor."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from parcelq.collect.draining import LOCKED_SECONDS
from parcelq.jobs.look import Look
from parcelq.jobs.record import State
from parcelq_cli.estimate.bill import billed
from parcelq_cli.estimate.facts import COLD_SECONDS, EVENT_SECONDS, S3_SECONDS, SQS_SECONDS
from parcelq_cli.estimate.model import Estimate

from benchmarks.simulation.case import Case, Outcome, Topics
from benchmarks.simulation.collecting import Collector
from benchmarks.simulation.merging import BASE, DRAINING_BYTES, memory_of
from benchmarks.simulation.world import Account, Batch, Function, Topic, World, size

_STEPS: Final = 10
"""In how many portions an uploader publishes its range."""
_MOST_EVENTS: Final = 20_000
"""If more invocations than this run at the same time, several invocations are simulated as one."""
_LOOKS_TOGETHER: Final = 10
_UPLOADER_BYTES: Final = BASE + 32 * 1024 * 1024


def simulate(job: Estimate, case: Case) -> Outcome:
    """Simulate a job on AWS, and return its outcome."""
    return _Flow(job, case).run()


class _Flow:
    def __init__(self, job: Estimate, case: Case) -> None:
        self.job, self.case = job, case
        self.world = World(case.seed)
        self.out = Outcome(messages=job.runs * job.outputs[0])
        self.account = Account(case.account)
        deadlines = 5700, case.deadline, 300, 1800  # from the template
        self.topics = Topics(*(Topic(self.world, seconds) for seconds in deadlines))
        self.cut = self.ranges_noted = self.ranges_taken = self.processed = 0
        self.mixed = 0.0
        self.collector = Collector(
            self.world, job, case, self.topics, self.out, self._is_uploaded, lambda: max(1.0, self.mixed)
        )
        most = job.setup.concurrency
        at_once = max(1, min(most // 20, job.invocations // _MOST_EVENTS))
        self.functions = {
            "uploader": self._function(self.topics.ranges, self._upload_ranges, job.setup.uploads, 1, 1, 900.0),
            "processor": self._function(
                self.topics.step, self._process, most, job.together, at_once, job.setup.timeout
            ),
            "downloader": self._function(
                self.topics.looks,
                self.collector.take,
                job.setup.collects,
                _LOOKS_TOGETHER,
                1,
                LOCKED_SECONDS,
            ),
        }

    def run(self) -> Outcome:
        out, world, collector = self.out, self.world, self.collector
        world.after(EVENT_SECONDS, self._put)
        world.after(0.0, self._sample)
        world.run()
        record = collector.record
        if record.state is not State.FINISHED:
            out.too_long.append(f"the job was {record.state}: {record.problem}")
        out.sqs += out.fair
        out.result, out.healings = world.now, record.healings
        out.collected_messages = collector.collected
        out.used = {name: one.used for name, one in self.functions.items()}
        topics = self.topics
        out.locked = max(one.most_locked for one in (topics.ranges, topics.step, topics.output, topics.looks))
        out.most, out.throttled = self.account.most, self.account.throttled
        out.used["downloader"].memory = max(DRAINING_BYTES, collector.indexes.memory, memory_of(collector.result))
        size = self.job.input_bytes + self.job.outputs[0] * self.job.outputs[1]
        out.used["processor"].memory = BASE + 2 * self.job.together * size
        out.used["uploader"].memory = _UPLOADER_BYTES
        return out

    def _function(
        self, topic: Topic, work: Callable[..., None], most: int, together: int, at_once: int, back: float
    ) -> Function:
        return Function(self.account, topic, work, most, together, at_once, self.case.lost, back)

    def _sample(self) -> None:
        """Record the progress for the plot, at growing intervals."""
        total = self.out.messages
        done = self.cut / self.job.uploaded, self.processed / total, self.collector.collected / total
        cut, processed, collected = (round(share, 4) for share in done)
        self.out.series.append((round(self.world.now, 2), cut, processed, collected))
        self.world.after(max(0.2, self.world.now / 40), self._sample)

    # ---- The uploader.

    def _put(self) -> None:
        """Simulate the event of S3. Lambda retries the event while the account has no free invocation."""
        if not self.account.begin(1):
            self.world.after(60.0, self._put)
            return
        used = self.functions["uploader"].used

        def end() -> None:
            self.account.running -= 1
            used.add(1, self.world.now - began)

        began = self.world.now
        self.world.after(COLD_SECONDS + 2 * S3_SECONDS, lambda: self._begin_upload(end))

    def _begin_upload(self, end: Callable[[], None]) -> None:
        job = self.job

        def uploaded() -> None:
            self._noted(1)
            end()

        self.out.s3.puts += 2
        self.out.s3.gets += 2
        self.topics.looks.publish(1, Look(self.collector.record.id, 1), 1.0)
        self.out.sqs += 1
        if job.ranges:
            self.topics.ranges.publish(job.ranges)
            self.out.sqs += billed(job.ranges, 300)
            self.world.after(SQS_SECONDS * (1 + job.ranges / 80), end)
        else:
            self._publish(job.uploaded, job.publishing, uploaded)

    def _publish(self, messages: int, seconds: float, end: Callable[[], object]) -> None:
        """Publish messages of the source evenly over some time."""
        self.out.fair += billed(messages, self.job.input_bytes)
        steps = min(_STEPS, max(1, messages))
        for number in range(steps):
            count = messages * (number + 1) // steps - messages * number // steps
            self.world.after(seconds * (number + 1) / steps, lambda count=count: self._cut(count))  # type: ignore[misc]
        self.world.after(seconds, end)

    def _cut(self, messages: int) -> None:
        self.cut += messages
        self.topics.step.publish(messages)

    def _upload_ranges(self, batch: Batch, _: int, end: Callable[[float], None]) -> None:
        job, count = self.job, size(batch)
        first = self.ranges_taken
        self.ranges_taken += count
        messages = job.uploaded * (first + count) // job.ranges - job.uploaded * first // job.ranges
        seconds = job.publishing
        self.out.sqs += 2 * count
        self.out.s3.gets += count
        # The average number of ranges that are uploaded at the same time.
        self.mixed += count * (self.ranges_taken - self.ranges_noted) / job.ranges

        def done() -> None:
            self._noted(count)
            end(seconds)

        self._publish(messages, seconds, done)

    def _noted(self, ranges: int) -> None:
        self.out.s3.puts += ranges
        self.ranges_noted += ranges
        if self._is_uploaded():
            self.out.uploaded = self.world.now

    def _is_uploaded(self) -> bool:
        return self.ranges_noted >= max(1, self.job.ranges)

    # ---- The processor.

    def _process(self, batch: Batch, number: int, end: Callable[[float], None]) -> None:
        job, messages = self.job, size(batch)
        each = messages / number
        seconds = job.invocation_of(each) + SQS_SECONDS

        def done() -> None:
            pieces, bytes_of_one = job.outputs
            self.out.sqs += number * (billed(each, job.input_bytes, job.together) + ceil(each / 10))
            self.out.fair += number * billed(each * pieces, bytes_of_one)
            self.processed += messages * pieces
            self.topics.output.publish(messages * pieces)
            if self.processed >= self.out.messages:
                self.out.processed = self.world.now
            end(seconds)

        self.world.after(seconds, done)
