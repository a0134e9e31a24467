"""What a step takes, puts out and fails on, measured by running it over a sample in two sizes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import mean, median
from typing import Final, Protocol, TypeAlias

from parcelq.aws.text import legal_text
from parcelq.errors import ParcelqError, StepError
from parcelq.lineage.lineage import Lineage
from parcelq.lineage.source import Source
from parcelq.names import INBOX
from parcelq.process.headers import Written
from parcelq.process.output import output_messages
from parcelq.records import Parcel
from parcelq.steps.find import Step
from parcelq.steps.run import Ran
from parcelq.topics.message import LINEAGE, Message, count_entries
from parcelq.upload.files import parcel_messages

from parcelq_cli.estimate.sample import Sample

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds by entries: `fixed` for every run, and `each` for every entry of it."""

    fixed: float
    each: float

    def __call__(self, entries: float) -> float:
        """Seconds of a run over so many entries."""
        return self.fixed + self.each * entries

    @classmethod
    def through(cls, few: int, seconds_few: float, many: int, seconds_many: float) -> Line:
        """The line through two measurements; never one that falls, or begins below 0."""
        each = max(0.0, (seconds_many - seconds_few) / (many - few)) if many > few else 0.0
        return cls(max(0.0, seconds_few - each * few), each)


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a file and a step.

    Attributes:
        name: the file's name.
        size: bytes of the file.
        lines: its lines.
        counted: whether they were counted, not worked out.
        sampled: lines that were taken.
        failing: which share of lines the step fails on.
        reason: why it failed on one of them; empty where it did not.
        wall: seconds of a run, on the clock of this machine.
        cpu: seconds of a run that its processors worked.
        start: seconds that a process of a warm step takes to begin.
        out_entries: entries that come out for one that goes in.
        out_bytes: bytes that come out for one entry that goes in.
        illegal: which share of lines SQS refuses as they are.
        escaped: bytes in JSON for one byte of the file.
        attributes_in: bytes of a message of the input topic beside its body.
        attributes_out: bytes of a message of the output topic beside its body.
    """

    name: str
    size: int
    lines: int
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
    def line_bytes(self) -> float:
        """Bytes of a line, with its end."""
        return self.size / self.lines


class Runs(Protocol):
    """Runs a step, as `parcelq.steps.run.Runner` does."""

    @property
    def step(self) -> Step:
        """The step."""

    def run(self, bodies: Iterable[bytes], /) -> AbstractContextManager[Ran]:
        """Run it over bodies, and give what it put out."""

    def close(self) -> None:
        """End what is kept from one run to the next."""


_SMALL: Final = 10
"""The larger of the two sizes is so many times the smaller one."""
_ROUNDS: Final = 3
_ENOUGH_SECONDS: Final = 10.0
_RUNS_FOR_BAD: Final = 200
"""So many runs are spent on finding the bad lines of the sample."""
_HOPELESS: Final = 10
"""After so many lines that each fail alone, with none that does not, the step is taken to be what is wrong."""


@dataclass(frozen=True, slots=True)
class _Run:
    wall: float
    cpu: float
    entries: int
    size: int
    attributes: int


def measure(
    name: str,
    sample: Sample,
    runs: Runs,
    *,
    clock: Clock = time.monotonic,
) -> Measured:
    """Run a step over a sample, whole and a tenth of it, by turns, and draw a line through the middle of the times.

    Lines that the step fails on are found by halving, as the processor does, and left out of the times. What a process
    that is kept has worked only shows when it has ended, so all the time of a warm step is taken to be work.

    Args:
        name: the file's name.
        sample: lines of it.
        runs: runs the step.
        clock: tells a time in seconds.

    Raises:
        ParcelqError: the step fails on every line; with the reason.
    """
    warm = runs.step.warm
    runner = _Runner(name, sample, runs, clock, warm)
    good, bad, reason = _sift(runner, sample.lines)
    small = good[::_SMALL]
    few, many = [], []
    began = clock()
    for _ in range(_ROUNDS):
        few.append(runner(small))
        many.append(runner(good))
        if clock() - began > _ENOUGH_SECONDS:
            break
    last = many[-1]
    usual = median(one.wall for one in few)
    runs.close()  # so that the next run begins with a process of its own
    start = max(0.0, runner(small).wall - usual) if warm else 0.0

    def line(seconds: Callable[[_Run], float]) -> Line:
        return Line.through(len(small), median(map(seconds, few)), len(good), median(map(seconds, many)))

    text = b"".join(sample.lines).decode("utf-8", "replace")
    return Measured(
        name=name,
        size=sample.size,
        lines=sample.total,
        counted=sample.counted,
        sampled=len(sample.lines),
        failing=bad / (bad + len(good)),
        reason=reason,
        wall=line(lambda one: one.wall),
        cpu=line(lambda one: one.cpu),
        start=start,
        out_entries=last.entries / len(good),
        out_bytes=last.size / len(good),
        illegal=mean(legal_text(one) is None for one in sample.lines),
        escaped=len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) / len(text.encode()),
        attributes_in=_attributes(runner.message(sample.lines)),
        attributes_out=last.attributes,
    )


def _sift(runner: _Runner, lines: Sequence[bytes]) -> tuple[list[bytes], int, str]:
    """Find the lines that a step fails on.

    Returns:
        Those that it does not fail on, how many it does, and why it failed on the last of them. Lines for which there
        were not enough runs are in neither.
    """
    good: list[bytes] = []
    bad, runs, reason = 0, 0, ""
    left = [lines]
    while left and runs < _RUNS_FOR_BAD:
        part = left.pop()
        runs += 1
        try:
            runner(part)
        except StepError as error:
            reason = str(error)
            if len(part) > 1:
                middle = len(part) // 2
                left += [part[middle:], part[:middle]]
                continue
            bad += 1
            if not good and (bad == _HOPELESS or not left):
                raise ParcelqError(f"every line of the sample that was tried fails: {error}") from None
        else:
            good += part
    if not good:
        raise ParcelqError(f"no part of the sample was found that does not fail: {reason}")
    return good, bad, reason


@dataclass(frozen=True, slots=True)
class _Runner:
    name: str
    sample: Sample
    runs: Runs
    clock: Clock
    warm: bool

    @property
    def source(self) -> Source:
        """What the file would be called if it were dropped into a bucket."""
        return Source.of_object("parcelq-123456789012-us-east-1", INBOX + self.name, etag="0" * 32, put="0" * 18)

    def message(self, lines: Sequence[bytes]) -> Message:
        """Lines as the uploader would publish them, from the middle of the file."""
        body = b"".join(lines)
        parcel = Parcel((self.sample.size - len(body)) // 2, body, len(lines))
        return next(parcel_messages([parcel], self.source, self.sample.size, empty=False))

    def __call__(self, lines: Sequence[bytes]) -> _Run:
        message = self.message(lines)
        lineage = Lineage.parse(message.attributes[LINEAGE])
        began = self.clock()
        with self.runs.run([message.body]) as ran:
            output = ran.whole(self.runs.step)
            wall = self.clock() - began
            cpu = wall if self.warm else ran.cpu_seconds
            size = output.stat().st_size
            whole = max(1, size)
            messages = output_messages(output, Written(), lineage, str(self.source), whole, self.runs.step.workflow_id)
            first = next(messages)
            entries = count_entries(first.body) + sum(count_entries(one.body) for one in messages)
        return _Run(wall, cpu, entries, size, _attributes(first))


def _attributes(message: Message) -> int:
    wire = message.wire()
    return wire.size - len(wire.text.encode())
