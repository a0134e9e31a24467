"""Predicts what a file needs on a stack: messages, requests, seconds, and the bill. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, log2
from typing import Final

from parcelq.collect.drain import RECEIVERS, SEGMENT_BYTES, SEGMENT_MESSAGES
from parcelq.jobs.look import LONGEST_SECONDS
from parcelq.limits import (
    KIB,
    MAX_LAMBDA_EVENT_BYTES,
    MAX_LONG_POLL_SECONDS,
    MAX_REQUEST_MESSAGES,
    MIB,
)
from parcelq.upload.parcels import MAX_BODY_BYTES

from parcelq_cli.estimate.arithmetic import POLLERS, Row, billed, function, ramp_seconds, row, run_seconds, total, units
from parcelq_cli.estimate.measure import Measured
from parcelq_cli.estimate.prices import Prices
from parcelq_cli.estimate.stack import Stack

VCPU_MB: Final = 1769
"""Memory that comes with one vCPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
BYTES_PER_SECOND: Final = 78_000_000
"""Of a function's network, about: 625 Mbit/s. Assumed, not measured."""
REQUEST_SECONDS: Final = 0.02
"""One request to AWS from within it. Assumed, not measured."""
COLD_SECONDS: Final = 1.0
"""The start of a new instance, at one vCPU. Assumed, not measured."""
LOOK_SECONDS: Final = 1.0
"""One look of the downloader at a job that is not finished, or one start by its schedule. Assumed, not measured."""
LAST_LOOK_SECONDS: Final = 3.0
"""From the last output message until a look begins to drain it, at most: the shortest delay, and SQS's own."""
LOOK_REQUESTS: Final = 2 * RECEIVERS + 4
"""Requests to SQS of a look: its receivers that find nothing more, locking, publishing the next, its own delivery."""
LOOK_PUTS: Final = 4
LOOK_GETS: Final = 4
"""Requests to S3 of a look: the record, what lies in the job's folder, and notes."""
LOOKUPS: Final = 4
"""Requests of a function for its topics: the processor's, once an instance."""
IDLE_REQUESTS: Final = RECEIVERS + 5
"""Requests to SQS of a start by the schedule, with nothing there: its receivers, and looking up topics."""
IDLE_LISTINGS: Final = 3
"""Listings then: what has no lineage, all segments, and the records of jobs."""
IDLE_SECONDS: Final = 1.0 + COLD_SECONDS
"""Such a start, which waits a second for messages, and is cold."""
_FREE_DISK_GB: Final = 0.5
_RANGE_TASK_BYTES: Final = 300
_ENVELOPE_BYTES: Final = 1 * KIB
"""What a message's record in a Lambda event has beside body and attributes."""
_BACK_OFF_SECONDS: Final = 5
_LOG_BYTES: Final = 1_500
_TRACED: Final = 0.05
"""Of invocations, beside one a second: https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html"""
_MONTH_SECONDS: Final = 30 * 24 * 3600
_METRICS: Final = 3
_PART_BYTES: Final = 8 * MIB
_RESERVED: Final = 10.0
"""Seconds of an invocation that are kept for publishing; at most a tenth of them."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a stack is set up: the template's parameters of these names; memory in MB, timeout in seconds."""

    parcel_size: int = 1000
    batch_size: int = 1000
    memory: int = 1769
    concurrency: int = 100
    timeout: int = 300


