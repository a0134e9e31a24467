"""Tries steps on single records, and returns for each record the output, the time, and the reason if a step fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from typing import NamedTuple

from parcelq.errors import RecordError, StepError
from parcelq.process.headers import StageHeaders
from parcelq.process.runs import drops_header
from parcelq.readable import Readable
from parcelq.records import Format, Parcel, by_name, cut, split_header
from parcelq.records.compression import open_source
from parcelq.records.naming import naming_source
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
from parcelq.upload.parcels import MAX_BODY_BYTES

_SOURCE = "file:///try?put=0"
"""The source that all records seem to come from. With one source, all outputs of a step must have the same header."""


class Records(NamedTuple):
    """The first records of a source, one in each parcel. A step gets the header before each record."""

    format: Format
    header: bytes
    parcels: Iterator[Parcel]


class StepTrial(NamedTuple):
    """One run of one step.

    Attributes:
        output: the entries that the step wrote, without a header; empty if the run failed.
        seconds: how many seconds the run took; the first run of a step includes the start of its process.
        memory_bytes: the peak memory of the run's largest process; 0 if unknown.
        printed: the end of what the step printed, with stdout before stderr.
        reason: why the run failed, or why the step rejected an entry; empty if the run succeeded.
    """

    step: str
    output: bytes
    seconds: float
    memory_bytes: int = 0
    printed: str = ""
    reason: str = ""


class Trial(NamedTuple):
    """The runs of the steps over one record. No step runs after a run that failed. Records and lines count from 1."""

    record: int
    line: int
    entry: bytes
    steps: tuple[StepTrial, ...]

    @property
    def output(self) -> bytes:
        """The output of the last step for the record."""
        return self.steps[-1].output

    @property
    def reason(self) -> str:
        """The reason why the record failed; empty if no step failed."""
        return self.steps[-1].reason

    @property
    def seconds(self) -> float:
        """How many seconds all steps took together."""
        return sum(one.seconds for one in self.steps)

    @property
    def memory_bytes(self) -> int:
        """The peak memory of the largest process of all runs; 0 if unknown."""
        return max(one.memory_bytes for one in self.steps)


def first_records(stream: Readable, name: str, count: int, fmt: Format | None = None) -> Records:
    """Read the first `count` records of a source, and decompress it if its name or content shows that it is compressed.

    Without `fmt`, the name determines the record format.

    Raises:
        SourceError: if the source does not match its format, or if its compression is damaged. Reading the returned
            records may raise this error too.
    """
    fmt = fmt or by_name(name)
    with naming_source(name):
        header, entries = split_header(open_source(stream, name).stream, fmt)

    def parcels() -> Iterator[Parcel]:
        with naming_source(name):
            yield from islice(cut(entries, fmt, 1, MAX_BODY_BYTES, line=1 + header.count(b"\n")), count)

    return Records(fmt, header, parcels())


def try_records(steps: Sequence[Step], records: Records) -> Iterator[Trial]:
    """Run steps over records one by one, and yield the outcome of each; raises as `first_records` does."""
    with ExitStack() as opened:
        stages = [
            _TrialStage(step, opened.enter_context(closing(Runner(step))), StageHeaders(step.settings, f"step{number}"))
            for number, step in enumerate(steps)
        ]
        for parcel in records.parcels:
            yield Trial(parcel.record, parcel.line, parcel.data, tuple(_runs(stages, records, parcel.data)))


class _TrialStage(NamedTuple):
    step: Step
    runner: Runner
    headers: StageHeaders

    def run(self, body: bytes, fmt: Format, header: bytes) -> tuple[StepTrial, Format, bytes]:
        """Run a step over an entry. Return the outcome, and the format and the header of the step's output."""
        name, began = self.step.name, time.monotonic()
        try:
            with self.runner.run([body], entries=fmt.count(body), fmt=fmt, header=header) as ran:
                seconds = time.monotonic() - began
                reason = "\n".join(one.reason for one in ran.rejects)
                drops_it = partial(self._drops_header, fmt, header)
                written = self.headers.of(ran.output, _SOURCE, fmt, header, drops_it)
                data = ran.output.read_bytes()
                trial = StepTrial(name, data[written.start :], seconds, ran.memory_bytes, ran.printed, reason)
                return trial, written.format, data[: written.start]
        except RecordError as error:
            reason = error.reason
        except StepError as error:
            reason = f"{error.stderr_tail.strip()}\n(step {name!r} {error.reason})" if error.stderr_tail else str(error)
        return StepTrial(name, b"", time.monotonic() - began, reason=reason), fmt, b""

    def _drops_header(self, fmt: Format, header: bytes) -> bool:
        try:
            return drops_header(self.runner, fmt, header)
        except StepError:  # this run says nothing about the header
            return False


def _runs(stages: Sequence[_TrialStage], records: Records, body: bytes) -> Iterator[StepTrial]:
    fmt, header = records.format, records.header
    for stage in stages:
        trial, fmt, header = stage.run(body, fmt, header)
        yield trial
        if trial.reason:
            return
        body = trial.output
