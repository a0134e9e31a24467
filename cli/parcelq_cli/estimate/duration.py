"""How long invocations take on Lambda, and all of them together: pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, sqrt
from typing import Final

from parcelq_cli.estimate.work import Work

VCPU_MB: Final = 1769
"""Memory that comes with one vCPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
LONGEST_SECONDS: Final = 900
"""Of one invocation: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
COLLECT_SECONDS: Final = 300
"""The template's default of CollectSchedule."""
QUIET_SECONDS: Final = 20
"""How long the downloader waits for more."""
WRITING_SECONDS: Final = 0.9 * LONGEST_SECONDS - QUIET_SECONDS
"""What an invocation of the downloader has for a result, before it leaves the rest to another."""
BYTES_PER_SECOND: Final = 78_000_000
"""Of a function's network, about: 625 Mbit/s. Assumed, not measured."""
REQUEST_SECONDS: Final = 0.02
"""One request to AWS from within it. Assumed, not measured."""
COLD_SECONDS: Final = 1.0
"""The start of a new instance, at one vCPU. Assumed, not measured."""
_BACK_OFF_SECONDS: Final = 5
_FIRST_INVOCATIONS: Final = 5
_MORE_PER_SECOND: Final = 5.0
"""An event source mapping begins with 5 invocations at a time and adds up to 300 a minute:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""


@dataclass(frozen=True, slots=True)
class Duration:
    """How long it takes, all in seconds.

    Attributes:
        run: one run of the step.
        invocation: one invocation of the processor.
        upload: one invocation of the uploader that publishes lines.
        processed: from the put until the last message is processed.
        assembly: putting the result together, if one invocation did all of it.
        busy: invocations of the processor, one after another, cold starts and failures among them.
    """

    run: float
    invocation: float
    upload: float
    processed: float
    assembly: float
    busy: float

    @property
    def latest(self) -> float:
        """From the put until the result is there, where the downloader's schedule has always just missed it."""
        return self.processed + self.turns * COLLECT_SECONDS + QUIET_SECONDS + self.assembly

    @property
    def turns(self) -> int:
        """Invocations of the downloader that put the result together, one after another."""
        return max(1, ceil(self.assembly / WRITING_SECONDS))

    @property
    def writers(self) -> int:
        """How many do so at a time, each all of it: the schedule goes on while the first is not through."""
        return max(1, ceil(min(self.assembly, LONGEST_SECONDS) / COLLECT_SECONDS))

    @property
    def collections(self) -> int:
        """Invocations of the downloader until then."""
        return ceil((self.processed + self.assembly) / COLLECT_SECONDS) + 1


def run_seconds(wall: float, cpu: float, vcpus: float) -> float:
    """How long a run takes that took `wall` seconds with all the processors it wanted.

    What it waited for takes as long as ever. What it calculated for `cpu` seconds takes longer where there is less than
    a processor, or fewer than it used.
    """
    return max(0.0, wall - cpu) + max(min(wall, cpu), cpu / vcpus)


def ramp_seconds(busy: float, each: float, concurrency: int) -> float:
    """How long so many seconds of invocations take side by side, as SQS event source mappings grow.

    Args:
        busy: seconds of all invocations.
        each: seconds of one of them.
        concurrency: most at a time.
    """
    first = min(_FIRST_INVOCATIONS, concurrency)
    growing = (concurrency - first) / _MORE_PER_SECOND
    done = growing * (first + concurrency) / 2
    if busy >= done:
        seconds = growing + (busy - done) / concurrency
    else:
        seconds = (sqrt(first**2 + 2 * _MORE_PER_SECOND * busy) - first) / _MORE_PER_SECOND
    return max(seconds, each)


def duration(work: Work, slowdown: float = 1.0) -> Duration:
    """Work out how long a file takes.

    Args:
        work: what it comes to.
        slowdown: how many times as long a vCPU of Lambda calculates as a processor of the machine that measured.
    """
    known, setup = work.known, work.setup
    vcpus = setup.memory / VCPU_MB / slowdown
    lanes = max(2, ceil(setup.memory / VCPU_MB))

    def of_runs(entries: float, count: float) -> float:
        """Runs side by side, as many as there are processors: bounded by the processors, and by the longest lane."""
        wall, cpu = known.wall(entries), known.cpu(entries)
        return max(count * cpu / vcpus, ceil(count / min(count, lanes)) * run_seconds(wall, cpu, vcpus))

    def moving(size: float) -> float:
        return REQUEST_SECONDS + size / BYTES_PER_SECOND

    moved = work.together * (work.run.size + work.pieces * work.piece_bytes)
    invocation = of_runs(work.run.entries, work.together) + moving(moved)
    busy = work.invocations * invocation
    if work.splits:
        busy += moving(2 * known.size / work.came.count * work.together) * ceil(work.came.count / work.together)
    if work.again.runs:
        mean = work.again.entries / work.again.runs
        busy += work.run.count * work.again.runs * (of_runs(mean, 1) + moving(0))
    beginning = COLD_SECONDS + known.start * min(work.together, lanes)
    busy += min(setup.concurrency, work.invocations) * beginning / min(1.0, vcpus)
    upload = moving(2 * known.size / max(1, work.ranges)) + COLD_SECONDS
    uploads = ramp_seconds(work.ranges * upload, upload, setup.concurrency) if work.ranges else upload
    rounds = 2 * _BACK_OFF_SECONDS * (1 + ceil(log2(work.run.entries))) if work.again.runs else 0
    processing = ramp_seconds(busy, invocation, setup.concurrency)
    return Duration(
        run=run_seconds(known.wall(work.run.entries), known.cpu(work.run.entries), vcpus),
        invocation=invocation,
        upload=upload,
        processed=upload + max(uploads, processing) + rounds,
        assembly=2 * work.output_bytes / BYTES_PER_SECOND,
        busy=busy,
    )
