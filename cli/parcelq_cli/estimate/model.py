"""What a file comes to on a stack: messages, requests, seconds, and the bill. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, inf, log2, sqrt
from typing import Final

from parcelq.collect.drain import RECEIVERS, SEGMENT_BYTES, SEGMENT_MESSAGES
from parcelq.limits import (
    BILLING_UNIT_BYTES,
    KIB,
    MAX_LAMBDA_EVENT_BYTES,
    MAX_LONG_POLL_SECONDS,
    MAX_REQUEST_BYTES,
    MAX_REQUEST_MESSAGES,
    MIB,
)
from parcelq.upload.files import MAX_BODY_BYTES

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
DRAIN_SECONDS: Final = 20
"""How long the downloader waits for more."""
LOOKUPS: Final = 4
"""Requests of a function for its topics: the processor's, once an instance."""
_FREE_DISK_GB: Final = 0.5
_RANGE_TASK_BYTES: Final = 300
_ENVELOPE_BYTES: Final = 1 * KIB
"""What a message's record in a Lambda event has beside body and attributes."""
_BACK_OFF_SECONDS: Final = 5
_FIRST, _MORE_PER_SECOND = 5, 5.0
"""An event source mapping begins with 5 invocations at a time and adds up to 300 a minute, and polls with 5 pollers:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""
_LOG_BYTES: Final = 1_500
_TRACED: Final = 0.05
"""Of invocations, beside one a second: https://docs.aws.amazon.com/xray/latest/devguide/xray-console-sampling.html"""
_MONTH_SECONDS: Final = 30 * 24 * 3600
_METRICS: Final = 3
_PART_BYTES: Final = 8 * MIB
_RESERVED: Final = 10.0
"""Seconds of an invocation that are kept for publishing; at most a tenth of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a bill: a service's price times a quantity, and what it is for."""

    service: str
    what: str
    quantity: float
    unit: str
    usd: float


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
        return ceil(self.known.size / self.stack.range_bytes) if self.known.size > self.stack.range_bytes else 0

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
        return max(1, self.ranges) * ceil(self.known.lines / max(1, self.ranges) / self.parcel)

    @cached_property
    def runs(self) -> int:
        """Messages that the step runs over without failing ones, and so runs."""
        return self.uploaded if self.entries == self.parcel else ceil(self.known.lines / self.entries)

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
        """Messages that the output of a run is, and bytes of each."""
        size, entries = self.entries * self.known.out_bytes, self.entries * self.known.out_entries
        pieces = max(1, ceil(entries / self.setup.parcel_size - 1e-9), ceil(size / MAX_BODY_BYTES))
        return pieces, size / pieces + self.known.attributes_out

    @cached_property
    def again(self) -> tuple[float, float, float]:
        """What failing entries bring about: more runs, entries that those are over, and entries that die.

        A message that fails runs once more as it is. Then it is split into halves, which run once, until bad entries
        are alone. Entries fail by chance.
        """
        good = 1 - self.known.failing
        parts, size = float(self.runs), self.known.lines / self.runs
        runs = parts * (1 - good**size)
        over = runs * size
        while size > 1 and self.known.failing:
            bad = parts * (1 - good**size)
            runs, over = runs + 2 * bad, over + bad * size
            parts, size = parts * 2, max(1.0, size / 2)
        return runs, over, self.known.lines * self.known.failing

    @property
    def output_bytes(self) -> float:
        """Bytes of the result."""
        return self.known.lines * self.known.out_bytes

    def _fit(self, entries: int) -> int:
        lines = ceil(self.known.lines / max(1, self.ranges))
        return max(1, min(entries, lines, int(MAX_BODY_BYTES / (self.known.line_bytes * self._encoded(entries)))))

    def _encoded(self, entries: int) -> float:
        """One line that SQS refuses is enough for its whole parcel to travel as base64."""
        return 1 + (1 - (1 - self.known.illegal) ** min(entries, self.known.lines)) / 3

    def _size(self, entries: float) -> float:
        return entries * self.known.line_bytes * self._encoded(ceil(entries)) + self.known.attributes_in

    # ---- Time, in seconds.

    @cached_property
    def run(self) -> float:
        """One run of the step."""
        return self._run_seconds(self.entries)

    @cached_property
    def invocation(self) -> float:
        """One invocation of the processor."""
        pieces, size = self.outputs
        return self.together * self.run + _moving(self.together * (self._size(self.entries) + pieces * size))

    @cached_property
    def busy(self) -> float:
        """All invocations of the processor together, cold starts and failures among them."""
        runs, over, _ = self.again
        busy = self.invocations * self.invocation + self._splitting * _moving(2 * self.known.size / self.uploaded)
        if runs:
            busy += runs * (self._run_seconds(over / runs) + _moving(0))
        starts = min(self.setup.concurrency, self.invocations)
        return busy + starts * (COLD_SECONDS + self.known.start) / min(1.0, self._vcpus)

    @cached_property
    def upload(self) -> float:
        """One invocation of the uploader that publishes lines."""
        return _moving(2 * self.known.size / max(1, self.ranges)) + COLD_SECONDS

    @cached_property
    def processed(self) -> float:
        """From the put until the last message is processed."""
        uploads = ramp_seconds(self.ranges * self.upload, self.upload, self.setup.concurrency) if self.ranges else 0
        failing = _BACK_OFF_SECONDS * (1 + ceil(log2(self.entries))) if self.again[0] else 0
        return self.upload + max(uploads, ramp_seconds(self.busy, self.invocation, self.setup.concurrency)) + failing

    @cached_property
    def assembly(self) -> float:
        """Putting the result together."""
        return 2 * self.output_bytes / BYTES_PER_SECOND

    @property
    def latest(self) -> float:
        """From the put until the result is there, where the downloader's schedule has always just missed it."""
        return self.processed + self.stack.collect_seconds + DRAIN_SECONDS + self.assembly

    @property
    def collections(self) -> int:
        """Invocations of the downloader until then; one, where a person invokes it."""
        return ceil((self.processed + self.assembly) / self.stack.collect_seconds) + 1

    @property
    def fits(self) -> bool:
        """Whether a run fits into an invocation, of which a part is kept for publishing."""
        return self.run <= self.setup.timeout - min(_RESERVED, 0.1 * self.setup.timeout)

    @property
    def _vcpus(self) -> float:
        return self.setup.memory / VCPU_MB / self.slowdown

    @property
    def _splitting(self) -> int:
        """Messages that are re-parcelled before the step runs over them."""
        return self.uploaded if self.entries < self.parcel else 0

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
            "downloader looking for more": self._looks(self.collections) + self.known.lines / self.entries,
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
        puts = max(1, self.ranges) + segments + parts + 3 + 2 * self.collections
        return puts, 2 * max(1, self.ranges) + segments * (2 + self.collections / 2) + parts + 2 * self.collections

    def bill(self) -> list[Row]:
        """What running the file costs, without what it costs to keep it."""
        uploads, processors = 1 + self.ranges, self.invocations + self._splitting + self.again[0]
        uploading = max(1, self.ranges) * self.upload + bool(self.ranges) * COLD_SECONDS
        collecting = self.collections * DRAIN_SECONDS + 2 * self.assembly
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
        """What it costs to keep the file and its result for a month."""
        sizes = {"the file": self.known.size, "the result": self.output_bytes}
        return [row(self.prices, "S3", what, "s3_gb_months", size / 1e9) for what, size in sizes.items()]

    def _looks(self, collections: float) -> float:
        """Requests of invocations of the downloader that find nothing more: its receivers, and what a topic has."""
        return collections * (RECEIVERS + 2)


