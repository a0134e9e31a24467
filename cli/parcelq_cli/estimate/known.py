"""What is known of a file and a step, once it was measured."""

from __future__ import annotations

from dataclasses import dataclass


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