@dataclass(frozen=True)
class Job:
    """A file on a stack that is set up in one way.

    Attributes:
        known: the file and the step.
        setup: the parameters that are compared.
        prices: what AWS asks for.
        stack: the rest of the stack.
        slowdown: how many times as long a vCPU of Lambda takes as a processor of the machine that measured.
        chosen: whether it is the setup that was asked for.
    """

    known: Measured
    setup: Setup
    prices: Prices
    stack: Stack = field(default_factory=Stack)
    slowdown: float = 1.0
    chosen: bool = True

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
        return self._fit(max(self.setup.parcel_size, self.setup.batch_size))

    @cached_property
    def entries(self) -> int:
        """Entries of a run: a message's, or a batch where that is less, for which messages are re-parcelled."""
        return min(self.parcel, self.setup.batch_size)

    @cached_property
    def uploaded(self) -> int:
        """Messages that the uploader publishes."""
        return max(1, self.ranges) * ceil(self.known.records / max(1, self.ranges) / self.parcel)

    @cached_property
    def runs(self) -> int:
        """Messages that the step runs over without failing ones, and so runs."""
        return self.uploaded if self.entries == self.parcel else ceil(self.known.records / self.entries)

    @cached_property
    def together(self) -> int:
        """Messages of an invocation, while enough of them wait."""
        event = self._size(self.entries) * self.known.escaped + _ENVELOPE_BYTES
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
        runs = parts * (1 - good**size)
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

    def _fit(self, entries: int) -> int:
        records = ceil(self.known.records / max(1, self.ranges))
        return max(1, min(entries, records, int(MAX_BODY_BYTES / (self.known.record_bytes * self._encoded(entries)))))

    def _encoded(self, entries: int) -> float:
        """One record that SQS refuses is enough for its whole parcel to travel as base64."""
        return 1 + (1 - (1 - self.known.illegal) ** min(entries, self.known.records)) / 3

    def _size(self, entries: float) -> float:
        return entries * self.known.record_bytes * self._encoded(ceil(entries)) + self.known.attributes_in

    # ---- Time, in seconds.

    @cached_property
    def run(self) -> float:
        """One run of the step."""
        return self._run_seconds(self.entries)

    @cached_property
    def invocation(self) -> float:
        """One invocation of the processor."""
        pieces, size = self.outputs
        return self._runs_seconds(self.together) + _moving(self.together * (self._size(self.entries) + pieces * size))

    @cached_property
    def busy(self) -> float:
        """All invocations of the processor together, cold starts and failures among them."""
        runs, over, _ = self.again
        busy = self.invocations * self.invocation + self._splitting * _moving(2 * self.known.size / self.uploaded)
        if runs:
            busy += runs * (self._run_seconds(over / runs) + _moving(0))
        start = COLD_SECONDS + self.known.start * min(self.together, self._lanes)
        return busy + min(self.setup.concurrency, self.invocations) * start / min(1.0, self._vcpus)

    @cached_property
    def upload(self) -> float:
        """One invocation of the uploader that publishes records."""
        return _moving(2 * self.known.size / max(1, self.ranges)) + COLD_SECONDS

    @cached_property
    def processed(self) -> float:
        """From the put until the last message is processed."""
        uploads = ramp_seconds(self.ranges * self.upload, self.upload, self.setup.concurrency) if self.ranges else 0
        failing = _BACK_OFF_SECONDS * (1 + ceil(log2(self.entries))) if self.again[0] else 0
        return self.upload + max(uploads, ramp_seconds(self.busy, self.invocation, self.setup.concurrency)) + failing

    @cached_property
    def assembly(self) -> float:
        """Seconds for assembling the result."""
        return 2 * self.output_bytes / BYTES_PER_SECOND

    @property
    def latest(self) -> float:
        """From the put until the result is there."""
        return self.processed + LAST_LOOK_SECONDS + self.assembly

    @property
    def collections(self) -> int:
        """Looks of the downloader: each comes after a quarter of the time left, and none after more than 2 minutes."""
        slow = self.processed / LONGEST_SECONDS
        near = log2(max(2.0, min(self.processed, 4 * LONGEST_SECONDS))) / log2(4 / 3)
        return ceil(slow + near) + 2

    @property
    def fits(self) -> bool:
        """Whether a run fits into an invocation; a part of that is kept for publishing."""
        return self.run <= self.setup.timeout - min(_RESERVED, 0.1 * self.setup.timeout)

    @property
    def _vcpus(self) -> float:
        return self.setup.memory / VCPU_MB / self.slowdown

    @property
    def _splitting(self) -> int:
        """Messages that are re-parcelled before the step runs over them."""
        return self.uploaded if self.entries < self.parcel else 0

    @property
    def _lanes(self) -> int:
        """Runs that go on side by side in an invocation: Lambda shows at least two processors."""
        return max(2, ceil(self.setup.memory / VCPU_MB))

    def _runs_seconds(self, count: int) -> float:
        """Runs of an invocation: bounded by the processors, and by the longest lane."""
        rounds = ceil(count / min(count, self._lanes))
        return max(count * self.known.cpu(self.entries) / self._vcpus, rounds * self.run)

    def _run_seconds(self, entries: float) -> float:
        return run_seconds(self.known.wall(entries), self.known.cpu(entries), self._vcpus)

    # ---- Requests and the bill.

    def sqs(self) -> dict[str, float]:
        """Requests to SQS as it bills them, by what they are for."""
        size, parcel, (pieces, out) = self._size(self.entries), self._size(self.parcel), self.outputs
        results = self.runs * pieces
        asked = {
            "input topic, publish": billed(self.uploaded, parcel),
            "input topic, receive and delete": billed(self.runs, size, self.together)
            + self.runs / MAX_REQUEST_MESSAGES,
            "output topic, publish": billed(results, out, self.together * pieces),
            "output topic, receive and delete": billed(results, out) + results / MAX_REQUEST_MESSAGES,
            "looks": self.collections * LOOK_REQUESTS + self.known.records / self.entries,
            "looking up topics": LOOKUPS * (1 + self.ranges + min(self.setup.concurrency, self.invocations)),
        }
        if self.ranges:
            asked["range topic"] = billed(self.ranges, _RANGE_TASK_BYTES) + 2 * self.ranges
        if self._splitting:
            cut = billed(self.runs, size) + billed(self.uploaded, parcel) + self.uploaded / MAX_REQUEST_MESSAGES
            asked["input topic, re-parcel"] = cut
        if self.again[0]:  # each such run was published, received, published its output, and was deleted
            runs, over, dead = self.again
            asked["failures"] = runs * (2 + 2 * units(self._size(over / runs))) + 2 * dead
        return asked

    def s3(self) -> tuple[float, float]:
        """Requests that S3 bills as PUT, and those that it bills as GET: notes, segments, the result and the report."""
        pieces, size = self.outputs
        results, parts = self.runs * pieces, ceil(self.output_bytes / _PART_BYTES)
        segments = min(results, ceil(max(results * size / SEGMENT_BYTES, results / SEGMENT_MESSAGES)) + RECEIVERS)
        puts = max(1, self.ranges) + segments + parts + 8 + LOOK_PUTS * self.collections
        gets = 2 * max(1, self.ranges) + segments * (2 + self.collections / 2) + parts + LOOK_GETS * self.collections
        return puts, gets

    def bill(self) -> list[Row]:
        """The cost of running the file, without the cost of keeping it."""
        uploads, processors = 1 + self.ranges, self.invocations + self._splitting + self.again[0]
        uploading = max(1, self.ranges) * self.upload + bool(self.ranges) * COLD_SECONDS
        collecting = self.collections * LOOK_SECONDS + 2 * self.assembly
        invocations = uploads + processors + self.collections
        puts, gets = self.s3()
        disk = self.busy * max(0.0, self.stack.disk_gb - _FREE_DISK_GB)
        return [
            *(row(self.prices, "SQS", what, "sqs_requests", count) for what, count in self.sqs().items()),
            *function(self.prices, "uploader", uploads, uploading, self.stack.uploader_mb),
            *function(self.prices, "processor", processors, self.busy, self.setup.memory),
            row(self.prices, "Lambda", "processor, disk", "lambda_storage_gb_seconds", disk),
            *function(self.prices, "downloader", self.collections, collecting, self.stack.downloader_mb),
            row(self.prices, "S3", "requests", "s3_puts", puts),
            row(self.prices, "S3", "requests", "s3_gets", gets),
            row(self.prices, "CloudWatch", "logs", "log_gb", invocations * _LOG_BYTES / 1e9),
            row(
                self.prices, "X-Ray", "traces", "xray_traces", min(invocations, self.processed + _TRACED * invocations)
            ),
        ]

    @property
    def usd(self) -> float:
        """Dollars of the bill."""
        return total(self.bill())

    def keeping(self) -> list[Row]:
        """The cost of keeping the file and its result for a month."""
        sizes = {"the file": self.known.stored, "the result": self.output_bytes}
        return [row(self.prices, "S3", what, "s3_gb_months", size / 1e9) for what, size in sizes.items()]


