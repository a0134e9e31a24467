"""Measures a step: runs the step over samples of two sizes, and records times, outputs and failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Final, TypeAlias

from parcelq.aws.text import legal_text
from parcelq.errors import ParcelqError, RecordError, StepError
from parcelq.lineage.lineage import Lineage
from parcelq.lineage.source import Source
from parcelq.names import INBOX
from parcelq.process.headers import StageHeaders
from parcelq.process.output import output_messages
from parcelq.records import Parcel
from parcelq.steps.run import Runner
from parcelq.topics.attributes import LINEAGE
from parcelq.topics.header import header_of_source
from parcelq.topics.message import Message
from parcelq.upload.parcels import Layout
from parcelq.upload.sources import parcel_messages

from parcelq_cli.estimate.sample import Sample

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Line:
    """The duration of a run as a linear function: `fixed` seconds for the run plus `each` seconds for every entry."""

    fixed: float
    each: float

    def __call__(self, entries: float) -> float:
        """Return how many seconds a run over a number of entries takes."""
        return self.fixed + self.each * entries

    @classmethod
    def through(cls, few: int, seconds_few: float, many: int, seconds_many: float) -> Line:
        """Return the linear function through two measurements, adjusted so that its values never fall and are never
        negative.
        """
        each = max(0.0, (seconds_many - seconds_few) / (many - few)) if many > few else 0.0
        return cls(max(0.0, seconds_few - each * few), each)


@dataclass(frozen=True, slots=True)
class Measured:
    """Facts about a file, from a `Sample` of the file, and facts about a step, from measured runs.

    Attributes:
        name: the file's name.
        sampled: how many records the sample has.
        failing: the fraction of records on which the step fails.
        reason: why the step failed on one of these records; empty if the step never failed.
        wall: how many seconds a run takes on this machine.
        cpu: how many CPU seconds a run takes.
        start: how many seconds the process of a warm step needs to start.
        out_entries: how many output records each input record gives.
        out_bytes: how many output bytes each input record gives.
        illegal: the fraction of records that contain characters that SQS refuses.
        escaped: how many bytes of JSON each byte of the file becomes.
        attributes_in: how many bytes the attributes of an input message have.
        attributes_out: how many bytes the attributes of an output message have.
    """

    name: str
    format: str
    size: int
    stored: int
    one_stream: bool
    records: int
    counted: bool
    sampled: int
    failing: float
    reason: str
    wall: Line
    cpu: Line
    start: float
    out_entries: float
    out_bytes: float
    illegal: float
    escaped: float
    attributes_in: int
    attributes_out: int

    @property
    def record_bytes(self) -> float:
        """The average number of bytes of a record."""
        return self.size / self.records


_SMALL: Final = 10
"""How many times larger the larger sample is."""
_ROUNDS: Final = 3
_ENOUGH_SECONDS: Final = 10.0
_RUNS_FOR_BAD: Final = 200
"""How many runs may be used to find the bad records of the sample."""
_HOPELESS: Final = 10
"""If this many records each fail alone, and no record succeeds, the step counts as broken."""


def measure(name: str, sample: Sample, runs: Runner, *, clock: Clock = time.monotonic) -> Measured:
    """Run a step alternately over the whole sample and over a tenth of the sample, and fit a line through the median
    times.

    Records on which the step fails are found by halving, as in the processor, and are left out of the times. The CPU
    seconds of a warm process are known only when the process ends, so all the time of a warm step counts as CPU time.

    Args:
        name: the file's name.
        sample: a sample of the file's records.
        runs: the object that runs the step.
        clock: a function that returns a time in seconds.

    Raises:
        ParcelqError: if the step fails on every record; the message contains the reason.
    """
    run = _Trial(name, sample, runs, clock)
    good, bad, reason = _sift(run, sample.records)
    small = good[::_SMALL]
    few: list[_Run] = []
    many: list[_Run] = []
    began = clock()
    while len(many) < _ROUNDS and (not many or clock() - began <= _ENOUGH_SECONDS):
        few.append(run(small))
        many.append(run(good))
    last = many[-1]
    runs.close()  # the next run must begin with a new process
    start = max(0.0, run(small).wall - median(one.wall for one in few)) if run.warm else 0.0

    def line(seconds: Callable[[_Run], float]) -> Line:
        return Line.through(len(small), median(map(seconds, few)), len(good), median(map(seconds, many)))

    text = b"".join(sample.records).decode("utf-8", "replace")
    return Measured(
        name=name,
        format=str(sample.format),
        size=sample.size,
        stored=sample.stored,
        one_stream=sample.one_stream,
        records=sample.total,
        counted=sample.counted,
        sampled=len(sample.records),
        failing=bad / (bad + len(good)),
        reason=reason,
        wall=line(lambda one: one.wall),
        cpu=line(lambda one: one.cpu),
        start=start,
        out_entries=last.entries / len(good),
        out_bytes=last.size / len(good),
        illegal=mean(legal_text(one) is None for one in sample.records),
        escaped=len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) / len(text.encode()),
        attributes_in=_attributes(run.message(sample.records)),
        attributes_out=last.attributes,
    )


def _sift(run: _Trial, records: Sequence[bytes]) -> tuple[list[bytes], int, str]:
    """Find the records on which a step fails.

    Returns: The records on which the step succeeds, the number of records on which it fails, and the reason of the last
        failure. Records that were not tried, because too many runs were needed, are not counted.
    """
    good: list[bytes] = []
    bad, reason, left = 0, "", [records]
    for _ in range(_RUNS_FOR_BAD):
        if not left:
            break
        part = left.pop()
        try:
            run(part)
        except StepError as error:
            reason = str(error)
            if len(part) > 1:
                middle = len(part) // 2
                left += [part[middle:], part[:middle]]
                continue
            bad += 1
            if not good and (bad == _HOPELESS or not left):
                raise ParcelqError(f"the step fails on every record of the sample that was tried: {error}") from None
        else:
            good += part
    if not good:
        raise ParcelqError(f"the step fails on every part of the sample that was tried: {reason}")
    return good, bad, reason


@dataclass(frozen=True, slots=True)
class _Run:
    wall: float
    cpu: float
    entries: int
    size: int
    attributes: int


class _Trial:
    """Runs a step over records as if they were messages from the middle of an S3 object."""

    def __init__(self, name: str, sample: Sample, runs: Runner, clock: Clock) -> None:
        self.sample, self.runs, self.clock = sample, runs, clock
        self.warm = runs.step.warm
        self.headers = StageHeaders(runs.step.settings, "output", runs.step.workflow_id)
        self.source = Source.of_object("parcelq-123456789012-us-east-1", INBOX + name, etag="0" * 32, put="0" * 18)
        header = header_of_source(sample.header, str(self.source), None)
        self.layout = Layout.of_source(sample.format, sample.header, header)

    def message(self, records: Sequence[bytes]) -> Message:
        """Return records as the message that the uploader would publish."""
        body = b"".join(records)
        parcel = Parcel((self.sample.size - len(body)) // 2, body, len(records))
        return next(parcel_messages([parcel], self.source, self.sample.size, self.layout, empty=False))

    def __call__(self, records: Sequence[bytes]) -> _Run:
        message, step, source = self.message(records), self.runs.step, str(self.source)
        lineage = Lineage.parse(message.attributes[LINEAGE])
        began = self.clock()
        with self.runs.run([message.body], fmt=self.sample.format, header=self.sample.header) as ran:
            output = ran.whole(step)
            wall = self.clock() - began
            size = len(output.read_bytes())
            try:
                written = self.headers.of(output, source, self.sample.format)
            except RecordError as error:
                raise StepError(step.name, error.reason, exit_code=0) from None
            whole, count = max(1, size), len(records)
            messages = output_messages(output, written, lineage, source, whole, step.workflow_id, count)
            first = next(messages)
            entries = first.entries + sum(one.entries for one in messages)
        return _Run(wall, wall if self.warm else ran.cpu_seconds, entries, size, _attributes(first))


def _attributes(message: Message) -> int:
    wire = message.wire()
    return wire.size - len(wire.text.encode())
