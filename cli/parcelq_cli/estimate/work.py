"""The messages and runs that a file comes to in a stack: pure arithmetic, parcelled as the library does it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from parcelq.limits import KIB, MAX_LAMBDA_EVENT_BYTES
from parcelq.upload.files import MAX_BODY_BYTES

from parcelq_cli.estimate.known import Measured

RANGE_BYTES: Final = 2**28
"""The template's default of RangeBytes."""
MESSAGES_PER_INVOCATION: Final = 10
"""The template's default of MessagesPerInvocation."""
_ENVELOPE_BYTES: Final = 1 * KIB
"""What a message's record in a Lambda event has beside body and attributes."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a stack is set up.

    Attributes:
        parcel_size: ParcelSize.
        batch_size: BatchSize.
        memory: ProcessorMemory, in MB.
        concurrency: Concurrency, how many processors there are at a time.
        timeout: ProcessorTimeout, in seconds.
        range_bytes: RangeBytes.
    """

    parcel_size: int = 1000
    batch_size: int = 1000
    memory: int = 1769
    concurrency: int = 100
    timeout: int = 300
    range_bytes: int = RANGE_BYTES


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of one kind: all alike but the last of each part of the file, which has what is left.

    Attributes:
        parts: how many parts of the file are parcelled each by itself.
        full: full messages of each part.
        entries: entries of a full one.
        size: bytes of a full one, with its attributes.
        last: bytes of the last message of each part; 0 if the full ones are all.
    """

    parts: int
    full: int
    entries: int
    size: int
    last: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.parts * (self.full + bool(self.last))


@dataclass(frozen=True, slots=True)
class Again:
    """What failing entries bring about in one message, in the mean.

    Attributes:
        runs: runs of the step beyond the first.
        entries: entries that those are over.
        failures: messages that are given back, and come again.
        dead: entries that die.
    """

    runs: float = 0.0
    entries: float = 0.0
    failures: float = 0.0
    dead: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a file comes to in a stack.

    Attributes:
        known: the file and the step.
        setup: the stack.
        ranges: byte ranges that it is uploaded in; 0 if it is uploaded whole.
        came: the messages that are uploaded.
        run: the messages that the step runs over; the same ones, unless they have more than BatchSize entries.
        together: of the latter, how many an invocation gets.
        pieces: messages that the output of a run is.
        piece_bytes: bytes of each of these, with its attributes.
        again: what failing entries bring about in a message.
    """

    known: Measured
    setup: Setup
    ranges: int
    came: Messages
    run: Messages
    together: int
    pieces: int
    piece_bytes: int
    again: Again

    @property
    def splits(self) -> bool:
        """Whether messages are re-parcelled before the step runs over them."""
        return self.run is not self.came

    @property
    def invocations(self) -> int:
        """Invocations of the processor that run the step, without those for failures."""
        return ceil(self.run.count / self.together)

    @property
    def output_messages(self) -> int:
        """Messages of the output topic."""
        return self.run.count * self.pieces

    @property
    def output_bytes(self) -> float:
        """Bytes of the result."""
        return self.known.lines * self.known.out_bytes


def work(known: Measured, setup: Setup) -> Work:
    """Work out what a file comes to in a stack.

    Every message is run alone: SQS gives messages out in any order, and only neighbours are run together.
    """
    ranges = ceil(known.size / setup.range_bytes) if known.size > setup.range_bytes else 0
    came = parcels(known, setup.parcel_size, max(1, ranges))
    run = came if came.entries <= setup.batch_size else parcels(known, setup.batch_size, max(1, ranges))
    size, entries = run.entries * known.out_bytes, run.entries * known.out_entries
    pieces = max(1, ceil(entries / setup.parcel_size - 1e-9), ceil(size / MAX_BODY_BYTES))
    return Work(
        known=known,
        setup=setup,
        ranges=ranges,
        came=came,
        run=run,
        together=in_invocation(known, run.size),
        pieces=pieces,
        piece_bytes=max(1, ceil(size / pieces)) + known.attributes_out,
        again=again(known.failing, run.entries),
    )


def parcels(known: Measured, entries: int, parts: int) -> Messages:
    """Messages of a file of which so many parts are cut into parcels of so many entries, or of as many as fit."""
    lines = ceil(known.lines / parts)
    # One line that SQS refuses is enough for its whole parcel to travel as base64.
    encoded = 1 + (1 - (1 - known.illegal) ** min(entries, lines)) / 3
    most = max(1, min(entries, int(MAX_BODY_BYTES / (known.line_bytes * encoded)), lines))

    def size(count: int) -> int:
        return ceil(count * known.line_bytes * encoded) + known.attributes_in

    full, rest = divmod(lines, most)
    return Messages(parts, full, most, size(most), size(rest) if rest else 0)


def in_invocation(known: Measured, size: int) -> int:
    """How many messages of so many bytes an invocation gets while enough of them wait."""
    event = size * known.escaped + _ENVELOPE_BYTES
    return max(1, min(MESSAGES_PER_INVOCATION, int(MAX_LAMBDA_EVENT_BYTES / event)))


def again(failing: float, entries: float) -> Again:
    """What becomes of a message of so many entries, of which each fails by chance, on its way to single ones.

    A part that fails is given back, comes again, and is split into halves, which are run. An entry that fails alone is
    run twice, and is dead then.
    """
    total = Again()
    parts, size = 1.0, max(1.0, float(entries))
    while failing:
        bad = parts * (1 - (1 - failing) ** size)
        if size <= 1:
            return Again(total.runs + bad, total.entries + bad, total.failures + bad, bad)
        total = Again(total.runs + 2 * bad, total.entries + bad * size, total.failures + bad)
        parts, size = parts * 2, max(1.0, size / 2)
    return total