def idle(stack: Stack, prices: Prices) -> list[Row]:
    """The cost of a stack in a month in which nothing is processed."""
    collections = _MONTH_SECONDS / stack.collect_seconds
    polls = stack.mappings * POLLERS * _MONTH_SECONDS / MAX_LONG_POLL_SECONDS
    return [
        row(prices, "SQS", "Lambda looking for messages", "sqs_requests", polls),
        row(prices, "SQS", "downloader looking for messages", "sqs_requests", collections * IDLE_REQUESTS),
        *function(prices, "downloader, on its schedule", collections, collections * IDLE_SECONDS, stack.downloader_mb),
        row(prices, "S3", "downloader looking for segments", "s3_puts", collections * IDLE_LISTINGS),
        row(prices, "CloudWatch", "logs", "log_gb", collections * _LOG_BYTES / 1e9),
        row(prices, "CloudWatch", "alarms", "alarm_months", stack.alarms),
        row(prices, "CloudWatch", "metrics", "metric_months", _METRICS),
        row(prices, "CloudWatch", "dashboard", "dashboard_months", stack.dashboards),
        row(prices, "X-Ray", "traces", "xray_traces", collections),
    ]


def _moving(size: float) -> float:
    return REQUEST_SECONDS + size / BYTES_PER_SECOND
