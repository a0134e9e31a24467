"""Calculates how many messages and how much time a file needs on a stack."""

from __future__ import annotations

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
from parcelq_cli.estimate.stack import Setup, StackFacts

_LAST_LOOK: Final = 2 * SHORTEST_SECONDS
"""How many seconds pass from the last output message until a look (a check of the job) has drained this message."""
_ENVELOPE_BYTES: Final = KIB
"""How many bytes a message has in a Lambda event, in addition to its body and attributes."""
_BEGUN: Final = facts.EVENT_SECONDS + facts.COLD_SECONDS + 2 * facts.S3_SECONDS
"""How many seconds pass from the put until the uploader begins to publish."""
_RULES: Final = Rules()
_STACK: Final = StackFacts()


class Estimate:
    """The estimate for a file and a step on a stack with one setup. Times are in seconds, and sizes in bytes.

    Attributes:
        slowdown: how many times slower a vCPU of Lambda is than the machine that measured.
        megabytes: maps the name of each function to its memory in MB.
        ranges: the number of byte ranges in which the file is uploaded; 0 if the file is not cut into ranges.
        parcel: how many entries an uploaded message has: the larger of the parcel size and the batch size, or fewer if
            they do not fit.
        entries: how many entries a run gets: at most a batch and at most a message. Larger messages are split.
        uploaded: how many messages the uploader publishes.
        splitting: how many messages are split before the step runs over their parts.
        runs: how many runs the step has if no run fails, which is the number of messages that the step reads.
        input_bytes: the size of a message that the step reads.
        together: how many messages an invocation of the processor gets while enough messages wait.
        invocations: how many invocations of the processor run the step, without the invocations for failures.
        outputs: how many messages the output of a run needs, and the size of each message.
        output_bytes: the size of the result.
        run: how long one run of the step takes.
        fits: whether a run ends before the timeout of an invocation.
        invocation: how long one full invocation of the processor takes.
        again: the additional runs because of failing entries, the entries of these runs, and the dead entries.
        busy: the total seconds of all invocations of the processor, with cold starts and failures.
        publishing: how long the uploader publishes a range, or the file if there are no ranges.
        upload: the time from the put of the file until all its records are published.
        processed: the time from the put until the last message is processed.
        result: the parts of the result, and the time of writing the result.
        draining: the total seconds of the downloader's invocations that drain the output topic.
        assembly: the time from the last message until the remaining messages are drained and the result is written.
        latest: the time from the put until the result is written.
        looks: how many looks (scheduled checks) the job needs.
    """

    def __init__(
        self, known: Measured, setup: Setup, prices: Prices, stack: StackFacts = _STACK, slowdown: float = 1.0
    ) -> None:
        self.known, self.setup, self.prices, self.stack, self.slowdown = known, setup, prices, stack, slowdown
        megabytes = stack.uploader_mb, setup.memory, stack.downloader_mb
        self.megabytes = dict(zip(("uploader", "processor", "downloader"), megabytes, strict=True))
        self._vcpus = setup.memory / facts.VCPU_MB / slowdown
        # How many runs an invocation executes in parallel. Lambda shows at least two processors.
        self._lanes = max(2, ceil(setup.memory / facts.VCPU_MB))
        self._count_messages()
        self._time_processing()
        self._time_result()

    def on(self, setup: Setup) -> Estimate:
        """Return the estimate for the same file and step with another setup."""
        return Estimate(self.known, setup, self.prices, self.stack, self.slowdown)

    def _count_messages(self) -> None:
        known, setup, stack = self.known, self.setup, self.stack
        is_cut = not known.one_stream and known.size > stack.range_bytes
        self.ranges = ceil(known.size / stack.range_bytes) if is_cut else 0
        pieces = max(1, self.ranges)
        records = ceil(known.records / pieces)
        wanted = parcel_size_for(setup.batch, setup.parcel_size)
        most = int(MAX_BODY_BYTES / (known.record_bytes * self._encoded(wanted)))
        self.parcel = max(1, min(wanted, records, most))
        self.entries = min(self.parcel, setup.batch)
        self.uploaded = pieces * ceil(known.records / pieces / self.parcel)
        self.splitting = self.uploaded if self.entries < self.parcel else 0
        self.runs = ceil(known.records / self.entries) if self.splitting else self.uploaded
        self.input_bytes = self.message_bytes(self.entries)
        event = self.input_bytes * known.escaped + _ENVELOPE_BYTES
        self.together = max(1, min(stack.together, int(MAX_LAMBDA_EVENT_BYTES / event)))
        self.invocations = ceil(self.runs / self.together)
        size, entries = self.entries * known.out_bytes, self.entries * known.out_entries
        messages = max(1, ceil(entries / setup.parcel_size - 1e-9), ceil(size / MAX_BODY_BYTES))
        self.outputs = messages, size / messages + facts.OUTPUT_ATTRIBUTES
        self.output_bytes = known.records * known.out_bytes

    def _time_processing(self) -> None:
        known, most = self.known, self.setup.concurrency
        self.run = self._run_seconds(self.entries)
        self.fits = self.run <= self.setup.timeout - reserved(self.setup.timeout)
        full = min(self.together, self.runs)
        self.invocation = self.invocation_of(full)
        self.again = self._failures()
        runs, over, _ = self.again
        busy = self.runs / full * self.invocation + self.splitting * _moving(2 * known.size / self.uploaded)
        if runs:
            busy += runs * (self._run_seconds(over / runs) + _moving(0))
        start = facts.COLD_SECONDS + known.start * min(self.together, self._lanes)
        growing = facts.POLLERS + facts.MORE_PER_SECOND * ramp_seconds(busy, self.invocation, most)
        self.busy = busy + min(most, self.invocations, growing) * start / min(1.0, self._vcpus)
        size = known.size / max(1, self.ranges)
        moving = max(2 * size / facts.BYTES_PER_SECOND, size * facts.UPLOADED_BYTE)
        self.publishing = facts.S3_SECONDS + 2 * facts.SQS_SECONDS + moving
        ranges = ramp_seconds(self.ranges * self.publishing, self.publishing, self.setup.uploads) + facts.COLD_SECONDS
        self.upload = _BEGUN + (ranges if self.ranges else self.publishing)
        # Processors begin with the first message.
        working = ramp_seconds(self.busy, self.invocation + facts.COLD_SECONDS, most)
        failing = _RULES.delay(1) * (1 + ceil(log2(self.entries))) if runs else 0
        self.processed = max(_BEGUN + 2 * facts.SQS_SECONDS + working, self.upload + self.invocation) + failing

    def _time_result(self) -> None:
        mixed, collects = min(self.setup.uploads, self.ranges) or 1, self.setup.collects
        self.result = Result(max(1.0, self.output_bytes), self.runs * self.outputs[0], mixed)
        self.draining = self.result.messages * drained_seconds(self.outputs[1])
        late = max(0.0, self.draining / collects - self.processed)
        self.assembly = _LAST_LOOK + late + self.result.seconds(collects) + self.ranges * facts.S3_SECONDS / 8
        self.latest = self.processed + self.assembly
        # The time until the next look is a fraction of the remaining time.
        left = self.processed - facts.EVENT_SECONDS - facts.COLD_SECONDS
        self.looks = max(0, int((left - SHARE * LONGEST_SECONDS) / (LONGEST_SECONDS + facts.LOOK_SECONDS)))
        left -= self.looks * (LONGEST_SECONDS + facts.LOOK_SECONDS)
        while left > 0:
            left -= min(LONGEST_SECONDS, max(SHORTEST_SECONDS, left / SHARE)) + facts.LOOK_SECONDS
            self.looks += 1

    def message_bytes(self, entries: float) -> float:
        """Return the size of a message with `entries` entries of the file."""
        return entries * self.known.record_bytes * self._encoded(ceil(entries)) + facts.INPUT_ATTRIBUTES

    def invocation_of(self, messages: float) -> float:
        """Return how long an invocation of the processor with `messages` messages takes. Either its CPUs or its longest
        lane (a sequence of runs) decides.
        """
        pieces, size = self.outputs
        rounds = ceil(messages / min(messages, self._lanes))
        running = max(messages * self.known.cpu(self.entries) / self._vcpus, rounds * self.run)
        return running + _moving(messages * (self.input_bytes + pieces * size))

    def _encoded(self, entries: int) -> float:
        """Return how many bytes of a body each byte of the file becomes. One record that SQS refuses makes its whole
        parcel base64.
        """
        return 1 + (1 - (1 - self.known.illegal) ** min(entries, self.known.records)) / 3

    def _failures(self) -> tuple[float, float, float]:
        """Return the value of `again`.

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
