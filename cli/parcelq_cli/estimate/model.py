"""What a file comes to on a stack: messages and seconds. Pure arithmetic."""

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
"""From the last output message until a look has drained it."""
_ENVELOPE_BYTES: Final = KIB
"""What a message's record in a Lambda event has beside body and attributes."""
_BEGUN: Final = facts.EVENT_SECONDS + facts.COLD_SECONDS + 2 * facts.S3_SECONDS
"""From the put until the uploader begins to publish."""
_RULES: Final = Rules()


@dataclass(frozen=True)
class Estimate:
    """A file on a stack that is set up in one way.

    Attributes:
        known: the file and the step.
        setup: the parameters that are compared.
        prices: what AWS asks for.
        stack: the rest of the stack.
        slowdown: how many times as long a vCPU of Lambda takes as a processor of the machine that measured.
    """

    known: Measured
    setup: Setup
    prices: Prices
    stack: Stack = field(default_factory=Stack)
    slowdown: float = 1.0

    @property
    def megabytes(self) -> dict[str, int]:
        """The memory of each function."""
        memory = self.stack.uploader_mb, self.setup.memory, self.stack.downloader_mb
        return dict(zip(("uploader", "processor", "downloader"), memory, strict=True))

    # ---- Messages.

    @cached_property
    def ranges(self) -> int:
        """Byte ranges that the file is uploaded in; 0 if it is uploaded whole."""
        if self.known.one_stream or self.known.size <= self.stack.range_bytes:
            return 0
        return ceil(self.known.size / self.stack.range_bytes)

    @cached_property
    def parcel(self) -> int:
        """Entries of a message that is uploaded: a parcel, or a batch where that is more, if a message holds it."""
        records = ceil(self.known.records / max(1, self.ranges))
        entries = parcel_size_for(self.setup.batch_size, self.setup.parcel_size)
        most = int(MAX_BODY_BYTES / (self.known.record_bytes * self._encoded(entries)))
        return max(1, min(entries, records, most))

    @cached_property
    def entries(self) -> int:
        """Entries of a run: a message's, or a batch where that is less, for which messages are re-parcelled."""
        return min(self.parcel, self.setup.batch_size)

    @cached_property
    def uploaded(self) -> int:
        """Messages that the uploader publishes."""
        return max(1, self.ranges) * ceil(self.known.records / max(1, self.ranges) / self.parcel)

    @property
    def splitting(self) -> int:
        """Messages that are re-parcelled before the step runs over them."""
        return self.uploaded if self.entries < self.parcel else 0

    @cached_property
    def runs(self) -> int:
        """Messages that the step runs over without failing ones, and so runs."""
        return ceil(self.known.records / self.entries) if self.splitting else self.uploaded

    @cached_property
    def together(self) -> int:
        """Messages of an invocation, while enough of them wait."""
        event = self.input_bytes * self.known.escaped + _ENVELOPE_BYTES
        return max(1, min(self.stack.together, int(MAX_LAMBDA_EVENT_BYTES / event)))

    @cached_property
    def invocations(self) -> int:
        """Invocations of the processor that run the step, without those for failures."""
        return ceil(self.runs / self.together)

    @cached_property
    def outputs(self) -> tuple[int, float]:
        """How many messages the output of a run makes, and the bytes of each."""
        size, entries = self.entries * self.known.out_bytes, self.entries * self.known.out_entries
        pieces = max(1, ceil(entries / self.setup.parcel_size - 1e-9), ceil(size / MAX_BODY_BYTES))
        return pieces, size / pieces + self.known.attributes_out

    @cached_property
    def again(self) -> tuple[float, float, float]:
        """The effects of failing entries: more runs, the entries of these runs, and entries that die.

        A message that fails runs once more as it is. Then it is split into halves, which run once, until bad entries
        are alone. Entries fail by chance.
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
        """Bytes of the result."""
        return self.known.records * self.known.out_bytes

    @property
    def input_bytes(self) -> float:
        """Bytes of a message that the step runs over."""
        return self.message_bytes(self.entries)

    def message_bytes(self, entries: float) -> float:
        """Bytes of a message with `entries` entries of the file."""
        return entries * self.known.record_bytes * self._encoded(ceil(entries)) + self.known.attributes_in

    def _encoded(self, entries: int) -> float:
        """One record that SQS refuses is enough for its whole parcel to travel as base64."""
        return 1 + (1 - (1 - self.known.illegal) ** min(entries, self.known.records)) / 3

    # ---- Time, in seconds.

    @cached_property
    def run(self) -> float:
        """One run of the step."""
        return self._run_seconds(self.entries)

    @property
    def fits(self) -> bool:
        """Whether a run fits into an invocation."""
        return self.run <= self.setup.timeout - reserved(self.setup.timeout)

    @cached_property
    def invocation(self) -> float:
        """One full invocation of the processor."""
        return self.invocation_of(min(self.together, self.runs))

    def invocation_of(self, messages: float) -> float:
        """An invocation of the processor that gets `messages` messages. Its CPUs bound it, or the longest lane."""
        pieces, size = self.outputs
        rounds = ceil(messages / min(messages, self._lanes))
        running = max(messages * self.known.cpu(self.entries) / self._vcpus, rounds * self.run)
        return running + _moving(messages * (self.input_bytes + pieces * size))

    @cached_property
    def busy(self) -> float:
        """All invocations of the processor together, cold starts and failures among them."""
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
        """In which the uploader publishes a range, or the file if it has none."""
        size = self.known.size / max(1, self.ranges)
        moving = max(2 * size / facts.BYTES_PER_SECOND, size * facts.UPLOADED_BYTE)
        return facts.S3_SECONDS + 2 * facts.SQS_SECONDS + moving

    @cached_property
    def upload(self) -> float:
        """From the put until all of the file is published."""
        ranges = ramp_seconds(self.ranges * self.publishing, self.publishing, self.setup.uploads) + facts.COLD_SECONDS
        return _BEGUN + (ranges if self.ranges else self.publishing)

    @cached_property
    def processed(self) -> float:
        """From the put until the last message is processed. Processors begin as soon as there are messages."""
        failing = _RULES.delay(1) * (1 + ceil(log2(self.entries))) if self.again[0] else 0
        working = ramp_seconds(self.busy, self.invocation + facts.COLD_SECONDS, self.setup.concurrency)
        return max(_BEGUN + 2 * facts.SQS_SECONDS + working, self.upload + self.invocation) + failing

    @cached_property
    def result(self) -> Result:
        """The result as it is written."""
        mixed = min(self.setup.uploads, self.ranges) or 1
        return Result(max(1.0, self.output_bytes), self.runs * self.outputs[0], mixed)

    @cached_property
    def draining(self) -> float:
        """Invocations of the downloader that drain the output topic, together."""
        return self.result.messages * drained_seconds(self.outputs[1])

    @cached_property
    def assembly(self) -> float:
        """From the last message until the result is there: what is left is drained, and the result is written."""
        late = max(0.0, self.draining / self.setup.collects - self.processed)
        return _LAST_LOOK + late + self.result.seconds(self.setup.collects) + self.ranges * facts.S3_SECONDS / 8

    @property
    def latest(self) -> float:
        """From the put until the result is there."""
        return self.processed + self.assembly

    @cached_property
    def looks(self) -> int:
        """Looks at the job. Each comes after a part of the time left."""
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
        """Runs that go on side by side in an invocation: Lambda shows at least two processors."""
        return max(2, ceil(self.setup.memory / facts.VCPU_MB))

    def _run_seconds(self, entries: float) -> float:
        return run_seconds(self.known.wall(entries), self.known.cpu(entries), self._vcpus)


def _moving(size: float) -> float:
    return facts.SQS_SECONDS + size / facts.BYTES_PER_SECOND


def run_seconds(wall: float, cpu: float, vcpus: float) -> float:
    """How long a run takes that took `wall` seconds with all the processors it wanted.

    The time that it waited does not change. The `cpu` seconds of work take longer if there is less than one processor,
    or fewer than it used.
    """
    return max(0.0, wall - cpu) + max(min(wall, cpu), cpu / vcpus)


def ramp_seconds(busy: float, each: float, concurrency: int) -> float:
    """How long invocations of `each` seconds, `busy` together, take side by side as event source mappings grow."""
    first = min(facts.POLLERS, concurrency)
    growing = (concurrency - first) / facts.MORE_PER_SECOND
    done = growing * (first + concurrency) / 2
    if busy >= done:
        return max(each, growing + (busy - done) / concurrency)
    return max(each, (sqrt(first**2 + 2 * facts.MORE_PER_SECOND * busy) - first) / facts.MORE_PER_SECOND)