def idle(stack: Stack, prices: Prices) -> list[Row]:
    """What a stack costs in a month in which nothing is processed."""
    collections = _MONTH_SECONDS / stack.collect_seconds
    polls = stack.mappings * _FIRST * _MONTH_SECONDS / MAX_LONG_POLL_SECONDS
    return [
        row(prices, "SQS", "Lambda looking for messages", "sqs_requests", polls),
        row(prices, "SQS", "downloader looking for messages", "sqs_requests", collections * (RECEIVERS + 2)),
        *function(prices, "downloader, on its schedule", collections, collections * DRAIN_SECONDS, stack.downloader_mb),
        row(prices, "S3", "downloader looking for segments", "s3_puts", collections),
        row(prices, "CloudWatch", "logs", "log_gb", collections * _LOG_BYTES / 1e9),
        row(prices, "CloudWatch", "alarms", "alarm_months", stack.alarms),
        row(prices, "CloudWatch", "metrics", "metric_months", _METRICS),
        row(prices, "CloudWatch", "dashboard", "dashboard_months", stack.dashboards),
        row(prices, "X-Ray", "traces", "xray_traces", collections),
    ]


def row(prices: Prices, service: str, what: str, price: str, quantity: float) -> Row:
    """A row of a bill, by the name of the price."""
    return Row(service, what, quantity, price.partition("_")[2].replace("_", " "), quantity * prices.of[price].usd)


