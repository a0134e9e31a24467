"""Calculates how many messages and how much time a file needs on a stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, log2, sqrt
from typing import Final

from parcelq.config import parcel_size_for
from parcelq.jobs.changes import LONGEST_SECONDS, SHARE, SHORTEST_SECONDS
from parcelq.limits import KIB, MAX_LAMBDA_EVENT_BYTES
from parcelq.prices import Prices
from parcelq.process.budget import reserved
from parcelq.process.rules import Rules
from parcelq.upload.parcels import MAX_BODY_BYTES

from parcelq_cli.estimate import facts
from parcelq_cli.estimate.collecting import Result, drained_seconds
from parcelq_cli.estimate.measure import Measured
from parcelq_cli.estimate.stack import Setup, Stack

_LAST_LOOK: Final = 2 * SHORTEST_SECONDS
"""How many seconds pass from the last output message until a look (a check of the job) has drained this message."""
_ENVELOPE_BYTES: Final = KIB
"""How many bytes a message has in a Lambda event, in addition to its body and attributes."""
_BEGUN: Final = facts.EVENT_SECONDS + facts.COLD_SECONDS + 2 * facts.S3_SECONDS
"""How many seconds pass from the put until the uploader begins to publish."""
_RULES: Final = Rules()


@dataclass(frozen=True)
class Estimate:
    """The estimate for a file and a step on a stack with one setup.

    Attributes:
        known: the measured facts about the file and the step.
        setup: the parameters of the stack that an estimate can vary.
        prices: the prices of AWS.
        stack: all other properties of the stack.
        slowdown: how many times slower a vCPU of Lambda is than the machine that measured.
    """

    known: Measured
    setup: Setup
    prices: Prices
    stack: Stack = field(default_factory=Stack)
    slowdown: float = 1.0

    @property
    def megabytes(self) -> dict[str, int]:
        """Maps the name of each function to its memory in MB."""
        memory = self.stack.uploader_mb, self.setup.memory, self.stack.downloader_mb
        return dict(zip(("uploader", "processor", "downloader"), memory, strict=True))

    # ---- Messages.

    @cached_property
    def ranges(self) -> int:
        """The number of byte ranges in which the file is uploaded; 0 if the file is not cut into ranges."""
        if self.known.one_stream or self.known.size <= self.stack.range_bytes:
            return 0
        return ceil(self.known.size / self.stack.range_bytes)

    @cached_property
    def parcel(self) -> int:
        """How many entries an uploaded message has: the larger of the parcel size and the batch size, or fewer if they
        do not fit.
        """
        records = ceil(self.known.records / max(1, self.ranges))
        entries = parcel_size_for(self.setup.batch_size, self.setup.parcel_size)
        most = int(MAX_BODY_BYTES / (self.known.record_bytes * self._encoded(entries)))
        return max(1, min(entries, records, most))

    @cached_property
    def entries(self) -> int:
        """How many entries a run gets: at most a batch and at most a message. Larger messages are split."""
        return min(self.parcel, self.setup.batch_size)

    @cached_property
    def uploaded(self) -> int:
        """How many messages the uploader publishes."""
        return max(1, self.ranges) * ceil(self.known.records / max(1, self.ranges) / self.parcel)

    @property
    def splitting(self) -> int:
        """How many messages are split before the step runs over their parts."""
        return self.uploaded if self.entries < self.parcel else 0

    @cached_property
    def runs(self) -> int:
        """How many runs the step has if no run fails, which is the number of messages that the step reads."""
        return ceil(self.known.records / self.entries) if self.splitting else self.uploaded

    @cached_property
    def together(self) -> int:
        """How many messages an invocation gets while enough messages wait."""
        event = self.input_bytes * self.known.escaped + _ENVELOPE_BYTES
        return max(1, min(self.stack.together, int(MAX_LAMBDA_EVENT_BYTES / event)))

    @cached_property
    def invocations(self) -> int:
        """How many invocations of the processor run the step, without the invocations for failures."""
        return ceil(self.runs / self.together)

    @cached_property
    def outputs(self) -> tuple[int, float]:
        """How many messages the output of a run needs, and how many bytes each message has."""
        size, entries = self.entries * self.known.out_bytes, self.entries * self.known.out_entries
        pieces = max(1, ceil(entries / self.setup.parcel_size - 1e-9), ceil(size / MAX_BODY_BYTES))
        return pieces, size / pieces + self.known.attributes_out

    @cached_property
    def again(self) -> tuple[float, float, float]:
        """The effects of failing entries: additional runs, the entries of these runs, and dead entries.

        A message that fails runs once more unchanged. After that, the message is split into halves, which run once
        each, until the bad entries are alone. The model assumes that entries fail at random.
        """
        good = 1 - self.known.failing
        parts, size = float(self.runs), self.known.records / self.runs
        runs = (_RULES.max_failures - 1) * parts * (1 - good**size)
        over = runs * size
        while size > 1 and self.known.failing:
            bad = parts * (1 - good**size)
            runs, over = runs + 2 * bad, over + bad * size
            parts, size = parts * 2, max(1.0, size / 2)
        return runs, over, self.known.records * self.known.failing

    @property
    def output_bytes(self) -> float:
        """How many bytes the result has."""
        return self.known.records * self.known.out_bytes

    @property
    def input_bytes(self) -> float:
        """How many bytes each message has that the step reads."""
        return self.message_bytes(self.entries)

    def message_bytes(self, entries: float) -> float:
        """Return how many bytes a message with `entries` entries of the file has."""
        return entries * self.known.record_bytes * self._encoded(ceil(entries)) + self.known.attributes_in

    def _encoded(self, entries: int) -> float:
        """Return how many bytes of a body each byte of the file becomes. One record that SQS refuses makes its whole
        parcel base64.
        """
        return 1 + (1 - (1 - self.known.illegal) ** min(entries, self.known.records)) / 3

    # ---- Time, in seconds.

    @cached_property
    def run(self) -> float:
        """How many seconds one run of the step takes."""
        return self._run_seconds(self.entries)

    @property
    def fits(self) -> bool:
        """Whether a run ends before the timeout of an invocation."""
        return self.run <= self.setup.timeout - reserved(self.setup.timeout)

    @cached_property
    def invocation(self) -> float:
        """How many seconds one full invocation of the processor takes."""
        return self.invocation_of(min(self.together, self.runs))

    def invocation_of(self, messages: float) -> float:
        """Return how many seconds an invocation of the processor with `messages` messages takes. Either its CPUs or its
        longest lane (a sequence of runs) decides.
        """
        pieces, size = self.outputs
        rounds = ceil(messages / min(messages, self._lanes))
        running = max(messages * self.known.cpu(self.entries) / self._vcpus, rounds * self.run)
        return running + _moving(messages * (self.input_bytes + pieces * size))

    @cached_property
    def busy(self) -> float:
        """The total seconds of all invocations of the processor, with cold starts and failures."""
        runs, over, _ = self.again
        full = min(self.together, self.runs)
        busy = self.runs / full * self.invocation + self.splitting * _moving(2 * self.known.size / self.uploaded)
        if runs:
            busy += runs * (self._run_seconds(over / runs) + _moving(0))
        start = facts.COLD_SECONDS + self.known.start * min(self.together, self._lanes)
        growing = facts.POLLERS + facts.MORE_PER_SECOND * ramp_seconds(busy, self.invocation, self.setup.concurrency)
        return busy + min(self.setup.concurrency, self.invocations, growing) * start / min(1.0, self._vcpus)

    @cached_property
    def publishing(self) -> float:
        """How many seconds the uploader needs to publish a range, or to publish the file if there are no ranges."""
        size = self.known.size / max(1, self.ranges)
        moving = max(2 * size / facts.BYTES_PER_SECOND, size * facts.UPLOADED_BYTE)
        return facts.S3_SECONDS + 2 * facts.SQS_SECONDS + moving

    @cached_property
    def upload(self) -> float:
        """How many seconds pass from the put of the file until all records of the file are published."""
        ranges = ramp_seconds(self.ranges * self.publishing, self.publishing, self.setup.uploads) + facts.COLD_SECONDS
        return _BEGUN + (ranges if self.ranges else self.publishing)

    @cached_property
    def processed(self) -> float:
        """How many seconds pass from the put until the last message is processed. Processors begin with the first
        message.
        """
        failing = _RULES.delay(1) * (1 + ceil(log2(self.entries))) if self.again[0] else 0
        working = ramp_seconds(self.busy, self.invocation + facts.COLD_SECONDS, self.setup.concurrency)
        return max(_BEGUN + 2 * facts.SQS_SECONDS + working, self.upload + self.invocation) + failing

    @cached_property
    def result(self) -> Result:
        """The size and the parts of the result, from which the time and cost of writing the result follow."""
        mixed = min(self.setup.uploads, self.ranges) or 1
        return Result(max(1.0, self.output_bytes), self.runs * self.outputs[0], mixed)

    @cached_property
    def draining(self) -> float:
        """The total seconds of the downloader's invocations that drain the output topic."""
        return self.result.messages * drained_seconds(self.outputs[1])

    @cached_property
    def assembly(self) -> float:
        """How many seconds pass from the last message until the remaining messages are drained and the result is
        written.
        """
        late = max(0.0, self.draining / self.setup.collects - self.processed)
        return _LAST_LOOK + late + self.result.seconds(self.setup.collects) + self.ranges * facts.S3_SECONDS / 8

    @property
    def latest(self) -> float:
        """How many seconds pass from the put until the result is written."""
        return self.processed + self.assembly

    @cached_property
    def looks(self) -> int:
        """How many looks (scheduled checks) the job needs. The time until the next look is a fraction of the remaining
        time.
        """
        left = self.processed - facts.EVENT_SECONDS - facts.COLD_SECONDS
        count = max(0, int((left - SHARE * LONGEST_SECONDS) / (LONGEST_SECONDS + facts.LOOK_SECONDS)))
        left -= count * (LONGEST_SECONDS + facts.LOOK_SECONDS)
        while left > 0:
            left -= min(LONGEST_SECONDS, max(SHORTEST_SECONDS, left / SHARE)) + facts.LOOK_SECONDS
            count += 1
        return count

    @property
    def _vcpus(self) -> float:
        return self.setup.memory / facts.VCPU_MB / self.slowdown

    @property
    def _lanes(self) -> int:
        """How many runs an invocation executes in parallel. Lambda shows at least two processors."""
        return max(2, ceil(self.setup.memory / facts.VCPU_MB))

    def _run_seconds(self, entries: float) -> float:
        return run_seconds(self.known.wall(entries), self.known.cpu(entries), self._vcpus)


def _moving(size: float) -> float:
    return facts.SQS_SECONDS + size / facts.BYTES_PER_SECOND


def run_seconds(wall: float, cpu: float, vcpus: float) -> float:
    """Return how many seconds a run takes on `vcpus` processors if it took `wall` seconds with enough processors.

    The time for which the run waits stays the same. The `cpu` seconds of work take longer if there is less than one
    processor, or if there are fewer processors than the run used.
    """
    return max(0.0, wall - cpu) + max(min(wall, cpu), cpu / vcpus)


def ramp_seconds(busy: float, each: float, concurrency: int) -> float:
    """Return how long parallel invocations take together while event source mappings scale up. An invocation takes
    `each` seconds, and all invocations take `busy` seconds in total.
    """
    first = min(facts.POLLERS, concurrency)
    growing = (concurrency - first) / facts.MORE_PER_SECOND
    done = growing * (first + concurrency) / 2
    if busy >= done:
        return max(each, growing + (busy - done) / concurrency)
    return max(each, (sqrt(first**2 + 2 * facts.MORE_PER_SECOND * busy) - first) / facts.MORE_PER_SECOND)
