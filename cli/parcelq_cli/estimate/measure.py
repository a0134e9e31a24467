"""Measures a step: runs the step over samples of two sizes, and records times, outputs and failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Final, NamedTuple, TypeAlias

from parcelq.aws.text import legal_text
from parcelq.errors import ParcelqError, RecordError, StepError
from parcelq.process.headers import StageHeaders
from parcelq.steps.run import Runner

from parcelq_cli.estimate.sample import Sample

Clock: TypeAlias = Callable[[], float]

_SMALL: Final = 10
"""How many times larger the larger sample is."""
_ROUNDS: Final = 3
_ENOUGH_SECONDS: Final = 10.0
_RUNS_FOR_BAD: Final = 200
"""How many runs may be used to find the bad records of the sample."""
_HOPELESS: Final = 10
"""If this many records each fail alone, and no record succeeds, the step counts as broken."""
_SOURCE: Final = "file:///estimate?put=0"
"""The source that all records seem to come from, so that all outputs of the step must have the same header."""


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
        """Return the linear function through two measurements; its values never fall and are never negative."""
        each = max(0.0, (seconds_many - seconds_few) / (many - few)) if many > few else 0.0
        return cls(max(0.0, seconds_few - each * few), each)


@dataclass(frozen=True, slots=True)
class Measured:
    """Facts about a file, from a `Sample` of the file, and facts about a step, from measured runs.

    Attributes:
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

    @property
    def record_bytes(self) -> float:
        """The average number of bytes of a record."""
        return self.size / self.records


class _Run(NamedTuple):
    wall: float
    cpu: float
    entries: int
    size: int


_Trial: TypeAlias = Callable[[Sequence[bytes]], _Run]


def measure(name: str, sample: Sample, runs: Runner, *, clock: Clock = time.monotonic) -> Measured:
    """Run a step alternately over the whole sample and over a tenth of the sample, and fit a line through the median
    times.

    Records on which the step fails are found by halving, as in the processor, and are left out of the times. The CPU
    seconds of a warm process are known only when the process ends, so all the time of a warm step counts as CPU time.

    Raises:
        ParcelqError: if the step fails on every record; the message contains the reason.
    """
    run = _trial(sample, runs, clock)
    good, bad, reason = _sift(run, sample.records)
    small = good[::_SMALL]
    few: list[_Run] = []
    many: list[_Run] = []
    began = clock()
    while len(many) < _ROUNDS and (not many or clock() - began <= _ENOUGH_SECONDS):
        few.append(run(small))
        many.append(run(good))
    runs.close()  # the next run must begin with a new process
    start = max(0.0, run(small).wall - median(one.wall for one in few)) if runs.step.warm else 0.0

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
        out_entries=many[-1].entries / len(good),
        out_bytes=many[-1].size / len(good),
        illegal=mean(legal_text(one) is None for one in sample.records),
        escaped=len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) / len(text.encode()),
    )


def _trial(sample: Sample, runs: Runner, clock: Clock) -> _Trial:
    """Return a function that runs the step over records of the sample, and raises StepError if the run fails."""
    step = runs.step
    headers = StageHeaders(step.settings, "output", step.workflow_id)

    def run(records: Sequence[bytes]) -> _Run:
        began = clock()
        with runs.run([b"".join(records)], entries=len(records), fmt=sample.format, header=sample.header) as ran:
            output = ran.whole(step)
            wall = clock() - began
            try:
                written = headers.of(output, _SOURCE, sample.format)
            except RecordError as error:
                raise StepError(step.name, error.reason, exit_code=0) from None
            data = output.read_bytes()[written.start :]
        return _Run(wall, wall if step.warm else ran.cpu_seconds, written.format.count(data), len(data))

    return run


def _sift(run: _Trial, records: Sequence[bytes]) -> tuple[list[bytes], int, str]:
    """Return the records on which a step succeeds, the number of records on which it fails, and the last reason.
    Records that were not tried, because too many runs were needed, are left out.
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
            middle = len(part) // 2
            if middle:
                left += [part[middle:], part[:middle]]
                continue
            bad += 1
            if not good and (bad == _HOPELESS or not left):
                break
        else:
            good += part
    if not good:
        raise ParcelqError(f"the step fails on every record of the sample that was tried: {reason}")
    return good, bad, reason