def function(prices: Prices, what: str, invocations: float, seconds: float, memory: float) -> list[Row]:
    """Rows for invocations of a function with so many MB that take so many seconds together."""
    return [
        row(prices, "Lambda", what, "lambda_requests", invocations),
        row(prices, "Lambda", what, "lambda_gb_seconds", seconds * memory / 1024),
    ]


def total(rows: Sequence[Row]) -> float:
    """Dollars of all rows."""
    return sum(one.usd for one in rows)


def units(size: float) -> int:
    """Requests that SQS bills for one whose payload has so many bytes: https://aws.amazon.com/sqs/pricing/"""
    return max(1, ceil(size / BILLING_UNIT_BYTES))


def billed(count: float, size: float, together: float = inf) -> float:
    """Requests that SQS bills for messages of one size in full requests, of at most so many messages."""
    most = max(1, min(MAX_REQUEST_MESSAGES, together, MAX_REQUEST_BYTES // max(1, size)))
    full, rest = divmod(count, most)
    return full * units(most * size) + (units(rest * size) if rest else 0)


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
    first = min(_FIRST, concurrency)
    growing = (concurrency - first) / _MORE_PER_SECOND
    done = growing * (first + concurrency) / 2
    if busy >= done:
        seconds = growing + (busy - done) / concurrency
    else:
        seconds = (sqrt(first**2 + 2 * _MORE_PER_SECOND * busy) - first) / _MORE_PER_SECOND
    return max(seconds, each)


def jobs(chosen: Job, *, batches_follow: bool) -> list[Job]:
    """A job on other setups, itself among them: a tenth and ten times the parcel size, each with several memory sizes.

    Args:
        chosen: the job on the setup that was asked for.
        batches_follow: whether the batch size is always the parcel size; otherwise it stays what was asked for.
    """
    setup, every = chosen.setup, []
    for parcel in sorted({max(1, setup.parcel_size // 10), setup.parcel_size, setup.parcel_size * 10}):
        for memory in sorted({512, VCPU_MB, 2 * VCPU_MB, setup.memory}):
            batch = parcel if batches_follow else setup.batch_size
            other = replace(setup, parcel_size=parcel, batch_size=batch, memory=memory)
            every.append(replace(chosen, setup=other, chosen=other == setup))
    return every


def cheapest(found: Sequence[Job]) -> Job | None:
    """The cheapest of those that fit; of equal ones, the first."""
    return min((one for one in found if one.fits), key=lambda one: one.usd, default=None)


def warnings(job: Job) -> Iterator[str]:
    """Where an estimate is not to be trusted, or the job will not run as it is set up."""
    known, timeout = job.known, job.setup.timeout
    if not job.fits:
        yield (
            f"a run takes {job.run:,.0f} seconds, and an invocation has {timeout}, of which a part is kept for "
            "publishing; choose a smaller batch size"
        )
    if known.sampled < min(known.lines, 100):
        yield f"a sample of {known.sampled} lines says little; give a larger --sample"
    if job.entries > 20 * known.sampled:
        yield (
            f"a run gets {job.entries:,} lines, but the step was measured with {known.sampled:,} at most; "
            "give a larger --sample"
        )


def _moving(size: float) -> float:
    return REQUEST_SECONDS + size / BYTES_PER_SECOND
